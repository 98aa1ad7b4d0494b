#include "engine/waiters.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/error_format.h"
#include "engine/monitor_client.h"
#include "sys/fd_passing.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

/// A unix address through a descriptor of the folder: run folders may be longer than sun_path.
Result<sockaddr_un> address_in(int dir_fd, std::string_view name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", dir_fd, name);
  if (path.size() >= sizeof address.sun_path) return errorf(ErrorKind::kInternal, "waiter's name {} is too long", name);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// How long a waiter may take to take what it waits for: its socket's queue is empty, so this never matters but for one
/// that was stopped.
constexpr timeval kPatience = {1, 0};

Result<void> serve_one(const Paths& paths, std::string_view id, int dir_fd, const std::string& name, bool tty,
                       bool open_stdin) {
  TRY_ASSIGN(const sockaddr_un address, address_in(dir_fd, name));
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno_error("make a socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ECONNREFUSED) ::unlinkat(dir_fd, name.c_str(), 0);  // its process died
    return errno_error("connect to a waiter");
  }
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  TRY_ASSIGN(const UniqueFd control, connect_monitor(paths, id));
  if (name[0] == 'w') return sys::send_fds(socket.get(), "w", {control.get()});
  const bool input = name[0] == 'i' && open_stdin;
  TRY_ASSIGN(const Attachment streams, request_attachment(control.get(), true, input, tty, true));
  std::string text = "o";
  std::vector<int> fds = {control.get(), streams.output.get()};
  if (streams.error) {
    text += 'e';
    fds.push_back(streams.error.get());
  }
  if (streams.input) {
    text += 'i';
    fds.push_back(streams.input.get());
  }
  return sys::send_fds(socket.get(), text, fds);
}

std::string folder_of(const Paths& paths, std::string_view id) { return paths.run + "/waiters/" + std::string(id); }

}  // namespace

Result<Waiter> Waiter::leave(const Paths& paths, std::string_view id, Kind kind, bool input) {
  static unsigned count = 0;
  std::string folder = folder_of(paths, id);
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener) return errno_error("make a socket");
  const char* const letter = kind == Kind::kWait ? "w" : input ? "i" : "o";
  const std::string name = fmt::format("{}{}-{}", letter, ::getpid(), ++count);
  // Another waiter that goes takes the empty folder with it.
  for (int attempt = 0;; ++attempt) {
    TRY(sys::make_dirs(folder));
    auto dir = sys::open(folder, O_PATH | O_DIRECTORY);
    if (dir.ok()) {
      TRY_ASSIGN(const sockaddr_un address, address_in(dir->get(), name));
      if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) break;
    }
    if (errno != ENOENT || attempt == 100) return errno_error("leave a socket for the start");
  }
  if (::listen(listener.get(), 4) != 0) return errno_error("listen for the start");
  std::string path = folder + "/" + name;
  return Waiter(std::move(folder), std::move(path), std::move(listener));
}

Waiter::Waiter(Waiter&& other) noexcept
    : folder_(std::move(other.folder_)), path_(std::move(other.path_)), listener_(std::move(other.listener_)) {
  other.path_.clear();
}

Waiter::~Waiter() {
  if (path_.empty()) return;
  ::unlink(path_.c_str());
  ::rmdir(folder_.c_str());
}

Result<Attachment> Waiter::take() {
  const UniqueFd peer(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!peer) return errno_error("accept who starts the container");
  TRY_ASSIGN(sys::ReceivedFds got, sys::receive_fds(peer.get()));
  if (got.fds.empty()) return errorf(ErrorKind::kUnavailable, "who starts the container went away");
  Attachment out;
  out.control = std::move(got.fds[0]);
  size_t next = 1;
  for (const char what : got.text) {
    if (what == 'w' || next == got.fds.size()) break;
    UniqueFd& target = what == 'o' ? out.output : what == 'e' ? out.error : out.input;
    target = std::move(got.fds[next++]);
  }
  return out;
}

void serve_waiters(const Paths& paths, std::string_view id, bool tty, bool open_stdin) {
  const int fd = ::open(folder_of(paths, id).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return;
  DIR* const dir = ::fdopendir(fd);
  if (dir == nullptr) {
    ::close(fd);
    return;
  }
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    ignore_result(serve_one(paths, id, fd, entry->d_name, tty, open_stdin));
  }
  ::closedir(dir);
}

void forget_waiters(const Paths& paths, std::string_view id) {
  const std::string folder = folder_of(paths, id);
  if (::rmdir(folder.c_str()) == 0 || errno == ENOENT) return;
  ignore_result(sys::remove_tree(folder));
}

}  // namespace hull::engine
