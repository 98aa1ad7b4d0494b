#pragma once
// virtio-vsock (virtio 1.2 clause 5.10), streams only: connections between the guest (its CID) and the host (CID 2),
// each of which is a unix stream socket on the host (vsock_socket.h). Flow control by credits in both directions: what
// the host side does not read stays in the guest but for kVsockWindow bytes of each connection; what the guest does not
// read stays in the unix socket. Half-close passes in both directions.

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "vmm/virtio/queue_device.h"
#include "vmm/virtio/vsock_socket.h"

namespace hull::vmm {

/// Clause 5.10.6.
struct VsockHeader {
  uint64_t source_cid = 0;
  uint64_t destination_cid = 0;
  uint32_t source_port = 0;
  uint32_t destination_port = 0;
  uint32_t size = 0;
  uint16_t type = 0;
  uint16_t operation = 0;
  uint32_t flags = 0;
  uint32_t buffer_bytes = 0;     ///< buf_alloc: room that the sender has in all
  uint32_t forwarded_bytes = 0;  ///< fwd_cnt: what of it was given on, free-running
} __attribute__((packed));
static_assert(sizeof(VsockHeader) == 44);

enum class VsockOperation : uint16_t {
  kRequest = 1,
  kResponse = 2,
  kReset = 3,
  kShutdown = 4,
  kData = 5,
  kCreditUpdate = 6,
  kCreditRequest = 7,
};
inline constexpr uint16_t kVsockStream = 1;
inline constexpr uint32_t kVsockNoReceive = 1, kVsockNoSend = 2;
inline constexpr uint64_t kVsockHostCid = 2;

/// Room for what the guest has sent on one connection and the host's side has not taken yet.
inline constexpr uint32_t kVsockWindow = 256 << 10;
/// Of all connections together; a connection that would need more is reset.
inline constexpr uint64_t kVsockPendingTotal = 32 << 20;
inline constexpr size_t kVsockConnections = 1024;

struct VsockOptions {
  uint64_t cid = 3;
  /// Makes the host's end of a connection that the guest opens to this port; invalid: refused. Runs in the device's
  /// thread. Without one, the socket's folder is used.
  std::function<UniqueFd(uint32_t port)> connect;
};

class VsockDevice final : public QueueDevice {
 public:
  /// `socket` may be empty (no listener) when options.connect is given.
  VsockDevice(VsockSocket socket, VsockOptions options);
  ~VsockDevice() override;

  uint32_t id() const override { return 19; }
  uint64_t features() const override { return kRingFeatures; }
  std::vector<uint16_t> queue_sizes() const override { return {256, 256, 16}; }
  void read_config(uint32_t offset, std::span<std::byte> out) const override;

 private:
  struct Connection;
  enum class Served { kDone, kMore, kNoBuffers };

  std::string_view kind() const override { return "vsock"; }
  Result<void> on_activate() override;
  void on_deactivate() override;
  void on_thread() override;
  void on_queue(size_t queue) override;
  void on_event(size_t lane, uint64_t key, uint32_t events) override;
  bool after_events(size_t lane) override;

  // From the guest.
  bool receive_packets();
  void receive(const VsockHeader& header, Buffers* data);
  void receive_for(Connection* connection, const VsockHeader& header, Buffers* data);
  void open_from_guest(const VsockHeader& header);
  void deliver(Connection* connection, Buffers* data);
  void shut_down(Connection* connection, uint32_t flags);

  // From the host.
  void accept_connections();
  void greet(Connection* connection);
  void flush(Connection* connection);
  void settle(Connection* connection);

  // To the guest.
  bool serve_ready();
  Served serve(Connection* connection);
  Served send_data(Connection* connection);
  bool send_owed(Connection* connection);
  bool send_control(Connection* connection, VsockOperation operation, uint32_t flags);
  bool send_resets();
  bool take_receive_chain(Chain* chain);
  VsockHeader header_for(Connection* connection, VsockOperation operation) const;

  Connection* make_connection(UniqueFd socket);
  Connection* find(uint64_t id);
  void name_ports(Connection* connection, uint32_t host_port, uint32_t guest_port);
  void forget_ports(Connection* connection);
  void owe_reset(uint64_t host_cid, uint32_t host_port, uint32_t guest_port, uint16_t type);
  void ready(Connection* connection);
  void reset(Connection* connection);
  void remove(Connection* connection);
  bool make_room();

  VsockSocket socket_;
  VsockOptions options_;

  std::unordered_map<uint64_t, std::unique_ptr<Connection>> connections_;  // by id
  std::unordered_map<uint64_t, uint64_t> by_ports_;                        // host port << 32 | guest port: id
  std::deque<uint64_t> ready_;                                             // ids with something for the guest
  std::deque<VsockHeader> resets_;
  uint64_t next_id_ = kFirstKey + 1;
  uint32_t next_port_ = 1u << 30;
  uint64_t pending_total_ = 0;
  bool transmit_waiting_ = false;
  bool accept_again_ = false;
  std::vector<Chain> chains_;  // reused
  std::vector<iovec> parts_;
};

}  // namespace hull::vmm
