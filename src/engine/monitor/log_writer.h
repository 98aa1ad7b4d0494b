#pragma once
// Writes the log: Docker's json-file (one {"log","stream","time"} object a line), the compact form of the driver
// "local" (the CRI's: "TIME stdout|stderr F|P TEXT"), both rotated by size, or datagrams to the journal. Only static
// memory.

#include <sys/types.h>

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

enum class LogFormat { kJson, kLocal };

struct LogTarget {
  int dir_fd = -1;
  const char* name = nullptr;  // file in dir_fd, appended to; null: none
  LogFormat format = LogFormat::kJson;
  int64_t max_size = -1;             // bytes; <= 0: never rotated
  int max_files = 1;                 // the current one counts
  const char* compressor = nullptr;  // executed as `PROGRAM compress-log FILE` in dir_fd for what was rotated
  int extra_fd = -1;                 // a file whose content goes into each record
  const char* journal = nullptr;     // instead of a file: the socket of the journal
  bool waits = true;                 // for the journal to take a record, up to some seconds
  int buffer = 0;                    // of the socket, in bytes; 0: the kernel's default
};

class LogWriter {
 public:
  /// Returns 0 or an errno.
  int open(const LogTarget& target);
  /// Takes output of stream 1 or 2; records are written when a line ends or kLogRecord is reached.
  void feed(int stream, const char* data, size_t count, int64_t now_ns);
  /// Writes what is left of an unfinished line.
  void finish(int stream, int64_t now_ns);
  /// A child that ended: the compressor, perhaps.
  void ended(pid_t pid) {
    if (pid == compressing_) compressing_ = -1;
  }
  /// Records that the disk or the journal did not take.
  uint64_t lost() const { return lost_; }

 private:
  struct Pending {
    char data[kLogRecord];
    size_t used = 0;
  };
  static constexpr size_t kMostExtra = 16 * 1024;
  void record(int stream, const char* data, size_t count, bool newline, int64_t now_ns);
  size_t put_json(int stream, const char* data, size_t count, bool newline, int64_t now_ns);
  size_t put_local(int stream, const char* data, size_t count, bool newline, int64_t now_ns);
  size_t put_journal(int stream, const char* data, size_t count, bool newline, int64_t now_ns);
  void write_file(size_t count);
  void send_journal(size_t count);
  bool connect_journal();
  void rotate();

  LogTarget target_;
  int fd_ = -1;
  int64_t size_ = 0;
  uint64_t lost_ = 0;
  pid_t compressing_ = -1;
  bool stalled_ = false;  // the journal took nothing for so long that nobody waits for it any more
  size_t extra_used_ = 0;
  Pending pending_[2];
  char extra_[kMostExtra];
  char out_[kLogRecord * 6 + kMostExtra + 512];
};

}  // namespace hull::engine::monitor
