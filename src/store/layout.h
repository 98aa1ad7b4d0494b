#pragma once
// Where things lie below the data root, and the locks between commands.
//
//   index.db             images, tags, digests, layers (SQLite)
//   index.lock           writers of the index queue here
//   gc.lock              shared: "I am about to rely on something that I found" (short); exclusive: removal
//   layer.locks          byte-range locks: whoever fetches a layer holds the byte that its digest names
//   blobs/sha256/<hex>   manifests and configs, verbatim
//   layers/<hex>.erofs, <hex>.tarsplit, <hex>/   layers by diff id (store/layer owns the format)
//   layers/.stage-<lease>-<n>…                   a layer being written
//   leases/<lease>       held with flock by a running pull, load or import: digests that gc must spare, one a line
//   holders/<workload>   a symbolic link whose target is the image id that the workload uses

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "sys/file.h"

namespace hull::store {

struct Layout {
  explicit Layout(std::string data_root) : data(std::move(data_root)) {}
  std::string data;

  std::string index() const { return data + "/index.db"; }
  std::string index_lock() const { return data + "/index.lock"; }
  std::string gc_lock() const { return data + "/gc.lock"; }
  std::string layer_locks() const { return data + "/layer.locks"; }
  std::string blobs() const { return data + "/blobs"; }
  std::string blob(const Digest& digest) const {
    return data + "/blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex());
  }
  std::string layers() const { return data + "/layers"; }
  std::string leases() const { return data + "/leases"; }
  std::string holders() const { return data + "/holders"; }
};

inline constexpr std::string_view kStagePrefix = ".stage-";

/// The kernel's name for this boot; "" when it can't be read.
std::string boot_id();

/// Names in a folder, without "." and "..". An absent folder is empty.
Result<std::vector<std::string>> folder_entries(const std::string& path);

/// What running pulls have leased, and the names of their leases. Leases whose process is gone are removed on the way.
/// Call with gc.lock held exclusively.
struct LiveLeases {
  std::set<std::string> names;
  std::set<std::string> digests;
  /// Whether a file of blobs/sha256 belongs to a running pull: "<hex>", or "<hex>.tmp-…" while it is written.
  bool spares_blob(std::string_view file) const {
    return digests.contains("sha256:" + std::string(file.substr(0, file.find('.'))));
  }
};
Result<LiveLeases> live_leases(const Layout& layout);

/// Removes a layer's files in every form; absent is success. Returns the bytes that were freed.
Result<uint64_t> remove_layer_files(int layers_fd, const Digest& diff_id);
/// Bytes that a layer's files take; 0 when it is not there.
uint64_t layer_files_size(int layers_fd, const Digest& diff_id);
/// Whether the artifact (not only its skeleton) is there.
bool layer_files_exist(int layers_fd, const Digest& diff_id);

}  // namespace hull::store
