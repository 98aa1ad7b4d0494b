#include "vm/qemu.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/machine_files.h"

namespace hull::vm {
namespace {

using testing::Contains;
using testing::HasSubstr;

class Qemu : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "qemu-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    plan_.run_folder = folder_ = name;
    for (const char* file : {"kernel", "initramfs", "a", "b"})
      std::ofstream(folder_ + "/" + file) << std::string(512, 'x');
    config_.kernel = folder_ + "/kernel";
    config_.initramfs = folder_ + "/initramfs";
    config_.memory_bytes = 128 << 20;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
  vmm::MachineConfig config_;
  QemuPlan plan_;
};

TEST_F(Qemu, OneExtentIsRawAndSeveralAreOneDescriptor) {
  vmm::DiskConfig one;
  one.extents = {folder_ + "/a"};
  one.read_only = false;
  one.serial = "scratch";
  vmm::DiskConfig two;
  two.extents = {folder_ + "/a", folder_ + "/b"};
  config_.disks = {two, one};
  const auto arguments = qemu_arguments(config_, plan_);
  ASSERT_TRUE(arguments.ok()) << arguments.error().message();
  EXPECT_THAT(*arguments, Contains(HasSubstr("driver=vmdk,node-name=disk0,read-only=on")));
  EXPECT_THAT(*arguments, Contains(HasSubstr("driver=raw,node-name=disk1,read-only=off")));
  EXPECT_THAT(*arguments, Contains("virtio-blk-device,drive=disk1,werror=report,rerror=report,serial=scratch"));
  EXPECT_THAT(*sys::read_file(folder_ + "/disk0.vmdk"), HasSubstr("RW 1 FLAT \"" + folder_ + "/b\" 0"));
}

TEST_F(Qemu, ValuesCannotAddOptions) {
  EXPECT_EQ(qemu_escape("a,b,,c"), "a,,b,,,,c");
  config_.console_log = folder_ + "/log,path=/etc/passwd";
  const auto arguments = qemu_arguments(config_, plan_);
  ASSERT_TRUE(arguments.ok());
  EXPECT_THAT(*arguments, Contains(HasSubstr("log,,path=/etc/passwd,append=on")));
}

TEST_F(Qemu, EmulationGetsTheCountersSpeedAndKvmDoesNot) {
  plan_.tsc_khz = 2500000;
  const auto emulated = qemu_arguments(config_, plan_);
  EXPECT_THAT(*emulated, Contains(HasSubstr("tsc_early_khz=2500000")));
  EXPECT_THAT(*emulated, Contains("tcg,thread=multi,tb-size=192"));
  plan_.use_kvm = true;
  const auto kvm = qemu_arguments(config_, plan_);
  EXPECT_THAT(*kvm, testing::Not(Contains(HasSubstr("tsc_early_khz"))));
  EXPECT_THAT(*kvm, Contains("kvm"));
}

TEST_F(Qemu, SaysWhatItCannotHave) {
  vmm::DiskConfig disk;
  disk.extents = {folder_ + "/a"};
  config_.disks.assign(23, disk);
  const auto many = qemu_arguments(config_, plan_);
  ASSERT_FALSE(many.ok());
  EXPECT_EQ(many.error().kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(many.error().message(), HasSubstr("25 devices"));
  config_.disks.clear();
  config_.pmem = {folder_ + "/a"};
  EXPECT_FALSE(qemu_arguments(config_, plan_).ok());
  config_.pmem.clear();
  config_.api_socket = "/x";
  EXPECT_FALSE(qemu_arguments(config_, plan_).ok());
  config_.api_socket.clear();
  config_.nets.resize(1);
  config_.nets[0].limit.bytes_per_second = 1;
  EXPECT_FALSE(qemu_arguments(config_, plan_).ok());
}

TEST_F(Qemu, ChecksTheMachineBeforeStartingIt) {
  EXPECT_TRUE(check_machine(config_).ok());
  const auto fails = [&](auto change, ErrorKind kind, const char* text) {
    vmm::MachineConfig changed = config_;
    change(changed);
    const auto checked = check_machine(changed);
    ASSERT_FALSE(checked.ok()) << text;
    EXPECT_EQ(checked.error().kind(), kind) << checked.error().message();
    EXPECT_THAT(checked.error().message(), HasSubstr(text));
  };
  fails([](auto& c) { c.memory_bytes = 16 << 20; }, ErrorKind::kInvalid, "too little");
  fails([](auto& c) { c.memory_bytes = uint64_t{1} << 50; }, ErrorKind::kInvalid, "more than this machine has");
  fails([](auto& c) { c.vcpus = 0; }, ErrorKind::kInvalid, "0 virtual processors");
  fails([](auto& c) { c.vcpus = 1000; }, ErrorKind::kInvalid, "1000 virtual processors");
  fails([](auto& c) { c.kernel = "/nonexistent"; }, ErrorKind::kNotFound, "the guest kernel");
  fails([&](auto& c) { c.initramfs = folder_; }, ErrorKind::kInvalid, "regular file");
  fails([](auto& c) { c.disks.resize(1); }, ErrorKind::kInvalid, "without a file");
}

TEST_F(Qemu, InheritsTapsAndDescriptorFiles) {
  config_.nets.resize(1);
  config_.nets[0].tap_fd = 9;
  vmm::DiskConfig disk;
  disk.extents = {"/proc/self/fd/7", folder_ + "/a", "/proc/self/fd/7x", "/proc/self/fd/1"};
  config_.disks = {disk};
  EXPECT_THAT(inherited_fds(config_), testing::ElementsAre(7, 9));
}

TEST_F(Qemu, MeasuresTheCounterTheSameTwice) {
  const uint32_t first = measure_tsc_khz();
  if (first == 0) GTEST_SKIP() << "the time stamp counter does not tick evenly here";
  EXPECT_NEAR(first, measure_tsc_khz(), first * 0.005);
}

TEST_F(Qemu, LastLinesHoldNothingForATerminal) {
  std::ofstream(folder_ + "/log") << "one\ntwo\n\x1b[31mthree\x07\n\n";
  EXPECT_EQ(last_lines(folder_ + "/log", 2), "two\n[31mthree");
  EXPECT_EQ(last_lines(folder_ + "/log", 9), "one\ntwo\n[31mthree");
  EXPECT_EQ(last_lines(folder_ + "/none", 2), "");
  EXPECT_EQ(last_lines(folder_, 2), "");
}

TEST_F(Qemu, APanicIsToldWithItsLines) {
  std::ofstream(folder_ + "/console")
      << "line\n[ 1.0] Kernel panic - not syncing: Attempted to kill init!\n[ 1.1] end\n";
  Machine machine;
  machine.log = folder_ + "/none";
  const Error error = machine_failure(machine, 0, folder_ + "/console");
  EXPECT_THAT(error.message(), HasSubstr("the guest's kernel panicked"));
  EXPECT_THAT(error.message(), HasSubstr("Attempted to kill init!"));
}

}  // namespace
}  // namespace hull::vm
