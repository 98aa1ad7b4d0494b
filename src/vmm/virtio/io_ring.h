#pragma once
// io_uring through plain system calls (Linux 5.6): vectored reads and writes, fsync, fallocate. One thread at a time.

#include <linux/io_uring.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm {

class IoRing {
 public:
  IoRing() = default;
  IoRing(IoRing&& other) noexcept { *this = std::move(other); }
  IoRing& operator=(IoRing&& other) noexcept;
  IoRing(const IoRing&) = delete;
  IoRing& operator=(const IoRing&) = delete;
  ~IoRing();

  /// kUnsupported or kPermission where the host has none or forbids it.
  static Result<IoRing> create(uint32_t entries);

  bool valid() const { return fd_.valid(); }
  /// Readable in epoll while there are completions.
  int fd() const { return fd_.get(); }

  /// Queues one operation. The caller keeps at most `entries` in flight, so there is always room. The parts need to
  /// live until enter().
  void read(int fd, std::span<const iovec> parts, uint64_t offset, uint64_t tag);
  void write(int fd, std::span<const iovec> parts, uint64_t offset, uint64_t tag);
  void sync_data(int fd, uint64_t tag);
  void allocate(int fd, int mode, uint64_t offset, uint64_t size, uint64_t tag);
  /// Hands what is queued to the kernel, and waits until there are at least so many completions.
  void enter(uint32_t wait_for = 0);
  /// Takes one completion; `result` is the system call's or a negative errno.
  bool reap(uint64_t* tag, int32_t* result);
  /// True when the kernel could not take all yet.
  bool backlog() const { return queued_ > 0; }
  uint32_t in_flight() const { return in_flight_; }

 private:
  io_uring_sqe* next_entry(uint8_t operation, int fd, uint64_t tag);

  UniqueFd fd_;
  std::byte* rings_ = nullptr;
  size_t rings_bytes_ = 0;
  io_uring_sqe* entries_ = nullptr;
  size_t entries_bytes_ = 0;
  uint32_t* submit_tail_ = nullptr;
  uint32_t* submit_array_ = nullptr;
  uint32_t submit_mask_ = 0;
  uint32_t* complete_head_ = nullptr;
  uint32_t* complete_tail_ = nullptr;
  io_uring_cqe* completions_ = nullptr;
  uint32_t complete_mask_ = 0;
  uint32_t queued_ = 0, in_flight_ = 0;
};

}  // namespace hull::vmm
