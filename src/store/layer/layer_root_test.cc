// One suite for both back ends: whatever a layer holds, the mounted result looks the same.

#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <chrono>
#include <random>
#include <thread>

#include "store/layer/layer_test_util.h"
#include "store/layer/tar_test_util.h"

namespace hull::store {
namespace {

using namespace test;  // NOLINT(google-build-using-namespace): the helpers of these very tests

class LayerTest : public ::testing::TestWithParam<LayerBackend> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    options.backend = GetParam();
  }
  /// Converts, mounts, checks the image with fsck.erofs and that the tar stream can be had back; returns the folder.
  std::string layer(const std::string& tar) {
    auto info = store.convert(tar, options);
    if (!info.ok()) {
      ADD_FAILURE() << info.error().message();
      return "/nonexistent";
    }
    last = *info;
    EXPECT_EQ(info->tar_size, tar.size());
    const std::string image = store.places.layers + "/" + std::string(info->diff_id.hex()) + ".erofs";
    if (GetParam() == LayerBackend::kErofs) {
      EXPECT_EQ(shell("fsck.erofs " + image + " >/dev/null"), 0);
    }
    auto path = store.mounted(info->diff_id);
    EXPECT_TRUE(path.ok()) << (path.ok() ? "" : path.error().message());
    if (!path.ok()) return "/nonexistent";
    if (options.keep_skeleton) {
      auto again = store.rebuilt(info->diff_id);
      EXPECT_TRUE(again.ok()) << (again.ok() ? "" : again.error().message());
      EXPECT_TRUE(again.ok() && *again == tar) << "the rebuilt tar differs";
    }
    return *path;
  }
  Error failure(const std::string& blob) {
    auto info = store.convert(blob, options);
    EXPECT_EQ(store.file_count(), 0U) << "something was left behind";
    if (!info.ok()) return std::move(info.error());
    ADD_FAILURE() << "the conversion succeeded";
    return {ErrorKind::kInternal, ""};
  }
  struct stat status(const std::string& path) {
    struct stat info{};
    EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
    return info;
  }

  ScratchStore store;
  LayerOptions options;
  LayerInfo last;
};

TEST_P(LayerTest, EveryKindOfEntry) {
  const std::string acl(
      "\2\0\0\0\1\0\6\0\xff\xff\xff\xff\2\0\4\0\1\0\0\0\4\0\4\0\xff\xff\xff\xff\x10\0\4\0\xff\xff\xff\xff\x20\0\4\0\xff"
      "\xff\xff\xff",
      44);
  const std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  const auto path =
      layer(TarMaker()
                .folder("./", 0711)
                .folder("d", 01777)
                .add({.name = "d/setuid", .size = 5, .mode = 04755, .uid = 70000, .gid = 65534}, "hello")
                .file("big", std::string(10'000, 'b'))
                .file("exact", std::string(8192, 'e'))
                .file("tail", std::string(4096 + 3000, 't'))
                .file("empty", "")
                .symlink("d/link", "../big")
                .hard_link("d/hard", "./big")
                .hard_link("d/hardlink", "d/link")
                .device("null", '3', 1, 3)
                .device("disk", '4', 259, 70000)
                .add({.name = "pipe", .type = '6'})
                .pax({{"SCHILY.xattr.security.capability", capability}, {"mtime", "-1.5"}})
                .file("capable", "x")
                .pax({{"SCHILY.xattr.user.long", std::string(3000, 'v')}, {"SCHILY.xattr.trusted.t", "1"}})
                .file("with-xattrs", std::string(5000, 'x'))
                .pax({{"SCHILY.xattr.system.posix_acl_access", acl}})
                .add({.name = "acl", .mode = 0644})
                .end());
  EXPECT_EQ(status(path).st_mode, S_IFDIR | 0711U);
  EXPECT_EQ(status(path + "/d").st_mode, S_IFDIR | 01777U);
  EXPECT_EQ(status(path + "/d/setuid").st_mode, S_IFREG | 04755U);
  EXPECT_EQ(status(path + "/d/setuid").st_uid, 70000U);
  EXPECT_EQ(slurp(path + "/d/setuid"), "hello");
  EXPECT_EQ(slurp(path + "/big"), std::string(10'000, 'b'));
  EXPECT_EQ(slurp(path + "/exact"), std::string(8192, 'e'));
  EXPECT_EQ(slurp(path + "/tail"), std::string(7096, 't'));
  EXPECT_EQ(slurp(path + "/empty"), "");
  EXPECT_EQ(status(path + "/big").st_nlink, 2U);
  EXPECT_EQ(status(path + "/big").st_ino, status(path + "/d/hard").st_ino);
  EXPECT_EQ(status(path + "/d/hardlink").st_ino, status(path + "/d/link").st_ino);
  EXPECT_EQ(std::filesystem::read_symlink(path + "/d/link"), "../big");
  EXPECT_EQ(status(path + "/null").st_rdev, makedev(1, 3));
  EXPECT_EQ(status(path + "/disk").st_rdev, makedev(259, 70000));
  EXPECT_TRUE(S_ISFIFO(status(path + "/pipe").st_mode));
  EXPECT_EQ(status(path + "/capable").st_mtim.tv_sec, -2);
  EXPECT_EQ(status(path + "/capable").st_mtim.tv_nsec, 500'000'000);
  char value[4096];
  EXPECT_EQ(::lgetxattr((path + "/capable").c_str(), "security.capability", value, sizeof value), 20);
  EXPECT_EQ(::lgetxattr((path + "/with-xattrs").c_str(), "user.long", value, sizeof value), 3000);
  EXPECT_EQ(::lgetxattr((path + "/with-xattrs").c_str(), "trusted.t", value, sizeof value), 1);
  EXPECT_EQ(slurp(path + "/with-xattrs"), std::string(5000, 'x'));
  EXPECT_EQ(::lgetxattr((path + "/acl").c_str(), "system.posix_acl_access", value, sizeof value), 44);
  EXPECT_EQ(std::string(value, 44), acl);
}

TEST_P(LayerTest, EmptyLayers) {
  EXPECT_TRUE(std::filesystem::is_empty(layer(TarMaker().end())));
  EXPECT_TRUE(std::filesystem::is_empty(layer("")));
}

TEST_P(LayerTest, NamesOfEveryKind) {
  TarMaker tar;
  const std::vector<std::string> names = {
      "caf\xc3\xa9", "latin\xe9", "\xff\xfe", "new\nline", "tab\t", "esc\x1b[31m",         "!first", "-dash", ".hidden",
      ".-",          "..x",       "...",      "a b",       "~",     std::string(255, 'n'), "\x01"};
  for (const std::string& name : names) tar.pax({{"path", "names/" + name}}).file("x", name);
  const std::string deep = [] {
    std::string path;
    for (int i = 0; i < 400; ++i) path += "deep/";
    return path;
  }();
  tar.gnu_long('L', deep + "file").file("x", "deep down");
  const auto path = layer(tar.end());
  for (const std::string& name : names) EXPECT_EQ(slurp(path + "/names/" + name), name);
  EXPECT_EQ(slurp(path + "/" + deep + "file"), "deep down");
}

TEST_P(LayerTest, LargeFolder) {
  TarMaker tar;
  // ext4 is slow to make many files soon after it deleted many.
  const int kCount = GetParam() == LayerBackend::kErofs ? 70'000 : 3'000;
  options.keep_skeleton = false;
  for (int i = 0; i < kCount; ++i) tar.add({.name = fmt::format("d/{:x}-{}", i * 2654435761U, i), .size = 0});
  const auto path = layer(tar.end());
  for (int i = 0; i < kCount; i += 997) status(fmt::format("{}/d/{:x}-{}", path, i * 2654435761U, i));
  const auto list = std::filesystem::directory_iterator(path + "/d");
  EXPECT_EQ(std::distance(begin(list), end(list)), kCount);
}

TEST_P(LayerTest, WhiteoutsStackUnderOverlayfs) {
  const auto lower = layer(TarMaker()
                               .file("gone", "1")
                               .file("kept", "1")
                               .file("dir/a", "1")
                               .file("dir/b", "1")
                               .file("opaque/old", "1")
                               .file("again/old", "1")
                               .end());
  const auto upper = layer(TarMaker()
                               .file(".wh.gone", "")
                               .file("dir/.wh.a", "content of a whiteout is dropped")
                               .folder("opaque")
                               .file("opaque/.wh..wh..opq", "")
                               .file("opaque/new", "2")
                               .file(".wh.again", "")
                               .file("again/new", "2")
                               .file(".wh..wh.plnk", "")
                               .end());
  const std::string merged = store.top + "/merged";
  ASSERT_EQ(::mkdir(merged.c_str(), 0700), 0);
  ASSERT_EQ(::mount("overlay", merged.c_str(), "overlay", 0, ("lowerdir=" + upper + ":" + lower).c_str()), 0)
      << strerror(errno);
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(merged)) {
    found.push_back(entry.path().string().substr(merged.size() + 1));
  }
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, (std::vector<std::string>{"again", "again/new", "dir", "dir/b", "kept", "opaque", "opaque/new"}));
  ::umount2(merged.c_str(), MNT_DETACH);
}

TEST_P(LayerTest, LowerMountsDoNotRestrictTheOverlay) {
  const auto lower = layer(TarMaker()
                               .device("null", '3', 1, 3)
                               .file("program", "#!/bin/sh\nexit 7\n", 0755)
                               .add({.name = "suid", .mode = 04755, .uid = 0})
                               .end());
  const std::string merged = store.top + "/merged";
  ASSERT_EQ(::mkdir(merged.c_str(), 0700), 0);
  ASSERT_EQ(::mkdir((store.top + "/empty").c_str(), 0700), 0);
  ASSERT_EQ(
      ::mount("overlay", merged.c_str(), "overlay", 0, ("lowerdir=" + lower + ":" + store.top + "/empty").c_str()), 0);
  EXPECT_EQ(shell("echo x > " + merged + "/null"), 0) << "device nodes open through the overlay";
  EXPECT_EQ(WEXITSTATUS(shell(merged + "/program")), 7);
  ::umount2(merged.c_str(), MNT_DETACH);
}

TEST_P(LayerTest, SparseFilesStaySparse) {
  const std::string source = store.top + "/source";
  // Data at odd places, a hole at the end, and a file that is nothing but a hole.
  ASSERT_EQ(shell("mkdir " + source + " && cd " + source +
                  " && printf start > s && printf middle | dd of=s bs=1 seek=1000003 conv=notrunc status=none"
                  " && head -c 300000 /dev/urandom | dd of=s bs=1 seek=70000000 conv=notrunc status=none"
                  " && truncate -s 5G s && truncate -s 1G hole && printf x > plain"),
            0);
  for (const char* format : {"--format=gnu", "--format=posix --sparse-version=0.0",
                             "--format=posix --sparse-version=0.1", "--format=posix --sparse-version=1.0"}) {
    SCOPED_TRACE(format);
    ASSERT_EQ(shell("tar -C " + source + " -S " + format + " -cf " + store.top + "/s.tar s hole plain"), 0);
    const auto path = layer(slurp(store.top + "/s.tar"));
    EXPECT_EQ(status(path + "/s").st_size, 5LL << 30);
    EXPECT_EQ(status(path + "/hole").st_size, 1LL << 30);
    EXPECT_EQ(shell("cmp -n 80000000 " + path + "/s " + source + "/s"), 0);
    EXPECT_EQ(shell("tail -c 100000 " + path + "/s | tr -d '\\0' | wc -c | grep -qx 0"), 0);
    auto usage = layer_disk_usage(store.layers_fd.get(), last.diff_id);
    ASSERT_TRUE(usage.ok());
    EXPECT_LT(*usage, 8U << 20);
    ASSERT_TRUE(unmount_layer(store.places, last.diff_id).ok());
    ASSERT_TRUE(remove_layer(store.layers_fd.get(), last.diff_id).ok());
  }
}

TEST_P(LayerTest, HugeSparseClaimsCostLittle) {
  TarMaker tar;
  for (int i = 0; i < 200; ++i) {
    tar.pax({{"GNU.sparse.size", std::to_string(1ULL << 40)}, {"GNU.sparse.map", "1099511627000,5"}})
        .file(fmt::format("s{}", i), "abcde");
  }
  options.keep_skeleton = false;
  const auto path = layer(tar.end());
  std::ifstream in(path + "/s7", std::ios::binary);
  in.seekg(1099511627000LL - 2);
  std::string tail(8, 'x');
  in.read(tail.data(), 8);
  EXPECT_EQ(tail, std::string("\0\0abcde\0", 8));
  auto usage = layer_disk_usage(store.layers_fd.get(), last.diff_id);
  ASSERT_TRUE(usage.ok());
  EXPECT_LT(*usage, 4U << 20);
}

TEST_P(LayerTest, ReplacedContentIsKeptForTheTar) {
  std::string random(200'000, '\0');
  std::mt19937 generator(1);
  for (char& c : random) c = static_cast<char>(generator());
  const auto path = layer(TarMaker()
                              .file("a", "first")
                              .file("dir/b", random)
                              .file("c", "linked")
                              .hard_link("c2", "c")
                              .file("a", "second, longer")
                              .file("c", "replaced")
                              .file("dir", random.substr(0, 5000))
                              .symlink("a", "elsewhere")
                              .pax({{"GNU.sparse.size", "50000"}, {"GNU.sparse.map", "1000,3,9000,2"}})
                              .file("s", "abcde")
                              .file("s", "whole")
                              .file(".wh.x", "not empty")
                              .end() +
                          "trailing");
  EXPECT_EQ(slurp(path + "/dir"), random.substr(0, 5000));
  EXPECT_EQ(slurp(path + "/c2"), "linked");
  EXPECT_EQ(slurp(path + "/c"), "replaced");
  EXPECT_EQ(slurp(path + "/s"), "whole");
  EXPECT_TRUE(std::filesystem::is_symlink(path + "/a"));
}

TEST_P(LayerTest, FailuresLeaveNothing) {
  const auto good = TarMaker().file("a", "1").file("b", std::string(100'000, 'x')).end();
  EXPECT_EQ(failure(TarMaker().file("../escape", "1").end()).kind(), ErrorKind::kCorrupt);
  EXPECT_EQ(failure(TarMaker().file("a", "1").hard_link("b", "nothing").end()).kind(), ErrorKind::kCorrupt);
  EXPECT_EQ(failure(good.substr(0, 50'000)).kind(), ErrorKind::kCorrupt);
  EXPECT_EQ(failure("this is not a tar archive, nor anything else" + std::string(600, '.')).kind(),
            ErrorKind::kCorrupt);
  options.expected_blob = *Digest::parse("sha256:" + std::string(64, '0'));
  EXPECT_NE(failure(good).message().find("digest"), std::string::npos);
  options.expected_blob.reset();
  options.expected_diff_id = *Digest::parse("sha256:" + std::string(64, '0'));
  EXPECT_NE(failure(good).message().find("diff id"), std::string::npos);
  options.expected_diff_id.reset();
  options.expected_blob_size = good.size() + 1;
  EXPECT_EQ(failure(good).kind(), ErrorKind::kCorrupt);
  options.expected_blob_size = good.size() - 1;
  EXPECT_EQ(failure(good).kind(), ErrorKind::kCorrupt);
  options.expected_blob_size.reset();
  options.compression = LayerCompression::kGzip;
  EXPECT_EQ(failure(good).kind(), ErrorKind::kCorrupt);
  options.compression = LayerCompression::kAny;
  options.limits.max_unpacked_bytes = 60'000;
  EXPECT_EQ(failure(good).kind(), ErrorKind::kInvalid);
}

TEST_P(LayerTest, CommitTwiceIsOneLayer) {
  const auto tar = TarMaker().file("a", "1").end();
  auto first = store.convert(tar, options);
  ASSERT_TRUE(first.ok());
  const size_t files = store.file_count();
  auto second = store.convert(tar, options);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(store.file_count(), files);
  EXPECT_TRUE(layer_exists(store.layers_fd.get(), first->diff_id));
  EXPECT_TRUE(sync_layer(store.layers_fd.get(), first->diff_id).ok());
  EXPECT_TRUE(remove_layer(store.layers_fd.get(), first->diff_id).ok());
  EXPECT_TRUE(remove_layer(store.layers_fd.get(), first->diff_id).ok());
  EXPECT_EQ(store.file_count(), 0U);
}

TEST_P(LayerTest, DamageIsFound) {
  const auto path = layer(TarMaker().file("a", std::string(10'000, 'a')).end());
  auto root = sys::Root::open(path);
  ASSERT_TRUE(root.ok());
  EXPECT_TRUE(verify_layer(store.layers_fd.get(), last.diff_id, std::move(*root)).ok());
  if (GetParam() == LayerBackend::kDirectory) {
    ASSERT_EQ(shell("printf x | dd of=" + path + "/a bs=1 seek=5000 conv=notrunc status=none"), 0);
  } else {
    ASSERT_TRUE(unmount_layer(store.places, last.diff_id).ok());
    const std::string image = store.places.layers + "/" + std::string(last.diff_id.hex()) + ".erofs";
    ASSERT_EQ(shell("printf x | dd of=" + image + " bs=1 seek=9000 conv=notrunc status=none"), 0);
  }
  auto again = store.mounted(last.diff_id);
  ASSERT_TRUE(again.ok());
  auto damaged = sys::Root::open(*again);
  ASSERT_TRUE(damaged.ok());
  auto verified = verify_layer(store.layers_fd.get(), last.diff_id, std::move(*damaged));
  ASSERT_FALSE(verified.ok());
  EXPECT_EQ(verified.error().kind(), ErrorKind::kCorrupt);
}

/// A tree with a bit of everything, the same for the same seed.
void make_tree(const std::string& top, unsigned seed) {
  std::mt19937 random(seed);
  const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  std::vector<std::string> folders{top}, files;
  ::mkdir(top.c_str(), 0755);
  for (int i = 0; i < 400; ++i) {
    std::string name = folders[below(static_cast<unsigned>(folders.size()))] + "/" +
                       std::string(1 + below(8), static_cast<char>('a' + below(26))) + std::to_string(i);
    if (below(20) == 0) name += std::string(120, 'L');
    if (below(25) == 0) name += "\xe9\xff";
    switch (below(10)) {
      case 0:
      case 1:
        ::mkdir(name.c_str(), 0700 + below(64));
        folders.push_back(name);
        break;
      case 2: {
        std::string target(1 + below(200), 't');
        EXPECT_EQ(::symlink(target.c_str(), name.c_str()), 0);
        break;
      }
      case 3:
        if (files.empty()) break;
        EXPECT_EQ(::link(files[below(static_cast<unsigned>(files.size()))].c_str(), name.c_str()), 0);
        break;
      case 4:
        ::mknod(name.c_str(), below(2) == 0 ? S_IFIFO | 0600 : S_IFCHR | 0640, makedev(1 + below(200), below(1000)));
        break;
      default: {
        std::string content(below(3) == 0 ? below(100) : below(20'000), '\0');
        for (char& c : content) c = static_cast<char>(random());
        std::ofstream(name, std::ios::binary) << content;
        EXPECT_EQ(::chown(name.c_str(), below(100'000), below(100'000)), 0);
        ::chmod(name.c_str(), below(4096));
        if (below(5) == 0) ::setxattr(name.c_str(), "user.test", name.data(), std::min<size_t>(name.size(), 50), 0);
        files.push_back(name);
      }
    }
    const timespec times[2] = {{0, UTIME_OMIT}, {1'000'000'000 + below(700'000'000), below(1'000'000'000)}};
    ::utimensat(AT_FDCWD, name.c_str(), times, AT_SYMLINK_NOFOLLOW);
  }
}

TEST_P(LayerTest, SameAsTarAndBsdtar) {
  for (unsigned seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE(seed);
    const std::string source = store.top + "/source" + std::to_string(seed);
    make_tree(source, seed);
    // Each archive is read by the program that made it too: they do not agree on names that are no UTF-8.
    const std::string gnu_extract = "tar --xattrs --xattrs-include='*' --same-owner -C {0} -xpf {1}";
    const std::string bsd_extract = "LC_ALL=C.UTF-8 bsdtar -C {0} -xpf {1}";
    struct Maker {
      std::string create, extract;
      bool nanoseconds;
    };
    for (const Maker& maker :
         {Maker{"tar --format=posix --xattrs -C {0} -cf {1} .", gnu_extract, true},
          Maker{"tar --format=gnu -C {0} -cf {1} .", gnu_extract, false},
          Maker{"LC_ALL=C.UTF-8 bsdtar --format=pax --xattrs -C {0} -cf {1} . 2>/dev/null", bsd_extract, true},
          Maker{"LC_ALL=C.UTF-8 bsdtar --format=gnutar -C {0} -cf {1} . 2>/dev/null", bsd_extract, false}}) {
      SCOPED_TRACE(maker.create);
      const std::string tar = store.top + "/t.tar", extracted = store.top + "/extracted";
      ASSERT_EQ(shell(fmt::format(fmt::runtime(maker.create), source, tar)), 0);
      ::mkdir(extracted.c_str(), 0700);
      ASSERT_EQ(shell(fmt::format(fmt::runtime(maker.extract), extracted, tar)), 0);
      const auto path = layer(slurp(tar));
      auto got = describe_tree(path), want = describe_tree(extracted);
      // bsdtar leaves the time of "." itself as extraction made it.
      got.erase(got.begin());
      want.erase(want.begin());
      expect_same_tree(got, want);
      if (maker.nanoseconds) expect_same_tree(describe_tree(path), describe_tree(source));
      ASSERT_TRUE(unmount_layer(store.places, last.diff_id).ok());
      ASSERT_EQ(shell("rm -rf " + extracted), 0);
    }
  }
}

TEST_P(LayerTest, PartOfThisMachine) {
  const std::string tar = store.top + "/machine.tar";
  shell("tar --xattrs --sort=name -C / -cf " + tar + " etc usr/share/zoneinfo usr/share/perl usr/sbin 2>/dev/null");
  const std::string extracted = store.top + "/extracted";
  ::mkdir(extracted.c_str(), 0700);
  ASSERT_EQ(shell("tar --xattrs --xattrs-include='*' -C " + extracted + " -xpf " + tar), 0);
  const auto path = layer(slurp(tar));
  auto got = describe_tree(path), want = describe_tree(extracted);
  // The folders above what was named are implicit.
  const auto implicit = [](const std::string& line) {
    return line.starts_with(" ") || line.starts_with("/usr ") || line.starts_with("/usr/share ");
  };
  std::erase_if(got, implicit);
  std::erase_if(want, implicit);
  EXPECT_GT(got.size(), 1000U);
  expect_same_tree(got, want);
}

INSTANTIATE_TEST_SUITE_P(BothBackends, LayerTest, ::testing::Values(LayerBackend::kErofs, LayerBackend::kDirectory),
                         [](const auto& chosen) {
                           return chosen.param == LayerBackend::kErofs ? "Erofs" : "Directory";
                         });

TEST(ErofsImage, IsDeterministic) {
  const auto tar = TarMaker().file("a", std::string(5000, 'a')).folder("d").symlink("d/l", "x").end();
  ScratchStore one, two;
  auto first = one.convert(tar, {});
  auto second = two.convert(tar, {});
  ASSERT_TRUE(first.ok() && second.ok());
  const std::string name = "/" + std::string(first->diff_id.hex());
  EXPECT_EQ(slurp(one.places.layers + name + ".erofs"), slurp(two.places.layers + name + ".erofs"));
  EXPECT_EQ(slurp(one.places.layers + name + ".tarsplit"), slurp(two.places.layers + name + ".tarsplit"));
}

TEST(ErofsImage, FullDiskIsAClearError) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  ScratchStore store;
  ASSERT_EQ(::mount("tmpfs", store.places.layers.c_str(), "tmpfs", 0, "size=300k"), 0);
  store.layers_fd = sys::open(store.places.layers, O_RDONLY | O_DIRECTORY).value_or(UniqueFd());
  for (const LayerBackend backend : {LayerBackend::kErofs, LayerBackend::kDirectory}) {
    LayerOptions options;
    options.backend = backend;
    auto info = store.convert(TarMaker().file("a", std::string(1 << 20, 'a')).end(), options);
    EXPECT_FALSE(info.ok());
    EXPECT_TRUE(info.ok() || info.error().kind() == ErrorKind::kNoSpace);
    EXPECT_EQ(store.file_count(), 0U);
  }
  store.layers_fd.reset();
  ::umount2(store.places.layers.c_str(), MNT_DETACH);
}

TEST(LayerMount, RefusesWhatWeDidNotWrite) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  ScratchStore store;
  auto info = store.convert(TarMaker().file("a", "1").end(), {});
  ASSERT_TRUE(info.ok());
  const std::string image = store.places.layers + "/" + std::string(info->diff_id.hex()) + ".erofs";
  const auto refused = [&](std::string_view words) {
    auto path = store.mounted(info->diff_id);
    ASSERT_FALSE(path.ok()) << words;
    EXPECT_EQ(path.error().kind(), ErrorKind::kCorrupt);
    EXPECT_NE(path.error().message().find(words), std::string::npos) << path.error().message();
  };
  ::chmod(image.c_str(), 0666);
  refused("somebody else");
  ::chmod(image.c_str(), 0600);
  EXPECT_EQ(::chown(image.c_str(), 1000, 1000), 0);
  refused("somebody else");
  EXPECT_EQ(::chown(image.c_str(), 0, 0), 0);
  const std::string content = slurp(image);
  ASSERT_EQ(::truncate(image.c_str(), static_cast<off_t>(content.size()) - 4096), 0);
  refused("cut off");
  ASSERT_EQ(::truncate(image.c_str(), 100), 0);
  refused("too short");
  std::string other = content;
  other[1024 + 48] = static_cast<char>(other[1024 + 48] ^ 1);
  std::ofstream(image, std::ios::binary) << other;
  refused("another layer");
  other = content;
  other[1024] = 0;
  std::ofstream(image, std::ios::binary) << other;
  refused("not a layer image");
  ASSERT_EQ(::unlink(image.c_str()), 0);
  ASSERT_EQ(::mkfifo(image.c_str(), 0600), 0);
  refused("regular file");
  ASSERT_EQ(::unlink(image.c_str()), 0);
  auto missing = store.mounted(info->diff_id);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind(), ErrorKind::kNotFound);
}

TEST(LayerMount, RacingCallersMountOnce) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  ScratchStore store;
  auto info = store.convert(TarMaker().file("a", "1").end(), {});
  ASSERT_TRUE(info.ok());
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { EXPECT_TRUE(store.mounted(info->diff_id).ok()); });
  }
  for (std::thread& thread : threads) thread.join();
  const std::string target = store.places.mounts + "/" + std::string(info->diff_id.hex());
  EXPECT_EQ(shell("test $(grep -c " + target + " /proc/self/mountinfo) = 1"), 0);
  auto none = unmount_unused(store.places, std::span(&info->diff_id, 1));
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(*none, 0U);
  auto one = unmount_unused(store.places, {});
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(*one, 1U);
  EXPECT_FALSE(sys::exists(target));
}

TEST(LayerMount, OverlaySurvivesUnmount) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  ScratchStore store;
  auto info = store.convert(TarMaker().file("a", "1").end(), {});
  ASSERT_TRUE(info.ok());
  auto path = store.mounted(info->diff_id);
  ASSERT_TRUE(path.ok());
  const std::string merged = store.top + "/merged";
  ::mkdir(merged.c_str(), 0700);
  ::mkdir((store.top + "/empty").c_str(), 0700);
  ASSERT_EQ(
      ::mount("overlay", merged.c_str(), "overlay", 0, ("lowerdir=" + *path + ":" + store.top + "/empty").c_str()), 0);
  EXPECT_TRUE(unmount_layer(store.places, info->diff_id).ok());
  EXPECT_EQ(slurp(merged + "/a"), "1");
  ::umount2(merged.c_str(), MNT_DETACH);
}

TEST(LayerMount, ThroughALoopDevice) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  if (!sys::exists("/dev/loop-control")) GTEST_SKIP() << "no loop devices";
  ScratchStore store;
  store.places.through_loop = true;
  auto info = store.convert(TarMaker().file("a", std::string(10'000, 'a')).end(), {});
  ASSERT_TRUE(info.ok());
  auto path = store.mounted(info->diff_id);
  ASSERT_TRUE(path.ok()) << path.error().message();
  EXPECT_EQ(slurp(*path + "/a"), std::string(10'000, 'a'));
  EXPECT_EQ(shell("grep -q '" + *path + " .*/dev/loop' /proc/self/mountinfo"), 0);
  EXPECT_TRUE(unmount_layer(store.places, info->diff_id).ok());
  EXPECT_NE(shell("grep -qs " + store.places.layers + " /sys/block/loop*/loop/backing_file"), 0)
      << "the loop device lets go by itself";
}

TEST(LayerMount, KnowsWhatTheKernelCan) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  ScratchStore store;
  EXPECT_TRUE(can_mount_erofs(store.places.layers));
  EXPECT_EQ(store.file_count(), 0U);
}

TEST(LayerMount, AMountedLayerCostsMicroseconds) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  ScratchStore store;
  std::vector<Digest> diff_ids;
  for (int i = 0; i < 100; ++i) {
    auto info = store.convert(TarMaker().file("f", std::to_string(i)).end(), {});
    ASSERT_TRUE(info.ok());
    diff_ids.push_back(info->diff_id);
  }
  const auto first = std::chrono::steady_clock::now();
  auto mounted = ensure_mounted(store.places, diff_ids);
  ASSERT_TRUE(mounted.ok()) << mounted.error().message();
  const auto second = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(ensure_mounted(store.places, diff_ids).ok());
  const auto third = std::chrono::steady_clock::now();
  const double mount_us = std::chrono::duration<double, std::micro>(second - first).count() / 100;
  const double check_us = std::chrono::duration<double, std::micro>(third - second).count() / 2000;
  RecordProperty("mount_us", std::to_string(mount_us));
  RecordProperty("check_us", std::to_string(check_us));
  EXPECT_LT(check_us, 100) << "mounting took " << mount_us;
  // All of them in one overlay ("lowerdir+", Linux 6.8: one option string could not hold the paths).
  const int overlay = static_cast<int>(::syscall(SYS_fsopen, "overlay", 1));
  ASSERT_GE(overlay, 0);
  const UniqueFd closer(overlay);
  for (const std::string& path : *mounted) {
    ASSERT_EQ(::syscall(SYS_fsconfig, overlay, 1 /* FSCONFIG_SET_STRING */, "lowerdir+", path.c_str(), 0), 0);
  }
  ASSERT_EQ(::syscall(SYS_fsconfig, overlay, 6 /* FSCONFIG_CMD_CREATE */, nullptr, nullptr, 0), 0) << strerror(errno);
  const UniqueFd merged(static_cast<int>(::syscall(SYS_fsmount, overlay, 1, 0)));
  ASSERT_TRUE(merged.valid()) << strerror(errno);
  EXPECT_EQ(sys::read_file_at(merged.get(), "f").value_or(""), "0") << "the first is the uppermost";
}

}  // namespace
}  // namespace hull::store
