#include "vmm/virtio/vhost_user_frontend.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>

#include "base/error_format.h"
#include "base/log.h"
#include "vmm/virtio/queue.h"

namespace hull::vmm {

namespace {

using vhost_user::Message;
using vhost_user::Request;

constexpr uint64_t kSocketKey = 1 << 16;

}  // namespace

VhostUserFrontend::~VhostUserFrontend() { deactivate(); }

Result<void> VhostUserFrontend::introduce(UniqueFd socket, uint64_t wanted) {
  socket_ = std::move(socket);
  const timeval patience{kPatienceSeconds, 0};
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
      ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0) {
    return errno_error("set up a vhost-user socket");
  }
  TRY(tell(Request::kSetOwner, std::span<const std::byte>()));
  TRY_ASSIGN(const uint64_t offered, ask<uint64_t>(Request::kGetFeatures));
  if ((offered & kFeatureVersion1) == 0)
    return Error(ErrorKind::kUnsupported, "vhost-user back end older than virtio 1");
  features_ = offered & wanted;
  has_protocol_ = (offered & vhost_user::kFeatureProtocol) != 0;
  if (!has_protocol_) return {};
  TRY_ASSIGN(const uint64_t protocol, ask<uint64_t>(Request::kGetProtocolFeatures));
  const uint64_t taken = protocol & (vhost_user::kProtocolReplyAck | vhost_user::kProtocolMultiQueue);
  TRY(tell(Request::kSetProtocolFeatures, taken));
  protocol_features_ = taken;
  return {};
}

Result<void> VhostUserFrontend::tell(Request request, std::span<const std::byte> payload, std::span<const int> fds) {
  const bool acknowledged = (protocol_features_ & vhost_user::kProtocolReplyAck) != 0;
  TRY(vhost_user::send(socket_.get(), request, acknowledged ? vhost_user::kNeedReplyFlag : 0, payload, fds));
  if (!acknowledged) return {};
  TRY_ASSIGN(const Message answer, answer_to(request));
  uint64_t code = 0;
  if (!answer.load(&code) || code != 0) {
    return errorf(ErrorKind::kUnavailable, "vhost-user back end refuses request {}", static_cast<uint32_t>(request));
  }
  return {};
}

Result<Message> VhostUserFrontend::answer_to(Request request) {
  TRY_ASSIGN(Message answer, vhost_user::receive(socket_.get()));
  if (answer.request() != request || (answer.header.flags & vhost_user::kReplyFlag) == 0 || !answer.fds.empty()) {
    return errorf(ErrorKind::kUnavailable, "vhost-user back end answers {} to request {}", answer.header.request,
                  static_cast<uint32_t>(request));
  }
  return answer;
}

template <typename T>
Result<T> VhostUserFrontend::ask(Request request, std::span<const std::byte> payload) {
  TRY(vhost_user::send(socket_.get(), request, 0, payload));
  TRY_ASSIGN(const Message answer, answer_to(request));
  T value{};
  if (!answer.load(&value)) {
    return errorf(ErrorKind::kUnavailable, "vhost-user back end answers request {} with {} bytes",
                  static_cast<uint32_t>(request), answer.payload.size());
  }
  return value;
}

Result<void> VhostUserFrontend::share_memory() {
  struct {
    vhost_user::MemoryTableHeader header;
    std::array<vhost_user::MemoryTableRegion, vhost_user::kMemoryRegions> regions;
  } table;
  std::vector<int> fds;
  for (const MemoryRegion& region : activation_.memory->regions()) {
    if (region.read_only) continue;  // the other process would map it for writing, which its file refuses
    if (region.fd < 0)
      return Error(ErrorKind::kUnsupported, "the guest's memory is not shared, which this device needs");
    if (fds.size() == vhost_user::kMemoryRegions) return Error(ErrorKind::kUnsupported, "too many memory regions");
    table.regions[fds.size()] = {region.guest_address, region.size, reinterpret_cast<uint64_t>(region.host),
                                 region.fd_offset};
    fds.push_back(region.fd);
  }
  table.header.regions = static_cast<uint32_t>(fds.size());
  const size_t bytes = sizeof table.header + fds.size() * sizeof table.regions[0];
  return tell(Request::kSetMemoryTable, std::as_bytes(std::span(&table, 1)).first(bytes), fds);
}

Result<uint64_t> VhostUserFrontend::user_address(uint64_t guest_address) const {
  const auto place = activation_.memory->at(guest_address, 1);
  if (place.empty()) return Error(ErrorKind::kInvalid, "address of a ring");
  return reinterpret_cast<uint64_t>(place.data());
}

Result<void> VhostUserFrontend::set_up_queue(uint32_t index) {
  const QueueAddresses& queue = activation_.queues[index].addresses;
  // The same checks that the devices' own reader makes, so that only sound rings leave this process.
  Queue sound;
  if (!sound.start(activation_.memory, queue, activation_.features)) return Error(ErrorKind::kInvalid, sound.fault());
  TRY(tell(Request::kSetVringSize, vhost_user::VringState{index, queue.size}));
  TRY(tell(Request::kSetVringBase, vhost_user::VringState{index, queue.next_available}));
  vhost_user::VringAddresses addresses;
  addresses.index = index;
  TRY_ASSIGN(addresses.descriptors, user_address(queue.descriptors));
  TRY_ASSIGN(addresses.used, user_address(queue.device_ring));
  TRY_ASSIGN(addresses.available, user_address(queue.driver_ring));
  TRY(tell(Request::kSetVringAddresses, addresses));
  const int call = calls_[index].get(), kick = activation_.queues[index].kick_fd;
  TRY(tell(Request::kSetVringCall, uint64_t{index}, std::span(&call, 1)));
  TRY(tell(Request::kSetVringKick, uint64_t{index}, std::span(&kick, 1)));
  if (has_protocol_) TRY(tell(Request::kSetVringEnable, vhost_user::VringState{index, 1}));
  // Kicks that came before the back end had the descriptor are still in it.
  return {};
}

Result<void> VhostUserFrontend::set_up() {
  const uint64_t protocol = has_protocol_ ? vhost_user::kFeatureProtocol : 0;
  TRY(tell(Request::kSetFeatures, activation_.features | protocol));
  TRY(share_memory());
  for (uint32_t i = 0; i < activation_.queues.size(); ++i) {
    if (activation_.queues[i].addresses.size != 0) TRY(set_up_queue(i));
  }
  return {};
}

Result<void> VhostUserFrontend::activate(Activation activation) {
  activation_ = std::move(activation);
  active_ = true;
  TRY(worker_.prepare());
  calls_.clear();
  for (size_t i = 0; i < activation_.queues.size(); ++i) {
    TRY_ASSIGN(UniqueFd call, make_event());
    TRY(worker_.watch(call.get(), EPOLLIN, i));
    calls_.push_back(std::move(call));
  }
  // Nothing but its end comes on the socket unasked.
  TRY(worker_.watch(socket_.get(), EPOLLRDHUP, kSocketKey));
  client_.device = this;
  if (const Result<void> done = set_up(); !done.ok()) {
    mark_broken(done.error().message());
    return {};
  }
  return worker_.start(kind(), &client_);
}

void VhostUserFrontend::Calls::on_event(uint64_t key, uint32_t) {
  if (key < device->calls_.size()) {
    if (clear_event(device->calls_[key].get())) device->activation_.queues[key].interrupt();
    return;
  }
  device->worker_.unwatch(device->socket_.get());
  device->mark_broken("the process that serves it has ended");
}

std::vector<uint16_t> VhostUserFrontend::deactivate() {
  std::vector<uint16_t> next;
  if (!active_) return next;
  worker_.stop();
  for (uint32_t i = 0; i < activation_.queues.size(); ++i) {
    next.push_back(0);
    if (activation_.queues[i].addresses.size == 0) continue;
    // The answer says that the back end has let go of the ring.
    const vhost_user::VringState state{i, 0};
    const auto answer = ask<vhost_user::VringState>(Request::kGetVringBase, std::as_bytes(std::span(&state, 1)));
    if (!answer.ok()) break;  // it is gone, or will be: nobody else serves this device
    next[i] = static_cast<uint16_t>(answer->number);
  }
  next.resize(activation_.queues.size());
  calls_.clear();
  activation_ = {};
  active_ = false;
  broken_.store(false, std::memory_order_release);
  return next;
}

void VhostUserFrontend::mark_broken(std::string_view why) {
  if (broken_.exchange(true, std::memory_order_acq_rel)) return;
  log_warning("virtio {}: {}; the device stops", kind(), why);
  if (activation_.config_changed) activation_.config_changed();
}

}  // namespace hull::vmm
