#include "vmm/virtio/block.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::vmm {

namespace {

constexpr uint64_t kFeatureSegMax = 1ull << 2, kFeatureReadOnly = 1ull << 5, kFeatureBlockSize = 1ull << 6,
                   kFeatureFlush = 1ull << 9, kFeatureTopology = 1ull << 10, kFeatureDiscard = 1ull << 13,
                   kFeatureWriteZeroes = 1ull << 14;
constexpr uint64_t kSector = 512;
constexpr size_t kInFlight = 128;
constexpr int kRequestsAtOnce = 256;
constexpr uint32_t kMostRanges = 16;
constexpr uint32_t kMostRangeSectors = 1u << 22;  // 2 GiB
constexpr size_t kMostParts = 1024;               // IOV_MAX
constexpr uint64_t kRingKey = 0, kTimerKey = 1;

// Clause 5.2.6.
struct RequestHeader {
  uint32_t type = 0;
  uint32_t reserved = 0;
  uint64_t sector = 0;
};
struct RangeEntry {
  uint64_t sector = 0;
  uint32_t sectors = 0;
  uint32_t flags = 0;
};
enum Type : uint32_t { kRead = 0, kWrite = 1, kFlush = 4, kGetId = 8, kDiscard = 11, kWriteZeroes = 13 };
enum Status : uint8_t { kOk = 0, kIoError = 1, kUnsupported = 2 };
constexpr size_t kSerialBytes = 20;

constexpr std::array<std::byte, 64 << 10> kZeroes{};
constexpr uint64_t kZeroesAtOnce = 1 << 20;

}  // namespace

struct BlockDevice::Request {
  Chain chain;
  Buffers status;
  uint32_t type = 0;
  uint32_t written = 0;
  uint64_t offset = 0, left = 0;  // of the transfer or of the range under way
  size_t next = 0;                // extent to flush next, or range to take next
  std::vector<Range> ranges;
  bool by_hand = false;  // zeroes are written: the file system can't make them
  bool punched = false;
  Operation operation;
  std::vector<iovec> parts;
};

Result<BlockDevice::Extent> BlockDevice::open_extent(const std::string& path, bool read_only) {
  // Non-blocking, so that a pipe or device in a file's place can't hang us.
  TRY_ASSIGN(UniqueFd file, sys::open(path, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK));
  return take_extent(std::move(file), path, read_only);
}

Result<BlockDevice::Extent> BlockDevice::take_extent(UniqueFd file, const std::string& name, bool read_only) {
  Extent extent;
  extent.fd = std::move(file);
  struct stat status{};
  if (::fstat(extent.fd.get(), &status) != 0) return errnof("look at disk {}", name);
  if (!S_ISREG(status.st_mode)) return errorf(ErrorKind::kInvalid, "disk {}: not a regular file", name);
  extent.size = static_cast<uint64_t>(status.st_size);
  if (extent.size == 0) return errorf(ErrorKind::kInvalid, "disk {}: the file is empty", name);
  const int flags = ::fcntl(extent.fd.get(), F_GETFL);
  const int mode = flags & O_ACCMODE;
  if (flags < 0 || (flags & O_PATH) != 0 || mode == O_WRONLY || (!read_only && mode != O_RDWR)) {
    return errorf(ErrorKind::kInvalid, "disk {}: the file is not open for {}", name,
                  read_only ? "reading" : "reading and writing");
  }
  if (!read_only && (flags & O_APPEND) != 0) {
    return errorf(ErrorKind::kInvalid, "disk {}: the file is open for appending", name);
  }
  struct flock lock{};
  lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
  lock.l_whence = SEEK_SET;
  if (::fcntl(extent.fd.get(), F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES)) {
    return errorf(ErrorKind::kConflict, "disk {}: another machine uses it", name);
  }
  return extent;
}

Result<std::unique_ptr<BlockDevice>> BlockDevice::create(const DiskConfig& config, Engine engine) {
  std::vector<Extent> extents;
  for (const std::string& path : config.extents) {
    TRY_ASSIGN(Extent extent, open_extent(path, config.read_only));
    extents.push_back(std::move(extent));
  }
  return make(config, std::move(extents), engine);
}

Result<std::unique_ptr<BlockDevice>> BlockDevice::create(const DiskConfig& config, std::vector<UniqueFd> files) {
  std::vector<Extent> extents;
  for (UniqueFd& file : files) {
    TRY_ASSIGN(Extent extent, take_extent(std::move(file), fmt::format("file {}", extents.size()), config.read_only));
    extents.push_back(std::move(extent));
  }
  return make(config, std::move(extents), Engine::kSynchronous);
}

Result<std::unique_ptr<BlockDevice>> BlockDevice::make(const DiskConfig& config, std::vector<Extent> extents,
                                                       Engine engine) {
  if (extents.empty()) return Error(ErrorKind::kInvalid, "disk without a file");
  if (config.serial.size() > kSerialBytes) {
    return errorf(ErrorKind::kInvalid, "disk serial {}: longer than {} bytes", config.serial, kSerialBytes);
  }
  std::unique_ptr<BlockDevice> disk(new BlockDevice());
  disk->read_only_ = config.read_only;
  disk->serial_ = config.serial;
  for (size_t i = 0; i < extents.size(); ++i) {
    if (disk->bytes_ % 4096 != 0) {
      return errorf(ErrorKind::kInvalid, "disk {}: the file before it is no multiple of 4096 bytes",
                    i < config.extents.size() ? config.extents[i] : fmt::format("file {}", i));
    }
    extents[i].start = disk->bytes_;
    disk->bytes_ += extents[i].size;
    disk->extents_.push_back(std::move(extents[i]));
  }
  // The last sector of a read-only disk may be incomplete, zeroes follow; of a writable one it would make the file
  // grow.
  const uint64_t rest = disk->bytes_ % kSector;
  if (rest != 0) disk->bytes_ += config.read_only ? kSector - rest : -rest;
  if (disk->bytes_ == 0) return errorf(ErrorKind::kInvalid, "disk: smaller than a sector");
  TRY_ASSIGN(disk->limiter_, RateLimiter::create(config.limit));
  if (engine != Engine::kSynchronous) {
    auto ring = IoRing::create(kInFlight);
    if (ring.ok()) disk->ring_ = std::move(*ring);
    if (!ring.ok() && engine == Engine::kRing) return std::move(ring).error();
  }
  for (size_t i = 0; i < kInFlight; ++i) {
    disk->requests_.push_back(std::make_unique<Request>());
    disk->free_.push_back(disk->requests_.back().get());
  }
  return disk;
}

BlockDevice::BlockDevice() = default;

BlockDevice::~BlockDevice() { deactivate(); }

void BlockDevice::remove_backing() {
  extents_.clear();
  bytes_ = 0;
}

// Whether a disk is writable was negotiated; its size and serial the guest reads again.
bool BlockDevice::accepts_backing_of(const VirtioDevice& other) const {
  return static_cast<const BlockDevice&>(other).read_only_ == read_only_;
}

void BlockDevice::take_backing(VirtioDevice& other) {
  auto& disk = static_cast<BlockDevice&>(other);
  extents_ = std::move(disk.extents_);
  bytes_ = disk.bytes_;
  serial_ = std::move(disk.serial_);
  limiter_ = std::move(disk.limiter_);
}

uint64_t BlockDevice::features() const {
  const uint64_t always = kRingFeatures | kFeatureSegMax | kFeatureBlockSize | kFeatureTopology | kFeatureFlush;
  return always | (read_only_ ? kFeatureReadOnly : kFeatureDiscard | kFeatureWriteZeroes);
}

void BlockDevice::read_config(uint32_t offset, std::span<std::byte> out) const {
  BlockConfig config;
  config.capacity = bytes_ / kSector;
  config.seg_max = queue_sizes()[0] - 2u;
  if (!read_only_) {
    config.discard_max_sectors = config.zeroes_max_sectors = kMostRangeSectors;
    config.discard_max_ranges = config.zeroes_max_ranges = kMostRanges;
    config.discard_alignment = 8;
    config.zeroes_may_unmap = 1;
  }
  copy_config(std::as_bytes(std::span(&config, 1)), offset, out);
}

Result<void> BlockDevice::on_activate() {
  if (ring_.valid()) TRY(worker(0).watch(ring_.fd(), EPOLLIN, kFirstKey + kRingKey));
  if (!limiter_.unlimited()) TRY(worker(0).watch(limiter_.timer_fd(), EPOLLIN, kFirstKey + kTimerKey));
  return {};
}

void BlockDevice::on_deactivate() {
  // What the kernel still does to guest memory must end; what was begun is ended, so that the guest sees it done.
  while (ring_.valid() && ring_.in_flight() > 0) {
    ring_.enter(1);
    reap();
  }
  if (queue_count() > 0 && queue(0).active()) finish(0);
  waiting_ = false;
}

void BlockDevice::on_queue(size_t) { waiting_ = true; }

void BlockDevice::on_event(size_t, uint64_t key, uint32_t) {
  if (key == kFirstKey + kTimerKey) clear_event(limiter_.timer_fd());
}

bool BlockDevice::after_events(size_t) {
  if (!queue(0).active()) return false;
  if (ring_.valid()) reap();
  bool more = take_requests();
  if (ring_.valid()) {
    ring_.enter();
    reap();  // what was in the page cache is done already
    ring_.enter();
    more = more || ring_.backlog() || (waiting_ && !free_.empty() && limiter_.admit());
  }
  finish(0);
  return more;
}

// True when the queue may have more that can be begun now.
bool BlockDevice::take_requests() {
  Queue& requests = queue(0);
  if (!waiting_) return false;
  requests.disable_notifications();
  for (int i = 0; i < kRequestsAtOnce; ++i) {
    if (free_.empty() || !limiter_.admit()) return false;
    Request* request = free_.back();
    if (!requests.pop(&request->chain)) {
      if (requests.enable_notifications()) continue;
      waiting_ = false;
      return false;
    }
    free_.pop_back();
    limiter_.charge(request->chain.readable.bytes() + request->chain.writable.bytes());
    begin(request);
  }
  return true;
}

bool BlockDevice::in_disk(uint64_t sector, uint64_t bytes) const {
  const uint64_t sectors = bytes_ / kSector;
  return bytes % kSector == 0 && sector <= sectors && bytes / kSector <= sectors - sector;
}

void BlockDevice::begin(Request* request) {
  RequestHeader header;
  Chain& chain = request->chain;
  if (!chain.readable.load(&header) || !chain.writable.split_back(1, &request->status)) {
    queue(0).fail("request without header or status");
    free_.push_back(request);
    return;
  }
  request->type = header.type;
  request->written = 0;
  request->next = 0;
  request->left = 0;
  request->by_hand = request->punched = false;
  request->ranges.clear();
  switch (header.type) {
    case kRead:
    case kWrite:
      return begin_transfer(request, header.sector);
    case kFlush:
      return drive(request);
    case kGetId: {
      std::array<std::byte, kSerialBytes> id{};
      std::copy_n(reinterpret_cast<const std::byte*>(serial_.data()), serial_.size(), id.begin());
      if (chain.writable.bytes() < id.size()) return finish_request(request, kIoError);
      request->written = static_cast<uint32_t>(chain.writable.copy_in(id));
      return finish_request(request, kOk);
    }
    case kDiscard:
    case kWriteZeroes:
      return begin_ranges(request);
    default:
      return finish_request(request, kUnsupported);
  }
}

void BlockDevice::begin_transfer(Request* request, uint64_t sector) {
  const Buffers& data = request->type == kRead ? request->chain.writable : request->chain.readable;
  if ((request->type == kWrite && read_only_) || !in_disk(sector, data.bytes())) {
    return finish_request(request, kIoError);
  }
  request->offset = sector * kSector;
  request->left = data.bytes();
  if (request->type == kRead) request->written = static_cast<uint32_t>(data.bytes());
  drive(request);
}

void BlockDevice::begin_ranges(Request* request) {
  Buffers& data = request->chain.readable;
  if (read_only_ || data.bytes() % sizeof(RangeEntry) != 0 || data.bytes() > kMostRanges * sizeof(RangeEntry)) {
    return finish_request(request, kIoError);
  }
  for (RangeEntry entry; data.load(&entry);) {
    // Clause 5.2.6.2: bits that are unknown, and unmap in a discard.
    if ((entry.flags & ~1u) != 0 || (request->type == kDiscard && entry.flags != 0)) {
      return finish_request(request, kUnsupported);
    }
    const uint64_t bytes = uint64_t{entry.sectors} * kSector;
    if (entry.sectors > kMostRangeSectors || !in_disk(entry.sector, bytes)) return finish_request(request, kIoError);
    if (bytes > 0) request->ranges.push_back({entry.sector * kSector, bytes, (entry.flags & 1) != 0});
  }
  drive(request);
}

const BlockDevice::Extent& BlockDevice::extent_at(uint64_t offset) const {
  const auto after = std::upper_bound(extents_.begin(), extents_.end(), offset,
                                      [](uint64_t at, const Extent& extent) { return at < extent.start; });
  return *(after - 1);
}

void BlockDevice::drive(Request* request) {
  while (prepare(request)) {
    if (ring_.valid()) return submit(*request);
    if (!account(request, perform(*request))) return;
  }
}

// The next operation of the request; false when it is finished.
bool BlockDevice::prepare(Request* request) {
  switch (request->type) {
    case kFlush:
      if (read_only_ || request->next == extents_.size()) return finish_request(request, kOk), false;
      request->operation = {Operation::kSync, extents_[request->next++].fd.get(), 0, 0, 0};
      return true;
    case kDiscard:
    case kWriteZeroes:
      return prepare_range(request);
    default:
      break;
  }
  if (request->left == 0) return finish_request(request, kOk), false;
  const Extent& extent = extent_at(request->offset);
  const uint64_t within = request->offset - extent.start;
  Buffers& data = request->type == kRead ? request->chain.writable : request->chain.readable;
  if (within >= extent.size) {
    // The incomplete last sector of a read-only disk.
    data.fill_zero(request->left);
    return finish_request(request, kOk), false;
  }
  request->parts.clear();
  data.slice(0, std::min(request->left, extent.size - within), &request->parts);
  if (request->parts.size() > kMostParts) request->parts.resize(kMostParts);
  request->operation = {request->type == kRead ? Operation::kRead : Operation::kWrite, extent.fd.get(), within, 0, 0};
  return true;
}

bool BlockDevice::prepare_range(Request* request) {
  while (request->left == 0) {
    if (request->next == request->ranges.size()) return finish_request(request, kOk), false;
    const Range& range = request->ranges[request->next++];
    request->offset = range.offset;
    request->left = range.size;
  }
  const Range& range = request->ranges[request->next - 1];
  const Extent& extent = extent_at(request->offset);
  const uint64_t within = request->offset - extent.start;
  uint64_t size = std::min(request->left, extent.size - within);
  Operation& operation = request->operation;
  if (request->by_hand) {
    request->parts.clear();
    for (size = std::min<uint64_t>(size, kZeroesAtOnce); size > 0;) {
      const size_t part = std::min<uint64_t>(size, kZeroes.size());
      request->parts.push_back({const_cast<std::byte*>(kZeroes.data()), part});
      size -= part;
    }
    operation = {Operation::kWrite, extent.fd.get(), within, 0, 0};
    return true;
  }
  const bool punch = request->type == kDiscard || range.unmap || request->punched;
  const int mode = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
  operation = {Operation::kAllocate, extent.fd.get(), within, size, mode};
  return true;
}

void BlockDevice::submit(const Request& request) {
  const Operation& operation = request.operation;
  const auto tag = reinterpret_cast<uint64_t>(&request);
  switch (operation.kind) {
    case Operation::kRead:
      return ring_.read(operation.fd, request.parts, operation.offset, tag);
    case Operation::kWrite:
      return ring_.write(operation.fd, request.parts, operation.offset, tag);
    case Operation::kSync:
      return ring_.sync_data(operation.fd, tag);
    case Operation::kAllocate:
      return ring_.allocate(operation.fd, operation.mode, operation.offset, operation.size, tag);
  }
}

int32_t BlockDevice::perform(const Request& request) {
  const Operation& operation = request.operation;
  const auto parts = static_cast<int>(request.parts.size());
  const auto offset = static_cast<off_t>(operation.offset);
  ssize_t done = -1;
  switch (operation.kind) {
    case Operation::kRead:
      done = ::preadv(operation.fd, request.parts.data(), parts, offset);
      break;
    case Operation::kWrite:
      done = ::pwritev(operation.fd, request.parts.data(), parts, offset);
      break;
    case Operation::kSync:
      done = ::fdatasync(operation.fd);
      break;
    case Operation::kAllocate:
      done = ::fallocate(operation.fd, operation.mode, offset, static_cast<off_t>(operation.size));
      break;
  }
  return done < 0 ? -errno : static_cast<int32_t>(done);
}

// Takes the result of the request's operation; false when the request is finished by it.
bool BlockDevice::account(Request* request, int32_t result) {
  if (result == -EINTR || result == -EAGAIN) {
    if (request->type == kFlush) --request->next;
    return true;
  }
  if (request->operation.kind == Operation::kAllocate && result == -EOPNOTSUPP) {
    // A discard is a hint. Zeroes have to be there: by a hole, else by hand.
    if (request->type == kDiscard) return finish_request(request, kOk), false;
    (request->punched || request->ranges[request->next - 1].unmap ? request->by_hand : request->punched) = true;
    return true;
  }
  if (result < 0) return finish_request(request, kIoError), false;
  uint64_t done = static_cast<uint64_t>(result);
  if (request->operation.kind == Operation::kSync) return true;
  if (request->operation.kind == Operation::kAllocate) done = request->operation.size;
  if (done == 0) return finish_request(request, kIoError), false;  // the file has become shorter
  if (request->type == kRead) request->chain.writable.advance(done);
  if (request->type == kWrite) request->chain.readable.advance(done);
  request->offset += done;
  request->left -= std::min(request->left, done);
  return true;
}

void BlockDevice::reap() {
  uint64_t tag = 0;
  int32_t result = 0;
  while (ring_.reap(&tag, &result)) {
    auto* request = reinterpret_cast<Request*>(tag);
    if (account(request, result)) drive(request);
  }
}

void BlockDevice::finish_request(Request* request, uint8_t status) {
  // What a failed read left in the buffers is the guest's own old memory; it is told nothing was written.
  if (status != kOk) request->written = 0;
  request->status.store(status);
  queue(0).push(request->chain.head, request->written + 1);
  free_.push_back(request);
}

}  // namespace hull::vmm
