#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "vm/network_handover.h"

namespace hull::vm {
namespace {

/// In a process with a network namespace of its own, as the supervisor has one.
void in_namespace(const std::function<void()>& body) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::unshare(CLONE_NEWNET) != 0) ::_exit(77);
    body();
    ::_exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "no network namespaces";
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

int shell(const std::string& command) { return ::system((command + " >/dev/null 2>&1").c_str()); }

/// A process in another network namespace: the host's side, where the cable's other end is.
class OtherSide {
 public:
  OtherSide() {
    int ready[2];
    EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      if (::unshare(CLONE_NEWNET) != 0 || ::write(ready[1], "g", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char byte = 0;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~OtherSide() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  OtherSide(const OtherSide&) = delete;
  OtherSide& operator=(const OtherSide&) = delete;
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

TEST(NetworkHandover, MovesTheAddressIntoTheGuest) {
  in_namespace([] {
    const OtherSide other;
    ASSERT_EQ(
        shell("ip link add eth0 type veth peer name host0 && ip link set host0 netns " + std::to_string(other.pid())),
        0);
    ASSERT_EQ(shell("ip link set eth0 address 02:11:22:33:44:55 mtu 1400 up && ip address add 10.9.0.2/24 dev eth0 && "
                    "ip address add fd00:9::2/64 dev eth0 nodad && ip route add default via 10.9.0.1 && ip route add "
                    "10.77.0.0/16 via 10.9.0.3 metric 7"),
              0);
    const auto tap = open_tap(0);
    ASSERT_TRUE(tap.ok()) << tap.error().message();
    const auto all = hand_over_network(1);
    ASSERT_TRUE(all.ok()) << all.error().message();
    const guest::proto::Interface* told = all->data();
    EXPECT_EQ(told->name(), "eth0");
    EXPECT_EQ(told->mac(), "02:11:22:33:44:55");
    EXPECT_EQ(told->mtu(), 1400u);
    ASSERT_EQ(told->addresses_size(), 2);
    EXPECT_EQ(told->addresses(0).address(), std::string("\x0a\x09\x00\x02", 4));
    EXPECT_EQ(told->addresses(0).prefix(), 24u);
    EXPECT_EQ(told->addresses(1).address().size(), 16u);
    ASSERT_EQ(told->routes_size(), 2);
    int defaults = 0;
    for (const auto& route : told->routes()) {
      if (route.prefix() == 0) {
        ++defaults;
        EXPECT_EQ(route.gateway(), std::string("\x0a\x09\x00\x01", 4));
      } else {
        EXPECT_EQ(route.metric(), 7u);
      }
    }
    EXPECT_EQ(defaults, 1);
    EXPECT_NE(shell("ip -4 address show dev eth0 | grep -q inet"), 0) << "the address stayed on the host";
    EXPECT_NE(shell("ip link show dev eth0 | grep -q 02:11:22:33:44:55"), 0) << "the MAC stayed on the host";
    EXPECT_EQ(shell("ip link show master hullbr0 | grep -q eth0"), 0);
    EXPECT_EQ(shell("ip link show master hullbr0 | grep -q hulltap0"), 0);
    EXPECT_NE(shell("ip -6 address show dev hullbr0 | grep -q inet6"), 0);
  });
}

TEST(NetworkHandover, NoInterfaceLeavesTheGuestsDown) {
  in_namespace([] {
    const auto tap = open_tap(0);
    ASSERT_TRUE(tap.ok());
    const auto told = hand_over_network(1);
    ASSERT_TRUE(told.ok()) << told.error().message();
    ASSERT_EQ(told->size(), 1u);
    EXPECT_TRUE(told->front().down());
    EXPECT_EQ(told->front().addresses_size(), 0);
  });
}

constexpr const char* kTwoLinks =
    "ip link add eth10 type veth peer name h0 && ip link add eth2 type veth peer name h1 && ip link set eth10 up && ip "
    "link set eth2 up && ip address add 10.9.2.2/24 dev eth2 && ip address add 10.9.10.2/24 dev eth10";

TEST(NetworkHandover, EachInterfaceGetsACard) {
  in_namespace([] {
    ASSERT_EQ(shell(kTwoLinks), 0);
    EXPECT_EQ(count_interfaces().value_or(0), 2u);
    const auto first = open_tap(0);
    const auto second = open_tap(1);
    const auto third = open_tap(2);
    ASSERT_TRUE(first.ok() && second.ok() && third.ok());
    const auto told = hand_over_network(3);
    ASSERT_TRUE(told.ok()) << told.error().message();
    ASSERT_EQ(told->size(), 3u);
    EXPECT_EQ((*told)[0].name(), "eth2");
    EXPECT_EQ((*told)[0].addresses(0).address(), std::string("\x0a\x09\x02\x02", 4));
    EXPECT_EQ((*told)[1].name(), "eth10");
    EXPECT_TRUE((*told)[2].down());
    EXPECT_EQ(shell("ip link show master hullbr0 | grep -q hulltap0"), 0);
    EXPECT_EQ(shell("ip link show master hullbr0 | grep -q eth2"), 0);
    EXPECT_EQ(shell("ip link show master hullbr1 | grep -q hulltap1"), 0);
    EXPECT_EQ(shell("ip link show master hullbr1 | grep -q eth10"), 0);
  });
}

TEST(NetworkHandover, RefusesMoreInterfacesThanCards) {
  in_namespace([] {
    ASSERT_EQ(shell(kTwoLinks), 0);
    const auto tap = open_tap(0);
    ASSERT_TRUE(tap.ok());
    const auto told = hand_over_network(1);
    ASSERT_FALSE(told.ok());
    EXPECT_EQ(told.error().kind(), ErrorKind::kUnsupported);
  });
}

}  // namespace
}  // namespace hull::vm
