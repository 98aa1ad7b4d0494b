#pragma once
// What a transfer shows: one line per layer with a bar on a terminal, plain lines elsewhere, nothing with --quiet.

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "store/ingest/progress.h"

namespace hull::cli {

class ProgressView final : public store::TransferProgress {
 public:
  enum class Style { kQuiet, kPlain, kTerminal, kJson };
  /// kJson when set_json_output() was called; kTerminal when `fd` is a terminal that can move the cursor, else kPlain;
  /// kQuiet as asked.
  ProgressView(int fd, bool quiet);
  ~ProgressView() override;

  void line(std::string_view text) override;
  void layer(const std::string& id, store::LayerState state) override;
  void bytes(const std::string& id, uint64_t done, uint64_t total) override;
  /// Draws the last state and leaves the cursor below.
  void finish();

  Style style() const { return style_; }

 private:
  struct Row {
    std::string id;
    store::LayerState state = store::LayerState::kPending;
    uint64_t done = 0, total = 0;
  };
  Row& row(const std::string& id);
  void draw(bool last);
  std::string text_of(const Row& row, int columns) const;
  void write(std::string_view text);

  const int fd_;
  const Style style_;
  std::mutex mutex_;
  std::vector<Row> rows_;
  std::map<std::string, size_t> index_;
  int drawn_ = 0;  // lines of ours above the cursor
  std::chrono::steady_clock::time_point last_draw_{};
};

/// From now on what people would read is Docker's JSON messages, one a line: for hulld, which passes them on. A reader
/// that went away ends the program.
void set_json_output();
bool json_output();
/// {"<member>": text} on standard output.
void print_json(std::string_view member, std::string_view text);
/// {"errorDetail": ..., "error": ..., "kind": ...}: the last line of a command that failed.
void print_json_error(const Error& error);

/// "Pull complete" and the like.
std::string_view words_for(store::LayerState state);

}  // namespace hull::cli
