#include "vm/kernel_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace hull::vm {
namespace {

using testing::HasSubstr;

class Store : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "kernels-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void add(const std::string& name) {
    const std::string folder = store_.folder() + "/" + name;
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/vmlinux") << "kernel";
    std::ofstream(folder + "/initramfs-1") << "archive";
    GuestKernel kernel;
    kernel.initramfs = folder + "/initramfs-1";
    kernel.vmlinux_bytes = 6;
    kernel.initramfs_bytes = 7;
    kernel.modules = {"virtio"};
    kernel.source = "test";
    std::ofstream(folder + "/manifest.json") << manifest_json(kernel);
  }

  std::string root_ = {};
  KernelStore store_{"/unset"};
  void open() { store_ = KernelStore(root_); }
};

TEST_F(Store, AnEmptyOneSaysHowToFillIt) {
  open();
  for (const char* name : {"", "default", "6.1"}) {
    const auto kernel = store_.find(name);
    ASSERT_FALSE(kernel.ok());
    EXPECT_EQ(kernel.error().kind(), ErrorKind::kNotFound);
    EXPECT_THAT(kernel.error().message(), HasSubstr("hull vm kernel install"));
  }
  EXPECT_TRUE(store_.list()->empty());
  EXPECT_FALSE(store_.remove("6.1").ok());
}

TEST_F(Store, FindsUsesAndRemoves) {
  open();
  add("6.1.0-9-cloud-amd64");
  add("6.1.0-56-cloud-amd64");
  EXPECT_THAT(store_.find("").error().message(), HasSubstr("hull vm kernel use"));
  ASSERT_TRUE(store_.use("6.1.0-9-cloud-amd64").ok());
  const auto kernel = store_.find("");
  ASSERT_TRUE(kernel.ok()) << kernel.error().message();
  EXPECT_EQ(kernel->name, "6.1.0-9-cloud-amd64");
  EXPECT_TRUE(kernel->is_default);
  EXPECT_EQ(kernel->initramfs, kernel->folder + "/initramfs-1");
  EXPECT_THAT(kernel->modules, testing::ElementsAre("virtio"));
  EXPECT_THAT(store_.find("6.2").error().message(), HasSubstr("installed: 6.1.0-9-cloud-amd64, 6.1.0-56-cloud-amd64"));
  const auto all = store_.list();
  ASSERT_EQ(all->size(), 2U);
  EXPECT_EQ((*all)[0].name, "6.1.0-9-cloud-amd64");

  // The newest one that is left becomes the default.
  add("6.1.0-10-cloud-amd64");
  ASSERT_TRUE(store_.remove("6.1.0-9-cloud-amd64").ok());
  EXPECT_EQ(store_.find("")->name, "6.1.0-56-cloud-amd64");
  ASSERT_TRUE(store_.remove("6.1.0-10-cloud-amd64").ok());
  ASSERT_TRUE(store_.remove("default").ok());
  EXPECT_THAT(store_.find("").error().message(), HasSubstr("hull vm kernel install"));
  EXPECT_FALSE(std::filesystem::exists(std::filesystem::symlink_status(store_.folder() + "/default")));
}

TEST_F(Store, NamesStayInside) {
  open();
  add("6.1");
  std::filesystem::create_directories(root_ + "/vm/elsewhere");
  for (const char* name : {"../elsewhere", "/etc", "..", ".", "6.1/../6.1", ".lock"}) {
    EXPECT_FALSE(store_.find(name).ok()) << name;
    EXPECT_FALSE(store_.remove(name).ok()) << name;
    EXPECT_FALSE(store_.use(name).ok()) << name;
  }
  EXPECT_TRUE(std::filesystem::exists(root_ + "/vm/elsewhere"));
}

TEST_F(Store, TellsDamagedOnes) {
  open();
  add("6.1");
  add("6.2");
  const std::string folder = store_.folder() + "/6.1";
  const auto expect_damaged = [&](const char* why) {
    const auto kernel = store_.find("6.1");
    ASSERT_FALSE(kernel.ok()) << why;
    EXPECT_EQ(kernel.error().kind(), ErrorKind::kCorrupt);
    EXPECT_THAT(kernel.error().message(), HasSubstr("hull vm kernel rm 6.1"));
    std::vector<std::string> damaged;
    EXPECT_EQ(store_.list(&damaged)->size(), 1U);
    EXPECT_THAT(damaged, testing::ElementsAre("6.1"));
  };
  std::ofstream(folder + "/vmlinux", std::ios::app) << "x";
  expect_damaged("vmlinux is longer");
  add("6.1");
  std::ofstream(folder + "/initramfs-1") << "";
  expect_damaged("initramfs is empty");
  for (const char* text : {"", "{", "[]", "{\"initramfs\":\"../../x\"}", "{\"initramfs\":\"\"}",
                           "{\"modules\":[1],\"initramfs\":\"a\"}"}) {
    std::ofstream(folder + "/manifest.json") << text;
    expect_damaged(text);
  }
  std::filesystem::remove(folder + "/manifest.json");
  expect_damaged("no manifest");
  EXPECT_TRUE(store_.remove("6.1").ok());
}

}  // namespace
}  // namespace hull::vm
