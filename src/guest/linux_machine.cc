#include "guest/linux_machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/log.h"
#include "guest/agent_client.h"
#include "guest/disks.h"
#include "guest/network.h"
#include "sys/file.h"

namespace hull::guest {
namespace {

constexpr auto kDiskPatience = std::chrono::seconds(10);

Result<void> write_sysctl(const std::string& name, const std::string& value) {
  if (name.empty() || name.find("..") != std::string::npos || name.front() == '/') {
    return errorf(ErrorKind::kInvalid, "invalid sysctl '{}'", name);
  }
  std::string path = name;
  // With '/' between its parts a name may hold dots (an interface eth0.5).
  if (name.find('/') == std::string::npos) std::replace(path.begin(), path.end(), '.', '/');
  TRY_ASSIGN(const UniqueFd folder, sys::open("/proc/sys", O_PATH | O_DIRECTORY));
  return sys::write_value(folder.get(), path, value).context("sysctl " + name);
}

bool reboots_by_triple_fault() {
  const std::string line = " " + sys::read_file("/proc/cmdline", 64 << 10).value_or("");
  return line.find(" reboot=t") != std::string::npos;
}

}  // namespace

Result<void> LinuxMachine::mount_share(const std::string& tag, const std::string& name) {
  const std::string target = run_dir_ + "/" + name;
  return mount_at(tag, target, "virtiofs", 0);
}

Result<void> LinuxMachine::configure(const proto::ConfigureRequest& request) {
  if (request.time_ns() != 0) TRY(set_time(request.time_ns()));
  if (!request.hostname().empty() && ::sethostname(request.hostname().data(), request.hostname().size()) != 0) {
    return errno_error("set the hostname");
  }
  TRY(configure_network(request.interfaces()));
  const auto deadline = ttrpc::after(kDiskPatience);
  if (request.has_root()) TRY(mount_overlay_root(request.root(), run_dir_, deadline));
  if (!request.share_tag().empty()) TRY(mount_share(request.share_tag(), "share"));
  for (const auto& [name, tag] : request.share_tags()) {
    if (name.empty() || name.find('/') != std::string::npos || name.starts_with('.')) {
      return errorf(ErrorKind::kInvalid, "invalid name of a share: '{}'", name);
    }
    TRY(mount_share(tag, "shares/" + name));
  }
  // After the interfaces: some are theirs.
  for (const auto& [name, value] : request.sysctl()) TRY(write_sysctl(name, value));
  return {};
}

Result<void> LinuxMachine::set_time(int64_t time_ns) {
  constexpr int64_t kSecond = 1'000'000'000;
  if (time_ns <= 0) return errorf(ErrorKind::kInvalid, "a time before 1970");
  const timespec now{time_ns / kSecond, time_ns % kSecond};
  if (::clock_settime(CLOCK_REALTIME, &now) != 0) return errno_error("set the clock");
  return {};
}

void LinuxMachine::prepare_power_off() {
  ::kill(-1, SIGKILL);
  // Killed processes end soon; one that hangs in the kernel keeps nothing but its own file system from being unmounted.
  constexpr auto kEndPatience = std::chrono::seconds(2);
  const auto deadline = ttrpc::after(kEndPatience);
  sigset_t child;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  while (true) {
    const pid_t ended = ::waitpid(-1, nullptr, WNOHANG);
    if (ended > 0) continue;
    const auto left = deadline - std::chrono::steady_clock::now();
    if (ended < 0 || left <= left.zero()) break;
    const auto nanoseconds = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
    const timespec limit{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    ::sigtimedwait(&child, nullptr, &limit);
  }
  ::sync();
  for (const char* name : {"/root", "/scratch"}) {
    const std::string path = run_dir_ + name;
    if (::umount2(path.c_str(), 0) != 0 && errno != EINVAL && errno != ENOENT) {
      log_warning("unmount {}: {}", path, strerrordesc_np(errno));
      // What can't be unmounted is written back at least, and closed for writing.
      ::mount(nullptr, path.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr);
    }
  }
  ::sync();
}

void LinuxMachine::power_off() {
  // Without ACPI a machine can't switch itself off; a hypervisor that says reboot=t ends with a reset.
  if (!reboots_by_triple_fault()) ::reboot(RB_POWER_OFF);
  ::reboot(RB_AUTOBOOT);
}

Result<UniqueFd> listen_vsock(uint32_t port) {
  UniqueFd listener(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno_error("open a vsock socket").as(ErrorKind::kUnsupported);
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_ANY;
  address.svm_port = port;
  constexpr int kBacklog = 64;
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), kBacklog) != 0) {
    return errnof("listen on vsock port {}", port);
  }
  return listener;
}

Result<UniqueFd> accept_from_host(int listener) {
  sockaddr_vm peer{};
  socklen_t size = sizeof peer;
  UniqueFd connection(::accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection) return errno_error("accept a connection");
  if (peer.svm_family != AF_VSOCK || peer.svm_cid != VMADDR_CID_HOST) return UniqueFd();
  return connection;
}

Result<void> announce_ready() {
  const UniqueFd socket(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("open a vsock socket");
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_HOST;
  address.svm_port = kReadyPort;
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_error("tell the host that the guest is ready");
  }
  return {};
}

}  // namespace hull::guest
