// Addresses, ports, repair: what the manager promises beside traffic.
#include <gmock/gmock.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error_format.h"
#include "net/host.h"
#include "net/test_world.h"

namespace hull::net {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace)
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

ReserveRequest request(const std::string& id, std::initializer_list<const char*> specs = {}) {
  ReserveRequest out;
  out.workload_id = id;
  out.endpoints.emplace_back();
  out.ports = ports(specs);
  return out;
}

bool everybody(std::string_view) { return true; }
bool nobody(std::string_view) { return false; }

// What a host namespace holds that could leak.
struct Census {
  int links = 0, neighbours = 0, elements = 0, endpoints = 0;
  auto operator<=>(const Census&) const = default;
};
void PrintTo(const Census& census, std::ostream* out) {
  *out << census.links << " links, " << census.neighbours << " neighbours, " << census.elements << " elements, "
       << census.endpoints << " endpoints";
}
Census census(const World& world, NetworkManager& manager) {
  const auto count = [&](const std::string& command) { return std::atoi(shell_output(world.host(), command).c_str()); };
  Census out;
  out.links = count("ip -br link | grep -c ^hv");
  out.neighbours = count("ip neigh show dev hull0 nud permanent 2>/dev/null | grep -vc ^ff");
  out.elements = count("nft list table inet hull 2>/dev/null | grep -o ' : [0-9a-f]*[.:][^ ]* \\. ' | wc -l");
  out.endpoints = static_cast<int>(manager.list()->size());
  return out;
}
// Interfaces of dead namespaces go in the background; waits for the kernel's word, at most ten seconds.
Census settled_census(const World& world, NetworkManager& manager, const Census& wanted) {
  Census out = census(world, manager);
  for (const auto deadline = Clock::now() + std::chrono::seconds(10); out != wanted && Clock::now() < deadline;) {
    ::poll(nullptr, 0, 20);
    out = census(world, manager);
  }
  return out;
}

class Manager : public ::testing::Test {
 protected:
  ErrorKind reserve_error(const ReserveRequest& wanted, std::string_view part) {
    auto reserved = manager_.reserve(wanted);
    if (reserved.ok()) return ErrorKind::kInternal;
    EXPECT_THAT(reserved.error().message(), HasSubstr(part));
    return reserved.error().kind();
  }
  World world_;
  NetworkManager manager_ = world_.manager();
};

TEST_F(Manager, AddressesRotate) {
  const Subnet subnet = manager_.inspect()->subnet4;
  EXPECT_EQ(subnet.base().plus(2), manager_.reserve(request("a"))->endpoints[0].ipv4);
  EXPECT_EQ(subnet.base().plus(3), manager_.reserve(request("b"))->endpoints[0].ipv4);
  ASSERT_TRUE(manager_.detach("a").ok());
  EXPECT_EQ(subnet.base().plus(4), manager_.reserve(request("c"))->endpoints[0].ipv4);
  const Endpoint c = manager_.find("c")->front();
  EXPECT_EQ(subnet.base().plus(1), c.gateway4);
  EXPECT_EQ(16u, c.prefix4);
  EXPECT_EQ(4u, manager_.inspect()->subnet6->offset_of(*c.ipv6));
  EXPECT_EQ(MacAddress::derived_from(c.ipv4), c.mac);
  EXPECT_EQ(2u, manager_.list()->size());
}

TEST_F(Manager, StaticAddressesAreHonouredOrRefused) {
  const Network network = *manager_.inspect();
  ReserveRequest wanted = request("a");
  wanted.endpoints[0].ipv4 = network.subnet4.base().plus(77);
  wanted.endpoints[0].ipv6 = network.subnet6->base().plus(0x1234);
  wanted.endpoints[0].mac = *MacAddress::parse("02:00:00:00:00:09");
  const Endpoint a = manager_.reserve(wanted)->endpoints[0];
  EXPECT_EQ(*wanted.endpoints[0].ipv4, a.ipv4);
  EXPECT_EQ(*wanted.endpoints[0].ipv6, *a.ipv6);
  EXPECT_EQ(*wanted.endpoints[0].mac, a.mac);
  EXPECT_EQ(ErrorKind::kExists, reserve_error(wanted, "already"));
  wanted.workload_id = "b";
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(wanted, "in use by workload a"));
  wanted.endpoints[0].ipv4.reset();
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(wanted, "in use by workload a"));
  wanted.endpoints[0].ipv6.reset();
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(wanted, "MAC address 02:00:00:00:00:09 is in use by workload a"));
  wanted.endpoints[0].mac.reset();
  wanted.endpoints[0].ipv4 = network.gateway4;
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(wanted, "gateway"));
  wanted.endpoints[0].ipv4 = *IpAddress::parse("9.9.9.9");
  EXPECT_EQ(ErrorKind::kInvalid, reserve_error(wanted, "not in the subnet " + network.subnet4.str()));
  wanted.endpoints[0].ipv4 = network.subnet4.last();
  EXPECT_EQ(ErrorKind::kInvalid, reserve_error(wanted, "can't be given"));
  wanted.endpoints[0].ipv4.reset();
  wanted.endpoints[0].ipv6 = *IpAddress::parse("2001:db8:5::5");
  EXPECT_EQ(ErrorKind::kInvalid, reserve_error(wanted, "not in the subnet"));
  EXPECT_EQ(1u, manager_.list()->size());
  // The same workload can have its address again after it left.
  ASSERT_TRUE(manager_.detach("a").ok());
  wanted.endpoints[0].ipv6.reset();
  wanted.endpoints[0].ipv4 = network.subnet4.base().plus(77);
  EXPECT_TRUE(manager_.reserve(wanted).ok());
}

TEST_F(Manager, SmallSubnetsFillUpAndSaySo) {
  NetSettings settings;
  settings.subnet4 = *Subnet::parse("192.0.2.0/29");
  NetworkManager small = world_.manager(settings);
  std::set<std::string> seen;
  for (int i = 0; i < 5; ++i) seen.insert(small.reserve(request("c" + std::to_string(i)))->endpoints[0].ipv4.str());
  EXPECT_EQ(5u, seen.size());
  auto full = small.reserve(request("more"));
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(ErrorKind::kNoSpace, full.error().kind());
  ASSERT_TRUE(small.detach("c1").ok());
  EXPECT_EQ("192.0.2.3", small.reserve(request("again"))->endpoints[0].ipv4.str());
  // With workloads on it, the subnet stays.
  settings.subnet4 = *Subnet::parse("192.0.2.64/26");
  auto changed = world_.manager(settings).reserve(request("x"));
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(ErrorKind::kConflict, changed.error().kind());
}

TEST_F(Manager, SubnetsKeepAwayFromTheHostsRoutes) {
  EXPECT_EQ("172.30.0.0/16", manager_.inspect()->subnet4.str());
  ASSERT_EQ(0, shell(world_.host(), "ip route add 172.30.5.0/24 dev up0 && ip route add 172.31.0.0/16 dev up0"));
  EXPECT_EQ("172.29.0.0/16", manager_.inspect()->subnet4.str());
  ASSERT_EQ(0, shell(world_.host(), "ip route add 172.16.0.0/12 dev up0 && ip route add 10.0.0.0/8 dev up0"));
  EXPECT_EQ("192.168.240.0/20", manager_.inspect()->subnet4.str());
  ASSERT_EQ(0, shell(world_.host(), "ip route add 192.168.0.0/16 dev up0"));
  auto none = manager_.inspect();
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(ErrorKind::kNoSpace, none.error().kind());
}

TEST_F(Manager, PortsOfOthersAreRefused) {
  ASSERT_TRUE(manager_.reserve(request("a", {"8080:80", "127.0.0.1:9090:90", "53:53/udp"})).ok());
  EXPECT_EQ(ErrorKind::kConflict,
            reserve_error(request("b", {"8080:80"}), "port is already allocated (by workload a)"));
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(request("b", {"127.0.0.1:8080:80"}), "already allocated"));
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(request("b", {"9090:90"}), "already allocated"));
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(request("b", {"[::]:8080:80"}), "already allocated"));
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(request("b", {"81:80", "81:81"}), "already allocated"));
  EXPECT_EQ(1u, manager_.list()->size());
  EXPECT_TRUE(manager_.reserve(request("c", {"198.51.100.1:9090:90", "53:53/tcp", "8080:80/udp"})).ok());
}

TEST_F(Manager, PortsOfProgramsOfTheHostAreRefused) {
  const UniqueFd tcp = serve(world_.host(), SOCK_STREAM, "0.0.0.0", 8080);
  const UniqueFd udp = serve(world_.host(), SOCK_DGRAM, "::", 5353);
  EXPECT_EQ(ErrorKind::kConflict, reserve_error(request("b", {"8080:80"}), "tcp 0.0.0.0:8080: address already in use"));
  EXPECT_EQ(ErrorKind::kConflict,
            reserve_error(request("b", {"5353:53/udp"}), "udp [::]:5353: address already in use"));
  EXPECT_EQ(ErrorKind::kInvalid, reserve_error(request("b", {"203.0.113.9:80:80"}), "this host does not have it"));
  const Reservation free = *manager_.reserve(request("c", {"8080-8083:80"}));
  EXPECT_EQ(8081, free.ports.front().host_port);
}

TEST_F(Manager, HoldersKeepThePort) {
  Reservation held = *manager_.reserve(request("a", {"8080:80"}));
  EXPECT_EQ(2u, held.holders.size());
  const PublishedPort port{IpAddress(), 8080, 1, Protocol::kTcp};
  EXPECT_FALSE(claim_port(port).ok());
  held.holders.clear();
  EXPECT_TRUE(claim_port(port).ok());
}

TEST_F(Manager, EphemeralPortsAreChosen) {
  const auto [low, high] = ephemeral_range();
  std::set<uint16_t> seen;
  for (int i = 0; i < 20; ++i) {
    const Reservation reserved = *manager_.reserve(request("c" + std::to_string(i), {"80"}));
    ASSERT_EQ(2u, reserved.ports.size());
    const uint16_t port = reserved.ports[0].host_port;
    EXPECT_EQ(port, reserved.ports[1].host_port) << "the same on both families";
    EXPECT_GE(port, low);
    EXPECT_LE(port, high);
    EXPECT_TRUE(seen.insert(port).second);
  }
}

TEST_F(Manager, BadRequestsAreRefused) {
  EXPECT_EQ(ErrorKind::kInvalid, reserve_error(request(""), "workload id"));
  EXPECT_EQ(ErrorKind::kInvalid, reserve_error(request("a/b"), "workload id"));
  EXPECT_EQ(ErrorKind::kInvalid, reserve_error(request(std::string(129, 'a')), "workload id"));
  ReserveRequest wanted = request("a");
  for (const char* name : {"lo", "averyveryverylongname", "a/b", "a b", ".."}) {
    wanted.endpoints[0].interface_name = name;
    EXPECT_EQ(ErrorKind::kInvalid, reserve_error(wanted, "interface")) << name;
  }
  EXPECT_EQ(ErrorKind::kNotFound, manager_.attach("a", world_.client()).error().kind());
  EXPECT_TRUE(manager_.detach("never seen").ok());
  ASSERT_TRUE(manager_.reserve(request("x")).ok());
  const UniqueFd file = *sys::open("/dev/null", O_RDONLY);
  EXPECT_EQ(ErrorKind::kInvalid, manager_.attach("x", file.get()).error().kind());
  EXPECT_FALSE(manager_.attach("x", -1).ok());
  EXPECT_EQ((Census{0, 0, 0, 1}), census(world_, manager_));
}

TEST_F(Manager, ATakenInterfaceNameInsideIsAClearError) {
  ASSERT_TRUE(manager_.reserve(request("x")).ok());
  const UniqueFd netns = new_netns();
  ASSERT_EQ(0, shell(netns.get(), "ip link add eth0 type veth peer name other"));
  auto attached = manager_.attach("x", netns.get());
  ASSERT_FALSE(attached.ok());
  EXPECT_EQ(ErrorKind::kExists, attached.error().kind());
  EXPECT_EQ((Census{0, 0, 0, 1}), census(world_, manager_));
}

TEST_F(Manager, AForeignBridgeIsLeftAlone) {
  ASSERT_EQ(0, shell(world_.host(), "ip link add hull0 type veth peer name other"));
  ASSERT_TRUE(manager_.reserve(request("x")).ok());
  const UniqueFd netns = new_netns();
  auto attached = manager_.attach("x", netns.get());
  ASSERT_FALSE(attached.ok());
  EXPECT_EQ(ErrorKind::kConflict, attached.error().kind());
  ASSERT_EQ(0, shell(world_.host(),
                     "ip link del hull0 && ip link add hull0 type bridge && "
                     "ip link set hull0 alias 'hull 0123456789abcdef 10.1.0.0/16'"));
  attached = manager_.attach("x", netns.get());
  ASSERT_FALSE(attached.ok());
  EXPECT_THAT(attached.error().message(), HasSubstr("another Hull"));
}

TEST_F(Manager, AWorkloadMayRefuseIpv6) {
  ASSERT_TRUE(manager_.reserve(request("x")).ok());
  const UniqueFd netns = new_netns();
  ASSERT_EQ(0, shell(netns.get(), "sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"));
  EXPECT_TRUE(manager_.attach("x", netns.get()).ok());
}

TEST_F(Manager, TheInsideIsReadyAtOnce) {
  const Container container = start(manager_, "c");
  const std::string addresses = shell_output(container.netns.get(), "ip -o addr show dev eth0");
  EXPECT_THAT(addresses, HasSubstr(container.v4() + "/16"));
  EXPECT_THAT(addresses, HasSubstr(container.v6() + "/64"));
  EXPECT_THAT(addresses, ::testing::Not(HasSubstr("tentative")));
  EXPECT_THAT(shell_output(container.netns.get(), "ip route; ip -6 route"), HasSubstr("default via"));
  EXPECT_EQ("1\n", shell_output(world_.host(), "cat /proc/sys/net/ipv4/ip_forward"));
  EXPECT_EQ("2\n", shell_output(world_.host(), "cat /proc/sys/net/ipv6/conf/up0/accept_ra")) << "keeps its routers";
  EXPECT_EQ("0\n", shell_output(world_.host(), "cat /proc/sys/net/ipv6/conf/hull0/accept_ra"));
}

TEST_F(Manager, LoopbackAlone) {
  const UniqueFd netns = new_netns();
  ASSERT_TRUE(NetworkManager::loopback_up(netns.get()).ok());
  const UniqueFd server = serve(netns.get(), SOCK_STREAM, "127.0.0.1", 80);
  EXPECT_TRUE(talk(netns.get(), server.get(), SOCK_STREAM, "127.0.0.1", 80));
}

TEST_F(Manager, NothingLeaks) {
  {
    const Container keep = start(manager_, "keep", {"9000:9000"});
    ASSERT_TRUE(manager_.detach("keep").ok());
  }
  const Census before = settled_census(world_, manager_, {});
  EXPECT_EQ(Census{}, before);
  for (int i = 0; i < 20; ++i) {
    const Container container = start(manager_, "c" + std::to_string(i), {"8080:80", "127.0.0.1:53:53/udp"});
    EXPECT_EQ((Census{1, 2, 3, 1}), settled_census(world_, manager_, {1, 2, 3, 1}));
    ASSERT_TRUE(manager_.detach("c" + std::to_string(i)).ok());
  }
  EXPECT_EQ(Census{}, settled_census(world_, manager_, {}));
  ASSERT_TRUE(manager_.tear_down().ok());
  EXPECT_EQ("", shell_output(world_.host(), "nft list ruleset; ip -br link show hull0 2>/dev/null"));
}

TEST_F(Manager, DetachedFromAKeptNamespaceNothingGoesThrough) {
  const Container old = start(manager_, "old");
  ASSERT_TRUE(manager_.detach("old").ok());
  ReserveRequest same = request("new");
  same.endpoints[0].ipv4 = old.endpoint.ipv4;
  same.endpoints[0].ipv6 = old.endpoint.ipv6;
  ASSERT_TRUE(manager_.reserve(same).ok());
  const UniqueFd netns = new_netns();
  ASSERT_TRUE(manager_.attach("new", netns.get()).ok());
  const UniqueFd old_server = serve(old.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  const UniqueFd new_server = serve(netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  EXPECT_TRUE(talk(world_.host(), new_server.get(), SOCK_STREAM, old.v4(), 80));
  EXPECT_FALSE(talk(old.netns.get(), new_server.get(), SOCK_STREAM, old.endpoint.gateway4.str(), 80, kNeverMs));
  const RepairReport report = *manager_.repair(everybody);
  EXPECT_EQ(1u, report.links_removed);
  EXPECT_EQ(0u, report.endpoints_freed);
  EXPECT_TRUE(talk(world_.host(), new_server.get(), SOCK_STREAM, old.v4(), 80));
}

TEST_F(Manager, RepairFreesTheDead) {
  Container a = start(manager_, "a", {"8080:80"});
  const Container b = start(manager_, "b", {"8081:80"});
  a.holders.clear();
  ASSERT_TRUE(manager_.reserve(request("c", {"8082:80"})).ok());
  const RepairReport report = *manager_.repair([](std::string_view id) { return id == "b"; });
  EXPECT_EQ(2u, report.endpoints_freed);
  EXPECT_EQ(1u, report.links_removed);
  EXPECT_EQ((Census{1, 2, 2, 1}), census(world_, manager_));
  const UniqueFd server = serve(b.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 8081));
  EXPECT_TRUE(manager_.reserve(request("d", {"8080:80", "8082:80"})).ok());
}

TEST_F(Manager, RecordsOfAnEarlierBootAreDropped) {
  ASSERT_TRUE(manager_.reserve(request("a", {"8080:80"})).ok());
  const std::string subnet = manager_.inspect()->subnet4.str() + manager_.inspect()->subnet6->str();
  ASSERT_EQ(0, shell(world_.host(), "python3 -c \"import sqlite3; c = sqlite3.connect('" + world_.paths().run_dir +
                                        "/records.db'); c.execute('update boot set id=1'); c.commit()\""));
  NetworkManager again = world_.manager();
  EXPECT_TRUE(again.list()->empty());
  EXPECT_EQ(subnet, again.inspect()->subnet4.str() + again.inspect()->subnet6->str());
}

// Many commands at once: no address, port or interface is given twice.
TEST_F(Manager, ParallelCommandsNeverCollide) {
  constexpr int kProcesses = 8;
  constexpr int kEach = 12;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    const pid_t child = ::fork();
    if (child == 0) {
      bool good = true;
      for (int i = 0; i < kEach && good; ++i) {
        auto manager = NetworkManager::open(world_.paths(), {});
        const std::string id = fmt::format("p{}-{}", p, i);
        const UniqueFd netns = new_netns();
        good = manager.ok() && manager->reserve(request(id, {"80", "53/udp"})).ok() &&
               manager->attach(id, netns.get()).ok();
        if (good && i % 3 == 0) good = manager->detach(id).ok();
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(0, status);
  }
  const auto endpoints = *manager_.list();
  EXPECT_EQ(static_cast<size_t>(kProcesses * kEach * 2 / 3), endpoints.size());
  std::set<std::string> addresses, macs, published;
  for (const Endpoint& endpoint : endpoints) {
    EXPECT_TRUE(addresses.insert(endpoint.ipv4.str()).second);
    EXPECT_TRUE(addresses.insert(endpoint.ipv6->str()).second);
    EXPECT_TRUE(macs.insert(endpoint.mac.str()).second);
    for (const PublishedPort& port : endpoint.ports) {
      EXPECT_TRUE(
          published.insert(fmt::format("{} {} {}", port.host_ip.str(), port.host_port, static_cast<int>(port.protocol)))
              .second);
    }
  }
  EXPECT_EQ(endpoints.size(), manager_.repair(nobody)->endpoints_freed);
  EXPECT_EQ(Census{}, settled_census(world_, manager_, {}));
}

// Killed at any point, a command leaves nothing that repair() does not take away, and no other workload is harmed.
TEST_F(Manager, KilledAtAnyPoint) {
  const Container witness = start(manager_, "witness", {"7777:80"});
  const UniqueFd server = serve(witness.netns.get(), SOCK_STREAM, "0.0.0.0", 80);
  unsigned freed = 0;
  unsigned killed = 0;
  unsigned rounds = 0;
  // On a busy machine most children die before they have anything: it goes on until enough have.
  for (; rounds < 150 || (freed <= 20 && rounds < 1500); ++rounds) {
    const unsigned round = rounds;
    const pid_t child = ::fork();
    if (child == 0) {
      for (int i = 0;; ++i) {
        auto manager = NetworkManager::open(world_.paths(), {});
        const UniqueFd netns = new_netns();
        const std::string id = fmt::format("r{}-{}", round, i);
        if (!manager.ok() || !manager->reserve(request(id, {"80", "127.0.0.1:9000:90/udp"})).ok()) ::_exit(1);
        if (!manager->attach(id, netns.get()).ok() || !manager->detach(id).ok()) ::_exit(2);
      }
    }
    // The moment of death moves through the cycle of about two milliseconds.
    const auto moment = Clock::now() + std::chrono::microseconds(1000 + round * 37 % 4000);
    while (Clock::now() < moment) continue;
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    killed += WIFSIGNALED(status) ? 1 : 0;
    auto report = manager_.repair([](std::string_view id) { return id == "witness"; });
    ASSERT_TRUE(report.ok()) << report.error().message();
    freed += report->endpoints_freed;
  }
  EXPECT_EQ(rounds, killed) << "the child failed by itself";
  EXPECT_GT(freed, 20u);
  EXPECT_EQ((Census{1, 2, 2, 1}), settled_census(world_, manager_, {1, 2, 2, 1}));
  EXPECT_FALSE(manager_.repair([](std::string_view id) { return id == "witness"; })->rules_restored);
  EXPECT_TRUE(talk(world_.client(), server.get(), SOCK_STREAM, "198.51.100.1", 7777));
}

// What a kernel sends of its own accord stays at its port, and no container is another's router.
TEST_F(Manager, FramesThatNobodyAskedForGoNowhere) {
  const Container watcher = start(manager_, "watcher");
  const UniqueFd sniffer = inside(watcher.netns.get(), [] {
    return UniqueFd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_IPV6)));
  });
  const Container other = start(manager_, "other");
  const UniqueFd raw =
      inside(other.netns.get(), [] { return UniqueFd(::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMPV6)); });
  const int hops = 255;
  ASSERT_EQ(0, ::setsockopt(raw.get(), IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)));
  const int off = 0;  // or its own kernel would believe it
  ASSERT_EQ(0, ::setsockopt(raw.get(), IPPROTO_IPV6, IPV6_MULTICAST_LOOP, &off, sizeof(off)));
  // A router advertisement with a prefix to make addresses from (RFC 4861, 4.2 and 4.6.2).
  const std::array<uint8_t, 48> advertisement{134,  0, 0, 0, 64, 0, 0, 60, 0, 0, 0, 0, 0, 0,    0, 0,    3,    4, 64,
                                              0xc0, 0, 0, 1, 0,  0, 0, 1,  0, 0, 0, 0, 0, 0x20, 1, 0x0d, 0xb8, 0, 6};
  Address everybody_there("ff02::1", 0);
  reinterpret_cast<sockaddr_in6*>(&everybody_there.storage)->sin6_scope_id =
      inside(other.netns.get(), [] { return ::if_nametoindex("eth0"); });
  ASSERT_EQ(48, ::sendto(raw.get(), advertisement.data(), advertisement.size(), 0, everybody_there.get(),
                         everybody_there.size))
      << std::strerror(errno);
  std::array<uint8_t, 2048> frame{};
  for (const auto deadline = Clock::now() + std::chrono::milliseconds(1200); Clock::now() < deadline;) {
    if (!ready(sniffer.get(), POLLIN, 100)) continue;
    sockaddr_ll from{};
    socklen_t size = sizeof(from);
    const ssize_t got =
        ::recvfrom(sniffer.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
    const bool from_other = got > 0 && std::memcmp(from.sll_addr, other.endpoint.mac.bytes.data(), 6) == 0;
    EXPECT_FALSE(from_other) << "a frame of " << got << " bytes";
  }
  EXPECT_THAT(shell_output(watcher.netns.get(), "ip -6 route"), ::testing::Not(HasSubstr("2001:db8:6")));
}

// A thousand on one bridge: the last costs what the first did, and the 1,024th gets a clear answer.
TEST_F(Manager, AThousandWorkloads) {
  std::vector<UniqueFd> namespaces;
  std::vector<double> attach_ms;
  std::optional<Error> refusal;
  for (unsigned i = 0; i < kBridgePortLimit + 1; ++i) {
    UniqueFd netns = new_netns();
    const std::string id = "c" + std::to_string(i);
    const auto begin = Clock::now();
    NetworkManager manager = world_.manager();
    ASSERT_TRUE(manager.reserve(request(id, {"80"})).ok());
    auto attached = manager.attach(id, netns.get());
    if (!attached.ok()) {
      refusal = attached.error();
      break;
    }
    attach_ms.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
    namespaces.push_back(std::move(netns));
  }
  EXPECT_EQ(kBridgePortLimit, attach_ms.size());
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(ErrorKind::kNoSpace, refusal->kind());
  EXPECT_THAT(refusal->message(), HasSubstr("1023 ports"));
  const auto median = [&](size_t from, size_t to) {
    std::vector<double> part(attach_ms.begin() + static_cast<long>(from), attach_ms.begin() + static_cast<long>(to));
    std::nth_element(part.begin(), part.begin() + static_cast<long>(part.size() / 2), part.end());
    return part[part.size() / 2];
  };
  const double first = median(0, 100);
  const double last = median(900, 1000);
  std::printf("open+reserve+attach with a port: first hundred %.3f ms, last hundred %.3f ms\n", first, last);
  EXPECT_LT(last, first * 2.5 + 1) << "the cost grows with the number of workloads";
  const auto begin = Clock::now();
  for (unsigned i = 0; i < 100; ++i) ASSERT_TRUE(manager_.detach("c" + std::to_string(i)).ok());
  std::printf("detach of one among a thousand: %.3f ms\n",
              std::chrono::duration<double, std::milli>(Clock::now() - begin).count() / 100);
  EXPECT_EQ(kBridgePortLimit + 1 - 100, manager_.repair(nobody)->endpoints_freed);
}

}  // namespace
}  // namespace hull::net
