#include "vm/kernel/package.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/kernel/decompress.h"
#include "vm/kernel/initramfs.h"
#include "vm/kernel/source.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

struct File {
  std::string name, content;
  char type = '0';
  std::string link;
};

std::string tar_of(const std::vector<File>& files) {
  std::string out;
  for (const File& file : files) {
    std::string header(512, '\0');
    header.replace(0, file.name.size(), file.name);
    header.replace(100, 7, "0000644");
    header.replace(124, 11, fmt::format("{:011o}", file.content.size()));
    header.replace(136, 11, "00000000000");
    header[156] = file.type;
    header.replace(157, file.link.size(), file.link);
    header.replace(257, 8,
                   std::string("ustar\0"
                               "00",
                               8));
    header.replace(148, 8, "        ");
    unsigned sum = 0;
    for (const char byte : header) sum += static_cast<unsigned char>(byte);
    header.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    out += header + file.content;
    out.resize((out.size() + 511) / 512 * 512, '\0');
  }
  return out + std::string(1024, '\0');
}

std::string ar_of(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string out = "!<arch>\n";
  for (const auto& [name, content] : members) {
    out += fmt::format("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", name, 0, 0, 0, "100644", content.size()) + content;
    if (out.size() % 2 != 0) out += '\n';
  }
  return out;
}

class Package : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "package-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    fs::create_directory(folder_ + "/out");
  }
  void TearDown() override { fs::remove_all(folder_); }

  Result<KernelPackage> unpack(const std::string& bytes) const {
    std::ofstream(folder_ + "/deb") << bytes;
    fs::remove_all(folder_ + "/out");
    fs::create_directory(folder_ + "/out");
    return unpack_kernel_package(folder_ + "/deb", folder_ + "/out");
  }
  Result<KernelPackage> unpack(const std::vector<File>& files) const {
    return unpack(ar_of({{"debian-binary", "2.0\n"}, {"control.tar", ""}, {"data.tar", tar_of(files)}}));
  }
  std::string folder_;
};

TEST_F(Package, GivesKernelConfigAndModules) {
  const std::vector<File> files = {{"./boot/vmlinuz-6.1-x", "kernel"},
                                   {"./boot/config-6.1-x", "CONFIG_A=y"},
                                   {"./boot/System.map-6.1-x", "map"},
                                   {"./lib/modules/6.1-x/kernel/fs/erofs/erofs.ko", "erofs"},
                                   {"./usr/lib/modules/6.1-x/kernel/fs/fuse/fuse.ko.xz", "fuse"},
                                   {"./lib/modules/6.1-x/modules.builtin", "kernel/fs/ext4/ext4.ko\n"}};
  for (const std::string& bytes :
       {ar_of({{"data.tar", tar_of(files)}}), ar_of({{"data.tar.zst", *compress_zstd(tar_of(files), 3)}})}) {
    const auto package = unpack(bytes);
    ASSERT_TRUE(package.ok()) << package.error().message();
    EXPECT_EQ(package->version, "6.1-x");
    EXPECT_EQ(*sys::read_file(package->kernel), "kernel");
    EXPECT_EQ(*sys::read_file(package->config), "CONFIG_A=y");
    EXPECT_EQ(*sys::read_file(package->modules + "/erofs.ko"), "erofs");
    EXPECT_EQ(*sys::read_file(package->modules + "/fuse.ko.xz"), "fuse");
    EXPECT_TRUE(fs::exists(package->modules + "/modules.builtin"));
    EXPECT_FALSE(fs::exists(folder_ + "/out/System.map-6.1-x"));
  }
}

TEST_F(Package, NothingLeavesTheFolder) {
  fs::create_directory(folder_ + "/elsewhere");
  const auto package = unpack({{"./boot/vmlinuz-6.1", "kernel"},
                               {"./lib/modules/../../../../elsewhere/evil.ko", "x"},
                               {"lib/modules/a/link.ko", "", '2', "/etc/passwd"},
                               {"lib/modules/a/hard.ko", "", '1', "/etc/passwd"},
                               {"lib/modules/a/fifo.ko", "", '6'},
                               {folder_ + "/elsewhere/absolute.ko", "x"}});
  ASSERT_TRUE(package.ok()) << package.error().message();
  EXPECT_TRUE(fs::is_empty(folder_ + "/elsewhere"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(package->modules + "/link.ko")));
  EXPECT_FALSE(fs::exists(package->modules + "/hard.ko"));
  EXPECT_FALSE(fs::exists(package->modules + "/fifo.ko"));
}

TEST_F(Package, StrangeOnesAreRefused) {
  const auto says = [&](const Result<KernelPackage>& package) {
    return package.ok() ? std::string("accepted") : package.error().message();
  };
  EXPECT_THAT(says(unpack({{"./boot/vmlinuz-6.1", "a"}, {"./boot/vmlinuz-6.2", "b"}})), HasSubstr("more than one"));
  EXPECT_THAT(says(unpack({{"./boot/vmlinuz-../../x", "a"}})), HasSubstr("strange version"));
  EXPECT_THAT(says(unpack({{"./boot/vmlinuz-.hidden", "a"}})), HasSubstr("strange version"));
  EXPECT_THAT(says(unpack(std::vector<File>{{"./usr/share/doc/x", "a"}})), HasSubstr("holds no kernel"));
  EXPECT_THAT(says(unpack(ar_of({{"debian-binary", "2.0\n"}}))), HasSubstr("no data.tar"));
  EXPECT_NE(says(unpack(std::string("not an archive"))), "accepted");
  EXPECT_NE(says(unpack(std::string())), "accepted");
  EXPECT_NE(says(unpack(ar_of({{"data.tar.xz",
                                "\xfd"
                                "7zXZ damaged"}}))),
            "accepted");
  const std::string whole = ar_of({{"data.tar", tar_of({{"./boot/vmlinuz-6.1", std::string(5000, 'k')}})}});
  EXPECT_NE(says(unpack(whole.substr(0, 3000))), "accepted");
}

TEST(KernelSource, ReadsWhatAptSays) {
  EXPECT_EQ(kernel_package_of("linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n  Conflicts: x\n"),
            "linux-image-6.1.0-56-cloud-amd64");
  for (const char* text : {"", "Depends: ", "  Depends: libc6\n", "  Depends: linux-image-6.1;reboot-cloud-amd64\n"}) {
    EXPECT_EQ(kernel_package_of(text), "") << text;
  }
}

TEST_F(Package, TheNewestOfAFolder) {
  for (const char* name :
       {"linux-image-6.1.0-9-cloud-amd64_6.1.1-1_amd64.deb", "linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb",
        "linux-image-cloud-amd64_6.1.192-2_amd64.deb", "linux-image-6.9.0-1-amd64_1_amd64.deb", "x.deb"}) {
    std::ofstream(folder_ + "/" + name) << "";
  }
  EXPECT_EQ(newest_kernel_package(folder_), folder_ + "/linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb");
  EXPECT_EQ(newest_kernel_package(folder_ + "/none"), "");
}

TEST(Initramfs, BusyboxReadsIt) {
  const std::string archive = make_initramfs("guest", {{"virtio", "first"}, {"erofs", "second!", "2 26"}});
  EXPECT_EQ(archive, make_initramfs("guest", {{"virtio", "first"}, {"erofs", "second!", "2 26"}}));
  EXPECT_EQ(archive.size() % 512, 0U);
  std::string name = testing::TempDir() + "initramfs-XXXXXX";
  const UniqueFd file(::mkostemp(name.data(), O_CLOEXEC));
  ASSERT_TRUE(sys::write_all(file.get(), archive).ok());
  const auto listed = run_program({"/bin/busybox", "sh", "-c", "cpio -tv < " + name});
  const auto order = run_program({"/bin/busybox", "sh", "-c", "cpio -i --to-stdout modules/order < " + name});
  const auto module = run_program({"/bin/busybox", "sh", "-c", "cpio -i --to-stdout modules/erofs.ko < " + name});
  ::unlink(name.c_str());
  ASSERT_TRUE(listed.ok()) << listed.error().message();
  EXPECT_THAT(*listed, testing::ContainsRegex("-rwxr-xr-x 0/0 +5 1970-01-01 00:00:00 init"));
  EXPECT_THAT(*listed, testing::ContainsRegex("crw------- 0/0 .* dev/console"));
  EXPECT_THAT(*order, HasSubstr("virtio.ko\nerofs.ko 2 26"));
  EXPECT_THAT(*module, HasSubstr("second!"));
}

}  // namespace
}  // namespace hull::vm
