#pragma once
// What tests of whole machines on this host's KVM share: a folder, descriptions, machines in this process and as
// processes of their own. Included by tests only.

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "sys/file.h"
#include "vmm/devices.h"
#include "vmm/elf_sample.h"
#include "vmm/machine.h"

namespace hull::vmm {

using testing::HasSubstr;

inline constexpr int kTimeoutMs = 60'000;

inline std::string file_text(const std::string& path) {
  std::ifstream stream(path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// Until the condition holds; false after some seconds.
template <typename F>
bool eventually(F&& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    ::poll(nullptr, 0, 10);
  }
  return false;
}

class Machines : public testing::Test {
 protected:
  void SetUp() override {
    if (::access("/dev/kvm", R_OK | W_OK) != 0) GTEST_SKIP() << "/dev/kvm is missing or not permitted";
    char folder[] = "/tmp/hull-machines.XXXXXX";
    folder_ = ::mkdtemp(folder);
  }
  void TearDown() override {
    if (!folder_.empty()) ignore_result(sys::remove_tree(folder_));
  }
  MachineConfig config(std::string_view guest) {
    MachineConfig config;
    config.memory_bytes = 64 << 20;
    config.kernel = folder_ + "/kernel";
    config.console_log = folder_ + "/console";
    config.command_line = "kernel's line";
    config.balloon = config.rng = false;
    std::ofstream(config.kernel, std::ios::binary) << samples::Shape::good(guest).bytes();
    ::unlink(config.console_log.c_str());
    return config;
  }
  struct Outcome {
    StopReason reason = StopReason::kNone;
    std::string said, detail;
  };
  std::unique_ptr<Machine> make(const MachineConfig& config) {
    Result<Kvm> kvm = Kvm::open();
    if (!kvm.ok()) {
      ADD_FAILURE() << kvm.error().message();
      return nullptr;
    }
    Result<std::unique_ptr<Machine>> machine = Machine::create(config, std::move(kvm).value());
    if (!machine.ok()) {
      ADD_FAILURE() << machine.error().message();
      return nullptr;
    }
    const Result<BalloonDevice*> added = add_virtio_devices(**machine, config);
    EXPECT_TRUE(added.ok()) << (added.ok() ? "" : added.error().message());
    return std::move(machine).value();
  }
  static bool wait_for_end(Machine& machine, int timeout_ms = kTimeoutMs) {
    pollfd end{machine.stop_fd(), POLLIN, 0};
    return ::poll(&end, 1, timeout_ms) == 1;
  }
  std::string console() const {
    std::ifstream stream(folder_ + "/console");
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  Outcome run(const MachineConfig& config) {
    const std::unique_ptr<Machine> machine = make(config);
    if (!machine) return {};
    if (const Result<void> started = machine->start(); !started.ok()) {
      ADD_FAILURE() << started.error().message();
      return {};
    }
    if (before_run_) before_run_(*machine);
    machine->resume();
    EXPECT_TRUE(wait_for_end(*machine)) << console();
    machine->finish();
    return {machine->stop_control().reason(), console(), machine->stop_control().detail()};
  }
  std::string folder_;
  std::function<void(Machine&)> before_run_;
};

/// hull-vmm as a process, with the description in a file.
class Processes : public Machines {
 protected:
  pid_t launch(const MachineConfig& config, const std::string& name) {
    const std::string description = folder_ + "/" + name + ".json";
    std::ofstream(description) << to_json(config);
    return launch_with({"--config", description}, name);
  }
  pid_t launch_with(const std::vector<std::string>& arguments, const std::string& name) {
    std::string program = HULL_BUILD_DIR "/bin/hull-vmm";
    const std::string log = folder_ + "/" + name + ".log";
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    std::vector<char*> argv{program.data()};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ), 0) << program;
    ::posix_spawn_file_actions_destroy(&actions);
    return pid;
  }
  static int wait(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return status;
  }
  std::string log(const std::string& name) const {
    std::ifstream stream(folder_ + "/" + name + ".log");
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  /// The process is jailed: nothing of the file system, no capability, namespaces of its own, and at least `threads`
  /// threads, each with a system-call filter.
  static void expect_nothing_left(pid_t pid, int threads) {
    const std::string proc = "/proc/" + std::to_string(pid);
    const std::string status = file_text(proc + "/status");
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
      EXPECT_THAT(status, HasSubstr(std::string(set) + ":\t0000000000000000"));
    }
    EXPECT_THAT(status, HasSubstr("NoNewPrivs:\t1"));
    for (const char* name : {"user", "mnt", "net", "ipc", "uts"}) {
      char mine[64] = {}, its[64] = {};
      ASSERT_GT(::readlink(("/proc/self/ns/" + std::string(name)).c_str(), mine, 63), 0);
      ASSERT_GT(::readlink((proc + "/ns/" + name).c_str(), its, 63), 0);
      EXPECT_STRNE(mine, its) << name;
    }
    DIR* root = ::opendir((proc + "/root").c_str());
    ASSERT_NE(root, nullptr);
    int entries = 0;
    while (::readdir(root) != nullptr) ++entries;
    ::closedir(root);
    EXPECT_EQ(entries, 2) << "the root has no files";
    DIR* fds = ::opendir((proc + "/fd").c_str());
    ASSERT_NE(fds, nullptr);
    while (const dirent* entry = ::readdir(fds)) {
      char target[256] = {};
      if (::readlink((proc + "/fd/" + entry->d_name).c_str(), target, 255) <= 0) continue;
      EXPECT_EQ(std::string(target).find("/etc/passwd"), std::string::npos);
      EXPECT_STRNE(target, "/dev/kvm");
    }
    ::closedir(fds);
    DIR* tasks = ::opendir((proc + "/task").c_str());
    int confined = 0;
    while (const dirent* entry = ::readdir(tasks)) {
      const std::string task = file_text(proc + "/task/" + entry->d_name + "/status");
      if (task.find("Name:\thull-") == std::string::npos) continue;  // KVM's own worker
      EXPECT_THAT(task, HasSubstr("Seccomp:\t2"));
      ++confined;
    }
    ::closedir(tasks);
    EXPECT_GE(confined, threads);
  }
};

}  // namespace hull::vmm
