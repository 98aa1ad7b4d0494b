// Killed at any point, neither a command nor a monitor leaves what the next command can't put right.
#include <signal.h>
#include <sys/wait.h>

#include <thread>

#include "engine/test_instance.h"

namespace hull::engine {
namespace {

class Crash : public testing::Instance {
 protected:
  /// Every process whose command line holds the instance's folder.
  std::vector<int> processes_with(std::string_view word) {
    const auto found = capture({"/bin/sh", "-c", "grep -lsz -- '" + std::string(word) + "' /proc/[0-9]*/cmdline"});
    std::vector<int> pids;
    std::string_view rest = found->output;
    while (!rest.empty()) {
      const size_t end = rest.find('\n');
      const int pid = std::atoi(std::string(rest.substr(6)).c_str());
      if (pid > 0 && pid != ::getpid()) pids.push_back(pid);
      rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    }
    return pids;
  }
  int monitor_of(const std::string& id) {
    for (const int pid : processes_with(id)) {
      const auto name = sys::read_file("/proc/" + std::to_string(pid) + "/comm");
      if (name.ok() && name->starts_with("hull-monitor")) return pid;
    }
    return 0;
  }
  std::string leftovers() {
    return capture({"/bin/sh", "-c",
                    "cd " + root_ +
                        "; ls run/workloads run/changes run/runtime data/workloads data/holders 2>/dev/null | "
                        "grep -E '^[0-9a-f]{64}$'; find /sys/fs/cgroup -type d -path '*" +
                        settings_.cgroup_parent + "/*' 2>/dev/null"})
        ->output;
  }
};

TEST_F(Crash, AKilledMonitorIsFoundAndCleanedUp) {
  auto created = engine_->create(config_of({"sleep", "1000"}), PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  const RunState running = read_state(Paths{settings_.data_root, settings_.run_root}, created->id);
  const int monitor = monitor_of(created->id);
  ASSERT_GT(monitor, 0);
  ::kill(monitor, SIGKILL);
  ::waitpid(monitor, nullptr, 0);
  const auto details = engine_->inspect(created->id);
  ASSERT_TRUE(details.ok()) << details.error().message();
  EXPECT_EQ(details->summary.status, Status::kExited);
  EXPECT_EQ(details->summary.exit_code, 137);
  EXPECT_EQ(process_start_time(running.pid), 0U) << "the first process is still there";
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  ASSERT_TRUE(engine_->remove(created->id, true, true).ok());
  EXPECT_EQ(leftovers(), "");
}

TEST_F(Crash, AMonitorKilledWithRmIsRemovedByTheNextList) {
  Config config = config_of({"sleep", "1000"});
  config.auto_remove = true;
  auto created = engine_->create(config, PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  ::kill(monitor_of(created->id), SIGKILL);
  while (::waitpid(-1, nullptr, 0) > 0) {
  }
  EXPECT_TRUE(engine_->list({})->empty());
  EXPECT_FALSE(engine_->inspect(created->id).ok());
  EXPECT_EQ(leftovers(), "");
}

TEST_F(Crash, RemovedWhileTheMonitorOfAKilledStartIsAtWork) {
  // A runtime that takes its time; who starts is killed meanwhile, and an engine that has looked for cut-off changes
  // before (a server, or one that met the change while a child still held it) removes the workload.
  const std::string slow = root_ + "/slow-runtime";
  ASSERT_TRUE(
      sys::replace_file(slow, "#!/bin/sh\nsleep 0.7\nexec " HULL_BUILD_DIR "/bin/hull-oci \"$@\"\n", 0755).ok());
  const std::string config = root_ + "/slow.toml";
  ASSERT_TRUE(
      sys::replace_file(config, "runtime = \"" + slow + "\"\ncgroup_parent = \"" + settings_.cgroup_parent + "\"\n")
          .ok());
  auto created = engine_->create(config_of({"sleep", "1000"}), PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ::setenv("HULL_CONFIG", config.c_str(), 1);
  SpawnRequest request;
  request.argv = {HULL_BUILD_DIR "/bin/hull", "start", created->id};
  auto child = spawn(request);
  ::setenv("HULL_CONFIG", "/dev/null", 1);
  ASSERT_TRUE(child.ok()) << child.error().message();
  for (int i = 0; i < 500 && monitor_of(created->id) == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_NE(monitor_of(created->id), 0);
  ::kill(child->pid, SIGKILL);
  ::waitpid(child->pid, nullptr, 0);
  const auto removed = engine_->remove(created->id, true, true);
  EXPECT_TRUE(removed.ok()) << removed.error().message();
  for (int i = 0; i < 500 && !processes_with(created->id).empty(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(leftovers(), "");
}

TEST_F(Crash, AForegroundCommandKilledAtAnyPointLeavesNothing) {
  // The same command, killed a little later each time, until it gets through.
  const std::string program = HULL_BUILD_DIR "/bin/hull";
  int survived = 0;
  for (int round = 0; round < 120 && survived < 3; ++round) {
    SpawnRequest request;
    request.argv = {program,   "run", "--rm", "--network", "none", "--cgroup-parent", settings_.cgroup_parent,
                    "busybox", "true"};
    auto child = spawn(request);
    ASSERT_TRUE(child.ok()) << child.error().message();
    std::this_thread::sleep_for(std::chrono::microseconds(2500 * round));
    ::kill(child->pid, SIGKILL);
    int status = 0;
    ::waitpid(child->pid, &status, 0);
    if (WIFEXITED(status)) ++survived;
  }
  // Monitors that were still at it end by themselves or are ended by the next command.
  ListFilter all;
  all.all = true;
  std::string left;
  for (int attempt = 0; attempt < 100; ++attempt) {
    reopen();
    const auto list = engine_->list(all);
    ASSERT_TRUE(list.ok()) << list.error().message();
    bool running = !processes_with(root_).empty();
    for (const auto& one : *list) {
      if (one.status == Status::kRunning)
        running = true;
      else
        ignore_result(engine_->remove(one.id, true, true));  // made and never started
    }
    left = leftovers();
    if (!running && left.empty()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(left, "");
  EXPECT_GT(survived, 0);
}

}  // namespace
}  // namespace hull::engine
