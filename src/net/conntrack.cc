#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <sys/socket.h>

#include "base/error_format.h"
#include "net/nft_rule.h"
#include "net/ruleset.h"

namespace hull::net {
namespace {

using sys::Bytes;
using sys::NetlinkBatch;
using sys::NetlinkMessage;

uint16_t conntrack_type(uint16_t message) { return static_cast<uint16_t>(NFNL_SUBSYS_CTNETLINK << 8 | message); }

// What names a connection to the kernel, copied as it came.
struct Connection {
  std::vector<uint8_t> original;
  uint32_t id = 0;
};

// The connection of a message if it answers from `target` (so it was translated to it, or begun towards it).
std::optional<Connection> connection_to(Bytes attributes, const IpAddress& target, Protocol protocol) {
  Connection out;
  bool same_address = false;
  bool same_protocol = false;
  sys::for_each_attribute(attributes, [&](uint16_t type, Bytes value) {
    if (type == CTA_TUPLE_ORIG) out.original.assign(value.begin(), value.end());
    if (type == CTA_ID) out.id = sys::attribute_as<uint32_t>(value);
    if (type != CTA_TUPLE_REPLY) return;
    sys::for_each_attribute(value, [&](uint16_t part, Bytes inside) {
      sys::for_each_attribute(inside, [&](uint16_t field, Bytes data) {
        const uint16_t source = target.is_v4() ? CTA_IP_V4_SRC : CTA_IP_V6_SRC;
        if (part == CTA_TUPLE_IP && field == source && data.size() == target.size()) {
          same_address = std::memcmp(data.data(), target.data(), target.size()) == 0;
        }
        if (part == CTA_TUPLE_PROTO && field == CTA_PROTO_NUM) {
          same_protocol = sys::attribute_as<uint8_t>(data) == static_cast<uint8_t>(protocol);
        }
      });
    });
  });
  if (!same_address || !same_protocol || out.original.empty()) return std::nullopt;
  return out;
}

}  // namespace

Result<unsigned> forget_connections(const IpAddress& target, Protocol protocol) {
  auto opened = sys::NetlinkSocket::open(NETLINK_NETFILTER);
  if (!opened.ok()) return std::move(opened).error();
  sys::NetlinkSocket socket = std::move(*opened);
  const NftHeader header{static_cast<uint8_t>(target.is_v4() ? AF_INET : AF_INET6), NFNETLINK_V0, 0};
  std::vector<Connection> found;
  NetlinkBatch batch;
  batch.begin(conntrack_type(IPCTNL_MSG_CT_GET), NLM_F_DUMP, header);
  batch.end();
  TRY_ASSIGN(auto failures, socket.exchange(batch, [&](const NetlinkMessage& message) {
    if (message.payload.size() < sizeof(NftHeader)) return;
    auto connection = connection_to(message.payload.subspan(sizeof(NftHeader)), target, protocol);
    if (connection) found.push_back(std::move(*connection));
  }));
  if (!failures.empty()) return sys::netlink_error(failures.front(), "list the tracked connections");
  batch.clear();
  for (const Connection& connection : found) {
    batch.begin(conntrack_type(IPCTNL_MSG_CT_DELETE), 0, header);
    batch.put(CTA_TUPLE_ORIG | NLA_F_NESTED, connection.original.data(), connection.original.size());
    batch.put_u32(CTA_ID, connection.id);
    batch.end();
  }
  TRY_ASSIGN(failures, socket.exchange(batch));  // ENOENT: it ended by itself
  return static_cast<unsigned>(found.size() - failures.size());
}

}  // namespace hull::net
