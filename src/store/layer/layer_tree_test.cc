#include "store/layer/layer_tree.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error_format.h"

namespace hull::store {
namespace {

/// "path type nlink" of every name, in order of folders; "!" marks an opaque folder, "W" a whiteout.
std::vector<std::string> listing(const LayerTree& tree) {
  std::vector<std::string> lines;
  std::vector<NodeId> folders{0}, children;
  for (size_t i = 0; i < folders.size(); ++i) {
    tree.sorted_children(folders[i], children);
    for (const NodeId child : children) {
      const TreeInode& inode = tree.inode(tree.inode_of(child));
      const char type = inode.whiteout        ? 'W'
                        : S_ISDIR(inode.mode) ? (inode.opaque ? '!' : 'd')
                        : S_ISLNK(inode.mode) ? 'l'
                        : S_ISREG(inode.mode) ? 'f'
                                              : 'o';
      lines.push_back(fmt::format("{} {} {}", tree.path(child), type, inode.nlink));
      if (S_ISDIR(inode.mode)) folders.push_back(child);
    }
  }
  return lines;
}

class LayerTreeTest : public ::testing::Test {
 protected:
  Result<LayerTree::Added> add(EntryType type, std::string path, std::string link = {}) {
    TarEntry entry;
    entry.type = type;
    entry.path = std::move(path);
    entry.link = std::move(link);
    if (type == EntryType::kFile) entry.size = entry.stored_size = 1;
    return tree.add(entry);
  }
  void good(EntryType type, std::string path, std::string link = {}) {
    auto added = add(type, path, std::move(link));
    EXPECT_TRUE(added.ok()) << path << ": " << (added.ok() ? "" : added.error().message());
  }
  void bad(EntryType type, std::string path, std::string link, std::string_view words) {
    auto added = add(type, path, std::move(link));
    ASSERT_FALSE(added.ok()) << path;
    EXPECT_EQ(added.error().kind(), ErrorKind::kCorrupt);
    EXPECT_NE(added.error().message().find(words), std::string::npos) << added.error().message();
  }
  using Lines = std::vector<std::string>;
  LayerTree tree;
  static constexpr auto kFile = EntryType::kFile, kDir = EntryType::kDirectory, kLink = EntryType::kSymlink,
                        kHard = EntryType::kHardLink;
};

TEST_F(LayerTreeTest, CleansNamesAndMakesParents) {
  good(kDir, "./");
  good(kFile, "/abs//./file");
  good(kFile, "./a/b/c");
  EXPECT_EQ(listing(tree), (Lines{"a d 3", "abs d 2", "a/b d 2", "abs/file f 1", "a/b/c f 1"}));
  EXPECT_EQ(tree.inode(0).nlink, 4U);
}

TEST_F(LayerTreeTest, RefusesHostileNames) {
  bad(kFile, "../x", "", "..");
  bad(kFile, "a/../../x", "", "..");
  bad(kFile, "a/..", "", "..");
  bad(kFile, "/", "", "root");
  bad(kFile, "", "", "root");
  bad(kFile, std::string(256, 'x'), "", "255");
  bad(kHard, "h", "../etc/passwd", "..");
  bad(kHard, "h", "/", "root");
  bad(kHard, "h", "missing", "does not exist");
  bad(kHard, "h", "no/folder", "does not exist");
  bad(kLink, "l", "", "empty");
  good(kFile, "f");
  bad(kFile, "f/below", "", "not a folder");
  good(kDir, "d");
  bad(kHard, "h", "d", "folder");
  bad(kFile, "d/.wh.", "", "whiteout");
  bad(kFile, "d/.wh...", "", "whiteout");
}

TEST_F(LayerTreeTest, LaterReplacesEarlier) {
  good(kFile, "a");
  good(kDir, "a");
  good(kFile, "a/b/c");
  good(kFile, "a/b");
  EXPECT_EQ(listing(tree), (Lines{"a d 2", "a/b f 1"}));
  good(kLink, "a", "t");
  EXPECT_EQ(listing(tree), (Lines{"a l 1"}));
  good(kDir, "a");
  good(kFile, "a/b");
  EXPECT_EQ(listing(tree), (Lines{"a d 2", "a/b f 1"}));
  EXPECT_EQ(tree.inode(0).nlink, 3U);
}

TEST_F(LayerTreeTest, HardLinksCountNames) {
  good(kFile, "a");
  good(kHard, "d/b", "./a");
  good(kHard, "c", "/d/b");
  EXPECT_EQ(listing(tree), (Lines{"a f 3", "c f 3", "d d 2", "d/b f 3"}));
  good(kHard, "a", "a");
  good(kFile, "a");
  EXPECT_EQ(listing(tree), (Lines{"a f 1", "c f 2", "d d 2", "d/b f 2"}));
  good(kHard, "d", "d/b");
  EXPECT_EQ(listing(tree), (Lines{"a f 1", "c f 2", "d f 2"}));
}

TEST_F(LayerTreeTest, FollowsLinksInsideTheLayer) {
  good(kDir, "usr/lib");
  good(kLink, "lib", "usr/lib");
  good(kFile, "lib/x");
  good(kLink, "up", "../../../usr");
  good(kFile, "up/y");
  good(kLink, "abs", "/usr/lib");
  good(kFile, "abs/z");
  good(kHard, "hard", "lib/x");
  good(kLink, "run", "/var/run");
  good(kFile, "run/pid");
  EXPECT_EQ(listing(tree),
            (Lines{"abs l 1", "hard f 2", "lib l 1", "run l 1", "up l 1", "usr d 3", "var d 3", "usr/lib d 2",
                   "usr/y f 1", "var/run d 2", "usr/lib/x f 2", "usr/lib/z f 1", "var/run/pid f 1"}));
  good(kLink, "loop", "loop");
  bad(kFile, "loop/x", "", "too many");
  good(kLink, "l1", "l2");
  good(kLink, "l2", "l1/a");
  bad(kFile, "l1/x", "", "too many");
}

TEST_F(LayerTreeTest, Whiteouts) {
  good(kFile, "d/.wh.gone");
  good(kFile, "o/.wh..wh..opq");
  good(kFile, "o/new");
  good(kFile, ".wh..wh.plnk");
  EXPECT_EQ(listing(tree), (Lines{"d d 2", "o ! 2", "d/gone W 1", "o/new f 1"}));
  // In one layer the content wins over the whiteout, in either order; a folder then hides the lower one.
  good(kFile, "d/gone");
  good(kFile, "d/.wh.gone");
  good(kFile, "e/.wh.x");
  good(kDir, "e/x");
  good(kDir, "f/x");
  good(kFile, "f/.wh.x");
  good(kFile, "g/.wh.x");
  good(kFile, "g/x/y");
  EXPECT_EQ(listing(tree), (Lines{"d d 2", "e d 3", "f d 3", "g d 3", "o ! 2", "d/gone f 1", "e/x ! 2", "f/x ! 2",
                                  "g/x ! 2", "o/new f 1", "g/x/y f 1"}));
  good(kFile, "w/.wh.t");
  bad(kHard, "w/h", "w/t", "does not exist");
}

TEST_F(LayerTreeTest, TellsOfLostContent) {
  std::vector<uint32_t> lost;
  tree.on_content_lost = [&](InodeId id) -> Result<void> {
    lost.push_back(tree.inode(id).content);
    return {};
  };
  good(kFile, "a");      // 0
  good(kFile, "d/b");    // 1
  good(kFile, "d/e/c");  // 2
  good(kHard, "h", "d/b");
  good(kFile, "a");  // 3
  EXPECT_EQ(lost, (std::vector<uint32_t>{0}));
  good(kHard, "h", "a");  // a second name goes: nothing is lost
  EXPECT_EQ(lost.size(), 1U);
  good(kLink, "d", "x");
  std::sort(lost.begin(), lost.end());
  EXPECT_EQ(lost, (std::vector<uint32_t>{0, 1, 2}));
}

TEST_F(LayerTreeTest, XattrsAreFilteredAndMerged) {
  TarEntry entry;
  entry.type = kDir;
  entry.path = "d";
  entry.xattrs = {{"user.a", "1"},
                  {"trusted.overlay.redirect", "/etc"},
                  {"user.overlay.opaque", "y"},
                  {"security.selinux", "label"},
                  {"security.capability", "c"},
                  {"system.nfs4_acl", "n"}};
  ASSERT_TRUE(tree.add(entry).ok());
  entry.xattrs = {{"user.b", "2"}, {"user.a", "3"}};
  auto added = tree.add(entry);
  ASSERT_TRUE(added.ok());
  EXPECT_EQ(tree.xattrs(tree.inode(added->inode).xattrs),
            (std::vector<Xattr>{{"security.capability", "c"}, {"user.a", "3"}, {"user.b", "2"}}));
  entry.xattrs = {{"user." + std::string(300, 'x'), "1"}};
  EXPECT_FALSE(tree.add(entry).ok());
  entry.xattrs = {{"user.", "1"}};
  EXPECT_FALSE(tree.add(entry).ok());
}

TEST_F(LayerTreeTest, ManyEntries) {
  for (int i = 0; i < 70'000; ++i) good(kFile, fmt::format("d/{}", i));
  for (int round = 0; round < 5; ++round) {
    good(kDir, "x");
    for (int i = 0; i < 10'000; ++i) good(kFile, fmt::format("x/{}", i));
    good(kFile, "x");
  }
  EXPECT_EQ(listing(tree).size(), 70'002U);
}

}  // namespace
}  // namespace hull::store
