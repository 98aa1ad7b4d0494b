#include "vm/spec_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::vm {
namespace {

using oci::NamespaceType;
using testing::HasSubstr;

class SpecPlanTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hull-spec-plan-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    folder_ = name;
    ASSERT_EQ(::mkdir((folder_ + "/data").c_str(), 0755), 0);
    ASSERT_TRUE(sys::replace_file(folder_ + "/hosts", "127.0.0.1 localhost\n", 0644, false).ok());
  }
  void TearDown() override { ignore_result(sys::remove_tree(folder_)); }

  static oci::Spec spec() {
    oci::Spec out;
    out.version = "1.0.2";
    out.process.emplace();
    out.process->args = {"true"};
    out.process->cwd.push_back('/');
    out.root = oci::Root{"rootfs", false};
    out.linux_config.emplace();
    for (const NamespaceType type : {NamespaceType::kPid, NamespaceType::kNetwork, NamespaceType::kIpc,
                                     NamespaceType::kUts, NamespaceType::kMount}) {
      out.linux_config->namespaces.push_back({type, ""});
    }
    return out;
  }
  Result<SpecPlan> plan(const oci::Spec& in, bool layered = false) const {
    return plan_spec(in, folder_, layered ? "" : folder_ + "/rootfs");
  }
  std::string refusal(const oci::Spec& in) const {
    auto planned = plan(in);
    if (planned.ok()) return "accepted";
    EXPECT_EQ(planned.error().kind(), ErrorKind::kUnsupported) << planned.error().message();
    return planned.error().message();
  }

  std::string folder_;
};

TEST_F(SpecPlanTest, SharesTheRootAndBindSources) {
  oci::Spec in = spec();
  in.mounts = {{"/proc", "proc", "proc", {}, {}, {}},
               {"/data", "bind", folder_ + "/data", {"rbind", "ro"}, {}, {}},
               {"/etc/hosts", "", "hosts", {"bind"}, {}, {}}};
  auto planned = plan(in);
  ASSERT_TRUE(planned.ok()) << planned.error().message();
  ASSERT_EQ(planned->shares.size(), 3u);
  EXPECT_EQ(planned->shares[0].source, folder_ + "/rootfs");
  EXPECT_EQ(planned->shares[1].source, folder_ + "/data");
  EXPECT_TRUE(planned->shares[1].read_only);
  EXPECT_TRUE(planned->shares[1].recursive);
  EXPECT_EQ(planned->shares[2].source, folder_ + "/hosts");
  EXPECT_FALSE(planned->shares[2].read_only);
  EXPECT_FALSE(planned->shares[2].recursive);
  EXPECT_EQ(planned->guest.root->path, "/run/hull/share/0");
  EXPECT_EQ(planned->guest.mounts[0].source, "proc");
  EXPECT_EQ(planned->guest.mounts[1].source, "/run/hull/share/1");
  EXPECT_EQ(planned->guest.mounts[2].source, "/run/hull/share/2");
  EXPECT_EQ(planned->guest.mounts[2].type, "bind");
  for (const oci::Namespace& entry : planned->guest.linux_config->namespaces) {
    EXPECT_NE(entry.type, NamespaceType::kNetwork);
  }
  EXPECT_TRUE(oci::validate(planned->guest).ok());
}

TEST_F(SpecPlanTest, LayersMakeTheRootInTheGuest) {
  oci::Spec in = spec();
  in.mounts = {{"/", "overlay", "overlay", {"lowerdir=/somewhere"}, {}, {}}, {"/tmp", "tmpfs", "tmpfs", {}, {}, {}}};
  auto planned = plan(in, true);
  ASSERT_TRUE(planned.ok()) << planned.error().message();
  EXPECT_TRUE(planned->shares.empty());
  EXPECT_EQ(planned->guest.root->path, "/run/hull/root");
  ASSERT_EQ(planned->guest.mounts.size(), 1u);
  EXPECT_EQ(planned->guest.mounts[0].destination, "/tmp");
}

TEST_F(SpecPlanTest, RefusesWhatIsTheHosts) {
  oci::Spec in = spec();
  std::erase_if(in.linux_config->namespaces, [](const auto& entry) { return entry.type == NamespaceType::kPid; });
  EXPECT_THAT(refusal(in), HasSubstr("names no pid namespace"));
  in = spec();
  std::erase_if(in.linux_config->namespaces, [](const auto& entry) { return entry.type == NamespaceType::kNetwork; });
  EXPECT_THAT(refusal(in), HasSubstr("can't use the host's network"));
  in = spec();
  in.linux_config->namespaces[2].path = "/proc/1/ns/ipc";
  EXPECT_THAT(refusal(in), HasSubstr("can't join the ipc namespace /proc/1/ns/ipc"));
  in = spec();
  in.linux_config->devices = {{"/dev/sda", "b", 8, 0, {}, {}, {}}};
  EXPECT_THAT(refusal(in), HasSubstr("/dev/sda (b 8:0) is a device of the host"));
  in = spec();
  in.mounts = {{"/mnt", "ext4", "/dev/sda1", {}, {}, {}}};
  EXPECT_THAT(refusal(in), HasSubstr("mounts[0] (/mnt)"));
  in = spec();
  in.mounts = {{"/dev/x", "bind", "/dev/null", {"bind"}, {}, {}}};
  EXPECT_THAT(refusal(in), HasSubstr("is a device"));
  in = spec();
  in.hooks.emplace().create_container = {{"/bin/true", {}, {}, {}}};
  EXPECT_THAT(refusal(in), HasSubstr("createContainer"));
  in = spec();
  in.linux_config->seccomp.emplace().listener_path = "/run/agent";
  EXPECT_THAT(refusal(in), HasSubstr("listenerPath"));
  in = spec();
  in.linux_config->net_devices["eth9"] = "";
  EXPECT_THAT(refusal(in), HasSubstr("netDevices"));
}

TEST_F(SpecPlanTest, RefusesSockets) {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = folder_ + "/socket";
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(listener);
  oci::Spec in = spec();
  in.mounts = {{"/run/x.sock", "bind", path, {"bind"}, {}, {}}};
  EXPECT_THAT(refusal(in), HasSubstr("is a socket"));
}

TEST_F(SpecPlanTest, KeepsDevicesThatEveryKernelHas) {
  oci::Spec in = spec();
  in.linux_config->devices = {{"/dev/fuse", "c", 10, 229, {}, {}, {}}, {"/dev/kmsg", "c", 1, 11, {}, {}, {}}};
  auto planned = plan(in);
  ASSERT_TRUE(planned.ok()) << planned.error().message();
  EXPECT_EQ(planned->guest.linux_config->devices.size(), 2u);
}

TEST_F(SpecPlanTest, PartsLimits) {
  oci::Spec in = spec();
  oci::Resources& resources = in.linux_config->resources.emplace();
  resources.memory.emplace().limit = 64 << 20;
  resources.cpu.emplace().quota = 50000;
  resources.pids_limit = 10;
  in.linux_config->cgroups_path = "/somewhere/on/the/host";
  auto planned = plan(in);
  ASSERT_TRUE(planned.ok());
  EXPECT_EQ(planned->host.cpu->quota, 50000);
  EXPECT_FALSE(planned->host.pids_limit);
  EXPECT_FALSE(planned->guest.linux_config->resources->cpu);
  EXPECT_EQ(planned->guest.linux_config->resources->pids_limit, 10);
  EXPECT_EQ(planned->guest.linux_config->resources->memory->limit, 64 << 20);
  EXPECT_EQ(planned->guest.linux_config->cgroups_path, "/hull/workload");
}

TEST_F(SpecPlanTest, OnlyHooksOfTheInsideGoInside) {
  oci::Spec in = spec();
  in.hooks.emplace();
  in.hooks->prestart = {{"/usr/bin/net", {}, {}, {}}};
  in.hooks->start_container = {{"/bin/inside", {}, {}, {}}};
  auto planned = plan(in);
  ASSERT_TRUE(planned.ok());
  EXPECT_TRUE(planned->guest.hooks->prestart.empty());
  ASSERT_EQ(planned->guest.hooks->start_container.size(), 1u);
  EXPECT_EQ(planned->guest.hooks->start_container[0].path, "/bin/inside");
}

TEST_F(SpecPlanTest, AnySysctlIsTheGuestsOwn) {
  oci::Spec in = spec();
  in.linux_config->sysctl = {{"net.ipv4.ip_forward", "1"}, {"vm.overcommit_memory", "1"}, {"kernel.shmmax", "65536"}};
  std::map<std::string, std::string> sysctl;
  auto parsed = parse_machine_spec(oci::to_json(in), &sysctl);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message();
  EXPECT_EQ(sysctl.size(), 2u);
  EXPECT_EQ(sysctl["vm.overcommit_memory"], "1");
  EXPECT_EQ(parsed->linux_config->sysctl.size(), 1u);
  in.linux_config->sysctl = {{"../../etc/passwd", "1"}};
  EXPECT_FALSE(parse_machine_spec(oci::to_json(in), &sysctl).ok());
}

}  // namespace
}  // namespace hull::vm
