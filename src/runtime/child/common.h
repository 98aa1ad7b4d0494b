#pragma once
// What every step of the child uses: reports to the parent, waits for it, small text helpers without the C library.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "runtime/child/plan.h"
#include "runtime/child/raw.h"

namespace hull::runtime::child {

constexpr int kEnoent = 2, kEintr = 4, kEacces = 13, kEperm = 1, kEexist = 17, kEnotdir = 20, kEinval = 22, kEloop = 40,
              kEnosys = 38, kErofs = 30, kEbusy = 16, kEnametoolong = 36, kEnodev = 19, kEopnotsupp = 95;

/// An O_CLOEXEC descriptor of the child.
class Fd {
 public:
  Fd() = default;
  explicit Fd(long fd) : fd_(static_cast<int>(fd)) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  void reset() {
    if (fd_ >= 0) raw::close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  /// -errno of the call that should have opened it.
  long error() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

inline size_t length(const char* text) {
  size_t size = 0;
  while (text[size] != '\0') ++size;
  return size;
}
inline bool starts_with(const char* text, const char* prefix) {
  for (; *prefix != '\0'; ++text, ++prefix) {
    if (*text != *prefix) return false;
  }
  return true;
}
inline void copy_bytes(char* to, const char* from, size_t size) {
  for (size_t i = 0; i < size; ++i) to[i] = from[i];
}

/// The way to the parent. Set once at the start of the child.
struct Channel {
  int fd = -1;
};
extern Channel g_channel;

inline void send(Kind kind, Step step, long error, uint32_t index) {
  const Report report{kind, step, static_cast<int32_t>(error), index};
  raw::call(SYS_sendto, g_channel.fd, raw::address(&report), sizeof report, MSG_NOSIGNAL);
}
/// Says what failed (error is -errno or errno) and ends.
[[noreturn]] inline void fail(Step step, long error, uint32_t index = 0) {
  send(Kind::kFailed, step, error < 0 ? -error : error, index);
  raw::exit(1);
}
inline long check(long result, Step step, uint32_t index = 0) {
  if (result < 0) fail(step, result, index);
  return result;
}
/// Waits for the parent's byte; ends silently when the parent is gone.
inline void wait_for_parent() {
  char byte = 0;
  long got = 0;
  do {
    got = raw::read(g_channel.fd, &byte, 1);
  } while (got == -kEintr);
  if (got != 1) raw::exit(1);
}

// mounts.cc
void set_up_root(ContainerPlan& plan);
void enter_root(const ContainerPlan& plan);
// paths.cc: everything below is resolved inside root_fd by openat2 (RESOLVE_IN_ROOT, no magic links).
long open_in_root(int root_fd, const char* path, int flags, bool no_links, mode_t mode = 0);
/// The folder at path, made with its parents when absent. -errno.
long make_folder_in_root(int root_fd, const char* path, bool no_links, mode_t mode);
/// The parent folder of path (made); `name` is left at the last component within `path`.
long open_parent_in_root(int root_fd, const char* path, bool no_links, const char** name);
/// The file at path, made empty with its parent folders when absent.
long make_file_in_root(int root_fd, const char* path, bool no_links, mode_t mode);
/// Copies the content of one folder into another (tmpcopyup). -errno.
long copy_tree(int from_fd, int to_fd, int depth);
// devices.cc
void set_up_dev(const ContainerPlan& plan);
void set_up_console(const ProcessPlan& process, int root_fd, bool bind_console);
// masks.cc
void hide_paths(const ContainerPlan& plan);
// process.cc
/// Everything from resource limits to the identity; the last act is open_gate and exec.
void join_cgroups(Span<const int> fds);
void join_session_keyring(const ProcessPlan& process, int proc_fd);
void become_user(const ProcessPlan& process, int proc_fd);
const char* find_program(const ProcessPlan& process, char* buffer, size_t size);
[[noreturn]] void execute(const ProcessPlan& process, const char* program);
void write_proc(int proc_fd, const WriteStep& step, Step at, uint32_t index);

}  // namespace hull::runtime::child
