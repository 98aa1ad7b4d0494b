// Any bytes as what a debugger sends, in two pieces, with a breakpoint met in between.
#include <cstdlib>

#include "vmm/gdb.h"
#include "vmm/gdb_fake_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::vmm;  // NOLINT(google-build-using-namespace)
  if (size < 2) return 0;
  FakeGdbTarget target;
  GdbSession session(&target);
  // Packets with right sums, else hardly anything is ever looked at: each line of the input is one.
  std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  for (int i = 0; i < 64 && !rest.empty(); ++i) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    uint8_t sum = 0;
    for (const char c : line) sum = static_cast<uint8_t>(sum + static_cast<uint8_t>(c));
    constexpr std::string_view kDigits = "0123456789abcdef";
    const bool raw = data[0] % 8 == 0;
    const std::string packet =
        raw ? std::string(line) : "$" + std::string(line) + "#" + kDigits[sum >> 4] + kDigits[sum & 15];
    const size_t cut = packet.empty() ? 0 : data[1] % packet.size();
    if (!session.receive(std::string_view(packet).substr(0, cut))) break;
    if (!session.receive(std::string_view(packet).substr(cut))) break;
    if (session.running()) session.stopped({data[1] % 2u, FakeGdbTarget::kBase + data[0], data[1], data[0] % 2 == 0});
    if (session.output().size() > 4 * GdbSession::kLargestPacket) std::abort();
    session.output().clear();
  }
  session.detach();
  return 0;
}
