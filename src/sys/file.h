#pragma once
// Files as Hull reads and writes them. Everything is opened O_CLOEXEC.

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

Result<UniqueFd> open(const std::string& path, int flags, mode_t mode = 0);
Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode = 0);

/// The whole of a file, at most `limit` bytes (kInvalid when it is longer).
Result<std::string> read_file(const std::string& path, size_t limit = 16 << 20);
Result<std::string> read_file_at(int dir_fd, const std::string& path, size_t limit = 16 << 20);
/// From the current offset to the end.
Result<std::string> read_all(int fd, size_t limit = 16 << 20);
/// Every byte, through short writes and EINTR.
Result<void> write_all(int fd, std::string_view data);
/// One write(2) to an existing file, as /proc, /sys and cgroup files want it.
Result<void> write_value(int dir_fd, const std::string& path, std::string_view value);

/// Commits a file: temporary beside it, fsync, rename, fsync of the folder. A crash leaves the old or the new content.
Result<void> replace_file(const std::string& path, std::string_view data, mode_t mode = 0600, bool durable = true);
Result<void> replace_file_at(int dir_fd, const std::string& name, std::string_view data, mode_t mode = 0600,
                             bool durable = true);

/// mkdir -p. Existing folders keep their mode.
Result<void> make_dirs(const std::string& path, mode_t mode = 0700);
/// rm -r below dir_fd/name, never following links, never leaving the mount. Absent is success.
Result<void> remove_tree_at(int dir_fd, const std::string& name);
Result<void> remove_tree(const std::string& path);

bool exists(const std::string& path);

struct Pipe {
  UniqueFd read_end, write_end;
};
Result<Pipe> make_pipe(int flags = 0);
/// An anonymous file with the data, sealed against change, offset 0.
Result<UniqueFd> sealed_memfd(const char* name, std::string_view data);

/// An flock on a file, made when absent; released by the destructor. wait=false gives kConflict when it is taken.
class FileLock {
 public:
  static Result<FileLock> acquire(const std::string& path, bool exclusive, bool wait);
  FileLock(FileLock&&) = default;
  FileLock& operator=(FileLock&&) = default;
  int fd() const { return fd_.get(); }

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace hull::sys
