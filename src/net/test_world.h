#pragma once
// A world for tests: network namespaces of their own as host, client and containers, so that the machine's network is
// never touched. Sockets belong to the namespace in which they were made, so one thread plays all parts.

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "net/network.h"
#include "sys/file.h"
#include "sys/netns.h"

namespace hull::net::test {

constexpr int kSoonMs = 2000;  ///< until something that must happen counts as failed
constexpr int kNeverMs = 150;  ///< after which something that must not happen counts as not happening

/// A new, empty namespace, made by a thread that ends.
inline UniqueFd new_netns() {
  UniqueFd out;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) == 0) out = sys::current_netns().value_or(UniqueFd());
  }).join();
  return out;
}

template <typename F>
auto inside(int netns, F&& body) {
  auto scope = sys::ScopedNetns::enter(netns);
  EXPECT_TRUE(scope.ok());
  return body();
}

/// Runs a shell command in a namespace; its exit code.
inline int shell(int netns, const std::string& command) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setns(netns, CLONE_NEWNET) != 0) ::_exit(126);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

inline std::string shell_output(int netns, const std::string& command) {
  auto pipe = sys::make_pipe();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe->write_end.get(), 1);
    if (::setns(netns, CLONE_NEWNET) != 0) ::_exit(126);
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  pipe->write_end.reset();
  auto text = sys::read_all(pipe->read_end.get());
  ::waitpid(child, nullptr, 0);
  return text.ok() ? *text : "";
}

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  Address() = default;
  Address(const std::string& ip, uint16_t port) {
    if (ip.find(':') == std::string::npos) {
      auto* in = reinterpret_cast<sockaddr_in*>(&storage);
      in->sin_family = AF_INET;
      in->sin_port = htons(port);
      EXPECT_EQ(1, ::inet_pton(AF_INET, ip.c_str(), &in->sin_addr));
      size = sizeof(*in);
    } else {
      auto* in = reinterpret_cast<sockaddr_in6*>(&storage);
      in->sin6_family = AF_INET6;
      in->sin6_port = htons(port);
      EXPECT_EQ(1, ::inet_pton(AF_INET6, ip.c_str(), &in->sin6_addr));
      size = sizeof(*in);
    }
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  std::string ip() const {
    char text[INET6_ADDRSTRLEN] = "";
    if (storage.ss_family == AF_INET) {
      ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage)->sin_addr, text, sizeof(text));
    } else {
      ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_addr, text, sizeof(text));
    }
    return text;
  }
};

inline bool ready(int fd, short events, int timeout_ms) {
  pollfd entry{fd, events, 0};
  return ::poll(&entry, 1, timeout_ms) == 1;
}

/// A server socket in a namespace: listening (TCP) or bound (UDP).
inline UniqueFd serve(int netns, int type, const std::string& ip, uint16_t port) {
  return inside(netns, [&] {
    Address address(ip, port);
    UniqueFd fd(::socket(address.storage.ss_family, type | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address.storage.ss_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    EXPECT_EQ(0, ::bind(fd.get(), address.get(), address.size)) << ip << " " << port << " " << std::strerror(errno);
    EXPECT_TRUE(type != SOCK_STREAM || ::listen(fd.get(), 8) == 0);
    return fd;
  });
}

/// A client in `netns` talks to `ip`:`port`; the server answers. The client's address as the server saw it, or nothing
/// when the exchange did not come about. `source` is what the client binds to.
inline std::optional<std::string> talk(int netns, int server, int type, const std::string& ip, uint16_t port,
                                       int timeout_ms = kSoonMs, const std::string& source = "") {
  UniqueFd client = inside(netns, [&] {
    Address address(ip, port);
    UniqueFd fd(::socket(address.storage.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!source.empty()) {
      Address from(source, 0);
      EXPECT_EQ(0, ::bind(fd.get(), from.get(), from.size)) << source << std::strerror(errno);
    }
    if (::connect(fd.get(), address.get(), address.size) != 0 && errno != EINPROGRESS) return UniqueFd();
    return fd;
  });
  if (!client) return std::nullopt;
  Address peer;
  char buffer[16] = "";
  if (type == SOCK_STREAM) {
    if (!ready(client.get(), POLLOUT, timeout_ms)) return std::nullopt;
    int error = 0;
    socklen_t size = sizeof(error);
    ::getsockopt(client.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0 || !ready(server, POLLIN, timeout_ms)) return std::nullopt;
    UniqueFd accepted(::accept4(server, peer.get(), &peer.size, SOCK_CLOEXEC));
    if (::write(accepted.get(), "pong", 4) != 4 || !ready(client.get(), POLLIN, timeout_ms)) return std::nullopt;
  } else {
    if (::send(client.get(), "ping", 4, 0) != 4 || !ready(server, POLLIN, timeout_ms)) return std::nullopt;
    if (::recvfrom(server, buffer, sizeof(buffer), 0, peer.get(), &peer.size) != 4) return std::nullopt;
    if (::sendto(server, "pong", 4, 0, peer.get(), peer.size) != 4) return std::nullopt;
    if (!ready(client.get(), POLLIN, timeout_ms)) return std::nullopt;
  }
  if (::read(client.get(), buffer, sizeof(buffer)) != 4) return std::nullopt;
  return peer.ip();
}

/// The test thread lives in a host namespace of its own while this lives. A client namespace is connected to it:
/// host 198.51.100.1, 2001:db8::1 – client 198.51.100.2, 2001:db8::2; the client routes everything to the host.
class World {
 public:
  explicit World(bool bridge_filters = false) {
    original_ = sys::current_netns().value_or(UniqueFd());
    host_ = new_netns();
    client_ = new_netns();
    EXPECT_EQ(0, ::setns(host_.get(), CLONE_NEWNET));
    const std::string client_path = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(client_.get());
    EXPECT_EQ(
        0,
        shell(
            host_.get(),
            "sysctl -qw net.ipv4.ip_forward=0 && ip link set lo up && ip link add up0 type veth peer name eth0 netns " +
                client_path +
                " && ip addr add 198.51.100.1/24 dev up0 && ip addr add 2001:db8::1/64 dev up0 nodad"
                " && ip link set up0 up"
                "; for f in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do [ ! -e $f ] || echo " +
                std::string(bridge_filters ? "1" : "0") + " > $f; done"));
    EXPECT_EQ(0, shell(client_.get(),
                       "ip link set lo up && ip addr add 198.51.100.2/24 dev eth0 && ip link set eth0 up"
                       " && ip addr add 2001:db8::2/64 dev eth0 nodad && ip route add default via 198.51.100.1"
                       " && ip -6 route add default via 2001:db8::1"));
    // `ip link` asks for the state of both ends, which makes the kernel take note of the carrier.
    shell(host_.get(), "ip -o link show up0 >/dev/null");
    shell(client_.get(), "ip -o link show eth0 >/dev/null");
    std::string pattern = (std::filesystem::temp_directory_path() / "hull-net-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() {
    EXPECT_EQ(0, ::setns(original_.get(), CLONE_NEWNET));
    std::filesystem::remove_all(folder_);
  }

  int host() const { return host_.get(); }
  int client() const { return client_.get(); }
  const std::string& folder() const { return folder_; }
  NetPaths paths() const { return {folder_ + "/data", folder_ + "/run"}; }

  NetworkManager manager(const NetSettings& settings = {}) const {
    auto opened = NetworkManager::open(paths(), settings);
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    return std::move(*opened);
  }

 private:
  UniqueFd original_, host_, client_;
  std::string folder_;
};

/// A container: a namespace with an endpoint.
struct Container {
  UniqueFd netns;
  Endpoint endpoint;
  std::vector<UniqueFd> holders;
  std::string v4() const { return endpoint.ipv4.str(); }
  std::string v6() const { return endpoint.ipv6 ? endpoint.ipv6->str() : ""; }
};

inline std::vector<PortMapping> ports(std::initializer_list<const char*> specs) {
  std::vector<PortMapping> out;
  for (const char* spec : specs) {
    auto some = parse_port_spec(spec);
    EXPECT_TRUE(some.ok()) << spec;
    out.insert(out.end(), some->begin(), some->end());
  }
  return out;
}

inline Container start(NetworkManager& manager, const std::string& id, std::initializer_list<const char*> specs = {}) {
  Container out;
  out.netns = new_netns();
  ReserveRequest request;
  request.workload_id = id;
  request.ports = ports(specs);
  auto reserved = manager.reserve(request);
  EXPECT_TRUE(reserved.ok()) << reserved.error().message();
  if (!reserved.ok()) return out;
  out.holders = std::move(reserved->holders);
  auto attached = manager.attach(id, out.netns.get());
  EXPECT_TRUE(attached.ok()) << attached.error().message();
  if (attached.ok()) out.endpoint = attached->front();
  return out;
}

}  // namespace hull::net::test
