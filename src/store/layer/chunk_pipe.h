#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace hull::store {

/// A bounded ring of large buffers between two threads, one that fills and one that drains. Buffers are made once and
/// used over and over; nothing is copied.
class ChunkPipe {
 public:
  ChunkPipe(size_t chunk_count, size_t chunk_bytes);

  /// The next buffer to fill; blocks until one is free. Empty when the reading side gave up.
  std::span<std::byte> begin_write();
  /// Hands the first `size` bytes of that buffer over.
  void end_write(size_t size);
  /// No more will come. A reader that has drained the ring gets an empty span.
  void close();

  /// The next filled buffer; blocks. Empty at the end, or when the pipe was given up.
  std::span<const std::byte> begin_read();
  void end_read();

  /// Either side gives up: both get empty spans from now on.
  void cancel();
  bool cancelled();

 private:
  struct Chunk {
    std::unique_ptr<std::byte[]> data;
    size_t size = 0;
  };
  size_t chunk_bytes_;
  std::vector<Chunk> chunks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t written_ = 0, read_ = 0;  // running counts
  bool closed_ = false, cancelled_ = false;
};

}  // namespace hull::store
