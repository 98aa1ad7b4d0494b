#include "vm/vm_json.h"

#include <gtest/gtest.h>

namespace hull::vm {
namespace {

VmJson full() {
  VmJson vm;
  vm.layers = {"/data/layers/b.erofs", "/data/layers/a.erofs"};
  vm.scratch = "/data/workloads/x/scratch.ext4";
  vm.memory_bytes = 300 << 20;
  vm.vcpus = 3;
  vm.nics = 2;
  vm.hypervisor = "qemu";
  vm.data_root = "/data";
  vm.kernel = "6.1.0-1-cloud-amd64";
  vm.console_log = "/data/workloads/x/console.log";
  vm.oom_file = "/run/workloads/x/oom";
  vm.resolve_user = true;
  vm.groups_add = {"video", "44"};
  return vm;
}

TEST(VmJson, ComesBackAsItWent) {
  const std::string text = to_json(full());
  const auto again = parse_vm_json(text);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(to_json(*again), text);
  EXPECT_EQ(again->layers, full().layers);
  EXPECT_EQ(again->memory_bytes, 300u << 20);
  EXPECT_TRUE(again->resolve_user);
}

TEST(VmJson, NamesTheMemberThatIsWrong) {
  const auto message = [](VmJson vm) {
    const auto parsed = parse_vm_json(to_json(vm));
    return parsed.ok() ? std::string("accepted") : parsed.error().message();
  };
  VmJson vm = full();
  vm.layers.emplace_back("relative");
  EXPECT_NE(message(vm).find("layers"), std::string::npos);
  vm = full();
  vm.vcpus = 0;
  EXPECT_NE(message(vm).find("vcpus"), std::string::npos);
  vm.vcpus = 65;
  EXPECT_NE(message(vm).find("vcpus"), std::string::npos);
  vm = full();
  vm.memory_bytes = 0;
  EXPECT_NE(message(vm).find("memory"), std::string::npos);
  vm = full();
  vm.hypervisor = "xen";
  EXPECT_NE(message(vm).find("hypervisor"), std::string::npos);
  EXPECT_FALSE(parse_vm_json(R"({"memory":1048576,"vcpus":1,"arguments":["-x"]})").ok());
  EXPECT_FALSE(parse_vm_json("[]").ok());
}

}  // namespace
}  // namespace hull::vm
