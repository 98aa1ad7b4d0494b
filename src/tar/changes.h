#pragma once
// What a workload has written: its upper layer held against the image below.

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "sys/root.h"
#include "tar/pack.h"
#include "tar/tar_writer.h"

namespace hull::tar {

/// One line of `hull diff`.
struct FileChange {
  enum class Kind { kModified = 0, kAdded = 1, kDeleted = 2 };  // Docker's numbers
  Kind kind = Kind::kModified;
  std::string path;  // absolute
};

using ChangeTaker = std::function<Result<void>(FileChange&& change)>;

/// In the order of a walk, a folder before what is in it. `upper`: an overlayfs upper folder; `lower`: the stack below.
/// Mount points that the runtime made in an image that has none (/proc, /dev, /etc/hosts ...) are no changes. Memory is
/// needed for the names of the folders on the way alone.
Result<void> for_each_change(const sys::Root& upper, const sys::Root& lower, const ChangeTaker& take);
Result<std::vector<FileChange>> layer_changes(const sys::Root& upper, const sys::Root& lower);

/// The same as a layer (image-spec, "Representing Changes"): what was deleted becomes ".wh." entries.
class LayerWriter {
 public:
  /// `upper` must outlive this.
  LayerWriter(const sys::Root& upper, ByteSink sink) : upper_(upper), writer_(std::move(sink)), packer_(writer_, {}) {}
  Result<void> add(const FileChange& change);
  Result<void> finish() { return writer_.finish(); }

 private:
  const sys::Root& upper_;
  TarWriter writer_;
  Packer packer_;
};
Result<void> write_layer(const sys::Root& upper, const sys::Root& lower, const ByteSink& sink);

}  // namespace hull::tar
