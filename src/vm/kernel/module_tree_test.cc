#include "vm/kernel/module_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vm/kernel/decompress.h"
#include "vm/kernel/test_files.h"

namespace hull::vm {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Modules : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "modules-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& path, const std::string& content) const {
    std::filesystem::create_directories(std::filesystem::path(folder_ + "/" + path).parent_path());
    std::ofstream(folder_ + "/" + path) << content;
  }
  void module(const std::string& path, const std::string& name, const std::string& depends,
              const std::string& version = "6.1") const {
    const std::string info = "depends=" + depends + '\0' + "vermagic=" + version + " SMP" + '\0';
    write(path, make_module(name, info));
  }
  std::string folder_;
};

std::vector<std::string> names(const Selection& selection) {
  std::vector<std::string> out;
  for (const GuestModule& one : selection.modules) out.push_back(one.name);
  return out;
}

TEST_F(Modules, ComeAfterWhatTheyDependOn) {
  module("kernel/drivers/virtio/virtio_ring.ko", "virtio_ring", "");
  module("kernel/drivers/virtio/virtio.ko", "virtio", "virtio_ring");
  module("kernel/drivers/net/virtio-net.ko", "virtio_net", "virtio,failover");
  module("kernel/net/failover.ko", "failover", "");
  module("kernel/unrelated.ko", "unrelated", "");
  write("modules.builtin", "kernel/fs/ext4/ext4.ko\nkernel/lib/crc32c.ko\n");
  const auto tree = ModuleTree::open(folder_);
  ASSERT_TRUE(tree.ok()) << tree.error().message();
  const WantedModule wanted[] = {
      {"virtio_net", true, 1, "x"}, {"virtio", true, 0, "x"}, {"ext4", true, 2, "x"}, {"virtio_rng", false, 4, "x"}};
  const auto selection = select_modules(*tree, wanted, "6.1", true);
  ASSERT_TRUE(selection.ok()) << selection.error().message();
  EXPECT_THAT(names(*selection), ElementsAre("virtio_ring", "virtio", "failover", "virtio_net"));
  // What virtio itself needs is always loaded, the rest with a network device only.
  EXPECT_EQ(selection->modules[0].devices, "");
  EXPECT_EQ(selection->modules[1].devices, "");
  EXPECT_EQ(selection->modules[2].devices, "1");
  EXPECT_EQ(selection->modules[3].devices, "1");
  EXPECT_THAT(selection->builtin, ElementsAre("ext4"));
  EXPECT_THAT(selection->missing, ElementsAre("virtio_rng"));
}

TEST_F(Modules, ReadsCompressedOnes) {
  const std::string plain = make_module("virtio", std::string("depends=\0vermagic=6.1 \0", 23));
  write("virtio.ko.zst", *compress_zstd(plain, 1));
  const auto tree = ModuleTree::open(folder_);
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(*tree->read("virtio"), plain);
}

TEST_F(Modules, NamesTheOneThatIsMissing) {
  module("virtio.ko", "virtio", "virtio_ring");
  const auto tree = ModuleTree::open(folder_);
  const WantedModule needs[] = {{"virtio", true, 0, "virtual devices"}};
  const auto dependency = select_modules(*tree, needs, "6.1", true);
  ASSERT_FALSE(dependency.ok());
  EXPECT_EQ(dependency.error().kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(dependency.error().message(), HasSubstr("module virtio_ring, which virtio needs"));
  const WantedModule absent[] = {{"erofs", true, 0, "the image's layers"}};
  const auto missing = select_modules(*tree, absent, "6.1", true);
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message(), HasSubstr("no module erofs"));
  EXPECT_THAT(missing.error().message(), HasSubstr("the image's layers"));
}

TEST_F(Modules, OfAnotherKernelOrInACircleAreErrors) {
  module("a.ko", "a", "b");
  module("b.ko", "b", "a");
  module("c.ko", "c", "", "5.10");
  write("d.ko", "no module");
  const auto tree = ModuleTree::open(folder_);
  const auto select = [&](const char* name) {
    const WantedModule one[] = {{name, true, 0, "x"}};
    const auto selection = select_modules(*tree, one, "6.1", true);
    return selection.ok() ? std::string() : selection.error().message();
  };
  EXPECT_THAT(select("a"), HasSubstr("circle"));
  EXPECT_THAT(select("c"), HasSubstr("module c is of another kernel"));
  EXPECT_THAT(select("d"), HasSubstr("module d: not an ELF file"));
}

TEST_F(Modules, AFolderOfSomethingElseIsAnError) {
  EXPECT_EQ(ModuleTree::open(folder_ + "/none").error().kind(), ErrorKind::kNotFound);
  write("readme", "x");
  EXPECT_EQ(ModuleTree::open(folder_).error().kind(), ErrorKind::kInvalid);
}

TEST_F(Modules, LinksAreNotFollowed) {
  module("real.ko", "real", "");
  std::filesystem::create_symlink("/etc/passwd", folder_ + "/evil.ko");
  std::filesystem::create_directory_symlink(folder_, folder_ + "/loop");
  const auto tree = ModuleTree::open(folder_);
  ASSERT_TRUE(tree.ok());
  EXPECT_TRUE(tree->has("real"));
  EXPECT_FALSE(tree->has("evil"));
}

TEST(ModuleName, OfAPath) {
  EXPECT_EQ(module_of_path("kernel/a/virtio-rng.ko"), "virtio_rng");
  EXPECT_EQ(module_of_path("x.ko.xz"), "x");
  for (const char* bad : {"", ".ko", "x", "x.ko.bz2", "a b.ko", "..ko", "x\n.ko", "modules.builtin"}) {
    EXPECT_EQ(module_of_path(bad), "") << bad;
  }
  EXPECT_EQ(module_of_path(std::string(65, 'a') + ".ko"), "");
}

}  // namespace
}  // namespace hull::vm
