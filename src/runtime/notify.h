#pragma once
// sd_notify(3) for containers, as runc has it: with NOTIFY_SOCKET in the caller's environment the container gets a
// socket of its own at /run/notify/notify.sock, and of what it says only that it is ready is passed on, with the
// process that systemd is to watch.

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/runtime_spec.h"

namespace hull::runtime {

inline constexpr const char* kNotifyFolder = "notify";  // in the container's state folder

/// The mount and the variable.
void add_notify(oci::Spec* spec, const std::string& state_folder);

class NotifyProxy {
 public:
  /// Listens in the state folder; nothing when the container was created without a socket. `host_socket` is
  /// NOTIFY_SOCKET's value: a path, or an abstract name that begins with "@".
  static Result<std::optional<NotifyProxy>> listen(const std::string& state_folder, std::string host_socket);
  int fd() const { return socket_.get(); }
  /// Reads what has come; true once READY=1 and MAINPID were passed on.
  Result<bool> pass_on(pid_t main_pid) const;
  /// Until it is ready or the process has ended.
  Result<void> wait(int pidfd, pid_t main_pid) const;

 private:
  UniqueFd socket_;
  std::string host_socket_;
};

}  // namespace hull::runtime
