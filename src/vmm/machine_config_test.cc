#include "vmm/machine_config.h"

#include <gmock/gmock.h>

#include <string>

namespace hull::vmm {
namespace {
using testing::HasSubstr;

std::string error_of(std::string_view json) {
  const Result<MachineConfig> config = parse_machine_config(json);
  return config.ok() ? "" : config.error().message();
}

TEST(MachineConfig, DefaultsFillWhatIsNotSaid) {
  const Result<MachineConfig> config = parse_machine_config(R"({"kernel":"/k"})");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->memory_bytes, 512ull << 20);
  EXPECT_EQ(config->vcpus, 1u);
  EXPECT_TRUE(config->balloon);
  EXPECT_EQ(config->vsock_cid, 3u);
}

TEST(MachineConfig, EverythingSurvivesPrintingAndParsing) {
  MachineConfig config;
  config.memory_bytes = 5ull << 30;
  config.vcpus = 64;
  config.huge_pages = true;
  config.kernel = "/boot/\"odd\" name";
  config.initramfs = "/i";
  config.command_line = "console=ttyS0 a=\xc3\xa4";
  config.disks.push_back({{"/a", "/proc/self/fd/7"}, false, "serial", {1, 2}});
  config.nets.push_back({9, "02:42:ac:11:00:02", 2, {3, 0}});
  config.filesystems.push_back({"share", "/s"});
  config.pmem = {"/p"};
  config.vsock_socket = "/v";
  config.vsock_cid = 77;
  config.balloon = false;
  config.rng = false;
  config.virtio_console = true;
  config.console_log = "-";
  config.api_socket = "/api";
  config.gdb = "unix:/g";
  const Result<MachineConfig> back = parse_machine_config(to_json(config));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(to_json(*back), to_json(config));
  EXPECT_EQ(back->disks[0].extents[1], "/proc/self/fd/7");
  EXPECT_FALSE(back->disks[0].read_only);
  EXPECT_EQ(back->disks[0].limit.operations_per_second, 2u);
  EXPECT_EQ(back->nets[0].tap_fd, 9);
  EXPECT_EQ(back->nets[0].limit.bytes_per_second, 3u);
  EXPECT_EQ(back->filesystems[0].tag, "share");
  EXPECT_FALSE(back->rng);
  EXPECT_TRUE(back->virtio_console);
  EXPECT_EQ(back->pmem, config.pmem);
}

TEST(MachineConfig, UnknownMembersAreNamed) {
  EXPECT_THAT(error_of(R"({"kernel":"/k","memry":1})"), HasSubstr("memry"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","disks":[{"extents":["/a"],"limit":{"bytes":1}}]})"),
              HasSubstr("disks[0].limit.bytes"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","kernel":"/k"})"), HasSubstr("twice"));
}

TEST(MachineConfig, NonsenseIsRefusedWithTheMemberNamed) {
  EXPECT_THAT(error_of("{}"), HasSubstr("kernel"));
  EXPECT_THAT(error_of(""), HasSubstr("an object"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","vcpus":0})"), HasSubstr("vcpus: 0"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","vcpus":1000})"), HasSubstr("vcpus: 1000"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","vcpus":-1})"), HasSubstr("vcpus"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","memory_bytes":1048576})"), HasSubstr("memory_bytes"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","memory_bytes":67108865})"), HasSubstr("multiple"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","memory_bytes":18446744073709547520})"), HasSubstr("memory_bytes"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","disks":[{}]})"), HasSubstr("disks[0].extents"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","disks":[{"extents":["/a"],"serial":"123456789012345678901"}]})"),
              HasSubstr("disks[0].serial"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","nets":[{"mac":"02:42:ac:11:00:02"}]})"), HasSubstr("nets[0].tap_fd"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","nets":[{"tap_fd":3,"mac":"01:42:ac:11:00:02"}]})"), HasSubstr("nets[0].mac"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","nets":[{"tap_fd":3,"mac":"0242ac110002"}]})"), HasSubstr("nets[0].mac"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","filesystems":[{"tag":"","socket":"/s"}]})"), HasSubstr("tag"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","pmem":["/a",""]})"), HasSubstr("pmem[1]"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","vsock_cid":2})"), HasSubstr("vsock_cid"));
  EXPECT_THAT(error_of(R"({"kernel":"/k","command_line":")" + std::string(2048, 'a') + "\"}"),
              HasSubstr("command_line"));
  EXPECT_THAT(error_of(R"({"kernel":"/k"} x)"), HasSubstr("end of the document"));
}

TEST(MachineConfig, MacAddressesMayBeOfAnyCase) {
  EXPECT_EQ(error_of(R"({"kernel":"/k","nets":[{"tap_fd":3,"mac":"02:42:AC:11:00:0a"}]})"), "");
  EXPECT_THAT(error_of(R"({"kernel":"/k","nets":[{"tap_fd":3,"mac":"0B:42:AC:11:00:0a"}]})"), HasSubstr("mac"));
}

}  // namespace
}  // namespace hull::vmm
