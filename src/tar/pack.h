#pragma once
// A tree of files as an archive.

#include <sys/stat.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "tar/tar_writer.h"

namespace hull::tar {

struct PackOptions {
  /// What is mounted inside is left out: its mount point becomes an empty folder or file.
  bool same_mount = false;
};

/// A file that was found and pinned: whatever its name means later, this is what is read.
struct Pinned {
  UniqueFd fd;  // O_PATH, no link followed
  struct stat info{};
  uint64_t mount_id = 0;
};
Result<Pinned> pin(int dir_fd, const std::string& name);
/// The pinned file, opened for reading: a regular file or a folder only.
Result<UniqueFd> open_pinned(const Pinned& file);
/// The target of a pinned symbolic link.
Result<std::string> link_target(const Pinned& file);

/// Writes entries; hard links among everything that one Packer has written are kept. Sockets are left out.
class Packer {
 public:
  Packer(TarWriter& writer, PackOptions options) : writer_(writer), options_(options) {}

  /// `dir_fd`/`name` and all below it, its own entry called `as` ("." gives "./", "./a"; "" leaves the top's own entry
  /// out and begins the names below without a prefix).
  Result<void> tree(int dir_fd, const std::string& name, const std::string& as);
  /// One entry alone: what is below a folder is not looked at.
  Result<void> single(int dir_fd, const std::string& name, const std::string& as);

 private:
  Result<void> write(const Pinned& file, const std::string& as, bool content);
  Result<void> below(const Pinned& folder, const std::string& as, int depth);
  Result<void> content(const Pinned& file);

  TarWriter& writer_;
  PackOptions options_;
  uint64_t top_mount_ = 0;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

/// Names in a folder, sorted, without "." and "..".
Result<std::vector<std::string>> names_in(int dir_fd);

}  // namespace hull::tar
