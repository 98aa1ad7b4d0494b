#include "vmm/virtio/vsock_socket.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/file.h"

namespace hull::vmm {

namespace {

constexpr std::string_view kConnect = "CONNECT ";

bool fill_address(std::string_view path, sockaddr_un* address) {
  *address = {.sun_family = AF_UNIX};
  if (path.size() >= sizeof address->sun_path) return false;
  std::copy(path.begin(), path.end(), address->sun_path);
  return true;
}

UniqueFd unix_socket() { return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }

const sockaddr* generic(const sockaddr_un* address) { return reinterpret_cast<const sockaddr*>(address); }

// Linux 5.2. Without the right to it the folder itself must do.
UniqueFd confined_folder(UniqueFd folder) {
  const long mount = ::syscall(SYS_open_tree, folder.get(), "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  return mount >= 0 ? UniqueFd(static_cast<int>(mount)) : std::move(folder);
}

// A socket file that a machine left behind.
Result<void> remove_stale(const VsockSocket& socket, const sockaddr_un& address) {
  const UniqueFd probe = unix_socket();
  if (::connect(probe.get(), generic(&address), sizeof address) == 0 || errno == EAGAIN) {
    return Error(ErrorKind::kConflict, "another machine listens there");
  }
  struct stat status{};
  if (::fstatat(socket.folder.get(), socket.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 ||
      !S_ISSOCK(status.st_mode)) {
    return Error(ErrorKind::kExists, "there is a file of that name");
  }
  if (::unlinkat(socket.folder.get(), socket.name.c_str(), 0) != 0) return errno_error("remove what is there");
  return {};
}

}  // namespace

Result<VsockSocket> listen_vsock(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
  VsockSocket made;
  made.name = slash == std::string::npos ? path : path.substr(slash + 1);
  TRY_ASSIGN(made.folder, sys::open(parent, O_PATH | O_DIRECTORY));
  sockaddr_un address;
  // Paths of any length, through the folder's descriptor.
  const std::string short_path = "/proc/self/fd/" + std::to_string(made.folder.get()) + "/" + made.name;
  if (made.name.empty() || !fill_address(short_path, &address)) {
    return errorf(ErrorKind::kInvalid, "vsock socket {}: the name is empty or longer than a socket's may be", path);
  }
  made.listener = unix_socket();
  if (!made.listener) return errno_error("make a vsock socket");
  int bound = ::bind(made.listener.get(), generic(&address), sizeof address);
  if (bound != 0 && errno == EADDRINUSE) {
    TRY(remove_stale(made, address).context("vsock socket " + path));
    bound = ::bind(made.listener.get(), generic(&address), sizeof address);
  }
  if (bound != 0) return errnof("bind vsock socket {}", path);
  if (::listen(made.listener.get(), 128) != 0) return errnof("listen at vsock socket {}", path);
  made.folder = confined_folder(std::move(made.folder));
  return made;
}

std::optional<uint32_t> parse_vsock_greeting(std::string_view line) {
  if (!line.starts_with(kConnect)) return std::nullopt;
  const auto port = parse_int(line.substr(kConnect.size()), 0, UINT32_MAX - 1);
  if (!port.ok()) return std::nullopt;
  return static_cast<uint32_t>(*port);
}

Result<bool> read_vsock_greeting(int socket, std::string* line) {
  for (;;) {
    std::array<char, kLongestVsockGreeting> piece;
    const size_t room = kLongestVsockGreeting - line->size();
    const ssize_t seen = ::recv(socket, piece.data(), room, MSG_PEEK | MSG_DONTWAIT);
    if (seen < 0 && errno == EINTR) continue;
    if (seen < 0 && errno == EAGAIN) return false;
    if (seen <= 0) return Error(ErrorKind::kUnavailable, "the connection ended before CONNECT");
    const void* newline = std::memchr(piece.data(), '\n', static_cast<size_t>(seen));
    const size_t text = newline != nullptr ? static_cast<const char*>(newline) - piece.data() : seen;
    const size_t take = text + (newline != nullptr ? 1 : 0);
    if (::recv(socket, piece.data(), take, MSG_DONTWAIT) != static_cast<ssize_t>(take)) {
      return Error(ErrorKind::kInternal, "the socket gave less than it showed");
    }
    line->append(piece.data(), text);
    if (newline != nullptr) return true;
    if (line->size() >= kLongestVsockGreeting) return Error(ErrorKind::kInvalid, "CONNECT <port> was expected");
  }
}

UniqueFd connect_vsock_port(const std::string& name, uint32_t port) {
  sockaddr_un address;
  if (!fill_address(name + "_" + std::to_string(port), &address)) return {};
  UniqueFd made = unix_socket();
  if (!made || ::connect(made.get(), generic(&address), sizeof address) != 0) return {};
  return made;
}

}  // namespace hull::vmm
