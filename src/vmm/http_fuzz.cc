// Any bytes as what a client of the control socket sends, whole and in two pieces, and as the body of a request for a
// disk or network card.
#include <cstdlib>

#include "vmm/http.h"
#include "vmm/machine_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::vmm;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const HttpParse whole = parse_http(bytes);
  if (whole.state == HttpParse::State::kDone) {
    if (whole.used > size || whole.request.body.size() > kHttpBodyBytes) std::abort();
    // What comes later changes nothing of a request that is complete.
    const HttpParse alone = parse_http(bytes.substr(0, whole.used));
    if (alone.state != HttpParse::State::kDone || alone.request.path != whole.request.path) std::abort();
    if (parse_http(bytes.substr(0, whole.used - 1)).state == HttpParse::State::kDone) std::abort();
  }
  if (whole.state == HttpParse::State::kMore && size >= kHttpHeadBytes + kHttpBodyBytes + 4) std::abort();
  for (const std::string_view body : {bytes, std::string_view(whole.request.body)}) {
    if (const auto disk = parse_disk_config(body); disk.ok() && !disk->extents.empty()) std::abort();
    if (const auto net = parse_net_config(body); net.ok() && net->tap_fd >= 0) std::abort();
  }
  return 0;
}
