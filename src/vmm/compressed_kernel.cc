#include "vmm/compressed_kernel.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::vmm {

namespace {
constexpr size_t kMostSaid = 16 << 10;

/// hull-kernel beside this program, or in the folder that HULL_LIBEXEC names.
std::string unpacker() {
  if (const char* chosen = std::getenv("HULL_LIBEXEC"); chosen != nullptr && *chosen != '\0') {
    return std::string(chosen) + "/hull-kernel";
  }
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  const std::string_view whole(path.data(), length > 0 ? static_cast<size_t>(length) : 0);
  const size_t slash = whole.rfind('/');
  return std::string(slash == std::string_view::npos ? "/usr/libexec/hull" : whole.substr(0, slash)) + "/hull-kernel";
}

/// Starts `program unpack` with standard input from `in` and the rest to `out`; this process's blocked and ignored
/// signals are not for it.
Result<pid_t> start(const std::string& program, int in, int out) {
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  sigset_t none, pipe;
  sigemptyset(&none);
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &pipe);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  ::posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, out, STDERR_FILENO);
  std::string name = program, verb = "unpack";
  char* const argv[] = {name.data(), verb.data(), nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, program.c_str(), &files, &attributes, argv, environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return Error::from_errno(error, "start " + program);
  return pid;
}

/// The last line of what a program said, without the words that say who speaks.
std::string last_line(std::string_view said) {
  while (said.ends_with('\n')) said.remove_suffix(1);
  if (const size_t line = said.rfind('\n'); line != std::string_view::npos) said.remove_prefix(line + 1);
  constexpr std::string_view kSpeaker = "hull: vm kernel: ";
  if (said.starts_with(kSpeaker)) said.remove_prefix(kSpeaker.size());
  return std::string(said);
}
}  // namespace

bool is_bzimage(int fd) {
  std::array<char, 0x206> head{};
  if (::pread(fd, head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) return false;
  return std::memcmp(head.data(),
                     "\x7f"
                     "ELF",
                     4) != 0 &&
         std::memcmp(&head[0x202], "HdrS", 4) == 0;
}

Result<UniqueFd> unpack_bzimage(int fd, const std::string& name) {
  const std::string program = unpacker();
  if (!sys::exists(program)) {
    return errorf(
        ErrorKind::kNotFound,
        "kernel {} is a compressed bzImage, and {}, which unpacks those, is not there: install Hull again, or "
        "set HULL_LIBEXEC",
        name, program);
  }
  TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
  TRY_ASSIGN(const pid_t pid, start(program, fd, pipe.write_end.get()));
  pipe.write_end.reset();
  const Result<std::string> said = sys::read_all(pipe.read_end.get(), kMostSaid);
  pipe.read_end.reset();  // one that says too much ends
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!said.ok()) return said.error();
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return errorf(ErrorKind::kInvalid, "kernel {} is a compressed bzImage that can't be unpacked: {}", name,
                  said->empty() ? "hull-kernel was killed" : last_line(*said));
  }
  return sys::open(last_line(*said), O_RDONLY | O_NOFOLLOW);
}

}  // namespace hull::vmm
