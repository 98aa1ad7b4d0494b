#include "vmm/virtio/pmem.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <array>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::vmm {

Result<std::unique_ptr<PmemDevice>> PmemDevice::create(const std::string& path) {
  TRY_ASSIGN(UniqueFd file, sys::open(path, O_RDONLY | O_NONBLOCK));
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return errnof("look at {}", path);
  if (!S_ISREG(status.st_mode) || status.st_size == 0) {
    return errorf(ErrorKind::kInvalid, "persistent memory {}: not a regular file with something in it", path);
  }
  struct flock lock{};
  lock.l_type = F_RDLCK;
  lock.l_whence = SEEK_SET;
  if (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES)) {
    return errorf(ErrorKind::kConflict, "persistent memory {}: another machine writes to it", path);
  }
  std::unique_ptr<PmemDevice> device(new PmemDevice());
  const auto bytes = static_cast<uint64_t>(status.st_size);
  device->size_ = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  // Zeroes first, the file over them: a page behind the file's end would be an error for who touches it.
  constexpr int kZeroes = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* at = ::mmap(nullptr, device->size_, PROT_READ, kZeroes, -1, 0);
  if (at == MAP_FAILED) return errnof("make room for {}", path);
  device->start_ = static_cast<std::byte*>(at);
  if (::mmap(at, bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file.get(), 0) == MAP_FAILED) return errnof("map {}", path);
  device->file_ = std::move(file);
  return device;
}

PmemDevice::~PmemDevice() {
  deactivate();
  if (start_ != nullptr) ::munmap(start_, size_);
}

void PmemDevice::read_config(uint32_t offset, std::span<std::byte> out) const {
  const std::array<uint64_t, 2> config{address_, size_};
  copy_config(std::as_bytes(std::span(config)), offset, out);
}

bool PmemDevice::after_events(size_t) {
  if (!waiting_) return false;
  Queue& requests = queue(0);
  Chain chain;
  for (int i = 0; i < 64; ++i) {
    if (!requests.pop(&chain)) {
      if (requests.enable_notifications()) continue;
      waiting_ = false;
      break;
    }
    // Clause 5.19.6: the only request is a flush, and nothing can have been written.
    uint32_t type = 0;
    const bool flush = chain.readable.load(&type) && type == 0;
    const uint32_t answer = flush ? 0 : 1;
    requests.push(chain.head, chain.writable.store(answer) ? sizeof answer : 0);
  }
  finish(0);
  return waiting_;
}

}  // namespace hull::vmm
