#pragma once
// Where the serial console's bytes go.

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm {

/// A log with a bound: when a file is full its older half is dropped, so the last lines are always there. A pipe or
/// terminal that does not take bytes loses them: a guest is never stopped by its console. One thread at a time.
class ConsoleLog {
 public:
  static constexpr uint64_t kMostBytes = 1 << 20;

  /// "" drops everything, "-" is standard output, else a file, made when absent and continued when not.
  static Result<ConsoleLog> open(const std::string& path, uint64_t most_bytes = kMostBytes);
  void put(char byte);
  /// Writes out an unfinished line.
  void flush();

 private:
  ConsoleLog(UniqueFd fd, bool is_file, uint64_t size, uint64_t most)
      : fd_(std::move(fd)), is_file_(is_file), size_(size), most_(most) {}
  void drop_older_half();
  UniqueFd fd_;
  bool is_file_;
  uint64_t size_;
  uint64_t most_;
  std::string line_;
};

}  // namespace hull::vmm
