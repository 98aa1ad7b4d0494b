#pragma once
// Reading what --log-driver journald wrote, by way of journalctl and its export format (systemd's "Journal Export
// Formats"): whoever has a journal has that program, and `hull` needs no library of systemd.

#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "engine/engine.h"
#include "engine/log_reader.h"

namespace hull::engine {

/// Takes the export format apart. Fields that are not asked for are skipped, an entry larger than kMostEntry is left
/// out.
class JournalExport {
 public:
  static constexpr size_t kMostEntry = 1 << 20;
  using Sink = std::function<Result<void>(const LogRecord& record)>;
  /// More bytes of the stream. kCorrupt when they are no export format.
  Result<void> feed(std::string_view bytes, const Sink& sink);
  /// Of the last whole entry; "" before the first.
  const std::string& cursor() const { return cursor_; }

 private:
  Result<void> take(std::string_view name, std::string_view value);
  Result<void> finish_entry(const Sink& sink);

  std::string pending_, cursor_, next_cursor_;
  LogRecord record_;
  bool has_message_ = false, partial_ = false, timed_ = false;
  uint64_t skip_ = 0;  // bytes of a value that is too large to keep
};

Result<void> read_journal(const std::string& id, const std::string& socket, const LogOptions& options,
                          const LogSink& sink, const std::function<bool()>& ended, int wake_fd);

}  // namespace hull::engine
