#include "runtime/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

/// In the forked process; the caller has one thread, so the C library may be used.
[[noreturn]] void hook_child(const oci::Hook& hook, const HookPlace& place, int state_fd, int error_fd,
                             char* const* args, char* const* env) {
  const auto give_up = [error_fd] {
    const int number = errno;
    [[maybe_unused]] const ssize_t written = ::write(error_fd, &number, sizeof number);
    ::_exit(127);
  };
  ::setsid();
  if (place.pidfd >= 0 && place.namespaces != 0) {
    if (::setns(place.pidfd, place.namespaces) != 0) give_up();
  }
  if (place.root_fd >= 0 && (::fchdir(place.root_fd) != 0 || ::chroot(".") != 0 || ::chdir("/") != 0)) give_up();
  if (!place.folder.empty() && ::chdir(place.folder.c_str()) != 0) give_up();
  if (place.join_pid) {
    const pid_t inner = ::fork();
    if (inner < 0) give_up();
    if (inner > 0) {
      int status = 0;
      while (::waitpid(inner, &status, 0) < 0 && errno == EINTR) {
      }
      if (WIFSIGNALED(status)) ::raise(WTERMSIG(status));
      ::_exit(WEXITSTATUS(status));
    }
  }
  if (::dup2(state_fd, STDIN_FILENO) < 0) give_up();
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  ::signal(SIGPIPE, SIG_DFL);
  ::execve(hook.path.c_str(), args, env);
  give_up();
  ::_exit(127);
}

Result<void> run_hook(std::string_view kind, const oci::Hook& hook, const std::string& state, const HookPlace& place) {
  const std::string name = fmt::format("{} hook {}", kind, hook.path);
  // A file instead of a pipe: a hook that never reads can't block us, and one that reads late finds it whole.
  TRY_ASSIGN(const UniqueFd state_fd, sys::sealed_memfd("state", state));
  TRY_ASSIGN(sys::Pipe errors, sys::make_pipe());
  std::vector<std::string> args = hook.args;
  if (args.empty()) args.push_back(hook.path);
  const std::vector<char*> arg_pointers = pointers(args);
  const std::vector<char*> env_pointers = pointers(hook.env);
  // Without an environment of its own a hook gets ours, as runc does.
  char* const* env = hook.env.empty() ? environ : env_pointers.data();
  const pid_t pid = ::fork();
  if (pid < 0) return errnof("{}: fork", name);
  if (pid == 0) {
    hook_child(hook, place, state_fd.get(), errors.write_end.get(), arg_pointers.data(), env);
  }
  errors.write_end.reset();
  TRY_ASSIGN(const UniqueFd pidfd, sys::pidfd_open(pid));
  pollfd wait{pidfd.get(), POLLIN, 0};
  int ready = 0;
  const int limit_ms = hook.timeout_s ? *hook.timeout_s * 1000 : -1;
  do {
    ready = ::poll(&wait, 1, limit_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) ::kill(-pid, SIGKILL), ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (ready == 0) return errorf(ErrorKind::kTimeout, "{}: did not end within {} s", name, *hook.timeout_s);
  int number = 0;
  if (::read(errors.read_end.get(), &number, sizeof number) == sizeof number) return Error::from_errno(number, name);
  if (WIFSIGNALED(status)) return errorf(ErrorKind::kIo, "{}: killed by signal {}", name, WTERMSIG(status));
  if (WEXITSTATUS(status) != 0) {
    return errorf(ErrorKind::kIo, "{}: exit status {}", name, WEXITSTATUS(status));
  }
  return {};
}

}  // namespace

Result<void> run_hooks(std::string_view kind, const std::vector<oci::Hook>& hooks, const oci::State& state,
                       const HookPlace& place) {
  if (hooks.empty()) return {};
  const std::string text = oci::to_json(state);
  for (const oci::Hook& hook : hooks) {
    log_debug("running {} hook {}", kind, hook.path);
    TRY(run_hook(kind, hook, text, place));
  }
  return {};
}

}  // namespace hull::runtime
