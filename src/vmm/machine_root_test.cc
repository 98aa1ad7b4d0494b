// Machines on this host's KVM, with guests of our own (bare_guests.h).

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "vmm/bare_guests.h"
#include "vmm/elf_sample.h"
#include "vmm/layout.h"
#include "vmm/machine_fixture.h"

namespace hull::vmm {
namespace {

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

TEST_F(Machines, PersistentMemoryIsTheFileAndCannotBeWritten) {
  MachineConfig machine = config(persistent_guest());
  machine.pmem = {folder_ + "/blob"};
  std::ofstream(machine.pmem[0]) << "HULLPMEM and more";
  const Outcome outcome = run(machine);
  EXPECT_EQ(outcome.said, "DPR") << outcome.detail;
  EXPECT_EQ(outcome.reason, StopReason::kPowerOff);
  EXPECT_EQ(file_text(machine.pmem[0]), "HULLPMEM and more");
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

TEST_F(Processes, TheGuestsProcessHasNothingLeft) {
  MachineConfig description = config(busy_guest());
  description.rng = true;
  description.vsock_socket = folder_ + "/vsock";
  const int leaked = ::open("/etc/passwd", O_RDONLY);  // not close-on-exec
  const pid_t pid = launch(description, "jail");
  ::close(leaked);
  ASSERT_TRUE(eventually([&] { return console() == "B\n"; })) << log("jail");
  expect_nothing_left(pid, 3);  // main, launcher, processor
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

/// One request to a machine's control socket, with descriptors; the whole answer.
std::string ask_with(const std::string& path, const std::string& request, const std::string& body,
                     const std::vector<int>& fds = {}) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return "no connection";
  std::string text =
      request + " HTTP/1.1\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(head), fds.data(), fds.size() * sizeof(int));
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) return "not sent";
  std::string answer;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::recv(socket.get(), buffer, sizeof(buffer), 0)) > 0;) {
    answer.append(buffer, static_cast<size_t>(got));
  }
  return answer;
}

/// A description of a machine with nothing but slots, two files for disks, and questions to its control socket.
class Slots : public Processes {
 protected:
  MachineConfig description(std::string_view guest) {
    MachineConfig made = config(guest);
    made.api_socket = folder_ + "/api";
    for (const char* name : {"1", "2"}) std::ofstream(folder_ + "/disk" + name) << std::string(8192, *name);
    return made;
  }
  UniqueFd disk(const char* name, int flags = O_RDWR) const {
    return UniqueFd(::open((folder_ + "/disk" + name).c_str(), flags | O_CLOEXEC));
  }
  std::string ask(const std::string& request, const std::string& body = "", const std::vector<int>& fds = {}) const {
    return ask_with(folder_ + "/api", request, body, fds);
  }
  /// Which of the two files the process has open.
  static std::string files_of(pid_t pid) {
    std::string found;
    const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
    DIR* fds = ::opendir(folder.c_str());
    while (const dirent* entry = fds != nullptr ? ::readdir(fds) : nullptr) {
      char target[256] = {};
      if (::readlink((folder + "/" + entry->d_name).c_str(), target, 255) <= 0) continue;
      const std::string_view name(target);
      if (const size_t at = name.rfind("/disk"); at != name.npos) found += name.substr(at + 5);
    }
    if (fds != nullptr) ::closedir(fds);
    return found;
  }
};

TEST_F(Slots, ADiskComesGoesAndComesBackWhileTheGuestHasIt) {
  const pid_t pid = launch(description(late_disk_guest()), "late");
  ASSERT_TRUE(eventually([&] { return console() == "W\n"; })) << log("late");
  const std::string writable = R"({"read_only":false,"serial":"late"})";
  EXPECT_THAT(ask("PUT /disks", writable, {disk("1").get()}), HasSubstr("{\"device\":0}"));
  ASSERT_TRUE(eventually([&] { return console() == "W\n1\n"; })) << console() << log("late");
  EXPECT_THAT(ask("GET /devices"), HasSubstr(R"([{"device":0,"kind":"block","driven":true,"removed":false}])"));
  EXPECT_EQ(files_of(pid), "1");
  EXPECT_THAT(ask("DELETE /devices/0"), HasSubstr("204"));
  EXPECT_EQ(files_of(pid), "") << "it is closed when the answer comes";
  ASSERT_TRUE(eventually([&] { return console() == "W\n1\nG\n"; })) << console() << log("late");
  EXPECT_THAT(ask("DELETE /devices/0"), HasSubstr("removed before"));
  EXPECT_THAT(ask("GET /devices"), HasSubstr("\"removed\":true"));
  EXPECT_THAT(ask("PUT /disks", writable, {disk("2").get()}), HasSubstr("{\"device\":0}")) << "the same slot again";
  EXPECT_EQ(wait(pid), 0) << log("late");
  EXPECT_EQ(console(), "W\n1\nG\n2");
  EXPECT_EQ(log("late"), "");
}

TEST_F(Slots, WhatCannotBeAddedIsSaidAndTheMachineGoesOn) {
  const pid_t pid = launch(description(busy_guest()), "slots");
  ASSERT_TRUE(eventually([&] { return console() == "B\n"; })) << log("slots");
  const UniqueFd file = disk("1"), reading = disk("1", O_RDONLY), folder(::open(folder_.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd nowhere(::open("/dev/null", O_RDWR | O_CLOEXEC)), path = disk("1", O_PATH);
  const UniqueFd appending = disk("1", O_RDWR | O_APPEND), writing = disk("1", O_WRONLY);
  const std::string read_only = R"({"read_only":true})", writable = R"({"read_only":false})";
  EXPECT_THAT(ask("PUT /disks", read_only), HasSubstr("disk without a file"));
  for (const UniqueFd* fd : {&folder, &nowhere}) {
    EXPECT_THAT(ask("PUT /disks", read_only, {fd->get()}), HasSubstr("not a regular file"));
  }
  for (const UniqueFd* fd : {&path, &writing}) {
    EXPECT_THAT(ask("PUT /disks", read_only, {fd->get()}), HasSubstr("not open for reading"));
  }
  EXPECT_THAT(ask("PUT /disks", writable, {reading.get()}), HasSubstr("not open for reading and writing"));
  EXPECT_THAT(ask("PUT /disks", writable, {appending.get()}), HasSubstr("open for appending"));
  EXPECT_THAT(ask("PUT /disks", R"({"extents":["/etc/passwd"]})"), HasSubstr("pass them as descriptors"));
  EXPECT_THAT(ask("PUT /disks", R"({"kind":"x"})", {file.get()}), HasSubstr("kind"));
  EXPECT_THAT(ask("PUT /disks", "[", {file.get()}), HasSubstr("400"));
  EXPECT_THAT(ask("PUT /nets", R"({"mac":"02:42:0a:09:00:07"})"), HasSubstr("1 queue pairs and 0 taps"));
  EXPECT_THAT(ask("PUT /nets", R"({"mac":"02:42:0a:09:00:07"})", {file.get()}), HasSubstr("no tap"));
  EXPECT_THAT(ask("PUT /nets", R"({"mac":"03:42:0a:09:00:07"})", {file.get()}), HasSubstr("mac"));
  EXPECT_THAT(ask("PUT /nets", R"({"mac":"02:42:0a:09:00:07","tap_fd":0})", {file.get()}), HasSubstr("tap_fd"));
  EXPECT_THAT(ask("DELETE /devices/0"), HasSubstr("404"));
  EXPECT_EQ(files_of(pid), "") << "nothing of what was refused is kept";
  for (size_t i = 0; i < layout::kMostSlots; ++i) {
    EXPECT_THAT(ask("PUT /disks", read_only, {file.get()}), HasSubstr("{\"device\":" + std::to_string(i) + "}"));
  }
  EXPECT_THAT(ask("PUT /disks", writable, {disk("2").get()}), HasSubstr("all 8 slots of the machine have been used"));
  EXPECT_THAT(ask("DELETE /devices/8"), HasSubstr("404"));
  EXPECT_THAT(ask("DELETE /devices/-1"), HasSubstr("400"));
  EXPECT_THAT(ask("DELETE /devices/3"), HasSubstr("204")) << "a disk that no driver has taken";
  EXPECT_THAT(ask("PUT /disks", writable, {disk("2").get()}), HasSubstr("409"))
      << "one that can't be written was there";
  EXPECT_THAT(ask("PUT /disks", read_only, {disk("2").get()}), HasSubstr("{\"device\":3}"));
  EXPECT_THAT(ask("GET /stats"), HasSubstr("\"paused\":false"));
  ::kill(pid, SIGTERM);
  EXPECT_EQ(wait(pid), 0) << log("slots");
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
