// How hull-oci-vm tells the engine what is at a path. Apart from files.cc, since the engine has no use for the agent's
// protocol.
#include "base/error_format.h"
#include "base/units.h"
#include "vm/files.h"

namespace hull::vm {

using std::chrono::nanoseconds;
using std::chrono::system_clock;

std::string encode_stat(const tar::PathStat& stat) {
  const auto modified = std::chrono::duration_cast<nanoseconds>(stat.modified.time_since_epoch()).count();
  std::string text = fmt::format("{} {} {} {}", stat.size, stat.mode, modified, stat.name);
  text += '\0';
  return text + stat.link_target;
}

Result<tar::PathStat> decode_stat(std::string_view text) {
  const Error bad = errorf(ErrorKind::kCorrupt, "the virtual machine told nonsense of a file");
  tar::PathStat stat;
  int64_t numbers[3] = {};
  for (int64_t& number : numbers) {
    const size_t end = text.find(' ');
    if (end == std::string_view::npos) return bad;
    const auto value = parse_int(text.substr(0, end), INT64_MIN, INT64_MAX);
    if (!value.ok()) return bad;
    number = *value;
    text.remove_prefix(end + 1);
  }
  const size_t end = text.find('\0');
  if (end == std::string_view::npos || numbers[0] < 0 || numbers[1] < 0 || numbers[1] > UINT32_MAX) return bad;
  stat.size = static_cast<uint64_t>(numbers[0]);
  stat.mode = static_cast<uint32_t>(numbers[1]);
  stat.modified = system_clock::time_point(std::chrono::duration_cast<system_clock::duration>(nanoseconds(numbers[2])));
  stat.name = text.substr(0, end);
  stat.link_target = text.substr(end + 1);
  return stat;
}

}  // namespace hull::vm
