#include "store/layer/layer.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "base/error_format.h"
#include "store/layer/directory_writer.h"
#include "store/layer/erofs_writer.h"
#include "store/layer/layer_builder.h"
#include "store/layer/layer_pipeline.h"
#include "sys/file.h"

namespace hull::store {

namespace {

constexpr std::string_view kImageSuffix = ".erofs", kSkeletonSuffix = ".tarsplit", kContentSuffix = ".content";

std::string with(std::string_view stem, std::string_view suffix) { return std::string(stem).append(suffix); }

bool present(int dir_fd, const std::string& name) {
  return ::faccessat(dir_fd, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<void> unlink_if_there(int dir_fd, const std::string& name) {
  if (::unlinkat(dir_fd, name.c_str(), 0) != 0 && errno != ENOENT) return errnof("remove {}", name);
  return {};
}

Result<UniqueFd> create_at(int dir_fd, const std::string& name) {
  return sys::open_at(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
}

}  // namespace

Result<LayerCompression> compression_of_media_type(std::string_view media_type) {
  if (media_type.ends_with("+encrypted")) {
    return errorf(ErrorKind::kUnsupported, "layer of type \"{:.120}\" is encrypted; Hull can't decrypt layers",
                  media_type);
  }
  struct Known {
    std::string_view stem;
    std::string_view gzip, zstd;
  };
  static constexpr std::array kKnown = {
      Known{"application/vnd.oci.image.layer.v1.tar", "+gzip", "+zstd"},
      Known{"application/vnd.oci.image.layer.nondistributable.v1.tar", "+gzip", "+zstd"},
      Known{"application/vnd.docker.image.rootfs.diff.tar", ".gzip", ".zstd"},
      Known{"application/vnd.docker.image.rootfs.foreign.diff.tar", ".gzip", ".zstd"},
  };
  for (const Known& known : kKnown) {
    if (!media_type.starts_with(known.stem)) continue;
    const std::string_view suffix = media_type.substr(known.stem.size());
    if (suffix.empty()) return LayerCompression::kNone;
    if (suffix == known.gzip) return LayerCompression::kGzip;
    if (suffix == known.zstd) return LayerCompression::kZstd;
  }
  return errorf(ErrorKind::kUnsupported, "\"{:.120}\" is not the type of an image layer that Hull knows", media_type);
}

StagedLayer::StagedLayer(StagedLayer&& other) noexcept
    : layers_fd_(other.layers_fd_),
      stem_(std::exchange(other.stem_, {})),
      backend_(other.backend_),
      info_(std::move(other.info_)) {}

StagedLayer::~StagedLayer() {
  if (stem_.empty()) return;
  ::unlinkat(layers_fd_, with(stem_, kSkeletonSuffix).c_str(), 0);
  if (backend_ == LayerBackend::kErofs) {
    ::unlinkat(layers_fd_, with(stem_, kImageSuffix).c_str(), 0);
    return;
  }
  ignore_result(sys::remove_tree_at(layers_fd_, stem_));
  ignore_result(sys::remove_tree_at(layers_fd_, with(stem_, kContentSuffix)));
}

Result<void> StagedLayer::commit() {
  const std::string hex(info_.diff_id.hex());
  if (layer_exists(layers_fd_, info_.diff_id) && present(layers_fd_, with(hex, kSkeletonSuffix))) return {};
  // The artifact comes last: where it is, the layer is whole.
  const std::string skeleton = with(stem_, kSkeletonSuffix);
  if (present(layers_fd_, skeleton) &&
      ::renameat(layers_fd_, skeleton.c_str(), layers_fd_, with(hex, kSkeletonSuffix).c_str()) != 0) {
    return errnof("rename {} into place", skeleton);
  }
  if (layer_exists(layers_fd_, info_.diff_id)) return {};
  const bool image = backend_ == LayerBackend::kErofs;
  const std::string from = image ? with(stem_, kImageSuffix) : stem_;
  const std::string to = image ? with(hex, kImageSuffix) : hex;
  if (::renameat2(layers_fd_, from.c_str(), layers_fd_, to.c_str(), RENAME_NOREPLACE) != 0 && errno != EEXIST) {
    return errnof("rename {} into place", from);
  }
  return {};
}

class LayerConverter {
 public:
  static Result<StagedLayer> run(ByteSource& blob, int layers_fd, const std::string& stem,
                                 const LayerOptions& options) {
    StagedLayer staged;
    staged.layers_fd_ = layers_fd;
    staged.backend_ = options.backend;
    std::unique_ptr<LayerSink> sink;
    if (options.backend == LayerBackend::kErofs) {
      TRY_ASSIGN(UniqueFd image, create_at(layers_fd, with(stem, kImageSuffix)));
      sink = std::make_unique<ErofsWriter>(std::move(image), options.userxattr);
    } else {
      TRY_ASSIGN(sink, DirectoryWriter::create(layers_fd, stem, options.userxattr));
    }
    staged.stem_ = stem;  // from here on the destructor cleans up
    std::unique_ptr<SkeletonWriter> skeleton;
    if (options.keep_skeleton) {
      TRY_ASSIGN(UniqueFd file, create_at(layers_fd, with(stem, kSkeletonSuffix)));
      skeleton = std::make_unique<SkeletonWriter>(std::move(file));
    }
    LayerTree tree;
    LayerBuilder builder(tree, *sink, skeleton.get());
    TarReader reader(builder, {options.limits.max_path, options.limits.max_xattrs_per_entry, options.limits.max_entries,
                               options.limits.max_file_size});
    TRY_ASSIGN(staged.info_, run_pipeline(blob, options, [&](std::span<const std::byte> chunk) -> Result<void> {
                 TRY(reader.feed(chunk));
                 return sink->flush();
               }));
    TRY(reader.finish());
    staged.info_.entries = reader.entries();
    TRY_ASSIGN(staged.info_.artifact_size, sink->finish(tree, staged.info_.diff_id));
    if (skeleton != nullptr) TRY(skeleton->finish(staged.info_.tar_size, staged.info_.diff_id));
    return staged;
  }
};

Result<StagedLayer> convert_layer(ByteSource& blob, int layers_fd, const std::string& staging_name,
                                  const LayerOptions& options) {
  return LayerConverter::run(blob, layers_fd, staging_name, options);
}

bool layer_exists(int layers_fd, const Digest& diff_id) {
  const std::string hex(diff_id.hex());
  return present(layers_fd, with(hex, kImageSuffix)) || present(layers_fd, hex);
}

Result<void> sync_layer(int layers_fd, const Digest& diff_id) {
  const std::string hex(diff_id.hex());
  for (const std::string& name : {with(hex, kImageSuffix), with(hex, kSkeletonSuffix)}) {
    if (!present(layers_fd, name)) continue;
    TRY_ASSIGN(const UniqueFd file, sys::open_at(layers_fd, name, O_RDONLY | O_NOFOLLOW));
    if (::fsync(file.get()) != 0) return errnof("fsync {}", name);
  }
  if (present(layers_fd, hex)) {
    TRY_ASSIGN(const UniqueFd folder, sys::open_at(layers_fd, hex, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    if (::syncfs(folder.get()) != 0) return errnof("sync the file system of {}", hex);
  }
  TRY_ASSIGN(const UniqueFd layers, sys::open_at(layers_fd, ".", O_RDONLY | O_DIRECTORY));
  if (::fsync(layers.get()) != 0) return errnof("fsync the layers folder");
  return {};
}

Result<void> remove_layer(int layers_fd, const Digest& diff_id) {
  const std::string hex(diff_id.hex());
  TRY(unlink_if_there(layers_fd, with(hex, kImageSuffix)));
  // A folder loses its name first: half removed, it must not pass for a layer.
  const std::string dying = with(hex, ".removed");
  if (::renameat(layers_fd, hex.c_str(), layers_fd, dying.c_str()) != 0 && errno != ENOENT) {
    TRY(sys::remove_tree_at(layers_fd, dying));
    if (::renameat(layers_fd, hex.c_str(), layers_fd, dying.c_str()) != 0) return errnof("remove layer {}", hex);
  }
  TRY(sys::remove_tree_at(layers_fd, dying));
  return unlink_if_there(layers_fd, with(hex, kSkeletonSuffix));
}

Result<uint64_t> layer_disk_usage(int layers_fd, const Digest& diff_id) {
  const std::string hex(diff_id.hex());
  uint64_t total = 0;
  bool found = false;
  struct stat info{};
  for (const std::string& name : {with(hex, kImageSuffix), with(hex, kSkeletonSuffix)}) {
    if (::fstatat(layers_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
    found = true;
    total += static_cast<uint64_t>(info.st_blocks) * 512;
  }
  if (present(layers_fd, hex)) {
    found = true;
    std::error_code failed;
    const std::string top = fmt::format("/proc/self/fd/{}/{}", layers_fd, hex);
    for (auto it = std::filesystem::recursive_directory_iterator(top, failed);
         !failed && it != std::filesystem::recursive_directory_iterator(); it.increment(failed)) {
      if (::lstat(it->path().c_str(), &info) == 0) total += static_cast<uint64_t>(info.st_blocks) * 512 / info.st_nlink;
    }
  }
  if (!found) return errorf(ErrorKind::kNotFound, "layer {} is not in the store", diff_id.str());
  return total;
}

}  // namespace hull::store
