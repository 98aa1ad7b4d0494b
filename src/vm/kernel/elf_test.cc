#include "vm/kernel/elf.h"

#include <elf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "vm/kernel/test_files.h"

namespace hull::vm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(Vmlinux, PvhEntryVersionAndEnd) {
  const std::string file = make_vmlinux("6.1.0-56-cloud-amd64", true);
  const auto info = inspect_vmlinux(file + "relocations");
  ASSERT_TRUE(info.ok()) << info.error().message();
  EXPECT_EQ(info->pvh_entry, 0x1000370U);
  EXPECT_EQ(info->version, "6.1.0-56-cloud-amd64");
  EXPECT_EQ(info->end, file.size());
}

TEST(Vmlinux, WithoutPvhEntrySaysWhichKernelHasOne) {
  const auto info = inspect_vmlinux(make_vmlinux("6.1", false));
  ASSERT_FALSE(info.ok());
  EXPECT_EQ(info.error().kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(info.error().message(), HasSubstr("CONFIG_PVH"));
}

TEST(Vmlinux, RefusesOtherFiles) {
  EXPECT_FALSE(inspect_vmlinux("").ok());
  EXPECT_FALSE(inspect_vmlinux("\x7f"
                               "ELF")
                   .ok());
  EXPECT_FALSE(inspect_vmlinux(std::string(1000, 'x')).ok());
  EXPECT_FALSE(inspect_vmlinux(make_module("m", "")).ok());
  std::string arm = make_vmlinux("6.1", true);
  arm[18] = static_cast<char>(183);  // EM_AARCH64
  EXPECT_THAT(inspect_vmlinux(arm).error().message(), HasSubstr("x86-64"));
}

TEST(Vmlinux, CutShortAnywhereIsAnErrorOrHarmless) {
  const std::string file = make_vmlinux("6.1", true);
  for (size_t size = 0; size < file.size(); ++size) {
    const auto info = inspect_vmlinux(file.substr(0, size));
    if (info.ok()) {
      EXPECT_LE(info->end, size);
    }
  }
}

TEST(Vmlinux, EveryByteMayLie) {
  std::string file = make_vmlinux("6.1", true);
  for (size_t i = 0; i < file.size(); ++i) {
    for (const char value : {'\xff', '\x7f', '\x80', '\0'}) {
      const char before = std::exchange(file[i], value);
      const auto info = inspect_vmlinux(file);
      if (info.ok()) {
        EXPECT_LE(info->end, file.size()) << i;
      }
      file[i] = before;
    }
  }
}

TEST(Module, TellsWhatItDependsOn) {
  const auto info = inspect_module(
      make_module("virtio_net", std::string("depends=net_failover,virtio-ring\0softdep=pre: crc32c xxhash post: late\0"
                                            "vermagic=6.1 SMP mod_unload \0",
                                            93)));
  ASSERT_TRUE(info.ok()) << info.error().message();
  EXPECT_EQ(info->name, "virtio_net");
  EXPECT_THAT(info->depends, ElementsAre("net_failover", "virtio_ring"));
  EXPECT_THAT(info->soft, ElementsAre("crc32c", "xxhash"));
  EXPECT_THAT(info->vermagic, HasSubstr("6.1 SMP"));
  EXPECT_THAT(inspect_module(make_module("a", std::string("depends=\0", 9)))->depends, IsEmpty());
}

TEST(Module, EveryByteMayLie) {
  std::string file = make_module("virtio", std::string("depends=a,b\0", 12)) + signature(300);
  for (size_t i = 0; i < file.size(); ++i) {
    for (const char value : {'\xff', '\x7f', '\0'}) {
      const char before = std::exchange(file[i], value);
      static_cast<void>(inspect_module(file).ok());
      static_cast<void>(slim_module(file, true).ok());
      file[i] = before;
    }
  }
  for (size_t size = 0; size < file.size(); ++size) {
    static_cast<void>(inspect_module(file.substr(0, size)).ok());
    static_cast<void>(slim_module(file.substr(0, size), true).ok());
  }
}

TEST(Module, SignatureGoesOnlyWhenItMay) {
  const std::string plain = make_module("virtio", "");
  const std::string file = plain + signature(300);
  EXPECT_EQ(*slim_module(file, true), plain);
  EXPECT_EQ(*slim_module(file, false), file);
  EXPECT_EQ(*slim_module(plain, false), plain);
}

TEST(Module, ASignatureLongerThanTheModuleIsAnError) {
  std::string tail(12, '\0');
  tail[8] = '\x7f';
  EXPECT_FALSE(slim_module(make_module("a", "") + tail + "~Module signature appended~\n", true).ok());
  EXPECT_FALSE(slim_module("~Module signature appended~\n", true).ok());
}

TEST(Module, DebugSectionsGoAndTheRestStays) {
  const std::string file = make_module("virtio", std::string("depends=a\0", 10), std::string(100000, 'd'));
  const auto slim = slim_module(file, true);
  ASSERT_TRUE(slim.ok()) << slim.error().message();
  EXPECT_LT(slim->size(), 2000U);
  const auto info = inspect_module(*slim);
  ASSERT_TRUE(info.ok()) << info.error().message();
  EXPECT_EQ(info->name, "virtio");
  EXPECT_THAT(info->depends, ElementsAre("a"));
  EXPECT_EQ(*slim_module(*slim, true), *slim);
}

}  // namespace
}  // namespace hull::vm
