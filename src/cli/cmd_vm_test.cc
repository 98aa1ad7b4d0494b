#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/complete.h"
#include "cli/fake_engine.h"
#include "vm/kernel_store.h"

namespace hull::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::Session;

/// A data folder with two guest kernels.
class VmKernel : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "vm-kernel-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    ::setenv("HULL_ROOT", root_.c_str(), 1);
    std::ofstream(root_ + "/hull.toml") << "";
    ::setenv("HULL_CONFIG", (root_ + "/hull.toml").c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("HULL_ROOT");
    ::unsetenv("HULL_CONFIG");
    std::filesystem::remove_all(root_);
  }
  void add(const std::string& name) const {
    vm::GuestKernel kernel;
    const std::string folder = root_ + "/vm/kernels/" + name;
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/vmlinux") << "kernel";
    std::ofstream(folder + "/initramfs-1") << "archive";
    kernel.initramfs = folder + "/initramfs-1";
    kernel.vmlinux_bytes = 6;
    kernel.initramfs_bytes = 7;
    kernel.modules = {"virtio", "erofs"};
    kernel.source = "linux.deb";
    kernel.installed = "2026-01-02T03:04:05Z";
    std::ofstream(folder + "/manifest.json") << vm::manifest_json(kernel);
  }
  std::string root_;
};

TEST_F(VmKernel, ListsUsesAndRemoves) {
  add("6.1.0-56");
  add("6.1.0-9");
  EXPECT_EQ(Session({"vm", "kernel", "use", "6.1.0-9"}).out, "6.1.0-9\n");
  Session list({"vm", "kernel", "ls"});
  EXPECT_EQ(list.code, 0);
  EXPECT_THAT(list.out, HasSubstr("NAME       DEFAULT   SIZE"));
  EXPECT_THAT(list.out, HasSubstr("6.1.0-9    yes       6B"));
  EXPECT_FALSE(list.opened);
  EXPECT_EQ(Session({"vm", "kernel", "list", "-q"}).out, "6.1.0-9\n6.1.0-56\n");
  EXPECT_THAT(Session({"vm", "kernel", "ls", "--format", "json"}).out, HasSubstr("\"Modules\":\"virtio,erofs\""));
  EXPECT_EQ(Session({"vm", "kernel", "ls", "--format", "{{.Name}} {{.Source}}"}).out,
            "6.1.0-9 linux.deb\n6.1.0-56 linux.deb\n");
  Session removed({"vm", "kernel", "rm", "6.1.0-9", "7.0"});
  EXPECT_EQ(removed.code, 1);
  EXPECT_EQ(removed.out, "6.1.0-9\n");
  EXPECT_THAT(removed.err, HasSubstr("there is no guest kernel \"7.0\""));
  EXPECT_THAT(Session({"vm", "kernel", "ls"}).out, HasSubstr("6.1.0-56   yes"));
}

TEST_F(VmKernel, SaysWhatToDoWhenThereIsNone) {
  Session use({"vm", "kernel", "use", "6.1"});
  EXPECT_EQ(use.code, 1);
  EXPECT_THAT(use.err, HasSubstr("hull vm kernel install"));
  EXPECT_EQ(Session({"vm", "kernel", "ls", "-q"}).out, "");
}

TEST_F(VmKernel, NamesADamagedOne) {
  add("6.1");
  std::ofstream(root_ + "/vm/kernels/6.1/vmlinux") << "";
  Session list({"vm", "kernel", "ls", "-q"});
  EXPECT_EQ(list.out, "");
  EXPECT_THAT(list.err, HasSubstr("the guest kernel 6.1 is damaged"));
}

TEST_F(VmKernel, InstallWithoutItsProgramSaysSo) {
  ::setenv("HULL_LIBEXEC", root_.c_str(), 1);
  Session install({"vm", "kernel", "install", "x.deb"});
  ::unsetenv("HULL_LIBEXEC");
  EXPECT_EQ(install.code, 1);
  EXPECT_THAT(install.err, HasSubstr("the program hull-kernel is not beside hull"));
  EXPECT_EQ(Session({"vm", "kernel", "install", "a", "b"}).code, 1);
}

TEST_F(VmKernel, CompletesNames) {
  add("6.1.0-56");
  Session session({"version"});
  EXPECT_THAT(complete(*session.context, std::vector<std::string>{"vm", "kernel", "use", ""}),
              ElementsAre("6.1.0-56\tlinux.deb"));
  EXPECT_THAT(complete(*session.context, std::vector<std::string>{"vm", "ker"}),
              ElementsAre(::testing::StartsWith("kernel\t")));
  EXPECT_THAT(complete(*session.context, std::vector<std::string>{"vm", "kernel", "u"}),
              ElementsAre(::testing::StartsWith("use\t")));
}

}  // namespace
}  // namespace hull::cli
