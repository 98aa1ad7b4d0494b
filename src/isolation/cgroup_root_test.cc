// On this machine's real hierarchies. Every test makes its own group below /hull-test-<pid>-<n> and removes it.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include "isolation/cgroup.h"
#include "isolation/cgroup_files.h"
#include "isolation/cgroup_host.h"
#include "isolation/device_rules.h"
#include "sys/file.h"

namespace hull::isolation {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class CgroupRootTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    Result<CgroupHost> host = CgroupHost::detect();
    if (!host.ok()) GTEST_SKIP() << host.error().message();
    host_ = std::move(host).value();
    static int counter = 0;
    top_ = "hull-test-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
  }
  void TearDown() override {
    for (const pid_t child : children_) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    for (const CgroupMount& mount : host_.mounts()) {
      ::rmdir((mount.path + "/" + top_ + "/c").c_str());
      ::rmdir((mount.path + "/" + top_).c_str());
    }
  }
  Result<Cgroup> make() { return Cgroup::create(host_, {.container_id = "c", .cgroups_path = "/" + top_ + "/c"}); }
  /// A process in the group that waits for its end.
  pid_t spawn(Cgroup& group) {
    const Result<CgroupJoin> join = group.prepare_join();
    EXPECT_TRUE(join.ok());
    Result<sys::Pipe> pipe = sys::make_pipe();
    EXPECT_TRUE(pipe.ok());
    CgroupJoin plain = *join;
    EXPECT_TRUE(group.open_v2_procs(plain).ok());
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      char good = 1;
      for (int i = 0; i < plain.task_count; ++i) good &= ::write(plain.task_fds[static_cast<size_t>(i)], "0", 1) == 1;
      if (plain.v2_procs_fd >= 0) good &= ::write(plain.v2_procs_fd, "0", 1) == 1;
      (void)!::write(pipe->write_end.get(), &good, 1);
      for (;;) ::pause();
    }
    char good = 0;
    EXPECT_EQ(::read(pipe->read_end.get(), &good, 1), 1);
    EXPECT_EQ(good, 1);
    children_.push_back(child);
    return child;
  }
  void reap() {
    for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
    children_.clear();
  }
  static std::string read(const Cgroup& group, std::string_view controller, const std::string& file) {
    const Cgroup::Folder* folder = group.find(controller);
    if (folder == nullptr) return "no " + std::string(controller);
    Result<std::string> text = cgroup_files::read(*folder, file);
    return text.ok() ? std::string(cgroup_files::trimmed(*text)) : text.error().message();
  }

  CgroupHost host_;
  std::string top_;
  std::vector<pid_t> children_;
};

TEST_F(CgroupRootTest, MakesJoinsListsAndRemoves) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok()) << group.error().message();
  ASSERT_TRUE(group->apply_initial(nullptr).ok());
  const pid_t child = spawn(*group);
  Result<std::vector<pid_t>> inside = group->processes();
  ASSERT_TRUE(inside.ok());
  EXPECT_THAT(*inside, ElementsAre(child));

  Result<Cgroup> again = Cgroup::open(group->record());
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(again->record(), group->record());
  EXPECT_THAT(*again->processes(), ElementsAre(child));

  // Everything the child is in is ours.
  Result<std::string> text = sys::read_file("/proc/" + std::to_string(child) + "/cgroup");
  ASSERT_TRUE(text.ok());
  for (const std::string_view line : cgroup_files::split(*text, "\n")) {
    if (line.find("name=") != std::string_view::npos) continue;
    EXPECT_THAT(std::string(line), HasSubstr(top_ + "/c"));
  }

  Result<void> early = again->remove(std::chrono::milliseconds(20));
  ASSERT_FALSE(early.ok());
  EXPECT_EQ(early.error().kind(), ErrorKind::kConflict);

  ASSERT_TRUE(again->kill_all(SIGKILL).ok());
  reap();
  Result<void> removed = again->remove();
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  EXPECT_TRUE(group->is_gone());
  EXPECT_TRUE(again->remove().ok()) << "absent is success";
}

TEST_F(CgroupRootTest, RefusesAGroupWithProcesses) {
  Result<Cgroup> first = make();
  ASSERT_TRUE(first.ok());
  spawn(*first);
  Result<Cgroup> second = make();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::kConflict);
  ASSERT_TRUE(first->kill_all(SIGKILL).ok());
  reap();
  Result<Cgroup> third = make();
  EXPECT_TRUE(third.ok()) << "an empty one is taken over";
  EXPECT_TRUE(third->remove().ok());
}

TEST_F(CgroupRootTest, AppliesAndUpdatesLimits) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok());
  if (group->find("memory") == nullptr || group->find("memory")->version != 1) GTEST_SKIP() << "memory is not v1 here";
  oci::Resources resources;
  resources.memory = oci::MemoryResources{.limit = 64 << 20, .reservation = 32 << 20, .swap = 128 << 20};
  resources.cpu = oci::CpuResources{.shares = 512, .quota = 20000, .period = 100000};
  resources.cpu->cpus = "0";
  resources.pids_limit = 50;
  Result<void> applied = group->apply_initial(&resources);
  ASSERT_TRUE(applied.ok()) << applied.error().message();
  EXPECT_EQ(read(*group, "memory", "memory.limit_in_bytes"), std::to_string(64 << 20));
  EXPECT_EQ(read(*group, "memory", "memory.memsw.limit_in_bytes"), std::to_string(128 << 20));
  EXPECT_EQ(read(*group, "memory", "memory.soft_limit_in_bytes"), std::to_string(32 << 20));
  EXPECT_EQ(read(*group, "cpu", "cpu.shares"), "512");
  EXPECT_EQ(read(*group, "cpu", "cpu.cfs_quota_us"), "20000");
  EXPECT_EQ(read(*group, "cpuset", "cpuset.cpus"), "0");
  EXPECT_EQ(read(*group, "pids", "pids.max"), "50");

  // Up beyond the old sum, and down again: each needs its own order.
  oci::Resources up;
  up.memory = oci::MemoryResources{.limit = 256 << 20, .swap = 512 << 20};
  applied = group->apply(up);
  EXPECT_TRUE(applied.ok()) << applied.error().message();
  oci::Resources down;
  down.memory = oci::MemoryResources{.limit = 16 << 20, .swap = 16 << 20};
  applied = group->apply(down);
  EXPECT_TRUE(applied.ok()) << applied.error().message();
  EXPECT_EQ(read(*group, "memory", "memory.memsw.limit_in_bytes"), std::to_string(16 << 20));
  oci::Resources off;
  off.memory = oci::MemoryResources{.limit = -1};
  applied = group->apply(off);
  EXPECT_TRUE(applied.ok()) << applied.error().message();

  oci::Resources absurd;
  absurd.cpu = oci::CpuResources{.shares = 1};
  applied = group->apply(absurd);
  ASSERT_FALSE(applied.ok());
  EXPECT_THAT(applied.error().message(), HasSubstr("linux.resources.cpu.shares"));
  EXPECT_TRUE(group->remove().ok());
}

TEST_F(CgroupRootTest, RestrictsDevices) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok());
  if (group->find("devices") == nullptr) GTEST_SKIP() << "devices is not v1 here";
  ASSERT_TRUE(group->apply_initial(nullptr).ok());
  EXPECT_THAT(read(*group, "devices", "devices.list"), HasSubstr("c 1:3 rwm"));
  EXPECT_THAT(read(*group, "devices", "devices.list"), testing::Not(HasSubstr("a *:*")));
  const Result<CgroupJoin> join = group->prepare_join();
  ASSERT_TRUE(join.ok());
  const pid_t child = ::fork();
  if (child == 0) {
    for (int i = 0; i < join->task_count; ++i) (void)!::write(join->task_fds[static_cast<size_t>(i)], "0", 1);
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    const int kmsg = ::open("/dev/kmsg", O_RDONLY | O_CLOEXEC);
    ::_exit((null >= 0 ? 0 : 1) | (kmsg < 0 && errno == EPERM ? 0 : 2));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);

  oci::Resources update;
  update.devices = {{.allow = false, .type = "a", .access = "rwm"},
                    {.allow = true, .type = "c", .major = 1, .minor = 11, .access = "r"}};
  ASSERT_TRUE(group->apply(update).ok());
  EXPECT_THAT(read(*group, "devices", "devices.list"), HasSubstr("c 1:11 r"));
  EXPECT_TRUE(group->remove().ok());
}

TEST_F(CgroupRootTest, RestrictsDevicesByProgram) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok());
  const Cgroup::Folder* v2 = group->unified();
  if (v2 == nullptr) GTEST_SKIP() << "no v2 hierarchy here";
  const auto child_sees = [&] {
    Result<CgroupJoin> join = group->prepare_join();
    EXPECT_TRUE(join.ok());
    EXPECT_TRUE(group->open_v2_procs(*join).ok());
    const pid_t child = ::fork();
    if (child == 0) {
      (void)!::write(join->v2_procs_fd, "0", 1);
      const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
      const int zero = ::open("/dev/zero", O_RDWR | O_CLOEXEC);
      ::_exit((null >= 0 ? 1 : 0) | (zero >= 0 ? 2 : 0));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  EXPECT_EQ(child_sees(), 3);
  DevicePolicy only_null{.default_allow = false,
                         .exceptions = {{.type = 'c', .major = 1, .minor = 3, .access = kDeviceRead | kDeviceWrite}}};
  Result<void> attached = attach_device_program(*v2->dir_fd(), device_program(only_null));
  ASSERT_TRUE(attached.ok()) << attached.error().message();
  EXPECT_EQ(child_sees(), 1);
  // A second program takes the place of the first.
  only_null.exceptions[0].minor = 5;
  ASSERT_TRUE(attach_device_program(*v2->dir_fd(), device_program(only_null)).ok());
  EXPECT_EQ(child_sees(), 2);
  EXPECT_TRUE(group->remove().ok());
}

TEST_F(CgroupRootTest, FreezesAndThaws) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok());
  spawn(*group);
  EXPECT_FALSE(*group->frozen());
  Result<void> result = group->freeze();
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_TRUE(*group->frozen());
  ASSERT_TRUE(group->thaw().ok());
  EXPECT_FALSE(*group->frozen());
  ASSERT_TRUE(group->freeze().ok());
  ASSERT_TRUE(group->kill_all(SIGKILL).ok()) << "a paused container can be killed";
  reap();
  EXPECT_TRUE(group->remove().ok());
}

TEST_F(CgroupRootTest, KillsAForkBomb) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok());
  oci::Resources resources;
  resources.pids_limit = 10;
  ASSERT_TRUE(group->apply_initial(&resources).ok());
  const Result<CgroupJoin> join = group->prepare_join();
  ASSERT_TRUE(join.ok());
  Result<sys::Pipe> pipe = sys::make_pipe();
  ASSERT_TRUE(pipe.ok());
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int i = 0; i < join->task_count; ++i) (void)!::write(join->task_fds[static_cast<size_t>(i)], "0", 1);
    (void)!::write(pipe->write_end.get(), "x", 1);
    for (;;) {
      const pid_t pid = ::fork();
      if (pid == 0 && ::fork() > 0) ::_exit(0);
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {
      }
    }
  }
  children_.push_back(child);
  char joined = 0;
  ASSERT_EQ(::read(pipe->read_end.get(), &joined, 1), 1);
  ASSERT_TRUE(group->kill_all(SIGKILL).ok());
  reap();
  Result<void> removed = group->remove();
  EXPECT_TRUE(removed.ok()) << removed.error().message();
}

TEST_F(CgroupRootTest, CountsWhatIsUsed) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok());
  spawn(*group);
  Result<CgroupStats> stats = group->stats();
  ASSERT_TRUE(stats.ok()) << stats.error().message();
  EXPECT_EQ(stats->pids_current, 1U);
  EXPECT_GT(stats->memory_raw.size(), 5U);
  EXPECT_FALSE(stats->cpuset_cpus.empty());
  const std::string json = stats_json(*stats);
  EXPECT_THAT(json, HasSubstr("\"cpu\":{\"usage\":{"));
  EXPECT_THAT(json, HasSubstr("\"pids\":{\"current\":1"));
  EXPECT_EQ(*group->oom_kill_count(), 0U);
  ASSERT_TRUE(group->kill_all(SIGKILL).ok());
  reap();
  EXPECT_TRUE(group->remove().ok());
}

TEST_F(CgroupRootTest, TheUsualPlacesAreWhatMountinfoTells) {
  Result<std::vector<CgroupMount>> mounted = mounted_cgroups();
  ASSERT_TRUE(mounted.ok());
  const auto described = [](const std::vector<CgroupMount>& mounts) {
    std::map<std::string, std::vector<std::string>> out;
    for (const CgroupMount& mount : mounts) out[mount.path] = mount.controllers;
    return out;
  };
  EXPECT_EQ(described(host_.mounts()), described(*mounted));
}

TEST_F(CgroupRootTest, RelativePathsLieBelowOrBesideTheCallersOwn) {
  Result<Cgroup> group = Cgroup::create(host_, {.container_id = top_});
  ASSERT_TRUE(group.ok()) << group.error().message();
  for (const auto& [controller, path] : group->paths()) EXPECT_THAT(path, testing::EndsWith("/hull-" + top_));
  EXPECT_TRUE(group->remove().ok());
}

TEST_F(CgroupRootTest, SaysWhatTheHostLacks) {
  Result<Cgroup> group = make();
  ASSERT_TRUE(group.ok());
  if (group->find("net_cls") == nullptr) {
    Result<oci::Resources> resources = oci::parse_resources(R"({"network":{"classID":5}})");
    ASSERT_TRUE(resources.ok());
    Result<void> applied = group->apply(*resources);
    ASSERT_FALSE(applied.ok());
    EXPECT_EQ(applied.error().kind(), ErrorKind::kUnsupported);
    EXPECT_THAT(applied.error().message(), HasSubstr("linux.resources.network.classID"));
  }
  oci::Resources resources;
  resources.unified["../../cpu/x"] = "1";
  Result<void> applied = group->apply(resources);
  ASSERT_FALSE(applied.ok());
  EXPECT_TRUE(group->remove().ok());
}

}  // namespace
}  // namespace hull::isolation
