#include "isolation/device_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "isolation/defaults.h"

namespace hull::isolation {
namespace {

using testing::ElementsAre;

struct Access {
  uint32_t type;    // BPF_DEVCG_DEV_*
  uint32_t access;  // kDevice* bits
  uint32_t major, minor;
};

/// The few eBPF instructions that device_program() uses, as the kernel runs them.
int run(const std::vector<bpf_insn>& program, const Access& asked) {
  const uint32_t context[3] = {asked.access << 16 | asked.type, asked.major, asked.minor};
  uint64_t r[6] = {};
  size_t steps = 0;
  for (size_t pc = 0; pc < program.size(); ++pc) {
    if (++steps > 100000) break;
    const bpf_insn& insn = program[pc];
    uint64_t& dst = r[insn.dst_reg];
    const uint64_t src = r[insn.src_reg % 6];
    const auto constant = static_cast<uint64_t>(static_cast<int64_t>(insn.imm));
    switch (insn.code) {
      case BPF_LDX | BPF_MEM | BPF_W:
        dst = context[insn.off / 4];
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        dst = static_cast<uint32_t>(dst & constant);
        break;
      case BPF_ALU | BPF_RSH | BPF_K:
        dst = static_cast<uint32_t>(dst) >> insn.imm;
        break;
      case BPF_ALU | BPF_MOV | BPF_K:
        dst = static_cast<uint32_t>(insn.imm);
        break;
      case BPF_ALU64 | BPF_MOV | BPF_K:
        dst = constant;
        break;
      case BPF_ALU64 | BPF_MOV | BPF_X:
        dst = src;
        break;
      case BPF_JMP | BPF_JNE | BPF_K:
        pc += dst != constant ? static_cast<size_t>(insn.off) : 0;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += dst == constant ? static_cast<size_t>(insn.off) : 0;
        break;
      case BPF_JMP | BPF_JNE | BPF_X:
        pc += dst != src ? static_cast<size_t>(insn.off) : 0;
        break;
      case BPF_JMP | BPF_EXIT:
        return static_cast<int>(r[0]);
      default:
        ADD_FAILURE() << "instruction " << int{insn.code};
        return -1;
    }
  }
  ADD_FAILURE() << "ran off the end";
  return -1;
}

/// What Documentation/admin-guide/cgroup-v1/devices.rst says.
int model(const DevicePolicy& policy, const Access& asked) {
  for (const DeviceException& e : policy.exceptions) {
    const uint32_t type = e.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
    if (type != asked.type || (e.major && *e.major != asked.major) || (e.minor && *e.minor != asked.minor)) continue;
    const bool hit = policy.default_allow ? (asked.access & e.access) != 0 : (asked.access & ~e.access) == 0;
    if (hit) return policy.default_allow ? 0 : 1;
  }
  return policy.default_allow ? 1 : 0;
}

oci::DeviceCgroup rule(bool allow, const char* type, std::optional<int64_t> major, std::optional<int64_t> minor,
                       const char* access) {
  return {.allow = allow, .type = type, .major = major, .minor = minor, .access = access};
}

TEST(DeviceRules, WorkedOffInOrder) {
  Result<DevicePolicy> policy =
      device_policy({rule(true, "c", 1, 3, "rw"), rule(false, "a", {}, {}, "rwm"), rule(true, "c", 1, 3, "r"),
                     rule(true, "c", 1, 3, "w"), rule(true, "b", 8, {}, "rwm"), rule(false, "b", 8, {}, "m")});
  ASSERT_TRUE(policy.ok());
  EXPECT_FALSE(policy->default_allow);
  ASSERT_EQ(policy->exceptions.size(), 2U);
  EXPECT_EQ(device_rule_text(policy->exceptions[0]), "c 1:3 rw");
  EXPECT_EQ(device_rule_text(policy->exceptions[1]), "b 8:* rw");
  policy = device_policy({rule(true, "", {}, {}, ""), rule(false, "c", -1, 7, "w")});
  ASSERT_TRUE(policy.ok());
  EXPECT_TRUE(policy->default_allow);
  EXPECT_EQ(device_rule_text(policy->exceptions[0]), "c *:7 w");
  EXPECT_FALSE(device_policy({rule(true, "d", 1, 1, "r")}).ok());
  EXPECT_FALSE(device_policy({rule(true, "c", 1, 1, "x")}).ok());
  EXPECT_FALSE(device_policy({rule(true, "c", -2, 1, "r")}).ok());
}

TEST(DeviceRules, ReadsTheKernelsList) {
  EXPECT_EQ(parse_device_list("a *:* rwm\n"), (DevicePolicy{}));
  const DevicePolicy policy = parse_device_list("c *:* m\nc 1:3 rwm\nb 8:* r\n");
  EXPECT_FALSE(policy.default_allow);
  ASSERT_EQ(policy.exceptions.size(), 3U);
  EXPECT_EQ(device_rule_text(policy.exceptions[0]), "c *:* m");
  EXPECT_EQ(device_rule_text(policy.exceptions[2]), "b 8:* r");
}

TEST(DeviceRules, DefaultsAllowTheDefaultDevices) {
  std::vector<oci::DeviceCgroup> rules = default_device_rules();
  for (const oci::DeviceCgroup& more : required_device_rules()) rules.push_back(more);
  Result<DevicePolicy> policy = device_policy(rules);
  ASSERT_TRUE(policy.ok());
  const std::vector<bpf_insn> program = device_program(*policy);
  for (const DefaultDevice& device : kDefaultDevices) {
    EXPECT_EQ(run(program, {BPF_DEVCG_DEV_CHAR, kDeviceAll, device.major, device.minor}), 1) << device.path;
  }
  EXPECT_EQ(run(program, {BPF_DEVCG_DEV_CHAR, kDeviceRead | kDeviceWrite, 136, 77}), 1) << "a pts";
  EXPECT_EQ(run(program, {BPF_DEVCG_DEV_CHAR, kDeviceMknod, 10, 200}), 1) << "mknod of anything";
  EXPECT_EQ(run(program, {BPF_DEVCG_DEV_CHAR, kDeviceRead, 1, 1}), 0) << "/dev/mem";
  EXPECT_EQ(run(program, {BPF_DEVCG_DEV_BLOCK, kDeviceRead, 8, 0}), 0) << "a disk";
}

TEST(DeviceRules, ProgramsDecideAsTheModelDoes) {
  std::mt19937 random(1);
  const auto pick = [&](std::initializer_list<int64_t> from) { return *(from.begin() + random() % from.size()); };
  for (int round = 0; round < 300; ++round) {
    std::vector<oci::DeviceCgroup> rules;
    for (size_t i = random() % 8; i > 0; --i) {
      const char* types[] = {"a", "b", "c", "", "c"};
      const char* accesses[] = {"r", "w", "m", "rw", "rwm", "wm", ""};
      std::optional<int64_t> major = pick({-1, 0, 1, 8, 0xffffffffLL});
      std::optional<int64_t> minor = pick({-1, 0, 3, 0x80000000LL});
      rules.push_back(rule(random() % 2 == 0, types[random() % 5], major, minor, accesses[random() % 7]));
    }
    Result<DevicePolicy> policy = device_policy(rules);
    ASSERT_TRUE(policy.ok());
    const std::vector<bpf_insn> program = device_program(*policy);
    for (const uint32_t type : {BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR}) {
      for (uint32_t access = 1; access < 8; ++access) {
        for (const uint32_t major : {0U, 1U, 8U, 9U, 0xffffffffU}) {
          for (const uint32_t minor : {0U, 3U, 4U, 0x80000000U}) {
            const Access asked = {type, access, major, minor};
            ASSERT_EQ(run(program, asked), model(*policy, asked));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace hull::isolation
