#pragma once
// The process that accepts connections. It has one thread, parses nothing that a client sends, opens no engine, and
// has a process for each connection: a request can harm its own connection only. A few processes wait for the next
// ones.

#include <sys/types.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "api/settings.h"
#include "api/spares.h"
#include "api/tls.h"
#include "base/unique_fd.h"
#include "engine/engine.h"

namespace hull::api {

class Server {
 public:
  Server(ApiSettings api, engine::Settings engine) : api_(std::move(api)), engine_(std::move(engine)) {}
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Takes over the sockets of systemd (sd_listen_fds(3)) or makes those of the settings, and tells systemd.
  Result<void> open();
  /// Until SIGTERM or SIGINT; then connections are ended, workloads are not. SIGHUP reads the settings again.
  Result<void> serve();

 private:
  struct Listener {
    UniqueFd fd;
    bool is_unix = true;
    bool tls = false;
    bool dashboard = false;
    std::string made_path;  // a socket that this process made, to be removed at the end
  };
  Result<Listener> listen_unix(const Address& address);
  Result<Listener> listen_tcp(const Address& address);
  Result<void> adopt(int fd);
  Result<void> take_inherited();
  /// What this process knows of one that it started.
  struct Process {
    enum class State { kBegun, kIdle, kServing };
    State state = State::kBegun;
    uid_t uid = 0;
  };
  void accept_from(const Listener& listener);
  void start_process(std::optional<Task> task);
  [[noreturn]] void become_worker(std::optional<Task> task);
  void release(const Process& process);
  void collect();
  void reap();
  void reload();
  void end_connections();

  ApiSettings api_;
  engine::Settings engine_;
  TlsContext tls_;
  std::string dashboard_token_;
  std::vector<Listener> listeners_;
  UniqueFd signals_;
  Spares spares_;
  std::map<pid_t, Process> processes_;
  std::map<uid_t, int> per_user_;
  int serving_ = 0;
  size_t begun_ = 0;  // processes that will wait and have not reported yet
};

}  // namespace hull::api
