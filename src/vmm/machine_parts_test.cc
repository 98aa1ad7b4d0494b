// The small parts of a machine: bus, serial port, console log, clock, power registers, CPUID, filters.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "vmm/bus.h"
#include "vmm/cmos.h"
#include "vmm/console.h"
#include "vmm/cpuid.h"
#include "vmm/jail.h"
#include "vmm/machine_memory.h"
#include "vmm/power.h"
#include "vmm/seccomp_filter.h"
#include "vmm/serial.h"

namespace hull::vmm {
namespace {

struct Recorder : BusDevice {
  void read(uint64_t offset, std::span<std::byte> out) override {
    last = offset;
    for (std::byte& byte : out) byte = std::byte{0x5a};
  }
  void write(uint64_t offset, std::span<const std::byte>) override { last = offset; }
  uint64_t last = ~0ull;
};

uint8_t read8(BusDevice& device, uint64_t offset) {
  std::byte value{};
  device.read(offset, {&value, 1});
  return std::to_integer<uint8_t>(value);
}
void write8(BusDevice& device, uint64_t offset, uint8_t value) {
  const std::byte byte{value};
  device.write(offset, {&byte, 1});
}

TEST(Bus, FindsItsDevicesAndNothingElse) {
  Bus bus;
  Recorder one, two;
  ASSERT_TRUE(bus.add(0x100, 0x10, &one));
  ASSERT_TRUE(bus.add(0x110, 0x10, &two));
  EXPECT_FALSE(bus.add(0x10f, 2, &two));
  EXPECT_FALSE(bus.add(0xff, 2, &two));
  EXPECT_FALSE(bus.add(~0ull, 2, &two));
  std::byte bytes[4];
  bus.read(0x118, bytes);
  EXPECT_EQ(two.last, 8u);
  bus.read(0x10e, bytes);  // across two devices: nobody's
  EXPECT_EQ(one.last, ~0ull);
  EXPECT_EQ(bytes[0], std::byte{0xff});
  bus.read(~0ull - 1, bytes);
  EXPECT_EQ(bytes[3], std::byte{0xff});
}

class TemporaryFile {
 public:
  TemporaryFile() { ::close(::mkstemp(name_)); }
  ~TemporaryFile() { ::unlink(name_); }
  std::string path() const { return name_; }
  std::string text() const {
    std::ifstream stream(name_);
    return {std::istreambuf_iterator<char>(stream), {}};
  }

 private:
  char name_[32] = "/tmp/hull-vmm-test.XXXXXX";
};

TEST(ConsoleLog, KeepsTheLastLinesWithinItsBound) {
  const TemporaryFile file;
  Result<ConsoleLog> log = ConsoleLog::open(file.path(), 1000);
  ASSERT_TRUE(log.ok());
  for (int i = 0; i < 1000; ++i) {
    for (const char c : "line " + std::to_string(i) + "\n") log->put(c);
    ASSERT_LE(file.text().size(), 1000u);
  }
  EXPECT_TRUE(file.text().ends_with("line 998\nline 999\n"));
  EXPECT_GT(file.text().size(), 400u);
}

TEST(ConsoleLog, UnfinishedLinesComeOutWithFlush) {
  const TemporaryFile file;
  Result<ConsoleLog> log = ConsoleLog::open(file.path());
  ASSERT_TRUE(log.ok());
  log->put('x');
  EXPECT_EQ(file.text(), "");
  log->flush();
  EXPECT_EQ(file.text(), "x");
}

TEST(Serial, DriverFindsA16550AAndItsInterrupt) {
  const TemporaryFile file;
  Result<ConsoleLog> log = ConsoleLog::open(file.path());
  ASSERT_TRUE(log.ok());
  const UniqueFd line(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  Serial serial(std::move(*log), line.get());
  uint64_t count = 0;
  write8(serial, 2, 1);
  EXPECT_EQ(read8(serial, 2), 0xc1);
  write8(serial, 4, 0x1a);  // loop-back: request to send and output 2
  EXPECT_EQ(read8(serial, 6) & 0xf0, 0x90);
  write8(serial, 4, 0);
  EXPECT_EQ(::read(line.get(), &count, 8), -1) << "no interrupt before it is enabled";
  write8(serial, 1, 2);
  EXPECT_EQ(::read(line.get(), &count, 8), 8);
  EXPECT_EQ(read8(serial, 2), 0xc2);
  EXPECT_EQ(read8(serial, 2), 0xc1) << "reading acknowledges";
  write8(serial, 0, 'h');
  write8(serial, 0, '\n');
  EXPECT_EQ(file.text(), "h\n");
  write8(serial, 3, 0x80);  // the divisor is no text
  write8(serial, 0, 0x0c);
  EXPECT_EQ(read8(serial, 0), 0x0c);
  EXPECT_EQ(file.text(), "h\n");
}

TEST(CmosClock, SaysTheTimeInBcd) {
  const int64_t when = 1795617296;  // 2026-11-25 14:34:56 UTC, a Wednesday
  EXPECT_EQ(CmosClock::value(0x00, when), 0x56);
  EXPECT_EQ(CmosClock::value(0x02, when), 0x34);
  EXPECT_EQ(CmosClock::value(0x04, when), 0x14);
  EXPECT_EQ(CmosClock::value(0x06, when), 4);
  EXPECT_EQ(CmosClock::value(0x07, when), 0x25);
  EXPECT_EQ(CmosClock::value(0x08, when), 0x11);
  EXPECT_EQ(CmosClock::value(0x09, when), 0x26);
  EXPECT_EQ(CmosClock::value(0x32, when), 0x20);
  EXPECT_EQ(CmosClock::value(0x0a, when), 0) << "no update is in progress";
  CmosClock clock;
  write8(clock, 0, 0x8d);  // the top bit masks NMIs and is no part of the index
  EXPECT_EQ(read8(clock, 1), 0x80);
}

TEST(Power, OnlyTheRightValuesEndTheMachine) {
  Result<StopControl> stop = StopControl::create();
  ASSERT_TRUE(stop.ok());
  PowerRegisters power(&*stop);
  KeyboardController keyboard(&*stop);
  for (int value = 0; value < 256; ++value) {
    if (value != power::kPowerOffValue) write8(power, 0, static_cast<uint8_t>(value));
    write8(power, 1, static_cast<uint8_t>(value));
    if (value != power::kResetValue) write8(power, 2, static_cast<uint8_t>(value));
    if (value != 0xfe) write8(keyboard, 4, static_cast<uint8_t>(value));
    write8(keyboard, 0, static_cast<uint8_t>(value));
  }
  EXPECT_EQ(stop->reason(), StopReason::kNone);
  write8(power, 0, power::kPowerOffValue);
  EXPECT_EQ(stop->reason(), StopReason::kPowerOff);
  write8(power, 2, power::kResetValue);
  EXPECT_EQ(stop->reason(), StopReason::kPowerOff) << "the first reason stands";
}

const kvm_cpuid_entry2* find(const std::vector<kvm_cpuid_entry2>& table, uint32_t function, uint32_t index = 0) {
  for (const kvm_cpuid_entry2& entry : table) {
    if (entry.function == function && entry.index == index) return &entry;
  }
  return nullptr;
}

TEST(Cpuid, TopologyIsTheMachinesOwn) {
  const std::vector<kvm_cpuid_entry2> host{{.function = 0, .eax = 0x1f, .ecx = 0x6c65746e},
                                           {.function = 1, .ebx = 0x00100800, .ecx = ~0u, .edx = ~0u},
                                           {.function = 4, .index = 3, .eax = 0xfc1fc163},
                                           {.function = 0xb, .index = 0, .ebx = 99},
                                           {.function = 7, .ebx = ~0u, .ecx = ~0u, .edx = ~0u},
                                           {.function = 0xa, .eax = 7},
                                           {.function = 0x80000001, .ecx = ~0u},
                                           {.function = 0x80000008, .ecx = 0xf07f}};
  const auto table = guest_cpuid(host, 2, 3);
  EXPECT_EQ(find(table, 1)->ebx >> 24, 2u);
  EXPECT_EQ(find(table, 1)->ebx >> 16 & 0xff, 4u);
  EXPECT_EQ(find(table, 1)->ecx & (1u << 5 | 1u << 3), 0u) << "no VMX, no MONITOR";
  EXPECT_NE(find(table, 1)->ecx & (1u << 31), 0u) << "says that it is a guest";
  EXPECT_EQ(find(table, 4, 3)->eax >> 26, 3u);
  EXPECT_EQ(find(table, 0xb, 0)->ebx, 1u);
  EXPECT_EQ(find(table, 0xb, 1)->ebx, 3u);
  EXPECT_EQ(find(table, 0xb, 1)->eax, 2u);
  EXPECT_EQ(find(table, 0xb, 1)->edx, 2u);
  EXPECT_EQ(find(table, 0x1f, 1)->ebx, 3u);
  EXPECT_EQ(find(table, 7)->ebx & (1u << 4 | 1u << 11 | 1u << 2), 0u) << "no TSX, no SGX";
  EXPECT_EQ(find(table, 0xa), nullptr);
  EXPECT_EQ(find(table, 0x80000001)->ecx & (1u << 2), 0u) << "no SVM";
  EXPECT_EQ(find(table, 0x80000008)->ecx, 2u | 2u << 12);
  const auto single = guest_cpuid(host, 0, 1);
  EXPECT_EQ(find(single, 1)->edx & (1u << 28), 0u);
  EXPECT_EQ(find(single, 0xb, 1)->eax, 0u);
}

TEST(MachineMemory, LiesOnBothSidesOfTheHole) {
  Result<MachineMemory> memory = MachineMemory::create({.bytes = 64 << 20});
  ASSERT_TRUE(memory.ok());
  EXPECT_EQ(memory->guest().regions().size(), 1u);
  EXPECT_EQ(memory->end(), 64u << 20);
  EXPECT_TRUE(memory->guest().at(64 << 20, 1).empty());
  const Result<MachineMemory> greedy = MachineMemory::create({.bytes = 1ull << 50});
  ASSERT_FALSE(greedy.ok());
  EXPECT_EQ(greedy.error().kind(), ErrorKind::kNoSpace);
  const uint64_t big = (3ull << 30) + (256 << 20);
  if (host_memory_bytes() < big) GTEST_SKIP() << "this host has less than " << big << " bytes of memory";
  Result<MachineMemory> split = MachineMemory::create({.bytes = big});
  ASSERT_TRUE(split.ok()) << split.error().message();
  EXPECT_TRUE(split->guest().at(3ull << 30, 1).empty());
  EXPECT_TRUE(split->guest().at((3ull << 30) - 1, 2).empty()) << "no access reaches across the hole";
  EXPECT_FALSE(split->guest().at(4ull << 30, 256 << 20).empty());
  EXPECT_EQ(split->end(), (4ull << 30) + (256 << 20));
}

/// The wait status of a child that runs `body`.
template <typename F>
int in_child(F&& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

TEST(SeccompFilter, AllowsWhatIsListedAndKillsForTheRest) {
  const SyscallRule rules[] = {
      {.number = SYS_exit_group},
      {.number = SYS_getppid},
      {.number = SYS_clone3, .error = ENOSYS},
      {.number = SYS_dup, .when = SyscallRule::When::kArgumentIs, .argument = 0, .values = {1000, 1001}},
      {.number = SYS_mmap, .when = SyscallRule::When::kArgumentHasNone, .argument = 2, .values = {PROT_EXEC}},
  };
  const std::vector<sock_filter> program = assemble_filter(rules);
  const auto status_of = [&](auto&& body) {
    return in_child([&] {
      if (::syscall(SYS_prctl, 38, 1, 0, 0, 0) != 0) ::_exit(9);  // PR_SET_NO_NEW_PRIVS
      if (!install_filter(program).ok()) ::_exit(9);
      ::syscall(SYS_exit_group, body() ? 0 : 1);  // a sanitizer's own _exit asks for more
    });
  };
  EXPECT_EQ(status_of([] { return ::getppid() > 0; }), 0);
  EXPECT_EQ(status_of([] { return ::syscall(SYS_clone3, nullptr, 0) == -1 && errno == ENOSYS; }), 0);
  EXPECT_EQ(status_of([] { return ::dup(1001) == -1 && errno == EBADF; }), 0);
  EXPECT_EQ(status_of([] { return ::mmap(nullptr, 4096, PROT_READ, 0x22, -1, 0) != MAP_FAILED; }), 0);
  const auto killed = [&](auto&& body) {
    const int status = status_of(body);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
  };
  EXPECT_TRUE(killed([] { return ::dup(1002) == 0; }));
  EXPECT_TRUE(killed([] { return ::getuid() == 0; }));
  EXPECT_TRUE(killed([] { return ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, 0x22, -1, 0) != nullptr; }));
}

TEST(SeccompFilter, NoThreadOfAMachineMayOpenOrExecuteAnything) {
  for (const ThreadKind kind : {ThreadKind::kVcpu, ThreadKind::kLauncher, ThreadKind::kMain, ThreadKind::kBlock,
                                ThreadKind::kNet, ThreadKind::kVsock, ThreadKind::kOtherDevice}) {
    for (const long number : {SYS_openat, SYS_open, SYS_execve, SYS_ptrace, SYS_fork, SYS_kill, SYS_bpf, SYS_mount}) {
      const int status = in_child([&] {
        ::syscall(SYS_prctl, 38, 1, 0, 0, 0);
        confine_thread(kind);
        ::syscall(number, 0, 0, 0, 0, 0, 0);
      });
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) << number << " " << static_cast<int>(kind);
    }
  }
}

TEST(Jail, CloseKeepsOnlyWhatIsNamed) {
  const int status = in_child([] {
    const int kept = ::dup2(1, 50), other = ::dup2(1, 49), higher = ::dup2(1, 51);
    if (!close_other_descriptors({kept, 50, 1}).ok()) ::_exit(1);
    if (::fcntl(kept, F_GETFD) < 0 || ::fcntl(other, F_GETFD) >= 0 || ::fcntl(higher, F_GETFD) >= 0) ::_exit(2);
    if (::fcntl(1, F_GETFD) < 0) ::_exit(3);
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace hull::vmm
