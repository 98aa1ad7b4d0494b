#include "vm/kernel/unpack.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "sys/file.h"
#include "vm/kernel/decompress.h"
#include "vm/kernel/test_files.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class Unpack : public testing::Test {
 protected:
  Unpack() {
    std::string name = testing::TempDir() + "unpack-XXXXXX";
    folder_ = std::string(::mkdtemp(name.data())) + "/kernels";
  }
  ~Unpack() override { fs::remove_all(fs::path(folder_).parent_path()); }
  static std::string image_of(const std::string& vmlinux) {
    return make_bzimage("6.1", *compress_zstd(vmlinux, 1), static_cast<uint32_t>(vmlinux.size()));
  }
  Result<std::string> unpack(const std::string& file) const {
    const UniqueFd fd(::memfd_create("kernel", MFD_CLOEXEC));
    EXPECT_TRUE(sys::write_all(fd.get(), file).ok());
    ::lseek(fd.get(), 0, SEEK_SET);
    return unpack_kernel(fd.get(), folder_);
  }
  size_t kept() const {
    size_t count = 0;
    for (const auto& entry : fs::directory_iterator(folder_)) count += entry.path().filename() != ".lock";
    return count;
  }
  std::string folder_;
};

TEST_F(Unpack, OnceAndThenItIsThere) {
  const std::string vmlinux = make_vmlinux("6.1", true);
  const auto first = unpack(image_of(vmlinux + "relocations"));
  ASSERT_TRUE(first.ok()) << first.error().message();
  EXPECT_EQ(*sys::read_file(*first), vmlinux) << "without what follows the ELF file";
  struct stat before{}, after{}, folder{};
  ASSERT_EQ(::stat(first->c_str(), &before), 0);
  const timespec long_ago[2] = {{1, 0}, {1, 0}};
  ::utimensat(AT_FDCWD, first->c_str(), long_ago, 0);
  const auto second = unpack(image_of(vmlinux + "relocations"));
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(*second, *first);
  ASSERT_EQ(::stat(second->c_str(), &after), 0);
  EXPECT_EQ(after.st_ino, before.st_ino) << "not written again";
  EXPECT_GT(after.st_mtim.tv_sec, 1) << "counted as used";
  ASSERT_EQ(::stat(folder_.c_str(), &folder), 0);
  EXPECT_EQ(folder.st_mode & 0777, 0700u) << "nobody else puts a kernel there";
  const auto other = unpack(image_of(make_vmlinux("6.2", true)));
  ASSERT_TRUE(other.ok());
  EXPECT_NE(*other, *first);
}

TEST_F(Unpack, WhatIsNoKernelLeavesNothing) {
  const std::string image = image_of(make_vmlinux("6.1", true));
  EXPECT_THAT(unpack(image.substr(0, image.size() / 2)).error().message(), HasSubstr("damaged kernel image"));
  EXPECT_THAT(unpack("#!/bin/sh").error().message(), HasSubstr("neither a bzImage nor"));
  EXPECT_THAT(unpack(image_of("text")).error().message(), HasSubstr("not an ELF file"));
  EXPECT_EQ(unpack(image_of(make_vmlinux("6.1", false))).error().kind(), ErrorKind::kUnsupported) << "no PVH entry";
  EXPECT_EQ(kept(), 0u);
}

TEST_F(Unpack, TheFolderKeepsThoseUsedLast) {
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  std::vector<std::string> paths;
  for (size_t i = 0; i < kMostUnpackedKernels + 3; ++i) {
    paths.push_back(unpack(image_of(make_vmlinux(std::to_string(i), true))).value());
  }
  EXPECT_EQ(kept(), paths.size()) << "all of them were used now";
  for (const std::string& path : paths) ::utimensat(AT_FDCWD, path.c_str(), long_ago, 0);
  ASSERT_TRUE(unpack(image_of(make_vmlinux("0", true))).ok());
  EXPECT_EQ(kept(), paths.size()) << "nothing was unpacked";
  ASSERT_TRUE(unpack(image_of(make_vmlinux("new", true))).ok());
  EXPECT_EQ(kept(), kMostUnpackedKernels);
  EXPECT_TRUE(sys::exists(paths[0]));
}

TEST_F(Unpack, SeveralAtOnceGetTheSame) {
  const std::string image = image_of(make_vmlinux("6.1", true) + std::string(1 << 20, 'r'));
  std::vector<std::string> paths(8);
  std::vector<std::thread> threads;
  for (std::string& path : paths) threads.emplace_back([&] { path = unpack(image).value(); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& path : paths) EXPECT_EQ(path, paths[0]);
  EXPECT_EQ(kept(), 1u);
}

TEST(UnpackedKernels, FolderIsBelowTheDataOrTheUsersCache) {
  EXPECT_EQ(unpacked_kernels_folder("/data").value(), "/data/unpacked-kernels");
  ::setenv("HULL_ROOT", "/chosen", 1);
  EXPECT_EQ(unpacked_kernels_folder("").value(), "/chosen/unpacked-kernels");
  ::unsetenv("HULL_ROOT");
  if (::geteuid() == 0) {
    EXPECT_EQ(unpacked_kernels_folder("").value(), "/var/lib/hull/unpacked-kernels");
  }
}

}  // namespace
}  // namespace hull::vm
