#include "isolation/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "isolation/cgroup_systemd.h"
#include "isolation/fixture.h"

namespace hull::isolation {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

/// A pure v2 host with everything; files of a group "c/1" that a kernel would make.
class UnifiedTest : public testing::Test {
 protected:
  UnifiedTest() {
    const std::vector<std::string> controllers = {"cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"};
    host_ = CgroupHost::from_mounts({tree_.v2(controllers)}, true);
    for (const char* folder : {"unified/", "unified/c/", "unified/c/1/"}) {
      const std::string at = folder;
      tree_.file(at + "cgroup.subtree_control", "");
      tree_.file(at + "cgroup.procs", "");
      tree_.file(at + "cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma\n");
    }
    for (const char* file :
         {"memory.max", "memory.low", "memory.swap.max", "memory.high", "cpu.weight", "cpu.max.burst", "cpu.idle",
          "cpuset.cpus", "cpuset.mems", "pids.max", "io.weight", "io.max", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max",
          "rdma.max", "cgroup.freeze", "cgroup.kill"}) {
      tree_.file(std::string("unified/c/1/") + file, "");
    }
    tree_.file("unified/c/1/cpu.max", "max 100000\n");
    tree_.file("unified/c/1/memory.current", "5000\n");
  }
  Cgroup group() {
    Result<Cgroup> made = Cgroup::create(host_, {.container_id = "1", .cgroups_path = "/c/1"});
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message());
    return std::move(made).value();
  }
  std::string apply(const oci::Resources& resources) {
    Result<void> done = group().apply(resources);
    return done.ok() ? "ok" : done.error().message();
  }
  std::string read(const std::string& file) const { return tree_.read("unified/c/1/" + file); }

  CgroupFixture tree_;
  CgroupHost host_ = CgroupHost::from_mounts({}, true);
};

TEST_F(UnifiedTest, WritesEveryResource) {
  oci::Resources r;
  r.memory = oci::MemoryResources{.limit = 1000, .reservation = 500, .swap = 1500};
  r.cpu = oci::CpuResources{.shares = 1024, .quota = 5000, .burst = 100, .period = 10000, .cpus = "0-1", .mems = "0"};
  r.pids_limit = 7;
  r.block_io = oci::BlockIoResources{.weight = 500};
  r.block_io->throttle_write_iops = {{.major = 8, .minor = 16, .rate = 9}};
  r.hugepage_limits = {{.page_size = "2MB", .limit = 4096}};
  r.rdma["mlx5_1"] = {.hca_handles = 3, .hca_objects = 4};
  r.unified["memory.high"] = "900";
  ASSERT_EQ(apply(r), "ok");
  EXPECT_EQ(read("memory.max"), "1000");
  EXPECT_EQ(read("memory.low"), "500");
  EXPECT_EQ(read("memory.swap.max"), "500") << "v2 counts swap alone";
  EXPECT_EQ(read("cpu.weight"), "100");
  EXPECT_EQ(read("cpu.max"), "5000 10000");
  EXPECT_EQ(read("cpu.max.burst"), "100");
  EXPECT_EQ(read("cpuset.cpus"), "0-1");
  EXPECT_EQ(read("cpuset.mems"), "0");
  EXPECT_EQ(read("pids.max"), "7");
  EXPECT_EQ(read("io.weight"), "4950");
  EXPECT_EQ(read("io.max"), "8:16 wiops=9");
  EXPECT_EQ(read("hugetlb.2MB.max"), "4096");
  EXPECT_EQ(read("hugetlb.2MB.rsvd.max"), "4096");
  EXPECT_EQ(read("rdma.max"), "mlx5_1 hca_handle=3 hca_object=4");
  EXPECT_EQ(read("memory.high"), "900");
}

TEST_F(UnifiedTest, ZeroAndMinusOne) {
  oci::Resources r;
  r.memory = oci::MemoryResources{.limit = 0, .swap = 0, .kernel = 5};
  r.cpu = oci::CpuResources{.shares = 0, .quota = 0, .period = 0};
  ASSERT_EQ(apply(r), "ok");
  EXPECT_EQ(read("memory.max"), "");
  EXPECT_EQ(read("cpu.weight"), "");
  r.memory = oci::MemoryResources{.limit = -1};
  r.cpu = oci::CpuResources{.quota = -1};
  r.pids_limit = -1;
  ASSERT_EQ(apply(r), "ok");
  EXPECT_EQ(read("memory.max"), "max");
  EXPECT_EQ(read("memory.swap.max"), "max") << "unlimited memory takes swap along";
  EXPECT_EQ(read("cpu.max"), "max 100000");
  EXPECT_EQ(read("pids.max"), "max");
  r = {};
  r.memory = oci::MemoryResources{.limit = 1000, .swap = 1000};
  ASSERT_EQ(apply(r), "ok");
  EXPECT_EQ(read("memory.swap.max"), "0") << "no swap at all";
}

TEST_F(UnifiedTest, SwapAloneIsMeasuredAgainstTheLimitInForce) {
  tree_.file("unified/c/1/memory.max", "1000\n");
  oci::Resources r;
  r.memory = oci::MemoryResources{.swap = 1800};
  ASSERT_EQ(apply(r), "ok");
  EXPECT_EQ(read("memory.swap.max"), "800");
}

TEST_F(UnifiedTest, SaysWhatV2DoesNotHave) {
  oci::Resources r;
  r.memory = oci::MemoryResources{.swappiness = 10};
  EXPECT_THAT(apply(r), HasSubstr("linux.resources.memory.swappiness"));
  r.memory = oci::MemoryResources{.disable_oom_killer = true};
  EXPECT_THAT(apply(r), HasSubstr("disableOOMKiller"));
  r.memory = oci::MemoryResources{.swappiness = ~0ULL, .disable_oom_killer = false};
  EXPECT_EQ(apply(r), "ok") << "what Docker writes for \"as the host\"";
  r = {};
  r.cpu = oci::CpuResources{.realtime_runtime = 5};
  EXPECT_THAT(apply(r), HasSubstr("realtimeRuntime"));
  r = {};
  r.block_io = oci::BlockIoResources{.leaf_weight = 5};
  EXPECT_THAT(apply(r), HasSubstr("leafWeight"));
  r = {};
  r.network = oci::NetworkResources{.class_id = 5};
  EXPECT_THAT(apply(r), HasSubstr("linux.resources.network.classID"));
  r = {};
  r.hugepage_limits = {{.page_size = "4GB", .limit = 1}};
  EXPECT_THAT(apply(r), HasSubstr("linux.resources.hugepageLimits"));
  r.hugepage_limits = {{.page_size = "../2MB", .limit = 1}};
  EXPECT_THAT(apply(r), HasSubstr("no page size"));
  r = {};
  r.memory = oci::MemoryResources{.limit = 1000, .swap = 900};
  EXPECT_THAT(apply(r), HasSubstr("must not be below"));
  r.memory = oci::MemoryResources{.limit = 4999, .check_before_update = true};
  EXPECT_THAT(apply(r), HasSubstr("checkBeforeUpdate"));
}

TEST_F(UnifiedTest, UnifiedKeysAreFileNamesOnly) {
  for (const char* bad : {"../1/memory.max", "/etc/passwd.x", "memory", "", ".", "..", "cgroup.procs", "cgroup.kill",
                          "misc.max", "sub/memory.max"}) {
    oci::Resources r;
    r.unified[bad] = "1";
    EXPECT_THAT(apply(r), HasSubstr("linux.resources.unified.")) << bad;
  }
}

TEST_F(UnifiedTest, HandsControllersDown) {
  tree_.file("unified/c/1/cgroup.controllers", "cpu\n");
  group();
  EXPECT_EQ(tree_.read("unified/cgroup.subtree_control"), "+cpuset +io +memory +hugetlb +pids +rdma");
  EXPECT_EQ(tree_.read("unified/c/cgroup.subtree_control"), "+cpuset +io +memory +hugetlb +pids +rdma");
  EXPECT_EQ(tree_.read("unified/c/1/cgroup.subtree_control"), "") << "not in the container's own";
  oci::Resources r;
  r.pids_limit = 5;
  EXPECT_THAT(apply(r), HasSubstr("the pids controller is not handed down"));
}

TEST_F(UnifiedTest, RefusesProcessesThatAreThere) {
  tree_.file("unified/c/1/cgroup.procs", "42\n43\n");
  Result<Cgroup> made = Cgroup::create(host_, {.container_id = "1", .cgroups_path = "/c/1"});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind(), ErrorKind::kConflict);
  EXPECT_THAT(made.error().message(), HasSubstr("42"));
}

TEST_F(UnifiedTest, ListsProcessesBelow) {
  Cgroup made = group();
  tree_.file("unified/c/1/cgroup.procs", "42\n7\n0\n");
  tree_.file("unified/c/1/sub/cgroup.procs", "9\n42\n");
  EXPECT_THAT(*made.processes(), ElementsAre(7, 9, 42));
}

TEST_F(UnifiedTest, Statistics) {
  Cgroup made = group();
  tree_.file("unified/c/1/cpu.stat",
             "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 4\nthrottled_usec 6\n");
  tree_.file("unified/c/1/memory.stat", "anon 11\nfile 12\n");
  tree_.file("unified/c/1/memory.max", "max\n");
  tree_.file("unified/c/1/memory.peak", "6000\n");
  tree_.file("unified/c/1/memory.swap.current", "50\n");
  tree_.file("unified/c/1/memory.swap.max", "max\n");
  tree_.file("unified/c/1/memory.events", "low 0\nhigh 0\nmax 2\noom 1\noom_kill 3\n");
  tree_.file("unified/c/1/pids.current", "4\n");
  tree_.file("unified/c/1/pids.max", "max\n");
  tree_.file("unified/c/1/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n");
  tree_.file("unified/c/1/cpu.pressure",
             "some avg10=1.50 avg60=0.00 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.25 total=0\n");
  tree_.file("unified/c/1/cpuset.cpus.effective", "0-2\n");
  tree_.file("unified/c/1/cpuset.mems.effective", "0\n");
  tree_.file("unified/c/1/rdma.current", "mlx5_1 hca_handle=1 hca_object=2\n");
  Result<CgroupStats> stats = made.stats();
  ASSERT_TRUE(stats.ok()) << stats.error().message();
  EXPECT_EQ(stats->oom_kills, 3U);
  EXPECT_EQ(*made.oom_kill_count(), 3U);
  EXPECT_EQ(
      stats_json(*stats),
      R"({"cpu":{"usage":{"total":5000,"kernel":2000,"user":3000},"throttling":{"periods":1,"throttledPeriods":4,)"
      R"("throttledTime":6000},"psi":{"some":{"avg10":1.5,"avg60":0,"avg300":0,"total":7},"full":{"avg10":0,)"
      R"("avg60":0,"avg300":0.25,"total":0}}},"cpuset":{"cpus":[0,1,2],"mems":[0]},"memory":{"cache":12,"usage":)"
      R"({"limit":18446744073709551615,"usage":5000,"max":6000,"failcnt":2},"swap":{"limit":18446744073709551615,)"
      R"("usage":5050,"failcnt":0},"raw":{"anon":11,"file":12}},"pids":{"current":4},"blkio":{)"
      R"("ioServiceBytesRecursive":[{"major":8,"op":"Read","value":1},{"major":8,"op":"Write","value":2}],)"
      R"("ioServicedRecursive":[{"major":8,"op":"Read","value":3},{"major":8,"op":"Write","value":4}]},)"
      R"("hugetlb":{},"rdma":{"current":[{"device":"mlx5_1","hcaHandles":1,"hcaObjects":2}],"limit":[]},)"
      R"("intel_rdt":{},"network_interfaces":[]})");
}

TEST_F(UnifiedTest, FreezerFilesAndRemoval) {
  Cgroup made = group();
  tree_.file("unified/c/1/cgroup.events", "populated 0\nfrozen 1\n");
  EXPECT_TRUE(made.freeze().ok());
  EXPECT_EQ(read("cgroup.freeze"), "1");
  EXPECT_TRUE(*made.frozen());
  Result<void> stuck = made.thaw(std::chrono::milliseconds(5));
  EXPECT_FALSE(stuck.ok()) << "cgroup.events says frozen still";
  EXPECT_EQ(stuck.error().kind(), ErrorKind::kTimeout);
  EXPECT_TRUE(made.remove().ok());
  EXPECT_TRUE(made.is_gone());
}

/// v1 hierarchies beside a v2 one that has hugetlb, as on a hybrid host.
class HybridTest : public testing::Test {
 protected:
  HybridTest() {
    host_ = CgroupHost::from_mounts(
        {tree_.v1({"cpu", "cpuacct"}), tree_.v1({"cpuset"}), tree_.v1({"memory"}), tree_.v1({"devices"}),
         tree_.v1({"freezer"}), tree_.v1({"name=systemd"}), tree_.v2({"hugetlb"})},
        true);
    tree_.file("cpuset/cpuset.cpus", "0-3\n");
    tree_.file("cpuset/cpuset.mems", "0\n");
  }
  CgroupFixture tree_;
  CgroupHost host_ = CgroupHost::from_mounts({}, true);
};

TEST_F(HybridTest, LayoutAndLookup) {
  EXPECT_EQ(host_.layout(), CgroupLayout::kHybrid);
  EXPECT_EQ(host_.find("hugetlb")->version, 2);
  EXPECT_EQ(host_.find("cpuacct"), host_.find("cpu"));
  EXPECT_EQ(host_.find("io"), nullptr);
  EXPECT_EQ(CgroupHost::from_mounts({tree_.v1({"cpu"})}, true).layout(), CgroupLayout::kLegacy);
  EXPECT_EQ(CgroupHost::from_mounts({tree_.v2({"cpu"}), tree_.v1({"name=systemd"})}, true).layout(),
            CgroupLayout::kUnified);
}

TEST_F(HybridTest, AFailedCreationLeavesNothing) {
  // The kernel makes empty files with the folder; here the folder comes with them.
  for (const char* folder : {"cpuset/a/", "cpuset/a/b/"}) {
    tree_.file(std::string(folder) + "cpuset.cpus", "");
    tree_.file(std::string(folder) + "cpuset.mems", "");
  }
  ::rmdir((tree_.top() + "/cpuset/a/b").c_str());
  Result<Cgroup> made = Cgroup::create(host_, {.container_id = "b", .cgroups_path = "/x/b"});
  ASSERT_FALSE(made.ok()) << "a folder without cpuset files is no cpuset";
  // All that was made is gone again.
  EXPECT_FALSE(sys::exists(tree_.top() + "/cpu,cpuacct/x"));
  EXPECT_FALSE(sys::exists(tree_.top() + "/cpuset/x"));
}

TEST_F(HybridTest, RecordsAndPaths) {
  tree_.dir("cpuset/x/b");
  Result<Cgroup> made = Cgroup::create(host_, {.container_id = "b", .cgroups_path = "/x/../x/./b/"});
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(made->paths().at("cpuacct"), tree_.top() + "/cpu,cpuacct/x/b");
  EXPECT_EQ(made->paths().at(""), tree_.top() + "/unified/x/b");
  Result<Cgroup> opened = Cgroup::open(made->record());
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(opened->paths(), made->paths());
  EXPECT_TRUE(opened->remove().ok());
  EXPECT_TRUE(made->is_gone());
}

TEST_F(HybridTest, BadRecordsAndPathsAreRefused) {
  for (const char* bad : {"", "{", "[]", R"({"folders":[{"version":1,"mount":"/sys/fs/cgroup/cpu","path":""}]})",
                          R"({"folders":[{"version":1,"mount":"/m","path":"/a"}]})",
                          R"({"folders":[{"version":1,"mount":"/m","path":"../a"}]})",
                          R"({"folders":[{"version":1,"mount":"m","path":"a"}]})"}) {
    Result<Cgroup> opened = Cgroup::open(bad);
    EXPECT_FALSE(opened.ok()) << bad;
    EXPECT_EQ(opened.error().kind(), ErrorKind::kCorrupt) << bad;
  }
  for (const char* bad : {"/", "/..", "/./", "."}) {
    Result<Cgroup> made = Cgroup::create(host_, {.container_id = "b", .cgroups_path = bad});
    EXPECT_FALSE(made.ok()) << bad;
    EXPECT_THAT(made.error().message(), StartsWith("linux.cgroupsPath")) << bad;
  }
}

TEST_F(HybridTest, JoinBelowNeverLeavesTheGroup) {
  tree_.dir("cpuset/x/b");
  Result<Cgroup> made = Cgroup::create(host_, {.container_id = "b", .cgroups_path = "/x/b"});
  ASSERT_TRUE(made.ok());
  tree_.file("memory/tasks", "");
  for (const char* sub : {"../..", "memory:../..", "a/../../.."}) {
    EXPECT_FALSE(made->prepare_join({sub}).ok()) << sub;
  }
}

TEST(Conversions, AsOtherRuntimesConvert) {
  EXPECT_EQ(cpu_weight_of_shares(0), 0U);
  EXPECT_EQ(cpu_weight_of_shares(1), 1U);
  EXPECT_EQ(cpu_weight_of_shares(2), 1U);
  EXPECT_EQ(cpu_weight_of_shares(1024), 100U);
  EXPECT_EQ(cpu_weight_of_shares(262144), 10000U);
  EXPECT_EQ(cpu_weight_of_shares(1 << 30), 10000U);
  uint64_t last = 0;
  for (uint64_t shares = 2; shares <= 262144; shares += 97) {
    EXPECT_GE(cpu_weight_of_shares(shares), last);
    last = cpu_weight_of_shares(shares);
  }
  EXPECT_EQ(io_weight_of_blkio(0), 0U);
  EXPECT_EQ(io_weight_of_blkio(10), 1U);
  EXPECT_EQ(io_weight_of_blkio(1000), 10000U);
  EXPECT_EQ(*swap_max_of_memsw(0, 0), 0);
  EXPECT_EQ(*swap_max_of_memsw(-1, 100), -1);
  EXPECT_EQ(*swap_max_of_memsw(0, -1), -1);
  EXPECT_EQ(*swap_max_of_memsw(300, 100), 200);
  EXPECT_EQ(*swap_max_of_memsw(300, -1), 300);
  EXPECT_FALSE(swap_max_of_memsw(300, 0).ok());
  EXPECT_FALSE(swap_max_of_memsw(99, 100).ok());
}

TEST(SystemdPaths, SlicesAndUnits) {
  EXPECT_EQ(*expand_slice("a-b-c.slice"), "/a.slice/a-b.slice/a-b-c.slice");
  EXPECT_EQ(*expand_slice("-.slice"), "/");
  EXPECT_EQ(*expand_slice("system.slice"), "/system.slice");
  for (const char* bad : {"", ".slice", "a", "a/b.slice", "-a.slice", "a-.slice", "a--b.slice", "a b.slice"}) {
    EXPECT_FALSE(expand_slice(bad).ok()) << bad;
  }
  Result<SystemdNames> names = parse_systemd_path("machine.slice:libpod:abc", "x");
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(names->slice, "machine.slice");
  EXPECT_EQ(names->unit, "libpod-abc.scope");
  names = parse_systemd_path("system.slice::pod.slice", "x");
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(names->unit, "pod.slice");
  names = parse_systemd_path("", "x");
  ASSERT_TRUE(names.ok());
  EXPECT_EQ(names->unit, "hull-x.scope");
  for (const char* bad : {"/a/b", "a:b", "a.slice:b:c:d", "a.slice:b:c/d", "x:b:c"}) {
    EXPECT_FALSE(parse_systemd_path(bad, "x").ok()) << bad;
  }
  if (!sys::exists("/run/systemd/system")) {
    CgroupFixture tree;
    const CgroupHost host = CgroupHost::from_mounts({tree.v2({"cpu"})}, true);
    Result<Cgroup> made = Cgroup::create(host, {.container_id = "x", .systemd = true});
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().kind(), ErrorKind::kUnsupported);
    EXPECT_THAT(made.error().message(), HasSubstr("leave the option out"));
  }
}

}  // namespace
}  // namespace hull::isolation
