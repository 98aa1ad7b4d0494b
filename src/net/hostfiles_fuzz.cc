#include <cstdlib>

#include "net/hostfiles.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::net;  // NOLINT(google-build-using-namespace)
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string once = make_resolv_conf(text, {}, ResolvFor::kOwnNetwork, true);
  // What we write, we read as the same; so nothing can slip through on a second reading.
  if (make_resolv_conf(once, {}, ResolvFor::kOwnNetwork, true) != once) std::abort();
  (void)resolv_conf_path(text);
  const auto entry = parse_add_host(text);
  if (entry.ok() && (entry->name.find('\n') != std::string::npos || entry->address.find('\n') != std::string::npos)) {
    std::abort();
  }
  (void)validate_hostname(text);
  return 0;
}
