#include <cstdlib>

#include "net/address.h"
#include "net/ports.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto mappings = hull::net::parse_port_spec(text);
  if (mappings.ok()) {
    for (const auto& mapping : *mappings) {
      if (mapping.container_port == 0 || mapping.host_port_last < mapping.host_port) std::abort();
    }
  }
  (void)hull::net::parse_expose_spec(text);
  const auto subnet = hull::net::Subnet::parse(text);
  if (subnet.ok() && hull::net::Subnet::parse(subnet->str()).value_or({}) != *subnet) std::abort();
  const auto mac = hull::net::MacAddress::parse(text);
  if (mac.ok() && hull::net::MacAddress::parse(mac->str()).value_or({}) != *mac) std::abort();
  return 0;
}
