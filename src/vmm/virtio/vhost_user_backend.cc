#include "vmm/virtio/vhost_user_backend.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "base/error_format.h"
#include "base/log.h"
#include "vmm/virtio/queue.h"
#include "vmm/virtio/worker.h"

namespace hull::vmm {

namespace {

using vhost_user::Message;
using vhost_user::Request;

constexpr uint64_t kProtocolFeatures =
    vhost_user::kProtocolMultiQueue | vhost_user::kProtocolReplyAck | vhost_user::kProtocolConfig;
constexpr uint64_t kLargestRegion = 1ull << 42;

Error malformed(const Message& message) {
  return errorf(ErrorKind::kInvalid, "vhost-user request {}: {} bytes make no sense", message.header.request,
                message.payload.size());
}

}  // namespace

VhostUserBackend::Mapping::~Mapping() { ::munmap(at, bytes); }

VhostUserBackend::VhostUserBackend(VirtioDevice* device) : device_(device) {
  vrings_.resize(device->queue_sizes().size());
}

VhostUserBackend::~VhostUserBackend() { stop(); }

Result<void> VhostUserBackend::serve(int socket) {
  for (Vring& vring : vrings_) {
    TRY_ASSIGN(vring.call, make_event());
    TRY_ASSIGN(vring.error, make_event());
  }
  for (;;) {
    auto message = vhost_user::receive(socket);
    if (!message.ok() && message.error().kind() == ErrorKind::kNotFound) return {};
    if (!message.ok()) return std::move(message).error();
    TRY(handle(socket, std::move(*message)));
  }
}

Result<void> VhostUserBackend::handle(int socket, Message message) {
  switch (message.request()) {
    case Request::kGetFeatures:
    case Request::kGetProtocolFeatures:
    case Request::kGetQueueCount:
    case Request::kGetConfig:
    case Request::kGetVringBase:
      return answer(socket, message);
    default:
      break;
  }
  Result<void> done = apply(&message);
  if (done.ok()) done = update();
  // With REPLY_ACK the front end decides what a failure means; without it, it would never know.
  if (message.needs_reply() && (protocol_features_ & vhost_user::kProtocolReplyAck) != 0) {
    if (!done.ok()) log_warning("{}", done.error().message());
    return reply(socket, message.request(), done.ok() ? 0 : 1);
  }
  return done;
}

Result<void> VhostUserBackend::reply(int socket, Request request, uint64_t value) {
  return vhost_user::send_value(socket, request, vhost_user::kReplyFlag, value);
}

Result<void> VhostUserBackend::answer(int socket, const Message& message) {
  switch (message.request()) {
    case Request::kGetFeatures:
      return reply(socket, message.request(), device_->features() | vhost_user::kFeatureProtocol);
    case Request::kGetProtocolFeatures:
      return reply(socket, message.request(), kProtocolFeatures);
    case Request::kGetQueueCount:
      return reply(socket, message.request(), vrings_.size());
    case Request::kGetConfig:
      return answer_config(socket, message);
    default:
      return answer_vring_base(socket, message);
  }
}

Result<void> VhostUserBackend::apply(Message* message) {
  switch (message->request()) {
    case Request::kSetOwner:
    case Request::kResetOwner:
      return {};
    case Request::kSetFeatures:
    case Request::kSetProtocolFeatures:
      return set_features(*message);
    case Request::kSetMemoryTable:
      return set_memory_table(message);
    case Request::kSetVringSize:
    case Request::kSetVringBase:
    case Request::kSetVringEnable:
      return set_vring_state(*message);
    case Request::kSetVringAddresses:
      return set_vring_addresses(*message);
    case Request::kSetVringKick:
    case Request::kSetVringCall:
    case Request::kSetVringError:
      return set_vring_fd(message);
    case Request::kSetConfig:
      return set_config(*message);
    default:
      return errorf(ErrorKind::kUnsupported, "vhost-user request {} is not one of those offered",
                    message->header.request);
  }
}

Result<void> VhostUserBackend::set_features(const Message& message) {
  uint64_t wanted = 0;
  if (!message.load(&wanted)) return malformed(message);
  if (message.request() == Request::kSetProtocolFeatures) {
    protocol_features_ = wanted & kProtocolFeatures;
    return {};
  }
  if ((wanted & ~(device_->features() | vhost_user::kFeatureProtocol)) != 0) {
    return errorf(ErrorKind::kInvalid, "vhost-user features {:#x} were not offered", wanted);
  }
  if (features_ != wanted) stop();
  features_ = wanted;
  return {};
}

Result<VhostUserBackend::Region> VhostUserBackend::map_region(const vhost_user::MemoryTableRegion& table, UniqueFd fd) {
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return errno_error("look at the guest's memory");
  const uint64_t file = static_cast<uint64_t>(std::max<off_t>(status.st_size, 0));
  if (!S_ISREG(status.st_mode) || table.size == 0 || table.size > kLargestRegion || table.mmap_offset > file ||
      table.size > file - table.mmap_offset || table.guest_address > ~0ull - table.size ||
      table.user_address > ~0ull - table.size) {
    return errorf(ErrorKind::kInvalid, "vhost-user memory region of {:#x} bytes at {:#x} is not in its file",
                  table.size, table.guest_address);
  }
  // Huge pages want offsets of their own size, which such files say as their block size.
  const auto block = static_cast<uint64_t>(std::max<blksize_t>(status.st_blksize, 4096));
  const uint64_t alignment = std::has_single_bit(block) ? block : 4096;
  const uint64_t start = table.mmap_offset / alignment * alignment;
  const uint64_t lead = table.mmap_offset - start;
  void* at = ::mmap(nullptr, lead + table.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(),
                    static_cast<off_t>(start));
  if (at == MAP_FAILED) return errno_error("map the guest's memory");
  ::madvise(at, lead + table.size, MADV_DONTDUMP);
  Region region;
  region.table = table;
  region.mapping = std::make_unique<Mapping>(at, lead + table.size);
  region.fd = std::move(fd);
  region.host = static_cast<std::byte*>(at) + lead;
  return region;
}

Result<void> VhostUserBackend::set_memory_table(Message* message) {
  vhost_user::MemoryTableHeader header;
  if (message->payload.size() < sizeof header) return malformed(*message);
  std::memcpy(&header, message->payload.data(), sizeof header);
  if (header.regions == 0 || header.regions > vhost_user::kMemoryRegions || header.regions != message->fds.size() ||
      message->payload.size() < sizeof header + header.regions * sizeof(vhost_user::MemoryTableRegion)) {
    return malformed(*message);
  }
  std::vector<Region> regions;
  for (size_t i = 0; i < header.regions; ++i) {
    vhost_user::MemoryTableRegion table;
    std::memcpy(&table, message->payload.data() + sizeof header + i * sizeof table, sizeof table);
    TRY_ASSIGN(Region region, map_region(table, std::move(message->fds[i])));
    regions.push_back(std::move(region));
  }
  std::sort(regions.begin(), regions.end(),
            [](const Region& a, const Region& b) { return a.table.guest_address < b.table.guest_address; });
  std::vector<MemoryRegion> table;
  for (const Region& region : regions) {
    if (!table.empty() && region.table.guest_address - table.back().guest_address < table.back().size) {
      return Error(ErrorKind::kInvalid, "vhost-user memory regions overlap");
    }
    table.push_back(
        {region.table.guest_address, region.table.size, region.host, region.fd.get(), region.table.mmap_offset});
  }
  stop();  // nobody may hold the old one
  memory_ = GuestMemory(std::move(table));
  regions_ = std::move(regions);
  return {};
}

Result<VhostUserBackend::Vring*> VhostUserBackend::vring(uint64_t index) {
  if (index >= vrings_.size()) {
    return errorf(ErrorKind::kInvalid, "vhost-user queue {} of {} queues", index, vrings_.size());
  }
  return &vrings_[index];
}

Result<void> VhostUserBackend::set_vring_state(const Message& message) {
  vhost_user::VringState state;
  if (!message.load(&state)) return malformed(message);
  TRY_ASSIGN(Vring * ring, vring(state.index));
  if (message.request() == Request::kSetVringEnable) {
    ring->enabled = state.number != 0;
    return {};
  }
  if (runs(*ring)) return Error(ErrorKind::kInvalid, "vhost-user queue is changed while it runs");
  if (message.request() == Request::kSetVringBase) {
    ring->base = static_cast<uint16_t>(state.number);
    return {};
  }
  if (state.number > kLargestQueue || !std::has_single_bit(state.number)) {
    return errorf(ErrorKind::kInvalid, "vhost-user queue {} of size {}", state.index, state.number);
  }
  ring->size = state.number;
  return {};
}

Result<void> VhostUserBackend::set_vring_addresses(const Message& message) {
  vhost_user::VringAddresses addresses;
  if (!message.load(&addresses)) return malformed(message);
  TRY_ASSIGN(Vring * ring, vring(addresses.index));
  if (runs(*ring)) stop();  // serves on at the new place
  ring->addresses = addresses;
  ring->has_addresses = true;
  return {};
}

Result<void> VhostUserBackend::set_vring_fd(Message* message) {
  uint64_t value = 0;
  if (!message->load(&value)) return malformed(*message);
  TRY_ASSIGN(Vring * ring, vring(value & vhost_user::kVringIndexMask));
  const bool none = (value & vhost_user::kVringNoDescriptor) != 0;
  if (message->fds.size() != (none ? 0u : 1u)) return malformed(*message);
  UniqueFd fd;
  if (none) {
    // Nobody to call is fine; a queue that would have to be polled is not.
    if (message->request() == Request::kSetVringKick) {
      return Error(ErrorKind::kUnsupported, "vhost-user queue without a kick descriptor");
    }
    TRY_ASSIGN(fd, make_event());
  } else {
    fd = std::move(message->fds[0]);
    // A device's thread must never block in it, whatever it is.
    const int flags = ::fcntl(fd.get(), F_GETFL);
    if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) return errno_error("vhost-user descriptor");
  }
  if (message->request() == Request::kSetVringKick) {
    if (runs(*ring)) stop();
    ring->kick = std::move(fd);
    // Without the protocol features there is no ENABLE: the kick descriptor starts the ring.
    if ((features_ & vhost_user::kFeatureProtocol) == 0) ring->enabled = true;
    return {};
  }
  UniqueFd& place = message->request() == Request::kSetVringCall ? ring->call : ring->error;
  if (!place) {
    place = std::move(fd);
    return {};
  }
  if (::dup3(fd.get(), place.get(), O_CLOEXEC) < 0) return errno_error("take a vhost-user descriptor");
  // What was said to the old one may not have been heard.
  if (message->request() == Request::kSetVringCall && runs(*ring)) signal_event(place.get());
  return {};
}

Result<void> VhostUserBackend::set_config(const Message& message) {
  vhost_user::ConfigHeader header;
  if (message.payload.size() < sizeof header) return malformed(message);
  std::memcpy(&header, message.payload.data(), sizeof header);
  const auto data = std::span(message.payload).subspan(sizeof header);
  if (header.offset > vhost_user::kConfigBytes || header.size > data.size()) return malformed(message);
  device_->write_config(header.offset, data.first(header.size));
  return {};
}

Result<void> VhostUserBackend::answer_config(int socket, const Message& message) {
  vhost_user::ConfigHeader header;
  if (message.payload.size() < sizeof header) return malformed(message);
  std::memcpy(&header, message.payload.data(), sizeof header);
  if (header.offset > vhost_user::kConfigBytes || header.size > vhost_user::kConfigBytes - header.offset) {
    // An empty answer says no (GET_CONFIG in the specification).
    return vhost_user::send(socket, message.request(), vhost_user::kReplyFlag, {});
  }
  std::vector<std::byte> payload(sizeof header + header.size);
  std::memcpy(payload.data(), &header, sizeof header);
  device_->read_config(header.offset, std::span(payload).subspan(sizeof header));
  return vhost_user::send(socket, message.request(), vhost_user::kReplyFlag, payload);
}

Result<void> VhostUserBackend::answer_vring_base(int socket, const Message& message) {
  vhost_user::VringState state;
  if (!message.load(&state)) return malformed(message);
  TRY_ASSIGN(Vring * ring, vring(state.index));
  stop();
  ring->kick.reset();  // the ring is stopped until the next one
  TRY(update());
  state.number = ring->base;
  return vhost_user::send_value(socket, message.request(), vhost_user::kReplyFlag, state);
}

bool VhostUserBackend::runs(const Vring& ring) const {
  return ring.enabled && ring.kick.valid() && ring.has_addresses && ring.size != 0 && !regions_.empty();
}

uint64_t VhostUserBackend::guest_address(uint64_t user_address) const {
  for (const Region& region : regions_) {
    if (user_address >= region.table.user_address && user_address - region.table.user_address < region.table.size) {
      return user_address - region.table.user_address + region.table.guest_address;
    }
  }
  return ~0ull;  // which no ring can have
}

Result<void> VhostUserBackend::update() {
  std::vector<bool> wanted;
  for (const Vring& ring : vrings_) wanted.push_back(runs(ring));
  const bool any = std::find(wanted.begin(), wanted.end(), true) != wanted.end();
  if (any && wanted == serving_) return {};
  stop();
  if (!any) return {};
  Activation activation;
  activation.memory = &memory_;
  activation.features = features_ & device_->features();
  activation.config_changed = [this] { report_broken(); };
  for (Vring& ring : vrings_) {
    QueueWiring wiring;
    if (!ring.call) {
      TRY_ASSIGN(ring.call, make_event());
    }
    if (runs(ring)) {
      wiring.addresses = {static_cast<uint16_t>(ring.size), guest_address(ring.addresses.descriptors),
                          guest_address(ring.addresses.available), guest_address(ring.addresses.used), ring.base};
      wiring.kick_fd = ring.kick.get();
    }
    wiring.interrupt = [fd = ring.call.get()] { signal_event(fd); };
    activation.queues.push_back(std::move(wiring));
  }
  TRY(device_->activate(std::move(activation)));
  serving_ = std::move(wanted);
  return {};
}

void VhostUserBackend::stop() {
  if (serving_.empty()) return;
  const std::vector<uint16_t> next = device_->deactivate();
  for (size_t i = 0; i < vrings_.size(); ++i) {
    if (serving_[i]) vrings_[i].base = next[i];
  }
  serving_.clear();
}

void VhostUserBackend::report_broken() {
  if (!device_->broken()) return;
  for (const Vring& ring : vrings_) {
    if (ring.error.valid()) signal_event(ring.error.get());
  }
}

}  // namespace hull::vmm
