#include "vm/scratch_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "vm/spawn.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;

class ScratchDisk : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "scratch-disk-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_;
};

TEST_F(ScratchDisk, IsACleanSparseExt4) {
  for (const uint64_t bytes : {kLeastScratchBytes, uint64_t{100} << 20, kDefaultScratchBytes}) {
    const std::string path = folder_ + "/disk";
    const auto made = make_scratch_disk(path, bytes, folder_ + "/cache");
    ASSERT_TRUE(made.ok()) << made.error().message();
    struct stat info{};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(static_cast<uint64_t>(info.st_size), bytes);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    EXPECT_LT(info.st_blocks * 512, 1 << 20) << "not sparse";
    const auto checked = run_program({"/sbin/e2fsck", "-f", "-n", path});
    EXPECT_TRUE(checked.ok()) << checked.error().message();
    // Nothing is left for the guest's kernel to initialise in the background.
    const auto described = run_program({"/sbin/dumpe2fs", path});
    ASSERT_TRUE(described.ok());
    EXPECT_THAT(*described, HasSubstr("ITABLE_ZEROED"));
    ASSERT_EQ(::unlink(path.c_str()), 0);
  }
}

TEST_F(ScratchDisk, RoundsUpToMebibytes) {
  ASSERT_TRUE(make_scratch_disk(folder_ + "/disk", (20 << 20) + 1, folder_ + "/cache").ok());
  EXPECT_EQ(std::filesystem::file_size(folder_ + "/disk"), 21U << 20);
}

TEST_F(ScratchDisk, RefusesSizesAndLeavesNothingBehind) {
  for (const uint64_t bytes : {uint64_t{0}, kLeastScratchBytes - 1, kMostScratchBytes + 1}) {
    const auto made = make_scratch_disk(folder_ + "/disk", bytes, folder_ + "/cache");
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.error().kind(), ErrorKind::kInvalid);
    EXPECT_FALSE(std::filesystem::exists(folder_ + "/disk"));
  }
  std::ofstream(folder_ + "/there") << "precious";
  EXPECT_FALSE(make_scratch_disk(folder_ + "/there", 32 << 20, folder_ + "/cache").ok());
  EXPECT_EQ(std::filesystem::file_size(folder_ + "/there"), 8U);
}

TEST_F(ScratchDisk, ADamagedTemplateFolderIsAnError) {
  std::ofstream(folder_ + "/cache") << "a file";
  EXPECT_FALSE(make_scratch_disk(folder_ + "/disk", 32 << 20, folder_ + "/cache").ok());
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/disk"));
}

}  // namespace
}  // namespace hull::vm
