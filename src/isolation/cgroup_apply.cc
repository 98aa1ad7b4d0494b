// linux.resources onto whichever hierarchy has the controller.

#include "isolation/cgroup_apply.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "isolation/cgroup_files.h"
#include "isolation/cgroup_systemd.h"
#include "isolation/defaults.h"
#include "isolation/device_rules.h"
#include "sys/file.h"

namespace hull::isolation {

namespace {

using cgroup_apply::is_set;
using cgroup_files::try_write;
using Folder = Cgroup::Folder;

bool asks(const oci::MemoryResources& memory) {
  return is_set(memory.limit) || is_set(memory.reservation) || is_set(memory.swap) || is_set(memory.kernel_tcp) ||
         (memory.swappiness && *memory.swappiness != ~0ULL) || memory.disable_oom_killer.value_or(false);
}

bool asks_cpu(const oci::CpuResources& cpu) {
  return is_set(cpu.shares) || is_set(cpu.quota) || is_set(cpu.burst) || is_set(cpu.period) ||
         is_set(cpu.realtime_runtime) || is_set(cpu.realtime_period) || is_set(cpu.idle);
}

bool asks(const oci::BlockIoResources& io) {
  return is_set(io.weight) || is_set(io.leaf_weight) || !io.weight_device.empty() || !io.throttle_read_bps.empty() ||
         !io.throttle_write_bps.empty() || !io.throttle_read_iops.empty() || !io.throttle_write_iops.empty();
}

/// The folder that has the controller, with the controller handed down to it where it is v2's; else the error that
/// names who asked.
Result<const Folder*> need(const Cgroup& group, std::string_view controller, std::string_view member) {
  const Folder* folder = group.find(controller);
  if (folder == nullptr) {
    return errorf(ErrorKind::kUnsupported,
                  "{}: this host has no {} control group controller; mount it, or leave the member out", member,
                  controller);
  }
  if (folder->version == 1) return folder;
  const std::optional<std::string> have = cgroup_files::read_optional(*folder, "cgroup.controllers");
  const auto present = [&](const std::optional<std::string>& text) {
    if (!text) return false;
    const std::vector<std::string_view> names = cgroup_files::split(*text, " \n");
    return std::find(names.begin(), names.end(), controller) != names.end();
  };
  if (present(have)) return folder;
  // Hand it down from the top, level by level.
  std::string path = folder->mount_path;
  for (size_t at = 0;;) {
    TRY_ASSIGN(const UniqueFd dir, sys::open(path, O_PATH | O_DIRECTORY));
    ignore_result(sys::write_value(dir.get(), "cgroup.subtree_control", fmt::format("+{}", controller)));
    const size_t slash = folder->path.find('/', at);
    if (slash == std::string::npos) break;
    path = folder->mount_path + "/" + folder->path.substr(0, slash);
    at = slash + 1;
  }
  if (present(cgroup_files::read_optional(*folder, "cgroup.controllers"))) return folder;
  return errorf(
      ErrorKind::kUnsupported,
      "{}: the {} controller is not handed down to {}; a group above it holds processes, or you may not write "
      "its cgroup.subtree_control",
      member, controller, folder->full_path());
}

Result<void> devices_v1(const Folder& folder, const DevicePolicy& wanted, bool fresh) {
  constexpr std::string_view kMember = "linux.resources.devices";
  const char* const grant = "devices.allow";
  const char* const refuse = "devices.deny";
  const char* const exception_file = wanted.default_allow ? refuse : grant;
  if (!fresh) {
    // Going over "deny all" would break what the container has open to it at this moment; write the difference.
    const std::optional<std::string> list = cgroup_files::read_optional(folder, "devices.list");
    const DevicePolicy now = list ? parse_device_list(*list) : DevicePolicy{};
    if (!now.default_allow && !wanted.default_allow) {
      const auto lacks = [](const DevicePolicy& policy, const DeviceException& exception) {
        return std::find(policy.exceptions.begin(), policy.exceptions.end(), exception) == policy.exceptions.end();
      };
      for (const DeviceException& exception : now.exceptions) {
        if (lacks(wanted, exception)) {
          TRY(cgroup_files::write(folder, refuse, device_rule_text(exception), kMember));
        }
      }
      for (const DeviceException& exception : wanted.exceptions) {
        if (lacks(now, exception)) TRY(cgroup_files::write(folder, grant, device_rule_text(exception), kMember));
      }
      return {};
    }
  }
  const int error = try_write(folder, wanted.default_allow ? grant : refuse, "a");
  // EPERM on "allow all": the group above is limited itself, and what it allows is all there is.
  if (error != 0 && !(error == EPERM && wanted.default_allow)) {
    return cgroup_files::write(folder, wanted.default_allow ? grant : refuse, "a", kMember);
  }
  if (wanted.exceptions.empty()) return {};
  TRY_ASSIGN(const int dir, folder.dir_fd());
  TRY_ASSIGN(const UniqueFd fd, sys::open_at(dir, exception_file, O_WRONLY | O_APPEND));
  for (const DeviceException& exception : wanted.exceptions) {
    const std::string text = device_rule_text(exception);
    if (::write(fd.get(), text.data(), text.size()) < 0) {
      return errnof("{}: write \"{}\" to {}/{}", kMember, text, folder.full_path(), exception_file);
    }
  }
  return {};
}

Result<void> apply_devices(const Cgroup& group, std::vector<oci::DeviceCgroup> rules, bool fresh, bool fixture) {
  const std::vector<oci::DeviceCgroup> required = required_device_rules();
  rules.insert(rules.end(), required.begin(), required.end());
  TRY_ASSIGN(const DevicePolicy policy, device_policy(rules));
  if (const Folder* folder = group.find("devices")) return devices_v1(*folder, policy, fresh);
  const Folder* unified = group.unified();
  if (unified == nullptr) {
    return Error(ErrorKind::kUnsupported, "linux.resources.devices: this host has no devices control group controller");
  }
  // Nothing is refused and nothing hangs there yet.
  if (fixture || (fresh && policy.default_allow && policy.exceptions.empty())) return {};
  TRY_ASSIGN(const int dir, unified->dir_fd());
  return attach_device_program(dir, device_program(policy));
}

}  // namespace

Result<void> Cgroup::apply_initial(const oci::Resources* resources) {
  std::vector<oci::DeviceCgroup> rules;
  if (resources != nullptr) rules = resources->devices;
  // Without a word about devices the safe reading counts, as in runc: none but the required ones.
  if (rules.empty()) rules.push_back({.allow = false, .type = "a", .major = {}, .minor = {}, .access = "rwm"});
  if (!folders_.empty()) {
    auto applied = apply_devices(*this, std::move(rules), true, fixture_);
    // Rules on devices are for the host's root alone to make. To others devices are closed by their owners and modes.
    const int error = applied.ok() ? 0 : applied.error().error_number();
    const bool forbidden = error == EPERM || error == EACCES;
    const bool no_place = !applied.ok() && unified() == nullptr && find("devices") == nullptr;
    if (!applied.ok() && !(tolerate_permission_ && (forbidden || no_place))) return applied;
  }
  if (resources == nullptr) return {};
  return apply_limits(*resources);
}

Result<void> Cgroup::apply(const oci::Resources& resources) {
  if (!systemd_unit_.empty()) TRY(update_systemd_unit(systemd_unit_, resources));
  if (!resources.devices.empty()) TRY(apply_devices(*this, resources.devices, false, fixture_));
  return apply_limits(resources);
}

Result<void> Cgroup::apply_limits(const oci::Resources& resources) {
  if (resources.memory && asks(*resources.memory)) {
    TRY_ASSIGN(const Folder* folder, need(*this, "memory", "linux.resources.memory"));
    TRY(folder->version == 1 ? cgroup_apply::memory_v1(*folder, *resources.memory)
                             : cgroup_apply::memory_v2(*folder, *resources.memory));
  }
  if (resources.cpu && asks_cpu(*resources.cpu)) {
    TRY_ASSIGN(const Folder* folder, need(*this, "cpu", "linux.resources.cpu"));
    TRY(folder->version == 1 ? cgroup_apply::cpu_v1(*folder, *resources.cpu)
                             : cgroup_apply::cpu_v2(*folder, *resources.cpu));
  }
  if (resources.cpu && (!resources.cpu->cpus.empty() || !resources.cpu->mems.empty())) {
    TRY_ASSIGN(const Folder* folder, need(*this, "cpuset", "linux.resources.cpu.cpus, mems"));
    TRY(cgroup_apply::cpuset(*folder, *resources.cpu));
  }
  if (resources.pids_limit) {
    // "No limit" needs no controller.
    if (*resources.pids_limit >= 0 || find("pids") != nullptr) {
      TRY_ASSIGN(const Folder* folder, need(*this, "pids", "linux.resources.pids.limit"));
      TRY(cgroup_apply::pids(*folder, *resources.pids_limit));
    }
  }
  if (resources.block_io && asks(*resources.block_io)) {
    if (find("blkio") != nullptr) {
      TRY(cgroup_apply::block_io_v1(*find("blkio"), *resources.block_io));
    } else {
      TRY_ASSIGN(const Folder* folder, need(*this, "io", "linux.resources.blockIO"));
      TRY(cgroup_apply::block_io_v2(*folder, *resources.block_io));
    }
  }
  if (!resources.hugepage_limits.empty()) {
    TRY_ASSIGN(const Folder* folder, need(*this, "hugetlb", "linux.resources.hugepageLimits"));
    TRY(cgroup_apply::hugepages(*folder, resources.hugepage_limits));
  }
  if (resources.network) {
    if (is_set(resources.network->class_id)) {
      TRY_ASSIGN(const Folder* folder, need(*this, "net_cls", "linux.resources.network.classID"));
      TRY(cgroup_apply::network_class(*folder, *resources.network->class_id));
    }
    if (!resources.network->priorities.empty()) {
      TRY_ASSIGN(const Folder* folder, need(*this, "net_prio", "linux.resources.network.priorities"));
      TRY(cgroup_apply::network_priorities(*folder, resources.network->priorities));
    }
  }
  if (!resources.rdma.empty()) {
    TRY_ASSIGN(const Folder* folder, need(*this, "rdma", "linux.resources.rdma"));
    TRY(cgroup_apply::rdma(*folder, resources.rdma));
  }
  if (!resources.unified.empty()) {
    for (const auto& [file, value] : resources.unified) {
      const std::string member = fmt::format("linux.resources.unified.{}", file);
      if (unified() == nullptr) {
        return errorf(ErrorKind::kUnsupported, "{}: this host has no control groups v2; use the other members", member);
      }
      const std::string_view controller = std::string_view(file).substr(0, file.find('.'));
      // cgroup.* files belong to the group itself; the others need their controller.
      if (controller != "cgroup" && file.find('/') == std::string::npos && !controller.empty()) {
        const Folder* folder = find(controller);
        if (folder == nullptr || folder->version != 2) {
          return errorf(ErrorKind::kUnsupported, "{}: the {} controller is not one of this host's v2 controllers",
                        member, controller);
        }
        TRY(need(*this, controller, member));
      }
      TRY(cgroup_apply::unified(*unified(), {{file, value}}));
    }
  }
  return {};
}

}  // namespace hull::isolation
