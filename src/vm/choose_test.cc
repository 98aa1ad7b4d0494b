#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vm/hypervisor.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;

class Choose : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "choose-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    programs_.vmm = "/bin/sh";
    programs_.qemu = "/usr/bin/qemu-system-x86_64";
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void file(const std::string& path, const std::string& content = "") {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << content;
  }

  std::string root_;
  Programs programs_;
};

TEST_F(Choose, WithoutKvmEmulates) {
  file("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu sse2\n");
  const HostVirtualization host = probe_host(root_);
  EXPECT_FALSE(host.kvm_device);
  EXPECT_FALSE(host.processor_helps);
  const auto choice = choose_hypervisor("auto", host, programs_);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->hypervisor->name(), "qemu");
  EXPECT_TRUE(choice->emulated);
  EXPECT_THAT(choice->reason, HasSubstr("/dev/kvm is missing and this machine's processor offers no virtualization"));
  const auto refused = choose_hypervisor("kvm", host, programs_);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(refused.error().message(), HasSubstr("--hypervisor auto or qemu"));
}

TEST_F(Choose, WithRealKvmTakesHullVmm) {
  file("/dev/kvm");
  file("/sys/module/kvm_intel/x");
  file("/proc/cpuinfo", "processor\t: 0\nvmx flags\t: x\nflags\t\t: fpu vmx sse2\n\nprocessor\t: 1\n");
  const HostVirtualization host = probe_host(root_);
  EXPECT_TRUE(host.runs_stock_kernels());
  const auto choice = choose_hypervisor("", host, programs_);
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->hypervisor->name(), "kvm");
  EXPECT_FALSE(choice->emulated);
  const auto qemu = choose_hypervisor("qemu", host, programs_);
  ASSERT_TRUE(qemu.ok());
  EXPECT_EQ(qemu->hypervisor->describe(), "QEMU on KVM");
  EXPECT_FALSE(qemu->emulated);
}

TEST_F(Choose, KvmPvmRunsNoStockKernel) {
  file("/dev/kvm");
  file("/sys/module/kvm_pvm/x");
  // "vmxnet" is no processor flag.
  file("/proc/cpuinfo", "flags\t\t: fpu vmxnet hypervisor\n");
  const HostVirtualization host = probe_host(root_);
  EXPECT_TRUE(host.kvm_allowed);
  EXPECT_TRUE(host.kvm_pvm);
  const auto choice = choose_hypervisor("auto", host, programs_);
  ASSERT_TRUE(choice.ok());
  EXPECT_TRUE(choice->emulated);
  EXPECT_THAT(choice->reason, HasSubstr("kvm_pvm"));
  const auto asked = choose_hypervisor("kvm", host, programs_);
  ASSERT_TRUE(asked.ok());
  EXPECT_EQ(asked->hypervisor->name(), "kvm");
}

TEST_F(Choose, NoPermissionIsSaid) {
  HostVirtualization host;
  host.kvm_device = true;
  host.kvm_error = "Permission denied";
  const auto choice = choose_hypervisor("auto", host, programs_);
  ASSERT_TRUE(choice.ok());
  EXPECT_THAT(choice->reason, HasSubstr("can't be opened (Permission denied)"));
}

TEST_F(Choose, WithoutQemuSaysWhatToInstall) {
  programs_.qemu.clear();
  for (const char* wanted : {"auto", "qemu"}) {
    const auto choice = choose_hypervisor(wanted, HostVirtualization{}, programs_);
    ASSERT_FALSE(choice.ok());
    EXPECT_EQ(choice.error().kind(), ErrorKind::kUnsupported);
    EXPECT_THAT(choice.error().message(), HasSubstr("qemu-system-x86"));
  }
}

TEST_F(Choose, RefusesOtherWords) {
  const auto choice = choose_hypervisor("xen", HostVirtualization{}, programs_);
  ASSERT_FALSE(choice.ok());
  EXPECT_EQ(choice.error().kind(), ErrorKind::kInvalid);
}

}  // namespace
}  // namespace hull::vm
