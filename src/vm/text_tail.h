#pragma once
// The end of what a guest's console or a daemon says, in bounded memory: shown when something failed.

#include <cstddef>
#include <string>
#include <string_view>

#include "base/unique_fd.h"

namespace hull::vm {

class TextTail {
 public:
  explicit TextTail(size_t most_bytes = 16384) : most_bytes_(most_bytes) {}

  void append(std::string_view text);
  /// The last whole lines, at most `lines`, joined by `separator`, without control characters, blank lines left out.
  std::string last_lines(size_t lines, std::string_view separator = "\n") const;
  const std::string& text() const { return text_; }

 private:
  size_t most_bytes_;
  std::string text_;
};

/// A pipe or fifo whose writer is not trusted to stop: its end is remembered, its beginning is copied to a file up to a
/// limit, and it is never full.
class DrainedPipe {
 public:
  static constexpr size_t kMostCopied = 1 << 20;

  DrainedPipe() = default;
  /// `read_end` is made non-blocking. `copy` may be invalid.
  DrainedPipe(UniqueFd read_end, UniqueFd copy);
  int fd() const { return read_end_.get(); }
  /// Reads what is there, at most 64 KiB. At its end fd() becomes -1.
  void drain();
  const TextTail& tail() const { return tail_; }

 private:
  UniqueFd read_end_, copy_;
  size_t copied_ = 0;
  TextTail tail_;
};

}  // namespace hull::vm
