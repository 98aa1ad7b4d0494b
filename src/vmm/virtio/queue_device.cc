#include "vmm/virtio/queue_device.h"

#include <sys/epoll.h>

#include <algorithm>

#include "base/log.h"

namespace hull::vmm {

Result<void> QueueDevice::activate(Activation activation) {
  activation_ = std::move(activation);
  broken_.store(false, std::memory_order_release);
  queues_.assign(queue_sizes().size(), Queue());
  for (size_t i = 0; i < queues_.size() && i < activation_.queues.size(); ++i) {
    const QueueAddresses& addresses = activation_.queues[i].addresses;
    if (addresses.size == 0) continue;
    if (!queues_[i].start(activation_.memory, addresses, activation_.features)) {
      mark_broken(queues_[i].fault());
    }
  }
  Result<void> started = start_lanes();
  if (!started) deactivate();
  return started;
}

Result<void> QueueDevice::start_lanes() {
  for (size_t i = 0; i < lanes(); ++i) {
    lanes_.push_back(std::make_unique<Lane>());
    lanes_[i]->device = this;
    lanes_[i]->index = i;
    TRY(lanes_[i]->worker.prepare());
  }
  for (size_t i = 0; i < queues_.size(); ++i) {
    if (!queues_[i].active()) continue;
    TRY(worker(lane_of(i)).watch(activation_.queues[i].kick_fd, EPOLLIN, i));
  }
  TRY(on_activate());
  for (const auto& lane : lanes_) TRY(lane->worker.start(kind(), lane.get()));
  return {};
}

std::vector<uint16_t> QueueDevice::deactivate() {
  for (const auto& lane : lanes_) lane->worker.stop();
  on_deactivate();
  lanes_.clear();
  std::vector<uint16_t> next;
  for (Queue& queue : queues_) {
    next.push_back(queue.next_available());
    queue.stop();
  }
  next.resize(queue_sizes().size());
  activation_ = {};
  broken_.store(false, std::memory_order_release);
  return next;
}

void QueueDevice::finish(size_t index) {
  Queue& queue = queues_[index];
  if (queue.broken()) mark_broken(queue.fault());
  if (queue.needs_interrupt()) activation_.queues[index].interrupt();
}

void QueueDevice::mark_broken(const char* why) {
  if (broken_.exchange(true, std::memory_order_acq_rel)) return;
  log_warning("virtio {}: the guest's queue is nonsense ({}); the device stops until it is reset", kind(), why);
  config_changed();
}

void QueueDevice::Lane::on_start() {
  for (size_t i = 0; i < device->queues_.size(); ++i) {
    if (device->lane_of(i) == index && device->queues_[i].active() && !device->broken()) device->on_queue(i);
  }
}

void QueueDevice::Lane::on_event(uint64_t key, uint32_t events) {
  if (key >= kFirstKey) {
    if (!device->broken()) device->on_event(index, key, events);
    return;
  }
  clear_event(device->activation_.queues[key].kick_fd);
  // An error or hang-up stays; a device that is not kicked any more must not spin on it.
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) worker.unwatch(device->activation_.queues[key].kick_fd);
  if (!device->broken()) device->on_queue(key);
}

bool QueueDevice::Lane::after_events() {
  const bool more = !device->broken() && device->after_events(index);
  // A broken device must not spin on what it does not look at any more.
  if (device->broken()) worker.stop_watching();
  return more;
}

void copy_config(std::span<const std::byte> whole, uint32_t offset, std::span<std::byte> out) {
  std::fill(out.begin(), out.end(), std::byte{0});
  if (offset >= whole.size()) return;
  whole = whole.subspan(offset);
  std::copy_n(whole.begin(), std::min(whole.size(), out.size()), out.begin());
}

}  // namespace hull::vmm
