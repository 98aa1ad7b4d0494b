#pragma once
// The vhost-user protocol's messages (QEMU's specification docs/interop/vhost-user.rst), for both ends: a device that
// serves another process' virtqueues (vhost_user_backend.h), and a device that is served by one (fs.h).

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm::vhost_user {

enum class Request : uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemoryTable = 5,
  kSetVringSize = 8,
  kSetVringAddresses = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringError = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueCount = 17,
  kSetVringEnable = 18,
  kSetBackendChannel = 21,
  kGetConfig = 24,
  kSetConfig = 25,
};

inline constexpr uint64_t kFeatureProtocol = 1ull << 30;  // VHOST_USER_F_PROTOCOL_FEATURES

inline constexpr uint64_t kProtocolMultiQueue = 1ull << 0;
inline constexpr uint64_t kProtocolReplyAck = 1ull << 3;
inline constexpr uint64_t kProtocolConfig = 1ull << 9;

inline constexpr uint32_t kVersion = 1, kVersionMask = 3, kReplyFlag = 1u << 2, kNeedReplyFlag = 1u << 3;

struct Header {
  uint32_t request = 0;
  uint32_t flags = 0;
  uint32_t size = 0;  ///< of the payload
};

struct VringState {
  uint32_t index = 0;
  uint32_t number = 0;
};

struct VringAddresses {
  uint32_t index = 0;
  uint32_t flags = 0;
  uint64_t descriptors = 0, used = 0, available = 0;  ///< addresses of the front end's process
  uint64_t log = 0;
};

struct MemoryTableRegion {
  uint64_t guest_address = 0;
  uint64_t size = 0;
  uint64_t user_address = 0;  ///< in the front end's process
  uint64_t mmap_offset = 0;
};
inline constexpr size_t kMemoryRegions = 8;

struct MemoryTableHeader {
  uint32_t regions = 0;
  uint32_t padding = 0;
};

struct ConfigHeader {
  uint32_t offset = 0;
  uint32_t size = 0;
  uint32_t flags = 0;
};
inline constexpr uint32_t kConfigBytes = 256;

/// Payload of SET_VRING_KICK, CALL and ERR: the queue, and whether no descriptor comes with it.
inline constexpr uint64_t kVringIndexMask = 0xff, kVringNoDescriptor = 1 << 8;

/// The longest payload either end sends: a memory table, or a configuration space.
inline constexpr size_t kLongestPayload = 512;

struct Message {
  Header header;
  std::vector<std::byte> payload;
  std::vector<UniqueFd> fds;

  Request request() const { return static_cast<Request>(header.request); }
  bool needs_reply() const { return (header.flags & kNeedReplyFlag) != 0; }
  /// The payload as one struct; false when its size is another.
  template <typename T>
  bool load(T* out) const {
    if (payload.size() != sizeof(T)) return false;
    std::memcpy(out, payload.data(), sizeof(T));
    return true;
  }
};

/// Waits for one message. A clean end of the connection is kNotFound; anything malformed (version, size above
/// kLongestPayload, more than kMemoryRegions descriptors) is kInvalid.
Result<Message> receive(int socket);
/// Sends one message; the descriptors stay the caller's.
Result<void> send(int socket, Request request, uint32_t flags, std::span<const std::byte> payload,
                  std::span<const int> fds = {});

template <typename T>
Result<void> send_value(int socket, Request request, uint32_t flags, const T& value, std::span<const int> fds = {}) {
  return send(socket, request, flags, std::as_bytes(std::span(&value, 1)), fds);
}

}  // namespace hull::vmm::vhost_user
