#include "store/layer/chunk_pipe.h"

namespace hull::store {

ChunkPipe::ChunkPipe(size_t chunk_count, size_t chunk_bytes) : chunk_bytes_(chunk_bytes), chunks_(chunk_count) {
  for (Chunk& chunk : chunks_) chunk.data = std::make_unique_for_overwrite<std::byte[]>(chunk_bytes);
}

std::span<std::byte> ChunkPipe::begin_write() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return cancelled_ || written_ - read_ < chunks_.size(); });
  if (cancelled_) return {};
  return {chunks_[written_ % chunks_.size()].data.get(), chunk_bytes_};
}

void ChunkPipe::end_write(size_t size) {
  {
    const std::lock_guard lock(mutex_);
    chunks_[written_ % chunks_.size()].size = size;
    ++written_;
  }
  changed_.notify_one();
}

void ChunkPipe::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_one();
}

std::span<const std::byte> ChunkPipe::begin_read() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return cancelled_ || read_ < written_ || closed_; });
  if (cancelled_ || read_ == written_) return {};
  const Chunk& chunk = chunks_[read_ % chunks_.size()];
  return {chunk.data.get(), chunk.size};
}

void ChunkPipe::end_read() {
  {
    const std::lock_guard lock(mutex_);
    ++read_;
  }
  changed_.notify_one();
}

void ChunkPipe::cancel() {
  {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  changed_.notify_all();
}

bool ChunkPipe::cancelled() {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

}  // namespace hull::store
