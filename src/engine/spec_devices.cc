#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/spec.h"
#include "isolation/defaults.h"
#include "isolation/process_attributes.h"

namespace hull::engine {
namespace {

constexpr size_t kMaxDevices = 4096;

Result<std::optional<oci::Device>> device_node(const std::string& host_path, const std::string& container_path) {
  struct stat info{};
  if (::stat(host_path.c_str(), &info) != 0) {
    return errnof("error gathering device information while adding custom device \"{}\"", host_path);
  }
  if (!S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode)) return std::optional<oci::Device>();
  oci::Device device;
  device.path = container_path;
  device.type = S_ISCHR(info.st_mode) ? "c" : "b";
  device.major = ::major(info.st_rdev);
  device.minor = ::minor(info.st_rdev);
  device.file_mode = info.st_mode & 07777;
  device.uid = info.st_uid;
  device.gid = info.st_gid;
  return std::optional<oci::Device>(std::move(device));
}

/// Every device node below a folder. /dev's own file systems (pts, shm, mqueue) and what a runtime makes itself are
/// left out, as other engines do.
Result<void> walk(const std::string& host, const std::string& inside, bool skip_default, int depth,
                  std::vector<oci::Device>* out) {
  if (depth > 16) return {};
  DIR* stream = ::opendir(host.c_str());
  if (stream == nullptr) return errnof("read folder {}", host);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(stream);
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (depth == 0 && skip_default) {
      static constexpr std::string_view kSkipped[] = {"pts",         "shm",   "fd",      "mqueue", ".lxc",
                                                      ".lxd-mounts", ".udev", "console", "ptmx"};
      if (std::find(std::begin(kSkipped), std::end(kSkipped), name) != std::end(kSkipped)) continue;
    }
    struct stat info{};
    const std::string path = host + "/" + name;
    if (::lstat(path.c_str(), &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) {
      TRY(walk(path, inside + "/" + name, skip_default, depth + 1, out));
    } else if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
      if (out->size() >= kMaxDevices) return errorf(ErrorKind::kInvalid, "{}: more than {} devices", host, kMaxDevices);
      auto device = device_node(path, inside + "/" + name);
      if (device.ok() && *device) out->push_back(std::move(**device));
    }
  }
  return {};
}

oci::DeviceCgroup allow(const oci::Device& device, const std::string& access) {
  oci::DeviceCgroup rule;
  rule.allow = true;
  rule.type = device.type;
  rule.major = device.major;
  rule.minor = device.minor;
  rule.access = access;
  return rule;
}

Result<oci::DeviceCgroup> parse_device_rule(const std::string& text) {
  const auto bad = [&] { return errorf(ErrorKind::kInvalid, "invalid device cgroup rule format: '{}'", text); };
  // "c 1:3 rwm", with * for any number
  oci::DeviceCgroup rule;
  rule.allow = true;
  const size_t first = text.find(' '), second = text.find(' ', first + 1);
  if (first == std::string::npos || second == std::string::npos) return bad();
  rule.type = text.substr(0, first);
  const std::string numbers = text.substr(first + 1, second - first - 1);
  rule.access = text.substr(second + 1);
  const size_t colon = numbers.find(':');
  if ((rule.type != "a" && rule.type != "b" && rule.type != "c") || colon == std::string::npos || rule.access.empty() ||
      rule.access.size() > 3 || rule.access.find_first_not_of("rwm") != std::string::npos) {
    return bad();
  }
  const auto number = [&](std::string_view part, std::optional<int64_t>* out) {
    if (part == "*") return true;
    const auto value = parse_int(part, 0, 0xffffffffLL);
    if (value.ok()) *out = *value;
    return value.ok();
  };
  if (!number(std::string_view(numbers).substr(0, colon), &rule.major) ||
      !number(std::string_view(numbers).substr(colon + 1), &rule.minor)) {
    return bad();
  }
  return rule;
}

Result<std::pair<int64_t, int64_t>> block_device(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return errnof("device {}", path);
  if (!S_ISBLK(info.st_mode)) return errorf(ErrorKind::kInvalid, "{} is not a block device", path);
  return std::pair<int64_t, int64_t>(::major(info.st_rdev), ::minor(info.st_rdev));
}

Result<std::vector<oci::ThrottleDevice>> throttles(const std::vector<Config::DeviceRate>& rates) {
  std::vector<oci::ThrottleDevice> out;
  for (const Config::DeviceRate& rate : rates) {
    TRY_ASSIGN(const auto numbers, block_device(rate.path));
    out.push_back({numbers.first, numbers.second, rate.rate});
  }
  return out;
}

}  // namespace

Result<void> add_devices(const Config& config, oci::Linux* linux_config) {
  std::vector<oci::DeviceCgroup>& rules = linux_config->resources->devices;
  if (config.privileged) {
    oci::DeviceCgroup all;
    all.allow = true;
    all.access = "rwm";
    rules = {all};
    std::vector<oci::Device> devices;
    TRY(walk("/dev", "/dev", true, 0, &devices));
    // What every container has is made by the runtime.
    std::erase_if(devices, [](const oci::Device& device) {
      return std::any_of(isolation::kDefaultDevices.begin(), isolation::kDefaultDevices.end(),
                         [&](const isolation::DefaultDevice& d) { return device.path == d.path; });
    });
    linux_config->devices = std::move(devices);
  } else {
    rules = isolation::default_device_rules();
  }
  for (const DeviceMapping& mapping : config.devices) {
    if (mapping.permissions.empty() || mapping.permissions.find_first_not_of("rwm") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "invalid mode for device {}: \"{}\"", mapping.host_path, mapping.permissions);
    }
    const std::string inside = mapping.container_path.empty() ? mapping.host_path : mapping.container_path;
    TRY_ASSIGN(std::optional<oci::Device> device, device_node(mapping.host_path, inside));
    std::vector<oci::Device> found;
    if (device) {
      found.push_back(std::move(*device));
    } else {
      TRY(walk(mapping.host_path, inside, false, 0, &found));
      if (found.empty()) {
        return errorf(ErrorKind::kInvalid,
                      "error gathering device information while adding custom device \"{}\": not a device node",
                      mapping.host_path);
      }
    }
    for (oci::Device& one : found) {
      if (!config.privileged) rules.push_back(allow(one, mapping.permissions));
      std::erase_if(linux_config->devices, [&](const oci::Device& other) { return other.path == one.path; });
      linux_config->devices.push_back(std::move(one));
    }
  }
  for (const std::string& text : config.device_cgroup_rules) {
    TRY_ASSIGN(oci::DeviceCgroup rule, parse_device_rule(text));
    rules.push_back(std::move(rule));
  }
  return {};
}

Result<void> add_guest_devices(const Config& config, oci::Linux* linux_config) {
  std::vector<oci::DeviceCgroup>& rules = linux_config->resources->devices;
  rules = isolation::default_device_rules();
  if (config.privileged) {
    oci::DeviceCgroup all;
    all.allow = true;
    all.access = "rwm";
    rules = {all};
  }
  for (const DeviceMapping& mapping : config.devices) {
    if (mapping.permissions.empty() || mapping.permissions.find_first_not_of("rwm") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "invalid mode for device {}: \"{}\"", mapping.host_path, mapping.permissions);
    }
    // The kernel's numbers of these are the same everywhere (Documentation/admin-guide/devices.txt); validate_vm() has
    // refused all others.
    struct Known {
      std::string_view path;
      int64_t major, minor;
    };
    static constexpr Known kKnown[] = {{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
                                       {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
                                       {"/dev/fuse", 10, 229}};
    const auto known =
        std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& k) { return k.path == mapping.host_path; });
    if (known == std::end(kKnown)) {
      return errorf(ErrorKind::kUnsupported, "device {} can't be reached from a virtual machine", mapping.host_path);
    }
    oci::Device device;
    device.path = mapping.container_path.empty() ? mapping.host_path : mapping.container_path;
    device.type = "c";
    device.major = known->major;
    device.minor = known->minor;
    device.file_mode = 0666;
    if (!config.privileged) rules.push_back(allow(device, mapping.permissions));
    linux_config->devices.push_back(std::move(device));
  }
  for (const std::string& text : config.device_cgroup_rules) {
    TRY_ASSIGN(oci::DeviceCgroup rule, parse_device_rule(text));
    rules.push_back(std::move(rule));
  }
  return {};
}

Result<oci::Resources> make_resources(const Config& c, bool swap_accounting) {
  oci::Resources out;
  if (c.memory != 0 || c.memory_reservation != 0 || c.memory_swap != 0 || c.memory_swappiness || c.oom_kill_disable) {
    oci::MemoryResources& memory = out.memory.emplace();
    if (c.memory > 0) memory.limit = c.memory;
    if (c.memory_reservation > 0) memory.reservation = c.memory_reservation;
    if (swap_accounting) {
      if (c.memory_swap != 0)
        memory.swap = c.memory_swap;
      else if (c.memory > 0)
        memory.swap = c.memory * 2;  // Docker's default: as much swap as memory
    }
    if (c.memory_swappiness && *c.memory_swappiness >= 0) {
      memory.swappiness = static_cast<uint64_t>(*c.memory_swappiness);
    }
    if (c.oom_kill_disable) memory.disable_oom_killer = true;
  }
  if (c.cpu_shares != 0 || c.cpu_period != 0 || c.cpu_quota != 0 || c.nano_cpus != 0 || !c.cpuset_cpus.empty() ||
      !c.cpuset_mems.empty() || c.cpu_rt_period != 0 || c.cpu_rt_runtime != 0) {
    oci::CpuResources& cpu = out.cpu.emplace();
    if (c.cpu_shares > 0) cpu.shares = static_cast<uint64_t>(c.cpu_shares);
    if (c.cpu_period > 0) cpu.period = static_cast<uint64_t>(c.cpu_period);
    if (c.cpu_quota != 0) cpu.quota = c.cpu_quota;
    if (c.nano_cpus > 0) {
      cpu.period = 100'000;
      cpu.quota = c.nano_cpus / 10'000;
    }
    if (c.cpu_rt_period > 0) cpu.realtime_period = static_cast<uint64_t>(c.cpu_rt_period);
    if (c.cpu_rt_runtime != 0) cpu.realtime_runtime = c.cpu_rt_runtime;
    cpu.cpus = c.cpuset_cpus;
    cpu.mems = c.cpuset_mems;
  }
  if (c.pids_limit > 0) out.pids_limit = c.pids_limit;
  if (c.blkio_weight != 0 || !c.blkio_weight_device.empty() || !c.device_read_bps.empty() ||
      !c.device_write_bps.empty() || !c.device_read_iops.empty() || !c.device_write_iops.empty()) {
    oci::BlockIoResources& io = out.block_io.emplace();
    if (c.blkio_weight != 0) io.weight = c.blkio_weight;
    for (const Config::DeviceRate& rate : c.blkio_weight_device) {
      TRY_ASSIGN(const auto numbers, block_device(rate.path));
      oci::WeightDevice weight;
      weight.major = numbers.first;
      weight.minor = numbers.second;
      weight.weight = static_cast<uint16_t>(rate.rate);
      io.weight_device.push_back(weight);
    }
    TRY_ASSIGN(io.throttle_read_bps, throttles(c.device_read_bps));
    TRY_ASSIGN(io.throttle_write_bps, throttles(c.device_write_bps));
    TRY_ASSIGN(io.throttle_read_iops, throttles(c.device_read_iops));
    TRY_ASSIGN(io.throttle_write_iops, throttles(c.device_write_iops));
  }
  return out;
}

Result<std::vector<oci::Rlimit>> make_rlimits(const std::vector<Ulimit>& ulimits) {
  std::vector<oci::Rlimit> out;
  for (const Ulimit& limit : ulimits) {
    oci::Rlimit rlimit;
    rlimit.type = "RLIMIT_";
    for (const char c : limit.name) rlimit.type += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const auto number = isolation::rlimit_number(rlimit.type);
    if (!number.ok()) return errorf(ErrorKind::kInvalid, "invalid ulimit type: {}", limit.name);
    rlimit.soft = limit.soft < 0 ? RLIM64_INFINITY : static_cast<uint64_t>(limit.soft);
    rlimit.hard = limit.hard < 0 ? RLIM64_INFINITY : static_cast<uint64_t>(limit.hard);
    if (rlimit.soft > rlimit.hard) {
      return errorf(ErrorKind::kInvalid, "ulimit {}: soft limit must be less than or equal to hard limit: {} > {}",
                    limit.name, limit.soft, limit.hard);
    }
    out.push_back(std::move(rlimit));
  }
  return out;
}

}  // namespace hull::engine
