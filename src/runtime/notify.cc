#include "runtime/notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::runtime {
namespace {

constexpr const char* kInContainer = "/run/notify";
constexpr const char* kSocketName = "notify.sock";

/// "READY=1" on a line of its own (sd_notify(3)).
bool says_ready(std::string_view text) {
  while (!text.empty()) {
    if (text.substr(0, text.find('\n')) == "READY=1") return true;
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return false;
    text.remove_prefix(end + 1);
  }
  return false;
}

Result<void> send_to(const std::string& target, const std::string& text) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (target.empty() || target.size() >= sizeof address.sun_path) {
    return errorf(ErrorKind::kInvalid, "NOTIFY_SOCKET: \"{:.60}\" is no address of a unix socket", target);
  }
  std::memcpy(address.sun_path, target.data(), target.size());
  if (target[0] == '@') address.sun_path[0] = 0;
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + target.size() + (target[0] == '@' ? 0 : 1));
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno_error("make a unix socket");
  if (::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
               length) < 0) {
    return errnof("tell {} that the container is ready", target);
  }
  return {};
}

}  // namespace

void add_notify(oci::Spec* spec, const std::string& state_folder) {
  oci::Mount mount;
  mount.destination = kInContainer;
  mount.type = "bind";
  mount.source = state_folder + "/" + kNotifyFolder;
  mount.options = {"bind", "nosuid", "noexec", "nodev", "ro"};
  spec->mounts.push_back(std::move(mount));
  if (!spec->process) return;
  std::erase_if(spec->process->env, [](const std::string& entry) { return entry.starts_with("NOTIFY_SOCKET="); });
  spec->process->env.push_back(fmt::format("NOTIFY_SOCKET={}/{}", kInContainer, kSocketName));
}

Result<std::optional<NotifyProxy>> NotifyProxy::listen(const std::string& state_folder, std::string host_socket) {
  const UniqueFd folder(
      ::open((state_folder + "/" + kNotifyFolder).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!folder) {
    if (errno == ENOENT) return std::optional<NotifyProxy>();
    return errnof("open {}/{}", state_folder, kNotifyFolder);
  }
  NotifyProxy proxy;
  proxy.host_socket_ = std::move(host_socket);
  proxy.socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!proxy.socket_) return errno_error("make a unix socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder.get(), kSocketName);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlinkat(folder.get(), kSocketName, 0);
  if (::bind(proxy.socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errnof("listen on {}/{}/{}", state_folder, kNotifyFolder, kSocketName);
  }
  // Whoever the program runs as.
  if (::fchmodat(folder.get(), kSocketName, 0777, 0) != 0) return errno_error("open the socket to the container");
  return std::optional<NotifyProxy>(std::move(proxy));
}

Result<bool> NotifyProxy::pass_on(pid_t main_pid) const {
  char text[4096];
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), text, sizeof text, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return false;
    if (got < 0) return errno_error("receive from the container");
    if (!says_ready(std::string_view(text, static_cast<size_t>(got)))) continue;
    TRY(send_to(host_socket_, fmt::format("READY=1\nMAINPID={}\n", main_pid)));
    return true;
  }
}

Result<void> NotifyProxy::wait(int pidfd, pid_t main_pid) const {
  for (;;) {
    pollfd polled[2] = {{socket_.get(), POLLIN, 0}, {pidfd, POLLIN, 0}};
    if (::poll(polled, 2, -1) < 0 && errno != EINTR) return errno_error("wait for the container to be ready");
    TRY_ASSIGN(const bool ready, pass_on(main_pid));
    if (ready || polled[1].revents != 0) return {};
  }
}

}  // namespace hull::runtime
