// Capabilities, process attributes, namespaces, labels and resctrl groups.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "isolation/capabilities.h"
#include "isolation/fixture.h"
#include "isolation/intel_rdt.h"
#include "isolation/lsm.h"
#include "isolation/namespaces.h"
#include "isolation/process_attributes.h"

namespace hull::isolation {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Capabilities, NamesAndNumbers) {
  EXPECT_EQ(capability_number("CAP_CHOWN"), 0);
  EXPECT_EQ(capability_number("sys_admin"), CAP_SYS_ADMIN);
  EXPECT_EQ(capability_number("Cap_Net_Raw"), CAP_NET_RAW);
  EXPECT_EQ(capability_number("CAP_CHECKPOINT_RESTORE"), 40);
  for (const char* bad : {"", "CAP_", "CAP_CHOW", "CAP_CHOWNX", "ALL", "CAP_CAP_CHOWN"}) {
    EXPECT_FALSE(capability_number(bad).has_value()) << bad;
  }
  for (int i = 0; i <= 40; ++i) EXPECT_EQ(capability_number(capability_name(i)), i);
  EXPECT_EQ(capability_name(41), "");
  EXPECT_EQ(capability_name(-1), "");
  EXPECT_GE(last_capability(), 37);
  EXPECT_EQ(capability_names(kDefaultCapabilities).size(), 14U);
  EXPECT_THAT(capability_names(1ULL << CAP_MKNOD | 1), ElementsAre("CAP_CHOWN", "CAP_MKNOD"));
}

TEST(Capabilities, UnknownOnesAreListedAndAmbientNeedsTheOthers) {
  oci::Capabilities wanted;
  wanted.bounding = {"CAP_KILL", "CAP_FLY", "CAP_CHOWN"};
  wanted.permitted = {"CAP_KILL", "CAP_FLY"};
  wanted.effective = {"CAP_KILL"};
  wanted.inheritable = {"CAP_KILL"};
  wanted.ambient = {"CAP_KILL", "CAP_CHOWN"};
  const ResolvedCapabilities got = resolve_capabilities(wanted);
  EXPECT_THAT(got.ignored, ElementsAre("CAP_FLY"));
  EXPECT_EQ(got.sets.bounding, 1ULL << CAP_KILL | 1ULL << CAP_CHOWN);
  EXPECT_EQ(got.sets.ambient, 1ULL << CAP_KILL);
}

TEST(Rlimits, NumbersDoublesAndUnknown) {
  EXPECT_EQ(*rlimit_number("RLIMIT_NOFILE"), RLIMIT_NOFILE);
  EXPECT_EQ(rlimit_name(RLIMIT_RTTIME), "RLIMIT_RTTIME");
  EXPECT_FALSE(rlimit_number("NOFILE").ok());
  Result<std::vector<RlimitValue>> values = resolve_rlimits({{.type = "RLIMIT_CORE", .hard = ~0ULL, .soft = 5}});
  ASSERT_TRUE(values.ok());
  EXPECT_EQ((*values)[0].limit.rlim_max, RLIM64_INFINITY);
  EXPECT_FALSE(resolve_rlimits({{.type = "RLIMIT_CORE"}, {.type = "RLIMIT_CORE"}}).ok());
  EXPECT_FALSE(resolve_rlimits({{.type = "RLIMIT_CORE", .hard = 1, .soft = 2}}).ok());
}

TEST(Scheduler, PoliciesAndWhatTheyTake) {
  Result<SchedAttr> attr = resolve_scheduler({.policy = "SCHED_DEADLINE",
                                              .flags = {"SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"},
                                              .runtime_ns = 1,
                                              .deadline_ns = 2,
                                              .period_ns = 3});
  ASSERT_TRUE(attr.ok());
  EXPECT_EQ(attr->policy, 6U);
  EXPECT_EQ(attr->flags, 3U);
  EXPECT_EQ(attr->period_ns, 3U);
  attr = resolve_scheduler({.policy = "SCHED_BATCH", .nice = 7});
  ASSERT_TRUE(attr.ok());
  // The kernel takes the struct as it is.
  EXPECT_EQ(::syscall(SYS_sched_setattr, 0, &*attr, 0), 0) << errno;
  for (const oci::Scheduler& bad : std::vector<oci::Scheduler>{{.policy = "SCHED_FASTER"},
                                                               {.policy = "SCHED_FIFO", .priority = 0},
                                                               {.policy = "SCHED_FIFO", .priority = 100},
                                                               {.policy = "SCHED_FIFO", .nice = 1, .priority = 1},
                                                               {.policy = "SCHED_OTHER", .priority = 1},
                                                               {.policy = "SCHED_OTHER", .nice = 20},
                                                               {.policy = "SCHED_OTHER", .runtime_ns = 1},
                                                               {.policy = "SCHED_OTHER", .flags = {"X"}}}) {
    EXPECT_FALSE(resolve_scheduler(bad).ok()) << bad.policy;
  }
}

TEST(IoPriority, Values) {
  EXPECT_EQ(*resolve_io_priority({.io_class = "IOPRIO_CLASS_BE", .priority = 4}), 2 << 13 | 4);
  EXPECT_EQ(*resolve_io_priority({.io_class = "IOPRIO_CLASS_IDLE", .priority = 0}), 3 << 13);
  EXPECT_FALSE(resolve_io_priority({.io_class = "IOPRIO_CLASS_NONE", .priority = 0}).ok());
  EXPECT_FALSE(resolve_io_priority({.io_class = "IOPRIO_CLASS_RT", .priority = 8}).ok());
}

TEST(CpuLists, GoodAndBad) {
  Result<CpuMask> mask = parse_cpu_list("0-3,7, 64 ,8191", "x");
  ASSERT_TRUE(mask.ok());
  EXPECT_EQ(mask->count(), 7U);
  EXPECT_TRUE(mask->test(64));
  EXPECT_TRUE(mask->test(8191));
  EXPECT_FALSE(mask->test(4));
  for (const char* bad : {"", " ", ",", "1,", ",1", "1,,2", "3-1", "a", "1-", "-1", "0-8192", "8192", "1-2-3",
                          "0-6:2/3", "0x1", "+1", "99999999999999999999"}) {
    EXPECT_FALSE(parse_cpu_list(bad, "process.execCPUAffinity.initial").ok()) << bad;
  }
}

TEST(PersonalityAndMemoryPolicy, Values) {
  EXPECT_EQ(*resolve_personality({.domain = "LINUX32", .flags = {}}), static_cast<unsigned long>(PER_LINUX32));
  EXPECT_FALSE(resolve_personality({.domain = "LINUX", .flags = {"ADDR_NO_RANDOMIZE"}}).ok());
  EXPECT_FALSE(resolve_personality({.domain = "", .flags = {}}).ok());
  Result<MemoryPolicyValue> policy =
      resolve_memory_policy({.mode = "MPOL_BIND", .nodes = "0", .flags = {"MPOL_F_STATIC_NODES"}});
  ASSERT_TRUE(policy.ok());
  EXPECT_EQ(policy->nodemask[0], 1U);
  // The kernel agrees with mode, mask and count (ENOSYS without CONFIG_NUMA).
  const long code = ::syscall(SYS_set_mempolicy, policy->mode, policy->nodemask.data(), policy->max_node);
  EXPECT_TRUE(code == 0 || errno == ENOSYS) << errno;
  ::syscall(SYS_set_mempolicy, 0, nullptr, 0);
  EXPECT_TRUE(resolve_memory_policy({.mode = "MPOL_LOCAL", .nodes = "", .flags = {}}).ok());
  EXPECT_FALSE(resolve_memory_policy({.mode = "MPOL_LOCAL", .nodes = "0", .flags = {}}).ok());
  EXPECT_FALSE(resolve_memory_policy({.mode = "MPOL_BIND", .nodes = "", .flags = {}}).ok());
  EXPECT_FALSE(resolve_memory_policy({.mode = "MPOL_BIND", .nodes = "1024", .flags = {}}).ok());
  EXPECT_FALSE(resolve_memory_policy({.mode = "MPOL_BEST", .nodes = "0", .flags = {}}).ok());
}

TEST(Namespaces, FlagsAndTexts) {
  const NamespaceFlags flags = namespace_flags(
      {{oci::NamespaceType::kPid, ""}, {oci::NamespaceType::kNetwork, "/x"}, {oci::NamespaceType::kTime, ""}});
  EXPECT_EQ(flags.fresh, static_cast<uint64_t>(CLONE_NEWPID | CLONE_NEWTIME));
  EXPECT_EQ(flags.joined, static_cast<uint64_t>(CLONE_NEWNET));
  EXPECT_EQ(proc_name(oci::NamespaceType::kMount), "mnt");
  const std::vector<oci::IdMapping> map = {{0, 100000, 65536}, {65536, 5, 1}};
  EXPECT_EQ(id_map_text(map), "0 100000 65536\n65536 5 1\n");
  EXPECT_EQ(*map_to_host(map, 7, "x"), 100007U);
  EXPECT_EQ(*map_to_host(map, 65536, "x"), 5U);
  EXPECT_FALSE(map_to_host(map, 65537, "x").ok());
  EXPECT_EQ(*map_to_host({}, 7, "x"), 7U);
  EXPECT_EQ(time_offsets_text({{"boottime", {.secs = -5, .nanosecs = 7}}}), "boottime -5 7\n");
}

TEST(Namespaces, SysctlPathsStayBelow) {
  EXPECT_EQ(*sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
  EXPECT_EQ(*sysctl_path("net/ipv4/ip_forward"), "net/ipv4/ip_forward");
  EXPECT_EQ(*sysctl_path("net.ipv4.conf.eth0/100.rp_filter"), "net/ipv4/conf/eth0.100/rp_filter");
  EXPECT_EQ(*sysctl_path("net/ipv4/conf/eth0.100/rp_filter"), "net/ipv4/conf/eth0.100/rp_filter");
  for (const char* bad :
       {"", ".", "..", "net..ipv4", "/net", "net/", "net/../x", "net.//.x", "net.ipv4./", "a b", "a\nb"}) {
    EXPECT_FALSE(sysctl_path(bad).ok()) << bad;
  }
}

TEST(SecurityModules, WhatIsAbsentIsAnError) {
  EXPECT_TRUE(apparmor_exec("")->empty());
  EXPECT_TRUE(selinux_exec("")->empty());
  EXPECT_FALSE(apparmor_exec("a\nb").ok());
  if (!apparmor_enabled()) {
    EXPECT_TRUE(apparmor_exec("unconfined")->empty());
    Result<LabelWrite> write = apparmor_exec("docker-default");
    ASSERT_FALSE(write.ok());
    EXPECT_EQ(write.error().kind(), ErrorKind::kUnsupported);
  } else {
    EXPECT_EQ(apparmor_exec("docker-default")->value, "exec docker-default");
  }
  if (!selinux_enabled()) {
    EXPECT_EQ(selinux_exec("system_u:system_r:container_t:s0").error().kind(), ErrorKind::kUnsupported);
    EXPECT_EQ(mount_label_option("x"), "");
  } else {
    EXPECT_EQ(mount_label_option("a:b:c:s0:c1,c2"), "context=\"a:b:c:s0:c1,c2\"");
  }
}

TEST(IntelRdt, GroupsInAFixtureTree) {
  CgroupFixture tree;
  const std::string root = tree.dir("resctrl");
  tree.file("resctrl/existing/schemata", "    MB:0=100;1= 70\n    L3:0=7ff;1=01f\n");
  tree.file("resctrl/existing/tasks", "");
  oci::IntelRdt rdt{.clos_id = "existing", .schemata = {"L3:1=1f;0=7ff"}, .mem_bw_schema = "MB:1=70"};
  Result<IntelRdtGroup> group = IntelRdtGroup::create(rdt, "c1", root);
  ASSERT_TRUE(group.ok()) << group.error().message();
  EXPECT_FALSE(group->made_here());
  ASSERT_TRUE(group->join(77).ok());
  EXPECT_EQ(tree.read("resctrl/existing/tasks"), "77");
  ASSERT_TRUE(group->remove().ok());
  EXPECT_TRUE(sys::exists(root + "/existing"));

  rdt.mem_bw_schema = "MB:1=71";
  EXPECT_FALSE(IntelRdtGroup::create(rdt, "c1", root).ok()) << "an existing group must agree";
  EXPECT_EQ(IntelRdtGroup::create({.clos_id = "absent"}, "c1", root).error().kind(), ErrorKind::kNotFound);
  group = IntelRdtGroup::create({}, "c1", root);
  ASSERT_TRUE(group.ok());
  EXPECT_TRUE(group->made_here());
  EXPECT_TRUE(group->remove().ok());
  EXPECT_FALSE(sys::exists(root + "/c1"));
  for (const char* bad : {"..", "a/b", "."})
    EXPECT_FALSE(IntelRdtGroup::create({.clos_id = bad}, "c1", root).ok()) << bad;
  EXPECT_FALSE(IntelRdtGroup::create({.mem_bw_schema = "0=5"}, "c1", root).ok());
  if (!sys::exists(std::string(kResctrlRoot) + "/schemata")) {
    EXPECT_EQ(IntelRdtGroup::create({}, "c1", kResctrlRoot).error().kind(), ErrorKind::kUnsupported);
  }
}

}  // namespace
}  // namespace hull::isolation
