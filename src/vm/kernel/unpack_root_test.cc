// hull-vmm with a compressed kernel: small guests of our own on this host's KVM.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>

#include "vm/kernel/decompress.h"
#include "vm/kernel/test_files.h"
#include "vmm/bare_guests.h"
#include "vmm/elf_sample.h"
#include "vmm/machine_fixture.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class CompressedKernel : public vmm::Processes {
 protected:
  void SetUp() override {
    Processes::SetUp();
    ::setenv("HULL_ROOT", (folder_ + "/data").c_str(), 1);
    ::setenv("HULL_LIBEXEC", HULL_BUILD_DIR "/bin", 1);
  }
  void TearDown() override {
    ::unsetenv("HULL_ROOT");
    Processes::TearDown();
  }
  /// The exit code of a machine with this kernel.
  int start(const std::string& kernel) {
    vmm::MachineConfig machine = config("");
    std::ofstream(machine.kernel, std::ios::binary) << kernel;
    return WEXITSTATUS(wait(launch(machine, "machine")));
  }
  static std::string image(std::string_view guest) {
    const std::string vmlinux = vmm::samples::Shape::good(guest).bytes();
    return make_bzimage("6.1", *compress_zstd(vmlinux, 1), static_cast<uint32_t>(vmlinux.size()));
  }
};

TEST_F(CompressedKernel, IsUnpackedOnceAndStarts) {
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(start(image(start_guest())), 0) << log("machine");
    EXPECT_EQ(console(), "PAc");
    EXPECT_EQ(log("machine"), "");
  }
  size_t kept = 0;
  for (const auto& entry : fs::directory_iterator(folder_ + "/data/unpacked-kernels")) {
    kept += entry.path().filename() != ".lock";
  }
  EXPECT_EQ(kept, 1u);
}

TEST_F(CompressedKernel, WhatIsWrongWithItIsSaid) {
  const std::string good = image(start_guest());
  EXPECT_EQ(start(good.substr(0, good.size() - 100)), 4);
  EXPECT_THAT(log("machine"), HasSubstr("bzImage that can't be unpacked: a damaged kernel image"));
  std::string unknown = good;
  unknown.replace(512 * 5 + 64, 4, "\x01\x02\x03\x04");
  EXPECT_EQ(start(unknown), 4);
  EXPECT_THAT(log("machine"), HasSubstr("in no known compression"));
  const std::string zeroes(32 << 20, '\0');
  EXPECT_EQ(start(make_bzimage("6.1", *compress_zstd(zeroes, 1), 1 << 20)), 4);
  EXPECT_THAT(log("machine"), HasSubstr("more than 1048576 bytes"));
  ::setenv("HULL_LIBEXEC", folder_.c_str(), 1);
  EXPECT_EQ(start(good), 4);
  EXPECT_THAT(log("machine"), HasSubstr("hull-kernel, which unpacks those, is not there"));
}

}  // namespace
}  // namespace hull::vm
