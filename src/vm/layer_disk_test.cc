#include "vm/layer_disk.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;

class LayerDisk : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "layer-disk-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  /// A file with an EROFS magic and a size, otherwise zeros and `mark` at its beginning.
  std::string blob(const std::string& name, uint64_t bytes, const std::string& mark = "") {
    std::string path = folder_ + "/" + name;
    std::string content(bytes, '\0');
    content.replace(0, mark.size(), mark);
    if (bytes >= 1028) content.replace(1024, 4, "\xe2\xe1\xf5\xe0");
    std::ofstream(path) << content;
    return path;
  }

  std::string folder_;
};

TEST_F(LayerDisk, SfdiskReadsTheTableAsItWasMeant) {
  const std::vector<uint64_t> sizes = {4096, 1 << 20, 12288};
  const auto header = layer_disk_header(sizes);
  ASSERT_TRUE(header.ok()) << header.error().message();
  EXPECT_EQ(header->size(), kLayerHeaderBytes);
  const std::string disk = folder_ + "/disk";
  std::ofstream(disk) << *header;
  ASSERT_EQ(::truncate(disk.c_str(), static_cast<off_t>(kLayerHeaderBytes + 4096 + (1 << 20) + 12288)), 0);
  const auto dump = run_program({"/sbin/sfdisk", "--dump", disk});
  ASSERT_TRUE(dump.ok()) << dump.error().message();
  EXPECT_THAT(*dump, HasSubstr("label: gpt"));
  EXPECT_THAT(*dump,
              HasSubstr("disk1 : start=          40, size=           8, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4"));
  EXPECT_THAT(*dump, HasSubstr("disk2 : start=          48, size=        2048,"));
  EXPECT_THAT(*dump, HasSubstr("disk3 : start=        2096, size=          24,"));
  EXPECT_THAT(*dump, HasSubstr("name=\"layer 2\""));
  EXPECT_THAT(*dump, testing::Not(HasSubstr("disk4")));
  // The only fault is the backup table that is left out on purpose.
  EXPECT_THAT(*dump, testing::Not(HasSubstr("CRC")));
}

TEST_F(LayerDisk, HoldsAsManyLayersAsItSays) {
  EXPECT_TRUE(layer_disk_header(std::vector<uint64_t>(kMostLayers, 4096)).ok());
  const auto more = layer_disk_header(std::vector<uint64_t>(kMostLayers + 1, 4096));
  ASSERT_FALSE(more.ok());
  EXPECT_EQ(more.error().kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(more.error().message(), HasSubstr("129 layers"));
  EXPECT_FALSE(layer_disk_header({}).ok());
}

TEST_F(LayerDisk, RefusesSizesThatAreNoBlocksOrOverflow) {
  for (const uint64_t size : {uint64_t{0}, uint64_t{1}, uint64_t{4095}, uint64_t{4097}, UINT64_MAX - 4095}) {
    EXPECT_FALSE(layer_disk_header(std::vector<uint64_t>{size}).ok()) << size;
  }
  EXPECT_FALSE(layer_disk_header(std::vector<uint64_t>(100, uint64_t{1} << 59)).ok());
}

TEST_F(LayerDisk, SameSizesSameBytes) {
  const std::vector<uint64_t> sizes = {8192, 4096};
  EXPECT_EQ(*layer_disk_header(sizes), *layer_disk_header(sizes));
}

TEST_F(LayerDisk, TakesErofsFilesOnly) {
  const std::string good = blob("good", 8192);
  const std::string header = folder_ + "/header";
  const auto disk = make_layer_disk({good, good}, header);
  ASSERT_TRUE(disk.ok()) << disk.error().message();
  EXPECT_THAT(disk->extents, testing::ElementsAre(header, good, good));
  EXPECT_TRUE(disk->read_only);
  EXPECT_EQ(std::filesystem::file_size(header), kLayerHeaderBytes);

  std::ofstream(folder_ + "/plain") << std::string(8192, 'x');
  for (const std::string& bad : {blob("odd", 8191), blob("empty", 0), folder_ + "/plain", folder_}) {
    const auto refused = make_layer_disk({good, bad}, header);
    ASSERT_FALSE(refused.ok()) << bad;
    EXPECT_EQ(refused.error().kind(), ErrorKind::kCorrupt);
    EXPECT_THAT(refused.error().message(), HasSubstr(bad));
  }
  const auto missing = make_layer_disk({folder_ + "/missing"}, header);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().kind(), ErrorKind::kNotFound);
}

TEST_F(LayerDisk, QemuSeesOneDiskOfAllExtents) {
  std::vector<FlatExtent> extents;
  std::string expected;
  for (int i = 0; i < 3; ++i) {
    const std::string content(static_cast<size_t>(4096 * (i + 1)), static_cast<char>('a' + i));
    const std::string path = fmt::format("{}/part, {}", folder_, i);
    std::ofstream(path) << content;
    extents.push_back({path, content.size()});
    expected += content;
  }
  const auto descriptor = vmdk_descriptor(extents);
  ASSERT_TRUE(descriptor.ok()) << descriptor.error().message();
  std::ofstream(folder_ + "/disk.vmdk") << *descriptor;
  const auto converted = run_program(
      {"/usr/bin/qemu-img", "convert", "-f", "vmdk", "-O", "raw", folder_ + "/disk.vmdk", folder_ + "/raw"});
  ASSERT_TRUE(converted.ok()) << converted.error().message();
  EXPECT_EQ(*sys::read_file(folder_ + "/raw"), expected);
}

TEST_F(LayerDisk, DescriptorRefusesWhatItCannotName) {
  EXPECT_FALSE(vmdk_descriptor(std::vector<FlatExtent>{{"/a\"b", 512}}).ok());
  EXPECT_FALSE(vmdk_descriptor(std::vector<FlatExtent>{{"/a\nRW 1 FLAT \"/etc/shadow\" 0", 512}}).ok());
  EXPECT_FALSE(vmdk_descriptor(std::vector<FlatExtent>{{"relative", 512}}).ok());
  EXPECT_FALSE(vmdk_descriptor(std::vector<FlatExtent>{{"/" + std::string(511, 'a'), 512}}).ok());
  EXPECT_FALSE(vmdk_descriptor(std::vector<FlatExtent>{{"/a", 511}}).ok());
}

}  // namespace
}  // namespace hull::vm
