#include "net/host.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/file.h"

namespace hull::net {
namespace {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

SocketAddress socket_address(const IpAddress& address, uint16_t port) {
  SocketAddress out;
  if (address.is_v4()) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, address.data(), 4);
    std::memcpy(&out.storage, &in, sizeof(in));
    out.size = sizeof(in);
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    std::memcpy(&in.sin6_addr, address.data(), 16);
    std::memcpy(&out.storage, &in, sizeof(in));
    out.size = sizeof(in);
  }
  return out;
}

UniqueFd make_socket(const PublishedPort& port) {
  const int type = port.protocol == Protocol::kUdp ? SOCK_DGRAM : SOCK_STREAM;
  const int family = port.host_ip.is_v4() ? AF_INET : AF_INET6;
  UniqueFd fd(::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, static_cast<int>(port.protocol)));
  const int on = 1;
  if (fd && family == AF_INET6) (void)::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  return fd;
}

std::string listen_text(const PublishedPort& port) {
  return fmt::format("{} {}{}{}:{}", to_string(port.protocol), port.host_ip.is_v4() ? "" : "[", port.host_ip.str(),
                     port.host_ip.is_v4() ? "" : "]", port.host_port);
}

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

Result<std::string> read_sysctl(const std::string& name) {
  TRY_ASSIGN(std::string text, sys::read_file("/proc/sys/net/" + name, 4096));
  return trimmed(std::move(text));
}

// Writes only what is not so already: /proc/sys may be read-only where it is right.
Result<bool> set_sysctl(const std::string& name, std::string_view value) {
  TRY_ASSIGN(const std::string now, read_sysctl(name));
  if (now == value) return false;
  auto written = sys::write_value(AT_FDCWD, "/proc/sys/net/" + name, value);
  if (!written.ok()) {
    return std::move(written).error().context(
        fmt::format("containers need net.{}={} (now {}); set it with sysctl", name, value, now));
  }
  return true;
}

// What the host learned from its routers must stay when it becomes a router itself.
Result<void> keep_router_advertisements() {
  const std::string folder = "/proc/sys/net/ipv6/conf";
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder.c_str()), ::closedir);
  if (!dir) return errnof("list {}", folder);
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || name == "all" || name == "default" || name == "lo") continue;
    const std::string key = fmt::format("ipv6/conf/{}/accept_ra", name);
    auto value = read_sysctl(key);
    if (value.ok() && *value == "1") TRY(set_sysctl(key, "2"));
  }
  return {};
}

}  // namespace

Result<UniqueFd> claim_port(const PublishedPort& port) {
  const SocketAddress address = socket_address(port.host_ip, port.host_port);
  UniqueFd fd = make_socket(port);
  if (!fd) {
    if (port.protocol == Protocol::kSctp && (errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT)) return UniqueFd();
    return errnof("open a socket for {}", listen_text(port));
  }
  if (::bind(fd.get(), address.get(), address.size) == 0) {
    // Nothing is meant to arrive here; what does must not pile up.
    const int small = 1;
    (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    return fd;
  }
  if (errno == EADDRINUSE && port.protocol == Protocol::kTcp) {
    // Perhaps only connections of an earlier server that wind up (TIME_WAIT): those don't stand in a listener's way.
    fd = make_socket(port);
    const int on = 1;
    if (fd && ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        ::bind(fd.get(), address.get(), address.size) == 0 && ::listen(fd.get(), 1) == 0) {
      return UniqueFd();
    }
    errno = EADDRINUSE;
  }
  if (errno == EADDRINUSE) {
    return errorf(ErrorKind::kConflict,
                  "listen {}: address already in use by a program of this host (ss -lnp shows it); choose another port",
                  listen_text(port));
  }
  if (errno == EADDRNOTAVAIL || errno == EINVAL) {
    return errorf(ErrorKind::kInvalid, "listen {}: cannot assign requested address: this host does not have it",
                  listen_text(port));
  }
  return errnof("listen {}", listen_text(port));
}

std::pair<uint16_t, uint16_t> ephemeral_range() {
  auto text = read_sysctl("ipv4/ip_local_port_range");
  if (text.ok()) {
    const size_t blank = text->find_first_of(" \t");
    auto low = parse_int(text->substr(0, blank), 1, 65535);
    auto high =
        parse_int(blank == std::string::npos ? "" : text->substr(text->find_first_not_of(" \t", blank)), 1, 65535);
    if (low.ok() && high.ok() && *low <= *high) return {static_cast<uint16_t>(*low), static_cast<uint16_t>(*high)};
  }
  return {32768, 60999};  // the kernel's default
}

bool host_has_ipv6() {
  auto disabled = read_sysctl("ipv6/conf/default/disable_ipv6");
  return disabled.ok() && *disabled == "0";
}

BridgeFilters bridge_filters() {
  const auto is_on = [](const char* name) {
    auto value = read_sysctl(name);
    return value.ok() && *value == "1";
  };
  return {is_on("bridge/bridge-nf-call-iptables"), is_on("bridge/bridge-nf-call-ip6tables")};
}

Result<bool> is_forwarding(Family family) {
  auto value = read_sysctl(family == Family::kV4 ? "ipv4/ip_forward" : "ipv6/conf/all/forwarding");
  if (!value.ok()) return std::move(value).error();
  return *value == "1";
}

Result<Forwarding> enable_forwarding(bool ipv6) {
  Forwarding out;
  TRY_ASSIGN(out.enabled4, set_sysctl("ipv4/ip_forward", "1"));
  if (!ipv6) return out;
  TRY_ASSIGN(const bool already, is_forwarding(Family::kV6));
  if (!already) {
    TRY(keep_router_advertisements());
    TRY_ASSIGN(out.enabled6, set_sysctl("ipv6/conf/all/forwarding", "1"));
  }
  return out;
}

Result<void> prepare_bridge(const std::string& device) {
  TRY(set_sysctl(fmt::format("ipv4/conf/{}/route_localnet", device), "1"));
  if (host_has_ipv6()) TRY(set_sysctl(fmt::format("ipv6/conf/{}/accept_ra", device), "0"));
  return {};
}

Result<std::optional<Subnet>> colliding_route(Links& links, const Subnet& subnet, uint32_t except) {
  TRY_ASSIGN(const auto routes, links.routes(subnet.family()));
  for (const RouteInfo& route : routes) {
    if (route.link != except && route.destination.overlaps(subnet)) return std::optional<Subnet>(route.destination);
  }
  return std::optional<Subnet>();
}

Result<Subnet> choose_subnet4(Links& links, const std::vector<Subnet>& avoid) {
  TRY_ASSIGN(const auto routes, links.routes(Family::kV4));
  std::vector<Subnet> candidates;
  const auto add = [&](uint8_t a, uint8_t b, uint8_t c, unsigned length) {
    const std::array<uint8_t, 4> bytes{a, b, c, 0};
    candidates.push_back(Subnet::of(IpAddress::from_bytes(Family::kV4, bytes.data()), length));
  };
  // Away from the low ends of the private ranges, where other engines and home networks begin.
  for (const int b : {30, 31, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18}) add(172, static_cast<uint8_t>(b), 0, 16);
  for (int b = 220; b < 236; ++b) add(10, static_cast<uint8_t>(b), 0, 16);
  for (int c = 240; c >= 192; c -= 16) add(192, 168, static_cast<uint8_t>(c), 20);
  if (!avoid.empty()) {
    // For the networks of users: hundreds of small ones when the large ones are used up.
    for (int b = 219; b >= 216; --b) {
      for (int c = 0; c < 256; ++c) add(10, static_cast<uint8_t>(b), static_cast<uint8_t>(c), 24);
    }
  }
  for (const Subnet& candidate : candidates) {
    const auto collides = [&](const RouteInfo& route) { return route.destination.overlaps(candidate); };
    if (std::any_of(routes.begin(), routes.end(), collides)) continue;
    const auto taken = [&](const Subnet& other) { return other.overlaps(candidate); };
    if (std::none_of(avoid.begin(), avoid.end(), taken)) return candidate;
  }
  if (!avoid.empty()) {
    return errorf(ErrorKind::kNoSpace,
                  "could not find an available, non-overlapping IPv4 address pool among {} candidates to assign to the "
                  "network; give --subnet",
                  candidates.size());
  }
  return errorf(ErrorKind::kNoSpace,
                "choose a subnet for the network {}: each of {} candidates overlaps a route of this host; set "
                "network.subnet in hull.toml",
                kDefaultNetwork, candidates.size());
}

Result<Subnet> random_subnet6() {
  std::array<uint8_t, 16> bytes{};
  if (::getrandom(bytes.data() + 1, 5, 0) != 5) return errnof("draw a random IPv6 prefix");
  bytes[0] = 0xfd;
  return Subnet::of(IpAddress::from_bytes(Family::kV6, bytes.data()), 64);
}

}  // namespace hull::net
