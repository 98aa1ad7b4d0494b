#pragma once
// What hull-dns answers: one small file for each endpoint of a user-defined network, <run_dir>/names/NETWORK/WORKLOAD,
// written at attach and unlinked at detach by whichever process does it. The files are the truth, hull-dns holds only
// what it has read of them: killed at any moment, the next one reads them again. The default bridge has none of this.
//
// A container asks 127.0.0.11 in its own network namespace, where hull-dns opens sockets; so the record says which
// process holds that namespace. A virtual machine can't be entered: it asks the gateway of its network and is known by
// its source address.

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/address.h"
#include "net/hostfiles.h"

namespace hull::net {

/// Where a container's resolver is; what Docker uses.
inline constexpr std::string_view kResolverAddress = "127.0.0.11";
/// More names or addresses than these are refused for one endpoint.
inline constexpr size_t kMostNames = 256, kMostEndpointAddresses = 16, kMostDnsServers = 16;

/// A network namespace by a process in it. The start time tells a reused pid, the inode a process that went elsewhere.
struct NamespaceHolder {
  pid_t pid = 0;            ///< 0: no namespace to enter (a virtual machine)
  uint64_t start_time = 0;  ///< clock ticks since boot, /proc/PID/stat field 22
  uint64_t inode = 0;       ///< of /proc/PID/ns/net
  bool operator==(const NamespaceHolder&) const = default;
};
/// What `pid` holds now. kNotFound when it has ended.
Result<NamespaceHolder> namespace_of(pid_t pid);

/// One endpoint as hull-dns knows it.
struct NameRecord {
  std::string network_id;    ///< 1 to 128 of [A-Za-z0-9_.-]; names the folder
  std::string workload_id;   ///< the same; names the file
  std::string network_name;  ///< "web.mynet" is answered too, and pointers say it
  /// What it is called: the workload's name first (pointers answer with it), then short id, host name, aliases, in any
  /// order, duplicates allowed. Each 1 to 253 bytes of printable ASCII without white space; compared without case.
  std::vector<std::string> names;
  std::vector<IpAddress> addresses;  ///< of this endpoint
  NamespaceHolder holder;            ///< of a container
  /// Addresses of the network's gateway on the host: where a virtual machine asks. Ignored when `holder` is there.
  std::vector<IpAddress> gateways;
  /// False on an internal network. A workload may ask the outside when one of its networks lets it.
  bool forward = true;
  /// --dns: asked, by the host, instead of the host's servers. Loopback addresses are kUnsupported: the container's
  /// own can't be reached from there.
  std::vector<std::string> servers;
  bool operator==(const NameRecord&) const = default;
};

/// The file's text, lines of "key value". kInvalid when a field breaks the rules above.
Result<std::string> print_name_record(const NameRecord& record);
/// Back from text; strict: an unknown key or a bad value is kCorrupt. The ids come from the file's place.
Result<NameRecord> parse_name_record(std::string_view network_id, std::string_view workload_id, std::string_view text);

/// Where the files are and who serves them.
struct DnsPlace {
  std::string run_dir;  ///< NetPaths::run_dir
  std::string program;  ///< of hull-dns, e.g. /usr/libexec/hull/hull-dns
};

/// Writes the endpoint's file (replacing one that is there: aliases may change) and returns when hull-dns answers for
/// it; starts hull-dns when it doesn't run. To be called when the addresses and the namespace are there and before the
/// workload's program runs. kUnavailable: hull-dns can't be started or does not answer within ten seconds; kConflict:
/// it can't listen for this endpoint. On failure the file is gone again.
Result<void> announce_names(const DnsPlace& place, const NameRecord& record);
/// Unlinks the file; hull-dns sees it, and ends with the last one. An absent file is success. Starts hull-dns only when
/// it was killed, so that what it left goes.
Result<void> withdraw_names(const DnsPlace& place, std::string_view network_id, std::string_view workload_id);
/// Starts hull-dns when there are files and nobody serves them (its process was killed): one failed lock attempt when
/// all is well. For commands that repair.
Result<void> ensure_dns(const DnsPlace& place);
/// Every record there is; unreadable files are left out.
Result<std::vector<NameRecord>> list_name_records(const std::string& run_dir);

/// resolv.conf of a workload on user-defined networks: `nameservers` (kResolverAddress, or the gateways for a virtual
/// machine), search domains and options from the flags or the host, and ndots:0 as Docker sets it.
std::string make_dns_resolv_conf(const std::vector<std::string>& nameservers, std::string_view host_text,
                                 const DnsFlags& flags);

}  // namespace hull::net
