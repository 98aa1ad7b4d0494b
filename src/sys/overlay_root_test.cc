#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/error_format.h"
#include "sys/file.h"
#include "sys/overlay.h"

namespace hull::sys {
namespace {

class OverlayTest : public ::testing::TestWithParam<LowerFolders> {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/hull-overlay-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
  }
  void TearDown() override { ignore_result(remove_tree(folder_)); }

  /// Folders with names of the length of a digest, uppermost first; each holds its own file and one that all have.
  std::vector<std::string> layers(int count, std::string_view suffix = "") {
    std::vector<std::string> out;
    for (int i = 0; i < count; ++i) {
      const std::string layer = fmt::format("{}/{:064}{}", folder_, i, suffix);
      EXPECT_TRUE(make_dirs(layer).ok());
      EXPECT_TRUE(replace_file(layer + "/top", fmt::to_string(i), 0600, false).ok());
      EXPECT_TRUE(replace_file(fmt::format("{}/file{}", layer, i), "x", 0600, false).ok());
      out.push_back(layer);
    }
    return out;
  }
  std::vector<FsParameter> writable() {
    EXPECT_TRUE(make_dirs(folder_ + "/upper,folder").ok());
    EXPECT_TRUE(make_dirs(folder_ + "/work").ok());
    return {{"upperdir", folder_ + "/upper,folder", false}, {"workdir", folder_ + "/work", false}};
  }
  static std::string content(const UniqueFd& mount, const std::string& name) {
    const UniqueFd file(::openat(mount.get(), name.c_str(), O_RDONLY | O_CLOEXEC));
    char text[16];
    const ssize_t got = ::read(file.get(), text, sizeof text);
    return got < 0 ? "" : std::string(text, static_cast<size_t>(got));
  }
  static bool has(const UniqueFd& mount, const std::string& name) {
    return ::faccessat(mount.get(), name.c_str(), F_OK, 0) == 0;
  }
  std::string folder_;
};

TEST_P(OverlayTest, ManyLayersInTheirOrder) {
  auto made = make_overlay("overlay", layers(128), writable(), 0, GetParam());
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(content(*made, "top"), "0");
  for (int i = 0; i < 128; ++i) EXPECT_TRUE(has(*made, fmt::format("file{}", i))) << i;
  const UniqueFd written(::openat(made->get(), "written", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_TRUE(written);
  EXPECT_TRUE(exists(folder_ + "/upper,folder/written"));
  const std::string mounts = read_file("/proc/self/mountinfo", 1 << 20).value_or("");
  EXPECT_NE(mounts.find(" / / "), std::string::npos) << "the list of mounts can be read";
  EXPECT_EQ(mounts.find(folder_), std::string::npos) << "nothing of it is mounted on the host";
}

TEST_P(OverlayTest, AttributesFlagsAndOddNames) {
  std::vector<FsParameter> parameters = {{"ro", "", true}};
  auto made = make_overlay("overlay", layers(3, ":odd"), parameters, MOUNT_ATTR_NOEXEC, GetParam());
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_EQ(content(*made, "top"), "0");
  struct statvfs info{};
  ASSERT_EQ(::fstatvfs(made->get(), &info), 0);
  EXPECT_NE(info.f_flag & ST_NOEXEC, 0U);
  EXPECT_LT(::openat(made->get(), "new", O_WRONLY | O_CREAT | O_CLOEXEC, 0600), 0);
}

TEST_P(OverlayTest, AMissingLayerIsAnError) {
  auto folders = layers(130);
  folders.push_back(folder_ + "/missing");
  const auto made = make_overlay("overlay", folders, {}, 0, GetParam());
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind(), ErrorKind::kNotFound) << made.error().message();
}

std::string name_of(const ::testing::TestParamInfo<LowerFolders>& way) {
  switch (way.param) {
    case LowerFolders::kAuto:
      return "Auto";
    case LowerFolders::kOneString:
      return "OneString";
    case LowerFolders::kAppended:
      return "Appended";
    case LowerFolders::kLinks:
      return "Links";
  }
  return "Unknown";
}

INSTANTIATE_TEST_SUITE_P(EachWay, OverlayTest,
                         ::testing::Values(LowerFolders::kAuto, LowerFolders::kAppended, LowerFolders::kLinks),
                         name_of);

}  // namespace
}  // namespace hull::sys
