#include "isolation/device_rules.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "base/unique_fd.h"
#include "isolation/cgroup_files.h"

namespace hull::isolation {

namespace {

struct Parsed {
  char type = 'a';
  DeviceException exception;
};

Result<uint8_t> access_bits(std::string_view text, std::string_view member) {
  // Empty means every access (the kernel would refuse an empty one).
  if (text.empty()) return kDeviceAll;
  uint8_t bits = 0;
  for (const char c : text) {
    switch (c) {
      case 'r':
        bits |= kDeviceRead;
        break;
      case 'w':
        bits |= kDeviceWrite;
        break;
      case 'm':
        bits |= kDeviceMknod;
        break;
      default:
        return errorf(ErrorKind::kInvalid, "{}.access: \"{}\" may hold only r, w and m", member, text);
    }
  }
  return bits;
}

Result<std::optional<uint32_t>> device_number(const std::optional<int64_t>& number, std::string_view member) {
  if (!number || *number == -1) return std::optional<uint32_t>();
  if (*number < 0 || *number > 0xffffffffLL) {
    return errorf(ErrorKind::kInvalid, "{}: {} is no device number", member, *number);
  }
  return std::optional<uint32_t>(static_cast<uint32_t>(*number));
}

bool same_device(const DeviceException& a, const DeviceException& b) {
  return a.type == b.type && a.major == b.major && a.minor == b.minor;
}

}  // namespace

Result<DevicePolicy> device_policy(const std::vector<oci::DeviceCgroup>& rules) {
  DevicePolicy policy;
  for (size_t i = 0; i < rules.size(); ++i) {
    const oci::DeviceCgroup& rule = rules[i];
    const std::string member = fmt::format("linux.resources.devices[{}]", i);
    if (!rule.type.empty() && rule.type != "a" && rule.type != "b" && rule.type != "c") {
      return errorf(ErrorKind::kInvalid, "{}.type: \"{}\" is not one of a, b, c", member, rule.type);
    }
    DeviceException exception;
    TRY_ASSIGN(exception.access, access_bits(rule.access, member));
    TRY_ASSIGN(exception.major, device_number(rule.major, member));
    TRY_ASSIGN(exception.minor, device_number(rule.minor, member));
    const bool both_types = rule.type.empty() || rule.type == "a";
    if (both_types && !exception.major && !exception.minor) {
      // As the v1 controller: "a" is everything, whatever access stands beside it.
      policy.default_allow = rule.allow;
      policy.exceptions.clear();
      continue;
    }
    for (const char type : {'c', 'b'}) {
      if (!both_types && rule.type[0] != type) continue;
      exception.type = type;
      const auto found = std::find_if(policy.exceptions.begin(), policy.exceptions.end(),
                                      [&](const DeviceException& other) { return same_device(other, exception); });
      if (rule.allow != policy.default_allow) {
        if (found == policy.exceptions.end()) {
          policy.exceptions.push_back(exception);
        } else {
          found->access |= exception.access;
        }
      } else if (found != policy.exceptions.end()) {
        found->access &= static_cast<uint8_t>(~exception.access);
        if (found->access == 0) policy.exceptions.erase(found);
      }
    }
  }
  return policy;
}

DevicePolicy parse_device_list(std::string_view text) {
  DevicePolicy policy;
  policy.default_allow = false;
  for (const std::string_view line : cgroup_files::split(text, "\n")) {
    const std::vector<std::string_view> parts = cgroup_files::split(line, " :");
    if (parts.size() != 4 || parts[0].size() != 1) continue;
    if (parts[0] == "a") {
      policy.default_allow = true;
      policy.exceptions.clear();
      continue;
    }
    DeviceException exception;
    exception.type = parts[0][0];
    const auto number = [](std::string_view part) -> std::optional<uint32_t> {
      const std::optional<uint64_t> value = cgroup_files::to_number(part);
      if (!value) return std::nullopt;  // "*"
      return static_cast<uint32_t>(*value);
    };
    exception.major = number(parts[1]);
    exception.minor = number(parts[2]);
    exception.access = access_bits(parts[3], "devices.list").value_or(0);
    policy.exceptions.push_back(exception);
  }
  return policy;
}

std::string device_rule_text(const DeviceException& exception) {
  const auto number = [](const std::optional<uint32_t>& value) {
    return value ? fmt::format("{}", *value) : std::string("*");
  };
  std::string access;
  if ((exception.access & kDeviceRead) != 0) access += 'r';
  if ((exception.access & kDeviceWrite) != 0) access += 'w';
  if ((exception.access & kDeviceMknod) != 0) access += 'm';
  return fmt::format("{} {}:{} {}", exception.type, number(exception.major), number(exception.minor), access);
}

std::vector<bpf_insn> device_program(const DevicePolicy& policy) {
  // struct bpf_cgroup_dev_ctx { u32 access_type (access << 16 | type); u32 major; u32 minor; }
  // Registers: r0 result and scratch, r1 context, r2 type, r3 access, r4 major, r5 minor.
  const auto insn = [](int code, int dst, int src, int off, int32_t imm) {
    bpf_insn out = {};
    out.code = static_cast<uint8_t>(code);
    out.dst_reg = static_cast<uint8_t>(dst) & 0xf;
    out.src_reg = static_cast<uint8_t>(src) & 0xf;
    out.off = static_cast<int16_t>(off);
    out.imm = imm;
    return out;
  };
  const int kLoad = BPF_LDX | BPF_MEM | BPF_W;
  const int kMove = BPF_ALU64 | BPF_MOV;
  std::vector<bpf_insn> out;
  out.push_back(insn(kLoad, 2, 1, 0, 0));
  out.push_back(insn(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff));
  out.push_back(insn(kLoad, 3, 1, 0, 0));
  out.push_back(insn(BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16));
  out.push_back(insn(kLoad, 4, 1, 4, 0));
  out.push_back(insn(kLoad, 5, 1, 8, 0));
  for (const DeviceException& exception : policy.exceptions) {
    std::vector<bpf_insn> block;
    // Jumps out of the block get their distance below; jump_to_next marks them.
    std::vector<size_t> jump_to_next;
    const auto jump = [&](int code, int reg, int32_t imm) {
      jump_to_next.push_back(block.size());
      block.push_back(insn(code, reg, 0, 0, imm));
    };
    const int kNotEqual = BPF_JMP | BPF_JNE | BPF_K;
    jump(kNotEqual, 2, exception.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
    const int32_t access = exception.access;
    if (exception.access != kDeviceAll) {
      block.push_back(insn(kMove | BPF_X, 0, 3, 0, 0));
      if (policy.default_allow) {
        // A refusal counts as soon as one of its accesses is asked for.
        block.push_back(insn(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0, access));
        jump(BPF_JMP | BPF_JEQ | BPF_K, 0, 0);
      } else {
        // A permission must cover everything that is asked for.
        block.push_back(insn(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0, ~access & kDeviceAll));
        jump(kNotEqual, 0, 0);
      }
    }
    // JMP32 would need Linux 5.1; 64-bit jumps sign-extend the constant, so numbers from 2^31 on go through r0.
    const auto compare = [&](int reg, uint32_t number) {
      if (number <= 0x7fffffffU) return jump(kNotEqual, reg, static_cast<int32_t>(number));
      block.push_back(insn(BPF_ALU | BPF_MOV | BPF_K, 0, 0, 0, static_cast<int32_t>(number)));
      jump_to_next.push_back(block.size());
      block.push_back(insn(BPF_JMP | BPF_JNE | BPF_X, reg, 0, 0, 0));
    };
    if (exception.major) compare(4, *exception.major);
    if (exception.minor) compare(5, *exception.minor);
    block.push_back(insn(kMove | BPF_K, 0, 0, 0, policy.default_allow ? 0 : 1));
    block.push_back(insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    for (const size_t at : jump_to_next) block[at].off = static_cast<int16_t>(block.size() - at - 1);
    out.insert(out.end(), block.begin(), block.end());
  }
  out.push_back(insn(kMove | BPF_K, 0, 0, 0, policy.default_allow ? 1 : 0));
  out.push_back(insn(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
  return out;
}

namespace {

long bpf(int command, bpf_attr& attr) { return ::syscall(SYS_bpf, command, &attr, sizeof attr); }

uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

Result<std::vector<uint32_t>> attached_programs(int cgroup_dir_fd) {
  std::vector<uint32_t> ids(64);
  bpf_attr attr = {};
  attr.query.target_fd = static_cast<uint32_t>(cgroup_dir_fd);
  attr.query.attach_type = BPF_CGROUP_DEVICE;
  attr.query.prog_ids = address_of(ids.data());
  attr.query.prog_cnt = static_cast<uint32_t>(ids.size());
  if (bpf(BPF_PROG_QUERY, attr) != 0) {
    if (errno == EINVAL || errno == EBADF) return std::vector<uint32_t>();
    return errno_error("list the device programs of the control group");
  }
  ids.resize(std::min<size_t>(attr.query.prog_cnt, ids.size()));
  return ids;
}

}  // namespace

Result<void> attach_device_program(int cgroup_dir_fd, const std::vector<bpf_insn>& program) {
  // BPF_PROG_ATTACH and BPF_PROG_QUERY don't take O_PATH descriptors.
  const UniqueFd dir(::openat(cgroup_dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return errno_error("open the control group for its device program");
  TRY_ASSIGN(const std::vector<uint32_t> old, attached_programs(dir.get()));

  static constexpr char kLicense[] = "Apache";
  bpf_attr load = {};
  load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  load.insns = address_of(program.data());
  load.insn_cnt = static_cast<uint32_t>(program.size());
  load.license = address_of(kLicense);
  std::copy_n("hull_devices", sizeof "hull_devices", load.prog_name);
  const UniqueFd fd(static_cast<int>(bpf(BPF_PROG_LOAD, load)));
  if (!fd) {
    if (errno == EINVAL || errno == ENOSYS) {
      return Error(ErrorKind::kUnsupported,
                   "linux.resources.devices: this kernel can't run device programs (CONFIG_CGROUP_BPF, Linux 4.15)");
    }
    return errno_error("linux.resources.devices: load the device program");
  }
  bpf_attr attach = {};
  attach.target_fd = static_cast<uint32_t>(dir.get());
  attach.attach_bpf_fd = static_cast<uint32_t>(fd.get());
  attach.attach_type = BPF_CGROUP_DEVICE;
  attach.attach_flags = BPF_F_ALLOW_MULTI;
  if (bpf(BPF_PROG_ATTACH, attach) != 0) return errno_error("linux.resources.devices: attach the device program");
  // Every attached program must agree, so the new rules hold only once the old programs are gone.
  for (const uint32_t id : old) {
    bpf_attr by_id = {};
    by_id.prog_id = id;
    const UniqueFd old_fd(static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, by_id)));
    if (!old_fd) {
      if (errno == ENOENT) continue;
      return errno_error("linux.resources.devices: open the old device program");
    }
    bpf_attr detach = {};
    detach.target_fd = static_cast<uint32_t>(dir.get());
    detach.attach_bpf_fd = static_cast<uint32_t>(old_fd.get());
    detach.attach_type = BPF_CGROUP_DEVICE;
    if (bpf(BPF_PROG_DETACH, detach) != 0 && errno != ENOENT) {
      return errno_error("linux.resources.devices: detach the old device program");
    }
  }
  return {};
}

}  // namespace hull::isolation
