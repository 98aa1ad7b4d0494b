#pragma once
// What a command writes: buffered, so that a table is one write, and testable.

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace hull::cli {

class Output {
 public:
  /// `fd` stays the caller's; -1 keeps everything in the buffer (tests).
  explicit Output(int fd);
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output() { flush(); }

  void write(std::string_view text);
  template <typename... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) {
    write(fmt::format(format, std::forward<Args>(args)...));
  }
  void flush();

  int fd() const { return fd_; }
  bool is_terminal() const { return terminal_; }
  /// Columns of the terminal; 0 when there is none.
  int columns() const;
  /// Colours: on a terminal, unless NO_COLOR is set or TERM is dumb.
  bool colours() const { return colours_; }
  /// False once a write failed (a full disk); the program's exit code then says so.
  bool good() const { return good_; }
  const std::string& buffer() const { return buffer_; }

 private:
  int fd_;
  bool terminal_ = false, colours_ = false, good_ = true;
  std::string buffer_;
};

}  // namespace hull::cli
