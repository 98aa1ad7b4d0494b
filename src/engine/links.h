#pragma once
// Counters of a workload's network interfaces.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hull::engine {

struct LinkStats {
  struct Direction {
    uint64_t bytes = 0, packets = 0, errors = 0, dropped = 0;
  };
  std::string name;
  Direction received, sent;
};

/// As the process `pid` of the workload sees them (/proc/PID/net/dev), without the loopback. `only`: this one alone (a
/// machine's network namespace has a bridge and a tap beside the interface that leads outside). Empty when it is gone.
std::vector<LinkStats> read_links(int pid, std::string_view only);

}  // namespace hull::engine
