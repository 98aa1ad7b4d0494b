#include "vm/shares.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"
#include "sys/mount_api.h"
#include "sys/process.h"

namespace hull::vm {
namespace {

constexpr std::array kDaemonPlaces = {"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"};
/// A lock that waits keeps a thread; the thread that would release it must find another one.
constexpr int kDaemonThreads = 64;

Result<void> mount_share(const Share& share, int folder_fd, const std::string& name) {
  TRY_ASSIGN(const UniqueFd tree, sys::clone_mount(AT_FDCWD, share.source, share.recursive));
  struct stat info{};
  if (::fstat(tree.get(), &info) != 0) return errno_error("look at it");
  if (S_ISDIR(info.st_mode)) {
    if (::mkdirat(folder_fd, name.c_str(), 0700) != 0) return errno_error("make its mount point");
  } else if (S_ISREG(info.st_mode)) {
    TRY_ASSIGN([[maybe_unused]] const UniqueFd made, sys::open_at(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0600));
  } else {
    return errorf(ErrorKind::kUnsupported, "{} is neither file nor folder any more", share.source);
  }
  // Devices of the host stay closed to the guest through a shared folder, whatever its files are.
  const uint64_t attributes = MOUNT_ATTR_NODEV | (share.read_only ? MOUNT_ATTR_RDONLY : 0);
  TRY(sys::set_mount_attributes(tree.get(), attributes, 0, MS_SLAVE, true));
  TRY_ASSIGN(const UniqueFd target, sys::open_at(folder_fd, name, O_PATH | O_NOFOLLOW));
  return sys::attach_mount(tree.get(), target.get(), "");
}

Result<UniqueFd> listen_at(const std::string& path) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener) return errno_error("make a socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return errorf(ErrorKind::kInternal, "{}: the name is too long", path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 1) != 0) {
    return errnof("listen at {}", path);
  }
  return listener;
}

[[noreturn]] void daemon_child(const char* program, char* const* argv, int listener, int log_fd, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  ::setsid();
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  const int null = ::open("/dev/null", O_RDWR);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  ::dup2(log_fd, STDERR_FILENO);
  // As number 3, with nothing after it.
  if (listener != 3 && ::dup2(listener, 3) != 3) ::_exit(1);
  if (listener == 3) ::fcntl(3, F_SETFD, 0);
  ::close_range(4, ~0U, 0);
  // Debian 12's virtiofsd kills itself when the C library asks for the number of processors, which it does for the
  // number of its memory arenas: its seccomp filter lacks sched_getaffinity(2).
  char arenas[] = "MALLOC_ARENA_MAX=4";
  char* const env[] = {arenas, nullptr};
  ::execve(program, argv, env);
  ::_exit(127);
}

}  // namespace

Result<void> mount_shares(const std::vector<Share>& shares, const std::string& folder) {
  TRY_ASSIGN(const UniqueFd place, sys::open(folder, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  TRY_ASSIGN(const UniqueFd tmpfs, sys::make_mount("tmpfs", "hull-share", {{"mode", "0700"}, {"size", "1m"}},
                                                   MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  TRY(sys::attach_mount(tmpfs.get(), place.get(), ""));
  for (size_t i = 0; i < shares.size(); ++i) {
    auto mounted = mount_share(shares[i], tmpfs.get(), fmt::to_string(i));
    if (!mounted.ok()) {
      return std::move(mounted).error().context(fmt::format("{}: share {}", shares[i].member, shares[i].source));
    }
  }
  return {};
}

Result<FileDaemon> start_file_daemon(const std::string& folder, const std::string& socket_path, bool fresh,
                                     int log_fd) {
  const char* program = nullptr;
  for (const char* place : kDaemonPlaces) {
    if (program == nullptr && ::access(place, X_OK) == 0) program = place;
  }
  if (program == nullptr) {
    return errorf(ErrorKind::kUnsupported,
                  "sharing folders with a virtual machine needs virtiofsd: install qemu-system-common");
  }
  TRY_ASSIGN(const UniqueFd listener, listen_at(socket_path));
  // Locks of flock(2) are the host's, so that host, containers and machines respect one another's. Those of fcntl(2)
  // stay the guest's own: this daemon can't wait for one, and a program that waits would get an error.
  std::vector<std::string> words = {"virtiofsd",
                                    "-f",
                                    "--fd=3",
                                    fmt::format("--thread-pool-size={}", kDaemonThreads),
                                    "-o",
                                    "source=" + folder,
                                    "-o",
                                    fmt::format("sandbox=namespace,cache=auto{},flock,no_posix_lock,xattr,"
                                                "announce_submounts,log_level=err",
                                                fresh ? ",timeout=0" : "")};
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  FileDaemon daemon;
  daemon.pid = ::fork();
  if (daemon.pid < 0) return errno_error("start virtiofsd");
  if (daemon.pid == 0) daemon_child(program, argv.data(), listener.get(), log_fd, parent);
  TRY_ASSIGN(daemon.pidfd, sys::pidfd_open(daemon.pid));
  return daemon;
}

}  // namespace hull::vm
