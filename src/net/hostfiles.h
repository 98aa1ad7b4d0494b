#pragma once
// The three files that an engine writes for a container: /etc/hostname, /etc/hosts, /etc/resolv.conf. All functions
// are pure: text in, text out.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/address.h"

namespace hull::net {

/// What resolv.conf(5) holds, in its order. Lines that mean nothing to us are kept in `other`.
struct ResolvConf {
  std::vector<std::string> nameservers;  ///< addresses, IPv6 perhaps with %zone
  std::vector<std::string> search;       ///< the last search or domain line
  std::vector<std::string> options;
  std::vector<std::string> other;
};

/// Never fails: lines that can't be read (bad addresses, binary junk) are dropped, at most 64 KiB are looked at.
ResolvConf parse_resolv_conf(std::string_view text);

/// --dns, --dns-search, --dns-option. An empty list keeps the host's; a search list of one "." means none.
struct DnsFlags {
  std::vector<std::string> servers, search, options;
};
/// Checks the flags: servers are addresses, search domains and options are single words. kInvalid names the flag.
Result<void> validate_dns_flags(const DnsFlags& flags);

enum class ResolvFor {
  kHostNetwork,  ///< the host's servers stay, loopback or not
  kOwnNetwork,   ///< loopback servers can't be reached and are dropped (127.0.0.0/8, ::1, zoned link-local); public
                 ///< ones (8.8.8.8, 8.8.4.4 and their IPv6 forms) take their place when none is left
};
/// The container's resolv.conf from the host's. `ipv6`: the container has an IPv6 address.
std::string make_resolv_conf(std::string_view host_text, const DnsFlags& flags, ResolvFor where, bool ipv6);
/// The host file to read: systemd-resolved's upstream list when /etc/resolv.conf names only its stub (127.0.0.53).
/// `etc_text` is the content of /etc/resolv.conf.
std::string_view resolv_conf_path(std::string_view etc_text);

struct HostsEntry {
  std::string address;  ///< an IP address, or "host-gateway"
  std::string name;
};
/// --add-host: "name:ip", "name=ip", IPv6 with or without brackets, or "name:host-gateway".
Result<HostsEntry> parse_add_host(std::string_view text);

struct HostsRequest {
  std::string hostname, domainname;
  std::vector<IpAddress> addresses;  ///< the container's own; empty for none
  std::vector<HostsEntry> extra;
  std::vector<IpAddress> host_gateway;  ///< what "host-gateway" stands for (the gateways of the endpoint)
  bool ipv6 = true;
};
/// kInvalid when an entry says host-gateway and there is none.
Result<std::string> make_hosts(const HostsRequest& request);
/// One line; hostname as given.
std::string make_hostname(std::string_view hostname);
/// RFC 1123 letters, digits, '-', '.', '_', 1 to 64 bytes (the kernel's limit), not starting or ending with '-' or '.'.
Result<void> validate_hostname(std::string_view hostname);

}  // namespace hull::net
