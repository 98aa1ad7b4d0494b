// Questions to nf_tables that concern more than our rules: whose our table is, what has changed, what others drop.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <sys/socket.h>

#include "base/error_format.h"
#include "net/nft_rule.h"
#include "net/ruleset.h"

namespace hull::net {

using sys::Bytes;
using sys::NetlinkBatch;
using sys::NetlinkMessage;

Result<Holding> Ruleset::holding() {
  NetlinkBatch batch;
  batch.begin(nft_type(NFT_MSG_GETTABLE), 0, NftHeader{NFPROTO_INET});
  batch.put_string(NFTA_TABLE_NAME, table_);
  batch.end();
  uint32_t flags = 0;
  TRY_ASSIGN(const auto failures, socket_.exchange(batch, [&](const NetlinkMessage& message) {
    if (message.payload.size() < sizeof(NftHeader)) return;
    sys::for_each_attribute(message.payload.subspan(sizeof(NftHeader)), [&](uint16_t type, Bytes value) {
      if (type == NFTA_TABLE_FLAGS) flags = sys::attribute_be32(value);
    });
  }));
  if (!failures.empty()) {
    if (failures.front().error == ENOENT) return Holding::kAbsent;
    return sys::netlink_error(failures.front(), fmt::format("read the nftables table inet {}", table_));
  }
  if ((flags & NFT_TABLE_F_OWNER) != 0) return Holding::kOwned;
  return (flags & kTablePersists) != 0 ? Holding::kOrphaned : Holding::kOpen;
}

Result<uint32_t> Ruleset::generation() {
  NetlinkBatch batch;
  batch.begin(nft_type(NFT_MSG_GETGEN), 0, NftHeader{AF_UNSPEC});
  batch.end();
  uint32_t out = 0;
  TRY_ASSIGN(const auto failures, socket_.exchange(batch, [&](const NetlinkMessage& message) {
    if (message.payload.size() < sizeof(NftHeader)) return;
    sys::for_each_attribute(message.payload.subspan(sizeof(NftHeader)), [&](uint16_t type, Bytes value) {
      if (type == NFTA_GEN_ID) out = sys::attribute_be32(value);
    });
  }));
  if (!failures.empty()) {
    auto error = sys::netlink_error(failures.front(), "ask nf_tables for its generation");
    const bool absent = failures.front().error == EINVAL || failures.front().error == EOPNOTSUPP;
    return absent ? std::move(error).as(ErrorKind::kUnsupported) : error;
  }
  return out;
}

Result<std::vector<ChainInfo>> Ruleset::forward_chains() {
  std::vector<ChainInfo> out;
  NetlinkBatch batch;
  batch.begin(nft_type(NFT_MSG_GETCHAIN), NLM_F_DUMP, NftHeader{NFPROTO_UNSPEC});
  batch.end();
  TRY_ASSIGN(const auto failures, socket_.exchange(batch, [&](const NetlinkMessage& message) {
    if (message.payload.size() < sizeof(NftHeader)) return;
    ChainInfo chain;
    chain.family = message.payload[0];
    uint32_t hook = UINT32_MAX;
    sys::for_each_attribute(message.payload.subspan(sizeof(NftHeader)), [&](uint16_t type, Bytes value) {
      if (type == NFTA_CHAIN_TABLE) chain.table = sys::attribute_string(value);
      if (type == NFTA_CHAIN_NAME) chain.name = sys::attribute_string(value);
      if (type == NFTA_CHAIN_POLICY) chain.drops = sys::attribute_be32(value) == NF_DROP;
      if (type == NFTA_CHAIN_HOOK) {
        sys::for_each_attribute(value, [&](uint16_t inner, Bytes number) {
          if (inner == NFTA_HOOK_HOOKNUM) hook = sys::attribute_be32(number);
        });
      }
    });
    const bool ip = chain.family == NFPROTO_IPV4 || chain.family == NFPROTO_IPV6 || chain.family == NFPROTO_INET;
    if (ip && hook == NF_INET_FORWARD && chain.table != table_) out.push_back(std::move(chain));
  }));
  if (!failures.empty()) return sys::netlink_error(failures.front(), "list the nftables chains");
  return out;
}

}  // namespace hull::net
