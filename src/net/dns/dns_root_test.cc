// hull-dns as its users meet it: real containers' namespaces, dig, getent and busybox, a server of the outside that
// also lies, and what is killed.

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <map>
#include <mutex>

#include "net/dns/keeper.h"
#include "net/dns/message.h"
#include "net/names.h"
#include "net/test_world.h"
#include "sys/process.h"

namespace hull::net::dns {
namespace {

using test::Address;

constexpr const char* kUpstream = "10.9.9.9";
constexpr int kManyRecords = 120;

/// A server of the outside, in this namespace.
class Upstream {
 public:
  Upstream() {
    Address at(kUpstream, 53);
    udp_.reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    tcp_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int one = 1;
    ::setsockopt(tcp_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    EXPECT_EQ(::bind(udp_.get(), at.get(), at.size), 0);
    EXPECT_EQ(::bind(tcp_.get(), at.get(), at.size), 0);
    EXPECT_EQ(::listen(tcp_.get(), 8), 0);
    thread_ = std::thread([this] { serve(); });
  }
  ~Upstream() {
    stop_ = true;
    thread_.join();
  }
  int asked(const std::string& name) {
    const std::lock_guard<std::mutex> guard(lock_);
    return asked_[name];
  }

 private:
  void serve() {
    while (!stop_) {
      pollfd wait[2] = {{udp_.get(), POLLIN, 0}, {tcp_.get(), POLLIN, 0}};
      if (::poll(wait, 2, 50) <= 0) continue;
      if (wait[0].revents != 0) on_udp();
      if (wait[1].revents != 0) on_tcp();
    }
  }
  void on_udp() {
    uint8_t buffer[2048];
    Address from;
    from.size = sizeof from.storage;
    const ssize_t got =
        ::recvfrom(udp_.get(), buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from.storage), &from.size);
    if (got <= 0) return;
    const auto parsed = parse_query(Bytes(buffer, static_cast<size_t>(got)));
    const std::string name = name_to_text(parsed.query.name).value_or("?");
    const auto send = [&](const Message& m) { ::sendto(udp_.get(), m.data(), m.size(), 0, from.get(), from.size); };
    if (name == "forged.test") {
      Message lie = answer(parsed.query, name, 1232);
      lie[0] ^= 0xff;
      lie.back() = 66;
      send(lie);
    }
    if (name == "dead.test") return;
    send(answer(parsed.query, name, limit_of(parsed.query, false)));
  }
  void on_tcp() {
    const UniqueFd peer(::accept(tcp_.get(), nullptr, nullptr));
    uint8_t buffer[2048];
    const ssize_t got = ::recv(peer.get(), buffer, sizeof buffer, 0);
    if (got <= 2) return;
    const auto parsed = parse_query(Bytes(buffer + 2, static_cast<size_t>(got - 2)));
    const Message m = answer(parsed.query, name_to_text(parsed.query.name).value_or("?"), kLongestMessage);
    const uint8_t size[2] = {static_cast<uint8_t>(m.size() >> 8), static_cast<uint8_t>(m.size())};
    EXPECT_EQ(::send(peer.get(), size, 2, 0), 2);
    EXPECT_EQ(::send(peer.get(), m.data(), m.size(), 0), static_cast<ssize_t>(m.size()));
  }
  Message answer(const Query& query, const std::string& name, size_t limit) {
    {
      const std::lock_guard<std::mutex> guard(lock_);
      ++asked_[name];
    }
    if (!name.ends_with(".test")) return AnswerWriter(query, Rcode::kNxDomain, false).finish(limit);
    AnswerWriter writer(query, Rcode::kOk, false);
    const int count = name == "big.test" ? kManyRecords : 1;
    for (int i = 0; i < count && query.type == kTypeA; ++i) {
      writer.add_address(IpAddress::from_v4(0xc0000207u + static_cast<uint32_t>(i)), 60);
    }
    return writer.finish(limit);
  }

  UniqueFd udp_, tcp_;
  std::atomic<bool> stop_ = false;
  std::mutex lock_;
  std::map<std::string, int> asked_;
  std::thread thread_;
};

/// A process in a network namespace of its own, as a container's first one is.
class Container {
 public:
  Container() {
    auto pipe = sys::make_pipe();
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::unshare(CLONE_NEWNET) != 0) ::_exit(1);
      const char byte = 1;
      if (::write(pipe->write_end.get(), &byte, 1) != 1) ::_exit(1);
      ::pause();
      ::_exit(0);
    }
    char byte = 0;
    EXPECT_EQ(::read(pipe->read_end.get(), &byte, 1), 1);
    netns_ = sys::open("/proc/" + std::to_string(pid_) + "/ns/net", O_RDONLY).value();
    EXPECT_EQ(test::shell(netns_.get(), "ip link set lo up && ip addr add 10.255.0.1/32 dev lo"), 0);
  }
  ~Container() { end(); }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  NamespaceHolder holder() const { return namespace_of(pid_).value(); }
  int netns() const { return netns_.get(); }
  std::string run(const std::string& command) const { return test::shell_output(netns_.get(), command + " 2>&1"); }
  std::string dig(const std::string& what) const { return run("dig +time=3 +tries=1 +short " + what + " @127.0.0.11"); }
  void forget_netns() { netns_.reset(); }

 private:
  pid_t pid_ = -1;
  UniqueFd netns_;
};

class Dns : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    // A host of our own: its network, its resolv.conf.
    ASSERT_EQ(::unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::system("ip link set lo up && ip addr add 10.9.9.9/32 dev lo"), 0);
    std::ofstream("/tmp/hull-dns-resolv.conf") << "nameserver " << kUpstream << "\n";
    ASSERT_EQ(::mount("tmpfs", "/run", "tmpfs", 0, nullptr), 0);
    ASSERT_EQ(::mount("/tmp/hull-dns-resolv.conf", "/etc/resolv.conf", nullptr, MS_BIND, nullptr), 0);
  }
  void SetUp() override {
    char path[] = "/tmp/hull-dns-XXXXXX";
    dir_ = ::mkdtemp(path);
    place_ = {dir_, HULL_BUILD_DIR "/bin/hull-dns"};
  }
  void TearDown() override {
    const std::vector<NameRecord> records = list_name_records(dir_).value();
    for (const NameRecord& left : records) {
      EXPECT_TRUE(withdraw_names(place_, left.network_id, left.workload_id).ok());
    }
    EXPECT_TRUE(soon([&] { return !serving(); })) << "it ends with the last endpoint";
    EXPECT_FALSE(sys::exists(dir_ + "/dns.worker"));
    std::filesystem::remove_all(dir_);
  }
  NameRecord record(const Container* container, std::string workload, std::vector<std::string> names,
                    const char* address, std::string network = "n1") const {
    NameRecord out;
    out.network_name = network == "n1" ? "mynet" : "other";
    out.network_id = std::move(network);
    out.workload_id = std::move(workload);
    out.names = std::move(names);
    out.addresses = {IpAddress::parse(address).value()};
    if (container != nullptr) out.holder = container->holder();
    return out;
  }
  void announce(const NameRecord& record) const {
    const auto announced = announce_names(place_, record);
    ASSERT_TRUE(announced.ok()) << announced.error().message();
  }
  template <typename F>
  static bool soon(F&& what) {
    for (int i = 0; i < 300; ++i) {
      if (what()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  bool serving() const { return !sys::FileLock::acquire(dir_ + "/dns.lock", true, false).ok(); }
  pid_t worker() const {
    const auto text = sys::read_file(dir_ + "/dns.worker");
    return text.ok() ? std::atoi(text->c_str()) : -1;
  }
  pid_t keeper() const {
    const auto text = sys::read_file("/proc/" + std::to_string(worker()) + "/stat");
    pid_t parent = -1;
    if (text.ok()) std::sscanf(text->c_str() + text->rfind(')') + 2, "%*c %d", &parent);
    return parent;
  }
  std::string dir_;
  DnsPlace place_;
};

TEST_F(Dns, NamesAliasesAndPointers) {
  const Container web, db, stranger;
  announce(record(&web, "w1", {"web", "0123456789ab", "www"}, "10.1.0.2"));
  announce(record(&db, "w2", {"db", "www"}, "10.1.0.3"));
  announce(record(&stranger, "w3", {"secret"}, "10.2.0.2", "n2"));
  EXPECT_EQ(db.dig("web"), "10.1.0.2\n");
  EXPECT_EQ(db.dig("WEB.mynet"), "10.1.0.2\n");
  EXPECT_EQ(db.dig("0123456789ab"), "10.1.0.2\n");
  EXPECT_EQ(web.dig("+tcp db"), "10.1.0.3\n");
  EXPECT_EQ(web.dig("web AAAA"), "") << "known, but not of this family";
  EXPECT_NE(web.run("dig +time=3 web AAAA @127.0.0.11").find("NOERROR"), std::string::npos);
  EXPECT_EQ(web.dig("-x 10.1.0.3"), "db.mynet.\n");
  EXPECT_EQ(web.dig("secret"), "") << "another network's";
  EXPECT_EQ(web.dig("-x 10.2.0.2"), "");
  EXPECT_EQ(web.dig("localhost"), "127.0.0.1\n");
  std::set<std::string> first;
  for (int i = 0; i < 40; ++i) {
    const std::string both = web.dig("www");
    EXPECT_EQ(both.size(), 18u);
    first.insert(both.substr(0, 8));
  }
  EXPECT_EQ(first.size(), 2u) << "in turns";
  // The programs that containers have.
  const std::string conf = dir_ + "/resolv.conf";
  std::ofstream(conf) << make_dns_resolv_conf({std::string(kResolverAddress)}, "", {});
  const std::string with_conf = "unshare -m sh -c 'mount --bind " + conf + " /etc/resolv.conf && ";
  EXPECT_EQ(web.run(with_conf + "getent ahostsv4 db | head -1'").substr(0, 8), "10.1.0.3");
  EXPECT_EQ(web.run(with_conf + "getent hosts 10.1.0.3'").find("db.mynet"), 16u);
  EXPECT_NE(web.run(with_conf + "busybox nslookup db'").find("10.1.0.3"), std::string::npos);
}

TEST_F(Dns, TheContainersOwnServerKeepsItsPort) {
  const Container own;
  announce(record(&own, "w1", {"own"}, "10.1.0.2"));
  const UniqueFd udp(test::inside(own.netns(), [] { return ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }));
  const UniqueFd tcp(test::inside(own.netns(), [] { return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }));
  Address any("0.0.0.0", 53);
  EXPECT_EQ(::bind(udp.get(), any.get(), any.size), 0);
  EXPECT_EQ(::bind(tcp.get(), any.get(), any.size), 0);
  EXPECT_EQ(::listen(tcp.get(), 1), 0);
  EXPECT_EQ(own.dig("own"), "10.1.0.2\n");
  EXPECT_EQ(own.dig("+tcp own"), "10.1.0.2\n");
}

TEST_F(Dns, TheOutside) {
  Upstream upstream;
  const Container web;
  announce(record(&web, "w1", {"web"}, "10.1.0.2"));
  EXPECT_EQ(web.dig("plain.test"), "192.0.2.7\n");
  EXPECT_EQ(web.dig("PLAIN.test"), "192.0.2.7\n");
  EXPECT_EQ(upstream.asked("plain.test"), 1) << "from the cache";
  EXPECT_EQ(web.dig("forged.test"), "192.0.2.7\n") << "what does not match is not believed";
  const std::string big = web.dig("big.test");
  EXPECT_EQ(std::count(big.begin(), big.end(), '\n'), kManyRecords) << "by TCP on both sides";
  EXPECT_NE(web.run("dig +ignore +noedns +time=3 big.test @127.0.0.11").find("flags: qr tc"), std::string::npos);
  EXPECT_NE(web.run("dig +time=3 nowhere.example @127.0.0.11").find("NXDOMAIN"), std::string::npos);
  EXPECT_NE(web.run("dig +time=3 web AXFR @127.0.0.11").find("Transfer failed"), std::string::npos);
}

TEST_F(Dns, InternalNetworksAskNobodyAndDnsFlagsSomebodyElse) {
  Upstream upstream;
  const Container inside, other;
  NameRecord internal = record(&inside, "w1", {"inside"}, "10.1.0.2");
  internal.forward = false;
  announce(internal);
  EXPECT_NE(inside.run("dig +time=3 plain.test @127.0.0.11").find("SERVFAIL"), std::string::npos);
  EXPECT_EQ(upstream.asked("plain.test"), 0);
  NameRecord flagged = record(&other, "w2", {"other"}, "10.1.0.3");
  flagged.servers = {"10.9.9.8"};
  announce(flagged);
  EXPECT_NE(other.run("dig +time=5 +tries=1 plain.test @127.0.0.11").find("SERVFAIL"), std::string::npos)
      << "nobody is there";
  EXPECT_EQ(upstream.asked("plain.test"), 0);
}

TEST_F(Dns, AMachineAsksTheGateway) {
  const UniqueFd machine = test::new_netns();
  ASSERT_EQ(test::shell(machine.get(), "ip link set lo up"), 0);
  ASSERT_EQ(
      ::system("ip link add hvd0 type veth peer name hvd1 && ip addr add 10.1.0.1/24 dev hvd0 && ip link set hvd0 up"),
      0);
  ASSERT_EQ(
      ::system(("ip link set hvd1 netns /proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(machine.get()))
                   .c_str()),
      0);
  ASSERT_EQ(test::shell(machine.get(),
                        "ip addr add 10.1.0.2/24 dev hvd1; ip addr add 10.1.0.77/24 dev hvd1; "
                        "ip link set hvd1 up"),
            0);
  const Container web;
  announce(record(&web, "w1", {"web"}, "10.1.0.3"));
  NameRecord vm = record(nullptr, "w2", {"vm"}, "10.1.0.2");
  vm.gateways = {IpAddress::parse("10.1.0.1").value()};
  announce(vm);
  EXPECT_EQ(test::shell_output(machine.get(), "dig +short +time=3 +tries=1 web @10.1.0.1 -b 10.1.0.2"), "10.1.0.3\n");
  EXPECT_EQ(web.dig("vm"), "10.1.0.2\n");
  // Not an endpoint, so not answered; neither is the host itself.
  EXPECT_NE(test::shell(machine.get(), "dig +short +time=1 +tries=1 web @10.1.0.1 -b 10.1.0.77 >/dev/null"), 0);
  EXPECT_NE(::system("dig +short +time=1 +tries=1 web @10.1.0.1 >/dev/null"), 0);
  ASSERT_EQ(::system("ip link del hvd0"), 0);
}

TEST_F(Dns, AGatewayThatSomebodyElseServesIsRefusedWithTheReason) {
  const Upstream upstream;  // has port 53 of its address
  NameRecord vm = record(nullptr, "w2", {"vm"}, "10.1.0.2");
  vm.gateways = {IpAddress::parse(kUpstream).value()};
  const auto announced = announce_names(place_, vm);
  ASSERT_FALSE(announced.ok());
  EXPECT_EQ(announced.error().kind(), ErrorKind::kConflict);
  EXPECT_NE(announced.error().message().find("another DNS server"), std::string::npos) << announced.error().message();
  EXPECT_TRUE(list_name_records(dir_)->empty());
}

TEST_F(Dns, KilledAnywhereItComesBack) {
  const Container web, db;
  announce(record(&web, "w1", {"web"}, "10.1.0.2"));
  const pid_t first = worker(), first_keeper = keeper();
  ASSERT_GT(first, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // one that lived is replaced at once
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  EXPECT_EQ(web.dig("web"), "10.1.0.2\n") << "queries wait in the sockets";
  EXPECT_TRUE(soon([&] { return worker() > 0 && worker() != first; }));
  ASSERT_EQ(::kill(keeper(), SIGKILL), 0);
  EXPECT_TRUE(soon([&] { return !serving(); }));
  EXPECT_EQ(web.dig("web"), "10.1.0.2\n") << "the worker goes on";
  announce(record(&db, "w2", {"db"}, "10.1.0.3"));
  EXPECT_NE(keeper(), first_keeper);
  EXPECT_EQ(web.dig("db"), "10.1.0.3\n");
  EXPECT_EQ(db.dig("web"), "10.1.0.2\n");
  ASSERT_EQ(::kill(keeper(), SIGKILL), 0);
  const pid_t left = worker();
  ASSERT_EQ(::kill(left, SIGKILL), 0);
  EXPECT_TRUE(soon([&] { return !serving(); }));
  EXPECT_TRUE(ensure_dns(place_).ok());
  EXPECT_EQ(web.dig("db"), "10.1.0.3\n");
}

TEST_F(Dns, AKilledKeepersWorkerEndsWithTheLastEndpoint) {
  const Container web;
  announce(record(&web, "w1", {"web"}, "10.1.0.2"));
  const pid_t left = worker();
  ASSERT_EQ(::kill(keeper(), SIGKILL), 0);
  EXPECT_TRUE(soon([&] { return !serving(); }));
  ASSERT_TRUE(withdraw_names(place_, "n1", "w1").ok());
  EXPECT_TRUE(soon([&] { return !sys::process_stat(left); }));
}

TEST_F(Dns, NoNamespaceOutlivesItsContainer) {
  const Container db;  // first: a child made later would hold the other's namespace too
  Container web;
  announce(record(&db, "w2", {"db"}, "10.1.0.3"));
  announce(record(&web, "w1", {"web"}, "10.1.0.2"));
  EXPECT_EQ(db.dig("web"), "10.1.0.2\n");
  // A pair whose other end is inside goes with the namespace.
  ASSERT_EQ(::system("ip link add hvx0 type veth peer name hvx1"), 0);
  ASSERT_EQ(
      ::system(("ip link set hvx1 netns /proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(web.netns()))
                   .c_str()),
      0);
  web.forget_netns();
  web.end();
  EXPECT_TRUE(soon([] { return ::system("ip link show hvx0 >/dev/null 2>&1") != 0; }));
  EXPECT_TRUE(soon([&] { return db.dig("web").empty(); })) << "nor its names";
}

TEST_F(Dns, ChangedAliasesCountAtOnce) {
  const Container web;
  announce(record(&web, "w1", {"web"}, "10.1.0.2"));
  announce(record(&web, "w1", {"web", "more"}, "10.1.0.2"));
  EXPECT_EQ(web.dig("more"), "10.1.0.2\n");
  announce(record(&web, "w1", {"web2"}, "10.2.0.2", "n2"));
  EXPECT_EQ(web.dig("web2"), "10.2.0.2\n");
  EXPECT_EQ(web.dig("web"), "10.1.0.2\n");
  ASSERT_TRUE(withdraw_names(place_, "n1", "w1").ok());
  EXPECT_TRUE(soon([&] { return web.dig("web").empty(); }));
  EXPECT_EQ(web.dig("web2"), "10.2.0.2\n");
}

TEST_F(Dns, TheWorkerHasNothing) {
  const Container web;
  announce(record(&web, "w1", {"web"}, "10.1.0.2"));
  const std::string proc = "/proc/" + std::to_string(worker());
  const std::string status = sys::read_file(proc + "/status").value();
  EXPECT_NE(status.find("Uid:\t65534\t65534\t65534\t65534"), std::string::npos);
  EXPECT_NE(status.find("CapPrm:\t0000000000000000"), std::string::npos);
  EXPECT_NE(status.find("NoNewPrivs:\t1"), std::string::npos);
  EXPECT_NE(status.find("Seccomp:\t2"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(std::filesystem::read_symlink(proc + "/root")));
  for (const pid_t pid : {worker(), keeper()}) {
    const std::string rollup = sys::read_file("/proc/" + std::to_string(pid) + "/smaps_rollup").value();
    const size_t at = rollup.find("Private_Dirty:");
    EXPECT_LT(std::atoi(rollup.c_str() + at + 14), 1024) << "KiB of its own";
  }
}

TEST_F(Dns, FloodsAndRubbishDoNoHarm) {
  const Container web, db;
  announce(record(&web, "w1", {"web"}, "10.1.0.2"));
  announce(record(&db, "w2", {"db"}, "10.1.0.3"));
  const pid_t before = worker();
  const UniqueFd udp(test::inside(web.netns(), [] { return ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }));
  Address server("127.0.0.11", 53);
  uint32_t seed = 1;
  for (int i = 0; i < 20'000; ++i) {
    uint8_t rubbish[64];
    for (uint8_t& byte : rubbish) byte = static_cast<uint8_t>((seed = seed * 1664525u + 1013904223u) >> 24);
    ::sendto(udp.get(), rubbish, static_cast<size_t>(i % 64), MSG_DONTWAIT, server.get(), server.size);
  }
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 200; ++i) {
    UniqueFd one(test::inside(web.netns(), [] { return ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }));
    ASSERT_EQ(::connect(one.get(), server.get(), server.size), 0);
    ::send(one.get(),
           "\xff\xff"
           "rubbish",
           9, MSG_NOSIGNAL);
    idle.push_back(std::move(one));
  }
  EXPECT_EQ(db.dig("web"), "10.1.0.2\n") << "others are not held up";
  EXPECT_EQ(db.dig("+tcp web"), "10.1.0.2\n");
  EXPECT_EQ(worker(), before);
}

TEST(HostServers, OfResolved) {
  char path[] = "/tmp/hull-dns-root-XXXXXX";
  const std::string root = ::mkdtemp(path);
  std::filesystem::create_directories(root + "/etc");
  std::ofstream(root + "/etc/resolv.conf") << "nameserver 127.0.0.53\n";
  EXPECT_EQ(host_servers(root), "127.0.0.53\n") << "without its list";
  std::filesystem::create_directories(root + "/run/systemd/resolve");
  std::ofstream(root + "/run/systemd/resolve/resolv.conf") << "nameserver 192.0.2.1\nnameserver fe80::1%lo\n";
  EXPECT_EQ(host_servers(root), "192.0.2.1\nfe80::1%1\n");
  std::filesystem::remove_all(root);
}

}  // namespace
}  // namespace hull::net::dns
