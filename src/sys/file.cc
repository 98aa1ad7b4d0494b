#include "sys/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>

#include "base/error_format.h"

namespace hull::sys {

Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, mode_t mode) {
  int fd = -1;
  do {
    fd = ::openat(dir_fd, path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return errnof("open {}", path);
  return UniqueFd(fd);
}

Result<UniqueFd> open(const std::string& path, int flags, mode_t mode) { return open_at(AT_FDCWD, path, flags, mode); }

Result<std::string> read_all(int fd, size_t limit) {
  std::string data;
  size_t used = 0;
  for (;;) {
    if (used == data.size()) {
      if (used > limit) return errorf(ErrorKind::kInvalid, "longer than the limit of {} bytes", limit);
      data.resize(used == 0 ? 4096 : std::min(used * 2, limit + 1));
      if (used == data.size()) data.resize(used + 1);
    }
    const ssize_t got = ::read(fd, data.data() + used, data.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("read");
    if (got == 0) break;
    used += static_cast<size_t>(got);
  }
  if (used > limit) return errorf(ErrorKind::kInvalid, "longer than the limit of {} bytes", limit);
  data.resize(used);
  return data;
}

Result<std::string> read_file_at(int dir_fd, const std::string& path, size_t limit) {
  TRY_ASSIGN(const UniqueFd fd, open_at(dir_fd, path, O_RDONLY | O_NOCTTY));
  auto data = read_all(fd.get(), limit);
  if (!data.ok()) return std::move(data).context(path);
  return data;
}

Result<std::string> read_file(const std::string& path, size_t limit) { return read_file_at(AT_FDCWD, path, limit); }

Result<void> write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t put = ::write(fd, data.data(), data.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("write");
    data.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

Result<void> write_value(int dir_fd, const std::string& path, std::string_view value) {
  TRY_ASSIGN(const UniqueFd fd, open_at(dir_fd, path, O_WRONLY));
  ssize_t put = -1;
  do {
    put = ::write(fd.get(), value.data(), value.size());
  } while (put < 0 && errno == EINTR);
  if (put < 0) return errnof("write \"{:.200}\" to {}", value, path);
  return {};
}

Result<void> replace_file_at(int dir_fd, const std::string& name, std::string_view data, mode_t mode, bool durable) {
  static std::atomic<unsigned> counter{0};
  const std::string temporary = fmt::format("{}.tmp-{}-{}", name, ::getpid(), counter.fetch_add(1));
  auto written = [&]() -> Result<void> {
    TRY_ASSIGN(const UniqueFd fd, open_at(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode));
    TRY(write_all(fd.get(), data).context(temporary));
    if (durable && ::fsync(fd.get()) != 0) return errnof("fsync {}", temporary);
    if (::renameat(dir_fd, temporary.c_str(), dir_fd, name.c_str()) != 0) return errnof("rename to {}", name);
    return {};
  }();
  if (!written.ok()) {
    ::unlinkat(dir_fd, temporary.c_str(), 0);
    return written;
  }
  if (!durable) return {};
  const size_t slash = name.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : name.substr(0, slash);
  TRY_ASSIGN(const UniqueFd dir, open_at(dir_fd, folder, O_RDONLY | O_DIRECTORY));
  if (::fsync(dir.get()) != 0) return errnof("fsync folder {}", folder);
  return {};
}

Result<void> replace_file(const std::string& path, std::string_view data, mode_t mode, bool durable) {
  return replace_file_at(AT_FDCWD, path, data, mode, durable);
}

Result<void> make_dirs(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) return {};
  if (errno == EEXIST) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return errnof("stat {}", path);
    if (!S_ISDIR(info.st_mode)) return errorf(ErrorKind::kConflict, "{} exists and is not a folder", path);
    return {};
  }
  if (errno != ENOENT) return errnof("make folder {}", path);
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos || slash == 0) return errnof("make folder {}", path);
  TRY(make_dirs(path.substr(0, slash), mode));
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return errnof("make folder {}", path);
  return {};
}

namespace {

Result<void> remove_entry(int dir_fd, const std::string& name, dev_t device, int depth) {
  if (::unlinkat(dir_fd, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM && errno != EBUSY) return errnof("remove {}", name);
  if (depth > 4096) return errorf(ErrorKind::kInvalid, "remove {}: nested too deeply", name);
  TRY_ASSIGN(UniqueFd fd, open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errnof("stat {}", name);
  if (info.st_dev != device)
    return errorf(ErrorKind::kConflict, "remove {}: another file system is mounted there", name);
  DIR* stream = ::fdopendir(fd.get());
  if (stream == nullptr) return errnof("read folder {}", name);
  const int stream_fd = fd.release();  // the stream owns it now
  Result<void> outcome;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string child = entry->d_name;
    if (child == "." || child == "..") continue;
    outcome = remove_entry(stream_fd, child, device, depth + 1);
    if (!outcome.ok()) break;
  }
  ::closedir(stream);
  TRY(std::move(outcome));
  if (::unlinkat(dir_fd, name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) return errnof("remove folder {}", name);
  return {};
}

}  // namespace

Result<void> remove_tree_at(int dir_fd, const std::string& name) {
  struct stat info{};
  if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    return errnof("stat {}", name);
  }
  return remove_entry(dir_fd, name, info.st_dev, 0);
}

Result<void> remove_tree(const std::string& path) { return remove_tree_at(AT_FDCWD, path); }

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<Pipe> make_pipe(int flags) {
  int fds[2];
  if (::pipe2(fds, flags | O_CLOEXEC) != 0) return errno_error("make pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<UniqueFd> sealed_memfd(const char* name, std::string_view data) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return errno_error("memfd_create");
  TRY(write_all(fd.get(), data));
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return errno_error("seek memfd");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
    return errno_error("seal memfd");
  }
  return fd;
}

Result<FileLock> FileLock::acquire(const std::string& path, bool exclusive, bool wait) {
  TRY_ASSIGN(UniqueFd fd, open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  int failed = 0;
  do {
    failed = ::flock(fd.get(), (exclusive ? LOCK_EX : LOCK_SH) | (wait ? 0 : LOCK_NB));
  } while (failed != 0 && errno == EINTR);
  if (failed != 0) {
    if (errno == EWOULDBLOCK) return errorf(ErrorKind::kConflict, "{} is locked by another process", path);
    return errnof("lock {}", path);
  }
  return FileLock(std::move(fd));
}

}  // namespace hull::sys
