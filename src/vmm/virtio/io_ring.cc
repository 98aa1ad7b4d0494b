#include "vmm/virtio/io_ring.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>

namespace hull::vmm {

IoRing& IoRing::operator=(IoRing&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(rings_, other.rings_);
  std::swap(rings_bytes_, other.rings_bytes_);
  std::swap(entries_, other.entries_);
  std::swap(entries_bytes_, other.entries_bytes_);
  std::swap(submit_tail_, other.submit_tail_);
  std::swap(submit_array_, other.submit_array_);
  std::swap(submit_mask_, other.submit_mask_);
  std::swap(complete_head_, other.complete_head_);
  std::swap(complete_tail_, other.complete_tail_);
  std::swap(completions_, other.completions_);
  std::swap(complete_mask_, other.complete_mask_);
  std::swap(queued_, other.queued_);
  std::swap(in_flight_, other.in_flight_);
  return *this;
}

IoRing::~IoRing() {
  if (rings_ != nullptr) ::munmap(rings_, rings_bytes_);
  if (entries_ != nullptr) ::munmap(entries_, entries_bytes_);
}

Result<IoRing> IoRing::create(uint32_t entries) {
  IoRing ring;
  io_uring_params params{};
  ring.fd_.reset(static_cast<int>(::syscall(__NR_io_uring_setup, entries, &params)));
  if (!ring.fd_) return errno_error("make an io_uring");
  if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0 || (params.features & IORING_FEAT_SUBMIT_STABLE) == 0) {
    return Error(ErrorKind::kUnsupported, "this kernel's io_uring is too old");
  }
  ring.rings_bytes_ = std::max<size_t>(params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                                       params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe));
  void* at = ::mmap(nullptr, ring.rings_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd_.get(),
                    IORING_OFF_SQ_RING);
  if (at == MAP_FAILED) return errno_error("map an io_uring");
  ring.rings_ = static_cast<std::byte*>(at);
  ring.entries_bytes_ = params.sq_entries * sizeof(io_uring_sqe);
  at = ::mmap(nullptr, ring.entries_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd_.get(),
              IORING_OFF_SQES);
  if (at == MAP_FAILED) return errno_error("map an io_uring");
  ring.entries_ = static_cast<io_uring_sqe*>(at);
  const auto word = [&](uint32_t offset) { return reinterpret_cast<uint32_t*>(ring.rings_ + offset); };
  ring.submit_tail_ = word(params.sq_off.tail);
  ring.submit_array_ = word(params.sq_off.array);
  ring.submit_mask_ = *word(params.sq_off.ring_mask);
  ring.complete_head_ = word(params.cq_off.head);
  ring.complete_tail_ = word(params.cq_off.tail);
  ring.complete_mask_ = *word(params.cq_off.ring_mask);
  ring.completions_ = reinterpret_cast<io_uring_cqe*>(ring.rings_ + params.cq_off.cqes);
  return ring;
}

io_uring_sqe* IoRing::next_entry(uint8_t operation, int fd, uint64_t tag) {
  const uint32_t tail = *submit_tail_;  // only we write it
  const uint32_t slot = tail & submit_mask_;
  submit_array_[slot] = slot;
  entries_[slot] = {};
  entries_[slot].opcode = operation;
  entries_[slot].fd = fd;
  entries_[slot].user_data = tag;
  ++queued_;
  ++in_flight_;
  return &entries_[slot];
}

namespace {

void publish(uint32_t* tail) { std::atomic_ref<uint32_t>(*tail).fetch_add(1, std::memory_order_release); }

}  // namespace

void IoRing::read(int fd, std::span<const iovec> parts, uint64_t offset, uint64_t tag) {
  io_uring_sqe* entry = next_entry(IORING_OP_READV, fd, tag);
  entry->addr = reinterpret_cast<uint64_t>(parts.data());
  entry->len = static_cast<uint32_t>(parts.size());
  entry->off = offset;
  publish(submit_tail_);
}

void IoRing::write(int fd, std::span<const iovec> parts, uint64_t offset, uint64_t tag) {
  io_uring_sqe* entry = next_entry(IORING_OP_WRITEV, fd, tag);
  entry->addr = reinterpret_cast<uint64_t>(parts.data());
  entry->len = static_cast<uint32_t>(parts.size());
  entry->off = offset;
  publish(submit_tail_);
}

void IoRing::sync_data(int fd, uint64_t tag) {
  next_entry(IORING_OP_FSYNC, fd, tag)->fsync_flags = IORING_FSYNC_DATASYNC;
  publish(submit_tail_);
}

void IoRing::allocate(int fd, int mode, uint64_t offset, uint64_t size, uint64_t tag) {
  io_uring_sqe* entry = next_entry(IORING_OP_FALLOCATE, fd, tag);
  entry->off = offset;
  entry->addr = size;
  entry->len = static_cast<uint32_t>(mode);
  publish(submit_tail_);
}

void IoRing::enter(uint32_t wait_for) {
  const uint32_t flags = wait_for > 0 ? IORING_ENTER_GETEVENTS : 0;
  while (queued_ > 0 || wait_for > 0) {
    const long done = ::syscall(__NR_io_uring_enter, fd_.get(), queued_, wait_for, flags, nullptr, 0);
    if (done < 0 && errno == EINTR) continue;
    // EAGAIN, EBUSY: the kernel is short of something; the next enter() tries again.
    if (done < 0) return;
    queued_ -= std::min(queued_, static_cast<uint32_t>(done));
    if (wait_for > 0) return;
  }
}

bool IoRing::reap(uint64_t* tag, int32_t* result) {
  const uint32_t head = *complete_head_;
  if (head == std::atomic_ref<uint32_t>(*complete_tail_).load(std::memory_order_acquire)) return false;
  const io_uring_cqe& completion = completions_[head & complete_mask_];
  *tag = completion.user_data;
  *result = completion.res;
  std::atomic_ref<uint32_t>(*complete_head_).store(head + 1, std::memory_order_release);
  --in_flight_;
  return true;
}

}  // namespace hull::vmm
