#include "engine/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/error_format.h"
#include "sys/file.h"
#include "sys/mount_api.h"

namespace hull::engine {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

namespace {

/// The program on a detached mount of its own; nothing where mounts are not allowed, and the program sees to itself.
UniqueFd read_only_copy(const std::string& program) {
  auto tree = sys::clone_mount(AT_FDCWD, program, false);
  if (!tree.ok() || !sys::set_mount_attributes(tree->get(), MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, false).ok()) return {};
  return std::move(*tree);
}

}  // namespace

Result<Child> spawn(const SpawnRequest& request) {
  // Sources above every target first, so that no dup2 overwrites one that is still needed.
  std::vector<UniqueFd> moved;
  int lowest = 3;
  for (const auto& [target, source] : request.fds) lowest = std::max(lowest, target + 1);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  bool given[3] = {false, false, request.inherit_stderr};
  for (const auto& [target, source] : request.fds) {
    UniqueFd high(::fcntl(source, F_DUPFD_CLOEXEC, lowest));
    if (!high) {
      posix_spawn_file_actions_destroy(&actions);
      return errnof("duplicate descriptor {}", source);
    }
    posix_spawn_file_actions_adddup2(&actions, high.get(), target);
    if (target < 3) given[target] = true;
    moved.push_back(std::move(high));
  }
  for (int fd = 0; fd < 3; ++fd) {
    if (!given[fd]) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", fd == 0 ? O_RDONLY : O_WRONLY, 0);
  }
  if (!request.working_dir.empty()) posix_spawn_file_actions_addchdir_np(&actions, request.working_dir.c_str());
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (request.new_session) flags |= POSIX_SPAWN_SETSID;
  posix_spawnattr_setflags(&attributes, flags);
  std::vector<char*> argv;
  argv.reserve(request.argv.size() + 1);
  for (const std::string& word : request.argv) argv.push_back(const_cast<char*>(word.c_str()));  // NOLINT
  argv.push_back(nullptr);
  const UniqueFd copy = request.read_only_program ? read_only_copy(request.argv[0]) : UniqueFd();
  const std::string program = copy ? fmt::format("/proc/self/fd/{}", copy.get()) : request.argv[0];
  Child child;
  const int error = posix_spawn(&child.pid, program.c_str(), &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return Error::from_errno(error, fmt::format("execute {}", request.argv[0]));
  child.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, child.pid, 0)));
  if (!child.pidfd) return errnof("pidfd of {}", request.argv[0]);
  return child;
}

Result<int> wait_for(Child& child) {
  int status = 0;
  pid_t got = -1;
  do {
    got = ::waitpid(child.pid, &status, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errnof("wait for process {}", child.pid);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

Result<Captured> capture(std::vector<std::string> argv, size_t limit) {
  TRY_ASSIGN(sys::Pipe out, sys::make_pipe());
  TRY_ASSIGN(sys::Pipe err, sys::make_pipe());
  SpawnRequest request;
  request.argv = std::move(argv);
  request.fds = {{1, out.write_end.get()}, {2, err.write_end.get()}};
  TRY_ASSIGN(Child child, spawn(request));
  out.write_end.reset();
  err.write_end.reset();
  Captured captured;
  std::string* const targets[2] = {&captured.output, &captured.error};
  pollfd watched[2] = {{out.read_end.get(), POLLIN, 0}, {err.read_end.get(), POLLIN, 0}};
  int open_streams = 2;
  while (open_streams > 0) {
    if (::poll(watched, 2, -1) < 0 && errno != EINTR) break;
    for (int i = 0; i < 2; ++i) {
      if (watched[i].fd < 0 || watched[i].revents == 0) continue;
      char buffer[16 * 1024];
      const ssize_t count = ::read(watched[i].fd, buffer, sizeof buffer);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) {
        watched[i].fd = -1;
        --open_streams;
      } else if (targets[i]->size() < limit) {
        targets[i]->append(buffer, std::min(static_cast<size_t>(count), limit - targets[i]->size()));
      }
    }
  }
  TRY_ASSIGN(captured.code, wait_for(child));
  return captured;
}

uint64_t process_start_time(pid_t pid) {
  auto text = sys::read_file(fmt::format("/proc/{}/stat", pid), 4096);
  if (!text.ok()) return 0;
  // The name may hold anything, parentheses too: the fields follow the last one.
  const size_t end = text->rfind(')');
  if (end == std::string::npos) return 0;
  std::string_view rest = std::string_view(*text).substr(end + 1);
  for (int field = 3; field <= 22; ++field) {
    while (rest.starts_with(' ')) rest.remove_prefix(1);
    const std::string_view word = rest.substr(0, rest.find(' '));
    if (field == 3 && (word == "Z" || word == "X")) return 0;
    if (field == 22) {
      uint64_t value = 0;
      std::from_chars(word.data(), word.data() + word.size(), value);
      return value;
    }
    rest.remove_prefix(word.size());
  }
  return 0;
}

}  // namespace hull::engine
