// Machines on this host's KVM, with guests of our own (bare_guests.h).

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "sys/file.h"
#include "vmm/bare_guests.h"
#include "vmm/devices.h"
#include "vmm/elf_sample.h"
#include "vmm/machine.h"

namespace hull::vmm {
namespace {
using testing::HasSubstr;

constexpr int kTimeoutMs = 60'000;

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

TEST_F(Machines, StartWhatPvhPromises) {
  const Outcome outcome = run(config(start_guest()));
  EXPECT_EQ(outcome.reason, StopReason::kPowerOff) << outcome.detail;
  // With a console log the command line begins with console=.
  EXPECT_EQ(outcome.said, "PAc");
}

TEST_F(Machines, NothingAnswersWhereNothingIs) {
  const Outcome outcome = run(config(nothing_guest()));
  EXPECT_EQ(outcome.said, "pm") << outcome.detail;
  EXPECT_EQ(outcome.reason, StopReason::kPowerOff);
}

TEST_F(Machines, RealModeAndResetByTheKeyboardController) {
  const Outcome outcome = run(config(real_guest()));
  EXPECT_EQ(outcome.said, "RS") << outcome.detail;
  EXPECT_EQ(outcome.reason, StopReason::kReset);
}

TEST_F(Machines, LongModeWithMemoryOnBothSidesOfTheHole) {
  MachineConfig machine = config(long_guest());
  machine.memory_bytes = (3ull << 30) + (64 << 20);
  if (host_memory_bytes() < machine.memory_bytes) GTEST_SKIP() << "this host has too little memory";
  const Outcome outcome = run(machine);
  EXPECT_EQ(outcome.said, "LH") << outcome.detail;
  EXPECT_EQ(outcome.reason, StopReason::kPowerOff);
}

TEST_F(Machines, InterruptsReachHandlers) {
  const Outcome outcome = run(config(interrupts_guest()));
  EXPECT_EQ(outcome.said, "IT") << outcome.detail;
  EXPECT_EQ(outcome.reason, StopReason::kPowerOff);
}

TEST_F(Machines, ProcessorsComeUpThroughInitAndSipi) {
  for (const uint32_t vcpus : {1u, 2u, 4u, 9u}) {
    MachineConfig machine = config(processors_guest());
    machine.vcpus = vcpus;
    before_run_ = [&](Machine& made) { made.memory().guest().store(0x7ff0, vcpus - 1); };
    const Outcome outcome = run(machine);
    EXPECT_EQ(outcome.said, std::to_string(vcpus)) << outcome.detail;
    EXPECT_EQ(outcome.reason, StopReason::kPowerOff);
  }
}

TEST_F(Machines, AVirtioDeviceServesAQueue) {
  MachineConfig machine = config(virtio_guest());
  machine.rng = true;
  const Outcome outcome = run(machine);
  EXPECT_EQ(outcome.said, "Verfq") << outcome.detail;
  EXPECT_EQ(outcome.reason, StopReason::kPowerOff);
}

TEST_F(Machines, ACrashIsTold) {
  const Outcome outcome = run(config(crash_guest()));
  EXPECT_EQ(outcome.reason, StopReason::kTripleFault) << outcome.detail;
}

TEST_F(Machines, PauseHoldsEveryProcessorAndStopEndsIt) {
  MachineConfig description = config(busy_guest());
  description.vcpus = 2;
  const std::unique_ptr<Machine> machine = make(description);
  ASSERT_TRUE(machine);
  ASSERT_TRUE(machine->start().ok());
  const auto counter = [&] {
    uint32_t value = 0;
    EXPECT_TRUE(machine->memory().guest().load(0x200000, &value));
    return value;
  };
  const auto moves = [&](int tries) {
    const uint32_t before = counter();
    for (int i = 0; i < tries; ++i) {
      if (counter() != before) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  };
  EXPECT_FALSE(moves(10)) << "a machine starts paused";
  for (int i = 0; i < 5; ++i) {
    machine->resume();
    EXPECT_TRUE(moves(3000));
    machine->pause();
    EXPECT_FALSE(moves(10));
    EXPECT_TRUE(machine->stats().paused);
  }
  machine->resume();
  machine->finish();
  EXPECT_EQ(machine->stop_control().reason(), StopReason::kRequest);
}

TEST_F(Machines, TooLittleMemoryIsSaidBeforeAnythingRuns) {
  MachineConfig description = config(start_guest());
  std::ofstream(description.kernel, std::ios::binary) << samples::Shape::good(start_guest(), 0x8000000).bytes();
  const std::unique_ptr<Machine> machine = make(description);
  ASSERT_TRUE(machine);
  const Result<void> started = machine->start();
  ASSERT_FALSE(started.ok());
  EXPECT_THAT(started.error().message(), HasSubstr("too small"));
}

/// hull-vmm as a process, with the description in a file.
class Processes : public Machines {
 protected:
  pid_t launch(const MachineConfig& config, const std::string& name) {
    const std::string description = folder_ + "/" + name + ".json";
    std::ofstream(description) << to_json(config);
    const std::string program = HULL_BUILD_DIR "/bin/hull-vmm";
    const std::string log = folder_ + "/" + name + ".log";
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    std::string arguments[] = {program, "--config", description};
    char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), nullptr};
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv, environ), 0) << program;
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
};

TEST_F(Processes, ExitCodesAreAsDocumented) {
  EXPECT_EQ(WEXITSTATUS(wait(launch(config(start_guest()), "good"))), 0) << log("good");
  EXPECT_EQ(console(), "PAc");
  EXPECT_EQ(log("good"), "");
  EXPECT_EQ(WEXITSTATUS(wait(launch(config(crash_guest()), "crash"))), 7);
  EXPECT_THAT(log("crash"), HasSubstr("third fault"));
  MachineConfig bad = config(start_guest());
  bad.vcpus = 65;
  EXPECT_EQ(WEXITSTATUS(wait(launch(bad, "usage"))), 2);
  EXPECT_THAT(log("usage"), HasSubstr("vcpus"));
  bad = config(start_guest());
  bad.kernel = folder_ + "/none";
  EXPECT_EQ(WEXITSTATUS(wait(launch(bad, "kernel"))), 4);
  EXPECT_THAT(log("kernel"), HasSubstr("/none"));
}

std::string file_text(const std::string& path) {
  std::ifstream stream(path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// Until the condition holds; false after some seconds.
template <typename F>
bool eventually(F&& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

TEST_F(Processes, TheGuestsProcessHasNothingLeft) {
  MachineConfig description = config(busy_guest());
  description.rng = true;
  description.vsock_socket = folder_ + "/vsock";
  const int leaked = ::open("/etc/passwd", O_RDONLY);  // not close-on-exec
  const pid_t pid = launch(description, "jail");
  ::close(leaked);
  ASSERT_TRUE(eventually([&] { return console() == "B\n"; })) << log("jail");
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
  EXPECT_GE(confined, 3) << "main, launcher, processor";
  ::kill(pid, SIGTERM);
  EXPECT_EQ(wait(pid), 0) << log("jail");
}

TEST_F(Processes, TheControlSocketPausesAndTells) {
  MachineConfig description = config(busy_guest());
  description.api_socket = folder_ + "/api";
  const pid_t pid = launch(description, "api");
  ASSERT_TRUE(eventually([&] { return console() == "B\n"; })) << log("api");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  description.api_socket.copy(address.sun_path, description.api_socket.size());
  const auto connect = [&] {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  };
  const auto ask = [](int fd, const std::string& text) {
    EXPECT_EQ(::send(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
    char buffer[4096];
    const ssize_t got = ::recv(fd, buffer, sizeof(buffer), 0);
    return std::string(buffer, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  };
  const UniqueFd events = connect(), client = connect();
  EXPECT_THAT(ask(events.get(), "GET /events HTTP/1.1\r\n\r\n"), HasSubstr("200 OK"));
  EXPECT_THAT(ask(client.get(), "PUT /pause HTTP/1.1\r\n\r\n"), HasSubstr("204"));
  EXPECT_THAT(ask(client.get(), "GET /stats HTTP/1.1\r\n\r\n"), HasSubstr("\"paused\":true"));
  EXPECT_THAT(ask(client.get(), "PUT /resume HTTP/1.1\r\n\r\n"), HasSubstr("204"));
  EXPECT_THAT(ask(client.get(), "PUT /shutdown HTTP/1.1\r\n\r\n"), HasSubstr("204"));
  ::kill(pid, SIGTERM);
  EXPECT_EQ(wait(pid), 0) << log("api");
  std::string told;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::recv(events.get(), buffer, sizeof(buffer), 0)) > 0;) {
    told.append(buffer, static_cast<size_t>(got));
  }
  EXPECT_EQ(told,
            "{\"event\":\"paused\"}\n{\"event\":\"resumed\"}\n{\"event\":\"power-button\"}\n"
            "{\"event\":\"end\",\"detail\":\"request\"}\n");
}

TEST_F(Processes, ItEndsWithTheProcessThatStartedIt) {
  const MachineConfig description = config(busy_guest());
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    const pid_t pid = launch(description, "orphan");
    [[maybe_unused]] const ssize_t done = ::write(pipe_fds[1], &pid, sizeof(pid));
    ::pause();
    ::_exit(0);
  }
  pid_t pid = -1;
  ASSERT_EQ(::read(pipe_fds[0], &pid, sizeof(pid)), static_cast<ssize_t>(sizeof(pid)));
  ::close(pipe_fds[0]);
  ::close(pipe_fds[1]);
  ASSERT_TRUE(eventually([&] { return console() == "B\n"; })) << log("orphan");
  ::kill(parent, SIGKILL);
  wait(parent);
  EXPECT_TRUE(eventually([&] {
    return ::kill(pid, 0) != 0 || file_text("/proc/" + std::to_string(pid) + "/stat").find(") Z") != std::string::npos;
  }));
}

uint64_t available_memory() {
  const std::string text = file_text("/proc/meminfo");
  const size_t at = text.find("MemAvailable:");
  return at == std::string::npos ? 0 : std::stoull(text.substr(at + 13)) << 10;
}

TEST_F(Processes, FiftyAtOnceKilledAtRandomPointsLeaveNothing) {
  const size_t before = available_memory();
  std::mt19937 random(::getpid());
  std::vector<pid_t> pids;
  std::map<pid_t, std::string> names;
  const MachineConfig common = config(busy_guest());
  for (int i = 0; i < 50; ++i) {
    MachineConfig description = common;
    description.console_log = folder_ + "/console" + std::to_string(i);
    description.api_socket = folder_ + "/api" + std::to_string(i);
    description.vsock_socket = folder_ + "/vsock" + std::to_string(i);
    description.rng = true;
    pids.push_back(launch(description, "many" + std::to_string(i)));
    names[pids.back()] = "many" + std::to_string(i);
    // Some are killed while they are still being made, some while others start, some at the end.
    if (random() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 20'000));
    if (random() % 4 == 0) ::kill(pids[random() % pids.size()], SIGKILL);
  }
  std::shuffle(pids.begin(), pids.end(), random);
  for (const pid_t pid : pids) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    ::kill(pid, SIGKILL);
  }
  for (const pid_t pid : pids) {
    const int status = wait(pid);
    const std::string name = names.at(pid);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status << log(name);
  }
  const std::string mounts = file_text("/proc/mounts");
  EXPECT_EQ(mounts.find(folder_), std::string::npos);
  // 50 guests wrote to about 15 MiB each.
  EXPECT_TRUE(eventually([&] { return available_memory() + (400ull << 20) > before; }));
}

}  // namespace
}  // namespace hull::vmm
