#include "net/forward_policy.h"

#include <linux/netfilter.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <sys/socket.h>

#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::net {
namespace {

constexpr size_t kLongestTable = 64 << 20;

// The verdict of the entry at `offset`, which must be a standard target: the policy of a built-in chain.
template <typename Entry>
int verdict_at(const std::vector<char>& entries, size_t offset) {
  Entry entry;
  if (offset > entries.size() || entries.size() - offset < sizeof(entry)) return 0;
  std::memcpy(&entry, entries.data() + offset, sizeof(entry));
  xt_standard_target target;
  const size_t at = offset + entry.target_offset;
  if (at > entries.size() || entries.size() - at < sizeof(target)) return 0;
  std::memcpy(&target, entries.data() + at, sizeof(target));
  return target.verdict;
}

template <typename Info, typename GetEntries, typename Entry>
bool policy_drops(int family, int level, int get_info, int get_entries) {
  UniqueFd socket(::socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!socket) return false;
  Info info{};
  std::strcpy(info.name, "filter");
  socklen_t size = sizeof(info);
  if (::getsockopt(socket.get(), level, get_info, &info, &size) != 0 || info.size > kLongestTable) return false;
  std::vector<char> buffer(sizeof(GetEntries) + info.size);
  GetEntries head{};
  std::strcpy(head.name, "filter");
  head.size = info.size;
  std::memcpy(buffer.data(), &head, sizeof(head));
  size = static_cast<socklen_t>(buffer.size());
  if (::getsockopt(socket.get(), level, get_entries, buffer.data(), &size) != 0) return false;
  buffer.erase(buffer.begin(), buffer.begin() + sizeof(GetEntries));
  return verdict_at<Entry>(buffer, info.underflow[NF_INET_FORWARD]) == -NF_DROP - 1;
}

std::string_view family_name(uint8_t family) {
  switch (family) {
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_IPV6:
      return "ip6";
    default:
      return "inet";
  }
}

}  // namespace

bool legacy_forward_drops(Family family) {
  // Asking for a table makes the kernel create it, so only ask for one that is there.
  const bool v4 = family == Family::kV4;
  auto tables = sys::read_file(v4 ? "/proc/thread-self/net/ip_tables_names" : "/proc/thread-self/net/ip6_tables_names");
  if (!tables.ok() || ("\n" + *tables).find("\nfilter\n") == std::string::npos) return false;
  return v4 ? policy_drops<ipt_getinfo, ipt_get_entries, ipt_entry>(AF_INET, IPPROTO_IP, IPT_SO_GET_INFO,
                                                                    IPT_SO_GET_ENTRIES)
            : policy_drops<ip6t_getinfo, ip6t_get_entries, ip6t_entry>(AF_INET6, IPPROTO_IPV6, IP6T_SO_GET_INFO,
                                                                       IP6T_SO_GET_ENTRIES);
}

std::vector<std::string> dropping_forward_chains(Ruleset& ruleset) {
  std::vector<std::string> out;
  auto chains = ruleset.forward_chains();
  if (chains.ok()) {
    for (const ChainInfo& chain : *chains) {
      if (chain.drops) out.push_back(fmt::format("{} {} {}", family_name(chain.family), chain.table, chain.name));
    }
  }
  if (legacy_forward_drops(Family::kV4)) out.emplace_back("iptables-legacy filter FORWARD");
  if (legacy_forward_drops(Family::kV6)) out.emplace_back("ip6tables-legacy filter FORWARD");
  return out;
}

}  // namespace hull::net
