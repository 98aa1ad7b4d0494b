#pragma once
// What ps would say of the workload's processes, read from /proc.

#include <guest/agent.pb.h>

#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::guest {

/// Rows for those of `pids` that still live. `passwd`: the text of the workload's /etc/passwd, "" when it has none.
/// Arguments are left out when the answer would become too long.
Result<proto::ProcessesResponse> list_processes(const std::vector<int>& pids, std::string_view passwd);

/// The parts of a /proc/PID/stat line that a row is made of; false when the line is not one.
struct StatLine {
  std::string_view name;
  char state = '?';
  uint32_t parent = 0;
  uint32_t terminal = 0;
  uint64_t cpu_ticks = 0;
  int nice = 0;
  uint32_t threads = 0;
  uint64_t start_ticks = 0;
  uint64_t virtual_bytes = 0;
  uint64_t rss_pages = 0;
};
bool parse_stat(std::string_view text, StatLine& out);

/// "pts/0", "tty1", "ttyS0", "console" or "?" for a tty_nr.
std::string terminal_name(uint32_t number);

}  // namespace hull::guest
