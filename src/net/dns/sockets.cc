#include "net/dns/sockets.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cstring>

#include "base/error_format.h"
#include "net/nft_rule.h"
#include "sys/file.h"
#include "sys/netlink.h"
#include "sys/netns.h"
#include "sys/process.h"

namespace hull::net::dns {
namespace {

constexpr uint16_t kDnsPort = 53;
constexpr const char* kTable = "hull_dns";
constexpr const char* kArriving = "arriving";
constexpr const char* kLeaving = "leaving";
constexpr NftHeader kIpv4{NFPROTO_IPV4};

Result<UniqueFd> bound_socket(int kind, const IpAddress& address, uint16_t port) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&v4.sin_addr, address.data(), 4);
    std::memcpy(&storage, &v4, size = sizeof v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, address.data(), 16);
    std::memcpy(&storage, &v6, size = sizeof v6);
  }
  UniqueFd out(::socket(storage.ss_family, kind | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!out) return errno_error("make a socket");
  const int one = 1;
  // Before lo is up 127.0.0.11 is no address yet; after a restart TCP's port waits for old connections.
  ::setsockopt(out.get(), IPPROTO_IP, IP_FREEBIND, &one, sizeof one);
  if (kind == SOCK_STREAM) ::setsockopt(out.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(out.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0) {
    Error error = errnof("listen on {} port {}", address.str(), port);
    return errno == EADDRINUSE ? std::move(error).as(ErrorKind::kConflict) : std::move(error);
  }
  if (kind == SOCK_STREAM && ::listen(out.get(), 64) != 0) return errnof("listen on {} port {}", address.str(), port);
  return out;
}

Result<ListenSockets> bound_sockets(const IpAddress& address, uint16_t port) {
  ListenSockets out;
  TRY_ASSIGN(out.udp, bound_socket(SOCK_DGRAM, address, port));
  TRY_ASSIGN(out.tcp, bound_socket(SOCK_STREAM, address, port));
  return out;
}

Result<uint16_t> port_of(int fd) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return errno_error("port of a socket");
  return ntohs(address.sin_port);
}

void write_edge(sys::NetlinkBatch& batch, uint16_t type) {
  batch.begin(type, 0, NftHeader{AF_UNSPEC, 0, htons(NFNL_SUBSYS_NFTABLES)});
  batch.end();
}

void write_table(sys::NetlinkBatch& batch, uint16_t message, uint16_t flags) {
  batch.begin(nft_type(message), flags, kIpv4);
  batch.put_string(NFTA_TABLE_NAME, kTable);
  batch.end();
}

void write_chain(sys::NetlinkBatch& batch, const char* name, uint32_t hook, int32_t priority) {
  batch.begin(nft_type(NFT_MSG_NEWCHAIN), NLM_F_CREATE, kIpv4);
  batch.put_string(NFTA_CHAIN_TABLE, kTable);
  batch.put_string(NFTA_CHAIN_NAME, name);
  batch.open_nest(NFTA_CHAIN_HOOK);
  batch.put_be32(NFTA_HOOK_HOOKNUM, hook);
  batch.put_be32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(priority));
  batch.close_nest();
  batch.put_be32(NFTA_CHAIN_POLICY, NF_ACCEPT);
  batch.put_string(NFTA_CHAIN_TYPE, "filter");
  batch.end();
}

// Questions are turned at the last moment before a socket is looked for, answers at the first: a firewall or connection
// tracking of the container's own sees port 53 both ways.
Result<void> lead_port_53(uint16_t udp_port, uint16_t tcp_port) {
  TRY_ASSIGN(sys::NetlinkSocket netlink, sys::NetlinkSocket::open(NETLINK_NETFILTER));
  const Subnet resolver = Subnet::of(IpAddress::parse(kResolverAddress).value(), 32);
  sys::NetlinkBatch batch;
  write_edge(batch, NFNL_MSG_BATCH_BEGIN);
  write_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE);  // so that the removal finds one
  write_table(batch, NFT_MSG_DELTABLE, 0);
  write_table(batch, NFT_MSG_NEWTABLE, NLM_F_CREATE);
  write_chain(batch, kArriving, NF_INET_LOCAL_IN, NF_IP_PRI_LAST);
  write_chain(batch, kLeaving, NF_INET_LOCAL_OUT, NF_IP_PRI_RAW);
  for (const auto& [protocol, port] : {std::pair{uint8_t{IPPROTO_UDP}, udp_port}, {uint8_t{IPPROTO_TCP}, tcp_port}}) {
    NftRule(batch, NFPROTO_IPV4, kTable, kArriving)
        .address(AddressSide::kDestination, resolver)
        .port(AddressSide::kDestination, protocol, kDnsPort)
        .set_port(AddressSide::kDestination, protocol, port);
    NftRule(batch, NFPROTO_IPV4, kTable, kLeaving)
        .address(AddressSide::kSource, resolver)
        .port(AddressSide::kSource, protocol, port)
        .set_port(AddressSide::kSource, protocol, kDnsPort);
  }
  write_edge(batch, NFNL_MSG_BATCH_END);
  TRY_ASSIGN(const auto failures, netlink.exchange(batch));
  if (!failures.empty()) return netlink_error(failures.front(), "lead 127.0.0.11 port 53 to hull-dns");
  return {};
}

}  // namespace

Result<ListenSockets> open_in_namespace(const NamespaceHolder& holder) {
  TRY_ASSIGN(const UniqueFd netns, sys::open(fmt::format("/proc/{}/ns/net", holder.pid), O_RDONLY));
  struct stat info{};
  if (::fstat(netns.get(), &info) != 0) return errnof("network namespace of process {}", holder.pid);
  const auto process = sys::process_stat(holder.pid);
  if (info.st_ino != holder.inode || !process || process->start_time != holder.start_time) {
    return errorf(ErrorKind::kNotFound, "the network namespace of process {}: it has ended", holder.pid);
  }
  TRY_ASSIGN(const auto inside, sys::ScopedNetns::enter(netns.get()));
  TRY_ASSIGN(const IpAddress resolver, IpAddress::parse(kResolverAddress));
  TRY_ASSIGN(ListenSockets out, bound_sockets(resolver, 0));
  TRY_ASSIGN(const uint16_t udp_port, port_of(out.udp.get()));
  TRY_ASSIGN(const uint16_t tcp_port, port_of(out.tcp.get()));
  if (lead_port_53(udp_port, tcp_port).ok()) return out;
  return bound_sockets(resolver, kDnsPort);
}

Result<ListenSockets> open_at_gateway(const IpAddress& address) {
  auto out = bound_sockets(address, kDnsPort);
  if (out.ok() || out.error().kind() != ErrorKind::kConflict) return out;
  return errorf(ErrorKind::kConflict,
                "{}: another DNS server of this host has the port; have it listen on its own addresses only, so that "
                "virtual machines on user-defined networks get names",
                out.error().message());
}

}  // namespace hull::net::dns
