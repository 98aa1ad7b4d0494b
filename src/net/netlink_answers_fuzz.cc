// Whatever bytes come over a netlink socket, the readers must neither crash nor read beyond them.
#include <linux/netlink.h>

#include "net/link.h"
#include "sys/netlink.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const hull::sys::Bytes bytes(data, size);
  hull::sys::for_each_message(bytes, [](const hull::sys::NetlinkMessage& message) {
    (void)hull::net::parse_link(message.payload);
    (void)hull::net::parse_route(message.payload);
  });
  (void)hull::net::parse_link(bytes);
  (void)hull::net::parse_route(bytes);
  return 0;
}
