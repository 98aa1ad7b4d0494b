#pragma once
// The one audited way to use a path that an image, an archive, a container or a guest can influence.

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

/// A folder taken as a root. Every path is resolved inside it by the kernel (openat2, Linux 5.6): absolute links and
/// ".." stay inside (RESOLVE_IN_ROOT), magic links are refused (RESOLVE_NO_MAGICLINKS). Nothing here looks a path up
/// twice: what was opened is what is used.
class Root {
 public:
  /// `path` is trusted (the engine's own).
  static Result<Root> open(const std::string& path);
  /// Takes over an O_PATH or directory descriptor.
  static Root adopt(UniqueFd fd) { return Root(std::move(fd)); }

  int fd() const { return fd_.get(); }

  /// Opens inside. `flags` may hold O_CREAT (mode counts then) and O_NOFOLLOW; O_CLOEXEC is added.
  Result<UniqueFd> open_in(std::string_view path, int flags, mode_t mode = 0) const;
  /// The same, and no mount point may be crossed on the way (RESOLVE_NO_XDEV).
  Result<UniqueFd> open_in_same_mount(std::string_view path, int flags, mode_t mode = 0) const;
  /// The same, and no symbolic link is followed anywhere on the way (RESOLVE_NO_SYMLINKS): ELOOP.
  Result<UniqueFd> open_without_links(std::string_view path, int flags, mode_t mode = 0) const;
  /// mkdir -p inside; links on the way are followed inside the root; returns the folder (O_PATH).
  Result<UniqueFd> make_dirs(std::string_view path, mode_t mode = 0755) const;
  /// An O_PATH descriptor of the parent folder of `path` (made when make_parents) and the last component.
  /// kInvalid when the last component is "", "." or "..".
  struct Parent {
    UniqueFd fd;
    std::string name;
  };
  Result<Parent> open_parent(std::string_view path, bool make_parents) const;
  /// A regular file's content (no fifo, no device), at most `limit` bytes.
  Result<std::string> read_file(std::string_view path, size_t limit) const;

 private:
  explicit Root(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// "a/b/c" without ".", "//" and leading "/"; ".." is resolved by text, never above the top. For comparing and
/// printing, not for opening.
std::string clean_path(std::string_view path);

}  // namespace hull::sys
