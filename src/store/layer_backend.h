#pragma once

namespace hull::store {

/// What a layer becomes on this host.
enum class LayerBackend {
  kErofs,      ///< one file <hex>.erofs (format: kernel Documentation/filesystems/erofs.rst)
  kDirectory,  ///< a folder <hex>/ in overlayfs form, where EROFS can't be mounted (rootless, old kernels)
};

}  // namespace hull::store
