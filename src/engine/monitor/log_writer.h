#pragma once
// Writes Docker's json-file log: one {"log","stream","time"} object a line, rotated by size. Only static memory.

#include <cstddef>
#include <cstdint>

namespace hull::engine::monitor {

/// The longest piece of a line that becomes one record, as Docker's copier has it; longer lines come in several
/// records of which only the last ends in "\n".
inline constexpr size_t kLogRecord = 16 * 1024;

/// Writes the JSON text of bytes (without quotes) to out, which has room for 6 bytes per byte in. Invalid UTF-8
/// becomes U+FFFD, as encoding/json does; returns the length. When `more` is set, a sequence that the end cuts off is
/// left for the next call: *used says how many bytes were taken.
size_t json_escape(const unsigned char* in, size_t count, bool more, char* out, size_t* used);

/// RFC 3339 in UTC with nanoseconds and no trailing zeros (Go's RFC3339Nano). `out` has room for 40 bytes.
size_t format_time(int64_t ns, char* out);

class LogWriter {
 public:
  /// Opens (and appends to) `name` in the folder. max_size in bytes, <= 0: never rotated; max_files counts the
  /// current one. Returns 0 or an errno.
  int open(int dir_fd, const char* name, int64_t max_size, int max_files);
  /// Takes output of stream 1 or 2; records are written when a line ends or kLogRecord is reached.
  void feed(int stream, const char* data, size_t count, int64_t now_ns);
  /// Writes what is left of an unfinished line.
  void finish(int stream, int64_t now_ns);
  bool enabled() const { return fd_ >= 0; }
  /// Records that the disk did not take.
  uint64_t lost() const { return lost_; }

 private:
  struct Pending {
    char data[kLogRecord];
    size_t used = 0;
  };
  void record(int stream, const char* data, size_t count, bool newline, int64_t now_ns);
  void rotate();

  int dir_fd_ = -1;
  int fd_ = -1;
  char name_[160] = {};
  int64_t max_size_ = -1;
  int max_files_ = 1;
  int64_t size_ = 0;
  uint64_t lost_ = 0;
  Pending pending_[2];
  char out_[kLogRecord * 6 + 256];
};

}  // namespace hull::engine::monitor
