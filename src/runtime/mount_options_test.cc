#include "runtime/mount_options.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace hull::runtime {
namespace {

TEST(MountOptions, LaterOptionHolds) {
  const auto options = parse_mount_options({"ro", "nosuid", "rw", "suid", "nodev"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->attr_set, uint64_t{MOUNT_ATTR_NODEV});
  EXPECT_EQ(options->attr_clear, uint64_t{MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID});
  EXPECT_FALSE(options->readonly);
}

TEST(MountOptions, AtimeIsOneField) {
  const auto options = parse_mount_options({"noatime", "strictatime", "rrelatime"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->attr_set, uint64_t{MOUNT_ATTR_STRICTATIME});
  EXPECT_EQ(options->attr_clear, uint64_t{MOUNT_ATTR__ATIME});
  EXPECT_EQ(options->recursive_clear, uint64_t{MOUNT_ATTR__ATIME});
}

TEST(MountOptions, SplitsByWhoTakesThem) {
  const auto options =
      parse_mount_options({"rbind", "rslave", "rro", "sync", "size=64k", "newinstance", "tmpcopyup", "ridmap"});
  ASSERT_TRUE(options.ok());
  EXPECT_TRUE(options->bind && options->recursive_bind && options->copy_up && options->idmap &&
              options->recursive_idmap);
  EXPECT_EQ(options->propagation, uint64_t{MS_SLAVE});
  EXPECT_TRUE(options->propagation_recursive);
  EXPECT_EQ(options->recursive_set, uint64_t{MOUNT_ATTR_RDONLY});
  EXPECT_EQ(options->superblock_flags, std::vector<std::string>{"sync"});
  ASSERT_EQ(options->parameters.size(), 2U);
  EXPECT_EQ(options->parameters[0].key, "size");
  EXPECT_EQ(options->parameters[0].value, "64k");
  EXPECT_TRUE(options->parameters[1].is_flag);
}

TEST(MountOptions, NamelessIsRefused) {
  EXPECT_FALSE(parse_mount_options({""}).ok());
  EXPECT_FALSE(parse_mount_options({"=x"}).ok());
}

TEST(MountOptions, TableIsSortedAndEveryNameIsKnown) {
  const std::vector<std::string> names = known_mount_options();
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end()));
  for (const std::string& name : names) {
    const auto options = parse_mount_options({name});
    ASSERT_TRUE(options.ok()) << name;
    EXPECT_TRUE(options->parameters.empty()) << name;
  }
}

TEST(MountOptions, Propagation) {
  const auto shared = parse_propagation("rshared");
  ASSERT_TRUE(shared.ok());
  EXPECT_EQ(shared->flag, uint64_t{MS_SHARED});
  EXPECT_TRUE(shared->recursive);
  EXPECT_FALSE(parse_propagation("ro").ok());
  EXPECT_FALSE(parse_propagation("").ok());
}

}  // namespace
}  // namespace hull::runtime
