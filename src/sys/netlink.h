#pragma once
// Netlink: messages are written into a batch, sent with one system call and answered before it returns. The kernel
// handles rtnetlink and nfnetlink requests inside sendmsg(2), so answers are read without ever waiting.
// Written by hand, not with libmnl, because Debian has no static libmnl and `hull` starts without a dynamic loader.

#include <linux/netlink.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

using Bytes = std::span<const uint8_t>;

/// Any number of netlink requests in one buffer. begin(), attributes, end(), begin() … Attribute numbers are the
/// kernel's (IFLA_*, NFTA_*); put() copies.
class NetlinkBatch {
 public:
  /// Starts a message of `type`; `header` is the family's fixed part (ifinfomsg, nfgenmsg, …). NLM_F_REQUEST is added.
  template <typename Header>
  void begin(uint16_t type, uint16_t flags, const Header& header) {
    begin_raw(type, flags, &header, sizeof(header));
  }
  void end();

  void put(uint16_t attribute, const void* data, size_t size);
  void put_flag(uint16_t attribute) { put(attribute, nullptr, 0); }
  void put_u8(uint16_t attribute, uint8_t value) { put(attribute, &value, sizeof(value)); }
  void put_u16(uint16_t attribute, uint16_t value) { put(attribute, &value, sizeof(value)); }
  void put_u32(uint16_t attribute, uint32_t value) { put(attribute, &value, sizeof(value)); }
  /// Network byte order, as nfnetlink wants numbers.
  void put_be32(uint16_t attribute, uint32_t value);
  /// With the terminating NUL.
  void put_string(uint16_t attribute, std::string_view text);
  /// A fixed structure in the middle of a nest (VETH_INFO_PEER starts with an ifinfomsg).
  template <typename Header>
  void put_raw(const Header& header) {
    append(&header, sizeof(header));
  }

  /// Nested attributes until close_nest(); they may nest. open_nest() sets NLA_F_NESTED.
  void open_nest(uint16_t attribute);
  void close_nest();

  size_t count() const { return starts_.size(); }
  size_t size_bytes() const { return buffer_.size(); }
  /// How much of its 65,535 bytes the innermost open nest holds.
  size_t nest_size() const { return nests_.empty() ? 0 : buffer_.size() - nests_.back(); }
  void clear();

 private:
  friend class NetlinkSocket;
  void begin_raw(uint16_t type, uint16_t flags, const void* header, size_t size);
  void append(const void* data, size_t size);
  std::vector<uint8_t> buffer_;
  std::vector<size_t> starts_;  // of the messages
  std::vector<size_t> nests_;   // of the open nests
  bool too_long_ = false;       // an attribute outgrew its 16-bit length
};

/// One message of an answer; views into the receive buffer.
struct NetlinkMessage {
  uint16_t type = 0, flags = 0;
  uint32_t sequence = 0;
  Bytes payload;  ///< after the nlmsghdr
};
/// Calls `visit` for each message of a datagram; false when the bytes are malformed.
bool for_each_message(Bytes datagram, const std::function<void(const NetlinkMessage&)>& visit);
/// Calls `visit(type without flag bits, value)` for each attribute; false when the bytes are malformed.
bool for_each_attribute(Bytes attributes, const std::function<void(uint16_t, Bytes)>& visit);

/// Values of attributes; what is too short reads as 0 or "".
template <typename T>
T attribute_as(Bytes value) {
  T out{};
  if (value.size() >= sizeof(T)) std::memcpy(&out, value.data(), sizeof(T));
  return out;
}
std::string_view attribute_string(Bytes value);
uint32_t attribute_be32(Bytes value);
uint64_t attribute_be64(Bytes value);

/// A request of a batch that the kernel refused.
struct NetlinkFailure {
  size_t index = 0;       ///< of the message in the batch
  int error = 0;          ///< errno
  std::string explained;  ///< the kernel's own words (NETLINK_EXT_ACK), often empty
};

class NetlinkSocket {
 public:
  /// `protocol` is NETLINK_ROUTE or NETLINK_NETFILTER; the socket belongs to the calling thread's network namespace for
  /// ever. kUnsupported when the kernel lacks the family.
  static Result<NetlinkSocket> open(int protocol);

  /// Sends the batch and reads all answers. `visit` gets every message that is neither an acknowledgement nor the end
  /// of a dump. Refused requests are returned, in order; the batch's other requests were carried out (rtnetlink) or not
  /// (nfnetlink batches are atomic). kUnavailable: a dump was disturbed by a change (try again), or answers were lost.
  Result<std::vector<NetlinkFailure>> exchange(NetlinkBatch& batch,
                                               const std::function<void(const NetlinkMessage&)>& visit = {});
  int fd() const { return fd_.get(); }
  /// A socket that other processes used before; one at a time may.
  static NetlinkSocket of(UniqueFd fd);

 private:
  explicit NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  Result<void> send(NetlinkBatch& batch);
  UniqueFd fd_;
  uint32_t sequence_ = 0;
};

/// The error of a failure: "<what>: <strerror>: <the kernel's words>".
Error netlink_error(const NetlinkFailure& failure, std::string_view what);

}  // namespace hull::sys
