#pragma once
// The half of hull-dns that has privileges: it knows which endpoints there are (files, see net/names.h), opens the
// sockets that their workloads ask on, and keeps a worker alive that answers. It holds every socket too, so that a
// worker that was killed is replaced without a query being lost; when the keeper is killed, the worker goes on
// answering until the next command starts another keeper, which replaces both.

#include <map>
#include <memory>
#include <set>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/dns/control.h"
#include "net/dns/loop.h"
#include "net/dns/sockets.h"
#include "net/names.h"
#include "sys/file.h"

namespace hull::net::dns {

/// Made ready in two steps, so that the program can tell its starter between them.
class Keeper {
 public:
  /// Takes the lock, ends what an earlier keeper left, listens on run_dir/dns.sock. Nothing when another keeper has
  /// the lock.
  static Result<std::unique_ptr<Keeper>> open(const std::string& run_dir);
  ~Keeper();

  /// Serves until the last endpoint is gone.
  Result<void> run();

 private:
  struct Listener {
    uint32_t id = 0;
    bool gateway = false;
    std::string network, workload, address;
    NamespaceHolder holder;
    ListenSockets sockets;
    UniqueFd process;  // of the holder: its end closes the sockets, which would keep the namespace
  };
  using Key = std::pair<std::string, std::string>;  // network, workload

  Keeper(std::string run_dir, Loop loop, sys::FileLock lock) noexcept;
  Result<void> listen();
  void read_all();
  Result<void> serve(const std::string& network, const std::string& workload);
  Result<void> open_listeners(const NameRecord& record);
  Result<void> open_namespace(const NameRecord& record);
  Result<void> open_gateway(const std::string& network, const IpAddress& address);
  void on_process_end(uint32_t id);
  void forget(const Key& key);
  void close_unused();
  void close_listener(uint32_t id);
  void end_if_idle();

  void on_connection();
  void on_change();
  void watch_network(const std::string& network);

  Result<void> start_worker();
  void on_worker_end();
  void tell(const ControlHeader& header, std::string_view text, const ListenSockets* sockets = nullptr);
  void tell_listener(const Listener& listener);
  void tell_servers();

  std::string run_dir_;
  Loop loop_;
  sys::FileLock lock_;
  UniqueFd socket_, changes_;
  UniqueFd control_, worker_;
  pid_t worker_pid_ = -1;
  int64_t worker_started_ms_ = 0;
  std::map<Key, NameRecord> records_;
  std::map<uint32_t, Listener> listeners_;
  uint32_t last_listener_ = 0;
  std::map<int, std::string> watched_;  // watch descriptor: network
  std::set<int> resolver_watches_;
  bool ending_ = false;
};

/// The host's servers as the worker takes them, one a line, zones as interface numbers. `root` is for tests.
std::string host_servers(const std::string& root = "");

}  // namespace hull::net::dns
