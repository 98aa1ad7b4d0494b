#pragma once
// The control socket of a running machine (docs/man/hull-vmm.8, "CONTROL"): HTTP over a unix socket, served by the main
// thread. Who may connect is decided by the socket's folder.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/http.h"

namespace hull::vmm {

/// What the socket's clients can ask of a machine. Functions are called in the main thread.
struct ControlHandlers {
  std::function<void()> pause, press_power_button;
  std::function<Result<void>()> resume;
  std::function<std::string()> stats;  ///< a JSON object
  /// Bytes that the guest is to give back; an error is told to the client.
  std::function<Result<void>(uint64_t bytes)> set_balloon;
  std::function<std::string()> devices;  ///< a JSON array
  /// By the request's body and the descriptors that came with it; the new device's index.
  std::function<Result<size_t>(const std::string& body, std::vector<UniqueFd> fds)> add_disk, add_net;
  std::function<Result<void>(size_t index)> remove_device;
};

class ControlServer {
 public:
  static constexpr size_t kMostClients = 16;
  static constexpr size_t kMostDescriptors = 16;  ///< with one request

  /// Listens at `path` (mode 0600; a socket file that nobody listens to is replaced, kConflict when somebody does).
  /// Watched through `epoll`, which the caller owns; keys are kListenKey and upwards.
  static Result<ControlServer> listen(const std::string& path, int epoll, ControlHandlers handlers);
  static constexpr uint64_t kListenKey = 1 << 16;

  /// For each event whose key is at least kListenKey.
  void on_event(uint64_t key, uint32_t events);
  /// Tells the event to all who listen to /events: {"event":"<name>","detail":"<detail>"}.
  void tell(std::string_view event, std::string_view detail = {});
  /// Sends what can be sent before the process ends.
  void close();

 private:
  struct Client {
    UniqueFd fd;
    std::string input, output;
    std::vector<UniqueFd> fds;  // that came with a request which is not complete yet
    bool streams = false;       // listens to /events
    bool closing = false;       // after what is in output
    bool watches_out = false;
  };
  ControlServer(UniqueFd listener, int epoll, ControlHandlers handlers)
      : listener_(std::move(listener)), epoll_(epoll), handlers_(std::move(handlers)) {}
  void accept();
  void serve(uint64_t key, Client& client, uint32_t events);
  bool receive(Client& client);
  void answer(Client& client, const HttpRequest& request);
  std::string put(Client& client, const HttpRequest& request, bool* known);
  std::string change_devices(Client& client, const HttpRequest& request);
  bool flush(uint64_t key, Client& client);

  UniqueFd listener_;
  int epoll_;
  ControlHandlers handlers_;
  std::map<uint64_t, Client> clients_;  // by key
  uint64_t next_key_ = kListenKey + 1;
};

}  // namespace hull::vmm
