#include <dirent.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/doctor_vm.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/process.h"
#include "engine/user_group.h"
#include "isolation/capabilities.h"
#include "isolation/cgroup.h"
#include "isolation/lsm.h"
#include "isolation/seccomp.h"
#include "oci/json_writer.h"
#include "rootless/rootless.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

std::vector<std::string> entries_of(const std::string& folder) {
  std::vector<std::string> names;
  DIR* stream = ::opendir(folder.c_str());
  if (stream == nullptr) return names;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(stream);
  return names;
}

std::string layout_name(isolation::CgroupLayout layout) {
  switch (layout) {
    case isolation::CgroupLayout::kUnified:
      return "v2";
    case isolation::CgroupLayout::kHybrid:
      return "v1 with a v2 hierarchy beside it (hybrid)";
    case isolation::CgroupLayout::kLegacy:
      return "v1";
  }
  return "";
}

}  // namespace

Result<DiskUsage> EngineImpl::disk_usage() {
  DiskUsage out;
  TRY_ASSIGN(out.images, images_->usage());
  ListFilter all;
  all.all = true;
  TRY_ASSIGN(const std::vector<WorkloadSummary> workloads, list(all));
  for (const WorkloadSummary& one : workloads) {
    DiskUsage::Item item;
    item.id = one.id;
    item.name = one.name;
    item.detail = one.image;
    item.size = written_size(one.id, one.isolation);
    item.in_use = one.status == Status::kRunning || one.status == Status::kPaused;
    out.workloads.push_back(std::move(item));
  }
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::vector<VolumeRow> volumes, names->volumes());
  for (const VolumeRow& row : volumes) {
    DiskUsage::Item item;
    item.id = item.name = row.name;
    item.detail = row.driver;
    item.size = tree_size(paths_.volumes() + "/" + row.name);
    item.in_use = row.references > 0;
    out.volumes.push_back(std::move(item));
  }
  return out;
}

Result<store::CheckReport> EngineImpl::check(bool deep, bool repair) {
  TRY_ASSIGN(Index* const names, index());
  // Reading layers back needs decompression and hashes, which hull is not linked with.
  images_->set_layer_verifier([this](const Digest& diff_id, const std::string& folder) -> Result<void> {
    TRY_ASSIGN(const Captured done,
               capture({settings_.libexec + "/hull-images", "verify-layer", diff_id.str(), folder}));
    if (done.code == 0) return {};
    std::string_view said = std::string_view(done.error).substr(0, done.error.find('\n'));
    constexpr std::string_view kPrefix = "hull: verify-layer: ";
    if (said.starts_with(kPrefix)) said.remove_prefix(kPrefix.size());
    return errorf(ErrorKind::kCorrupt, "{}", said);
  });
  TRY_ASSIGN(store::CheckReport report, images_->check(deep, repair));
  const auto found = [&](std::string problem, auto&& fix) {
    report.problems.push_back(problem);
    if (!repair) return;
    Result<void> fixed = fix();
    if (fixed.ok())
      report.repaired.push_back(std::move(problem));
    else
      report.problems.back() += " (" + fixed.error().message() + ")";
  };
  const auto finish_removal = [&](const std::string& id) {
    auto done = remove(id, true, false);
    const auto row = names->by_id(id);
    // Whoever was removing it, files first and its record last, has just come to the end.
    return row.ok() && !row->has_value() ? Result<void>() : done;
  };
  TRY_ASSIGN(const std::vector<WorkloadRow> rows, names->list());
  std::set<std::string> known;
  for (const WorkloadRow& row : rows) {
    known.insert(row.id);
    const RunState state = read_state(paths_, row.id);
    const bool ended = state.needs_cleanup && (state.orphaned || !monitor_alive(paths_, row.id));
    if (ended) {
      found(fmt::format("container {}: its run ended and was not cleaned up", row.name),
            [&] { return cleanup(row.id); });
      continue;
    }
    if (row.removing) {
      found(fmt::format("container {}: its removal was cut off", row.name), [&] { return finish_removal(row.id); });
      continue;
    }
    if (!has_files(row)) {
      found(fmt::format("container {}: its files are gone", row.name), [&] { return finish_removal(row.id); });
    }
  }
  const auto orphan = [&](const std::string& id, const std::string& what) {
    if (!is_workload_id(id) || known.contains(id)) return;
    auto change = Change::begin(paths_, id, false);
    if (!change.ok()) return;  // being made right now
    const auto row = names->by_id(id);
    if (row.ok() && *row) return;
    found(fmt::format("{} {} belongs to no container", what, id), [&] { return repair_locked(*change, *names); });
  };
  for (const std::string& id : entries_of(paths_.workloads())) orphan(id, "folder");
  for (const std::string& id : entries_of(paths_.runs())) orphan(id, "run folder");
  for (const std::string& root : {paths_.runtime_root(), paths_.vm_runtime_root()}) {
    for (const std::string& id : entries_of(root)) orphan(id, "runtime record");
  }
  TRY_ASSIGN(const std::vector<std::string> holders, images_->holders());
  for (const std::string& id : holders) orphan(id, "image hold of");
  TRY_ASSIGN(const std::vector<VolumeRow> volumes, names->volumes());
  std::set<std::string> volume_names;
  for (const VolumeRow& row : volumes) volume_names.insert(row.name);
  for (const std::string& name : entries_of(paths_.volumes())) {
    if (volume_names.contains(name)) continue;
    found(fmt::format("volume folder {} is not on record", name),
          [&] { return sys::remove_tree(paths_.volumes() + "/" + name); });
  }
  if (repair) {
    TRY_ASSIGN(net::NetworkManager* const manager, network());
    TRY_ASSIGN(const net::RepairReport network_report, manager->repair([&](std::string_view id) {
      const auto row = names->by_id(id);
      return !row.ok() || row->has_value();
    }));
    if (network_report.endpoints_freed + network_report.links_removed + network_report.neighbours_removed > 0 ||
        network_report.rules_restored) {
      report.repaired.push_back(fmt::format("network: {} endpoints freed, {} links removed, {} neighbours removed{}",
                                            network_report.endpoints_freed, network_report.links_removed,
                                            network_report.neighbours_removed,
                                            network_report.rules_restored ? ", rules restored" : ""));
    }
    TRY(net::ensure_dns(dns_place()));
  }
  return report;
}

Result<std::vector<Check>> EngineImpl::doctor() {
  using Verdict = Check::Verdict;
  std::vector<Check> out;
  const auto say = [&](Verdict verdict, std::string subject, std::string finding, std::string advice = {}) {
    out.push_back({verdict, std::move(subject), std::move(finding), std::move(advice)});
  };
  utsname name{};
  ::uname(&name);
  const int major = std::atoi(name.release);
  const char* dot = std::strchr(name.release, '.');
  const int minor = dot == nullptr ? 0 : std::atoi(dot + 1);
  if (major < 5 || (major == 5 && minor < 12)) {
    say(Verdict::kBad, "kernel", fmt::format("Linux {}", name.release), "Hull needs Linux 5.12 or newer");
  } else if (major == 5 || (major == 6 && minor < 12)) {
    say(Verdict::kNote, "kernel", fmt::format("Linux {}", name.release),
        "from 6.12 on, image layers are mounted straight from their files; here a loop device is used");
  } else {
    say(Verdict::kGood, "kernel", fmt::format("Linux {}", name.release));
  }
  if (rootless::inside()) {
    say(Verdict::kGood, "user", "an ordinary user, in a user namespace of its own");
    const isolation::Delegation delegated = find_user_group({}, settings_).delegation;
    std::string none;
    for (const char* controller : {"cpu", "memory", "pids"}) {
      if (!delegated.has(controller)) none += std::string(none.empty() ? "" : ", ") + controller;
    }
    say(none.empty() ? Verdict::kGood : Verdict::kNote, "limits",
        delegated.group.empty() ? "no control group is this user's: no limits, pause, stats"
        : none.empty()          ? fmt::format("control groups are made in {}", delegated.group)
                                : fmt::format("control groups are made in {}, without {}", delegated.group, none),
        none.empty() ? "" : delegation_advice());
  } else {
    say(Verdict::kGood, "user", "root");
  }
  const auto filesystems = sys::read_file("/proc/filesystems", 1 << 20).value_or("");
  for (const char* one : {"overlay", "erofs"}) {
    const bool there = filesystems.find(fmt::format("\t{}\n", one)) != std::string::npos;
    say(there ? Verdict::kGood : Verdict::kNote, fmt::format("{} file system", one), there ? "there" : "not loaded",
        there ? "" : fmt::format("modprobe {}", one));
  }
  auto host = isolation::CgroupHost::detect();
  if (host.ok()) {
    std::string missing;
    for (const char* controller : {"cpu", "memory", "pids"}) {
      if (host->find(controller) == nullptr) missing += std::string(missing.empty() ? "" : ", ") + controller;
    }
    say(missing.empty()      ? Verdict::kGood
        : rootless::inside() ? Verdict::kNote
                             : Verdict::kBad,
        "control groups", layout_name(host->layout()),
        missing.empty() ? "" : "no controller for " + missing + ": limits on it can't be set");
  } else {
    say(Verdict::kBad, "control groups", host.error().message(), "mount cgroup2 at /sys/fs/cgroup");
  }
  say(host_has_swap_accounting() ? Verdict::kGood : Verdict::kNote, "swap limits",
      host_has_swap_accounting() ? "there" : "this kernel does not account swap",
      host_has_swap_accounting() ? "" : "--memory-swap has no effect");
  say(Verdict::kGood, "security modules",
      fmt::format("seccomp{}{}", isolation::apparmor_enabled() ? ", AppArmor" : "",
                  isolation::selinux_enabled() ? ", SELinux" : ""));
  for (const auto& [subject, path] :
       {std::pair<const char*, std::string>("runtime", settings_.runtime),
        std::pair<const char*, std::string>("monitor", settings_.libexec + "/hull-monitor"),
        std::pair<const char*, std::string>("image programs", settings_.libexec + "/hull-images")}) {
    const bool there = ::access(path.c_str(), X_OK) == 0;
    say(there ? Verdict::kGood : Verdict::kBad, subject, there ? path : path + " is missing",
        there ? "" : "install Hull again, or set HULL_LIBEXEC");
  }
  struct statvfs disk{};
  if (::statvfs(paths_.data.c_str(), &disk) == 0) {
    const uint64_t free_bytes = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
    say(free_bytes < (1ULL << 30) ? Verdict::kNote : Verdict::kGood, "disk",
        fmt::format("{} free in {}", format_size(free_bytes), paths_.data),
        free_bytes < (1ULL << 30) ? "'hull system prune' makes room" : "");
  }
  auto manager = network();
  if (manager.ok()) {
    for (const net::Check& one : (*manager)->doctor()) {
      const Verdict verdict = one.status == net::Check::Status::kOk        ? Verdict::kGood
                              : one.status == net::Check::Status::kWarning ? Verdict::kNote
                                                                           : Verdict::kBad;
      say(verdict, "network: " + one.name, one.detail, one.remedy);
    }
  } else {
    say(Verdict::kBad, "network", manager.error().message());
  }
  for (Check& line : check_virtual_machines(paths_.data, vm::probe_host(), vm::find_programs())) {
    out.push_back(std::move(line));
  }
  return out;
}

Result<std::string> EngineImpl::info_json() {
  ListFilter all;
  all.all = true;
  TRY_ASSIGN(const std::vector<WorkloadSummary> workloads, list(all));
  int running = 0, paused = 0, stopped = 0;
  for (const WorkloadSummary& one : workloads) {
    if (one.status == Status::kRunning)
      ++running;
    else if (one.status == Status::kPaused)
      ++paused;
    else
      ++stopped;
  }
  TRY_ASSIGN(const store::ImageStore::Usage usage, images_->usage());
  utsname name{};
  ::uname(&name);
  std::string os = "Linux";
  const std::string release = sys::read_file("/etc/os-release", 1 << 16).value_or("");
  if (const size_t at = release.find("PRETTY_NAME=\""); at != std::string::npos) {
    os = release.substr(at + 13, release.find('"', at + 13) - at - 13);
  }
  auto host = isolation::CgroupHost::detect();
  const bool v2 = host.ok() && host->layout() == isolation::CgroupLayout::kUnified;
  const isolation::Delegation delegated =
      rootless::inside() ? find_user_group({}, settings_).delegation : isolation::Delegation();
  const auto can_limit = [&](std::string_view controller) {
    return rootless::inside() ? delegated.has(controller) : host.ok() && host->find(controller) != nullptr;
  };
  oci::JsonWriter w;
  w.object([&] {
    w.member("ID", std::string());
    w.member("Containers", static_cast<int>(workloads.size()));
    w.member("ContainersRunning", running);
    w.member("ContainersPaused", paused);
    w.member("ContainersStopped", stopped);
    w.member("Images", usage.images);
    w.member("Driver", "overlay2");
    w.array("DriverStatus", [&] {
      w.value(
          std::vector<std::string>{"Layers", rootless::inside() ? "folders under overlayfs" : "EROFS under overlayfs"});
    });
    w.object("Plugins", [&] {
      w.member("Volume", std::vector<std::string>{"local"});
      w.member("Network", std::vector<std::string>{"bridge", "host", "none"});
      w.member("Log", std::vector<std::string>{"json-file", "none"});
    });
    w.member("MemoryLimit", can_limit("memory"));
    w.member("SwapLimit", can_limit("memory") && host_has_swap_accounting());
    w.member("PidsLimit", can_limit("pids"));
    w.member("CpuCfsPeriod", can_limit("cpu"));
    w.member("CpuCfsQuota", can_limit("cpu"));
    w.member("CPUShares", can_limit("cpu"));
    w.member("CPUSet", can_limit("cpuset"));
    w.member("IPv4Forwarding", sys::read_file("/proc/sys/net/ipv4/ip_forward", 16).value_or("0").starts_with('1'));
    w.member("LoggingDriver", "json-file");
    w.member("CgroupDriver", rootless::inside() && delegated.group.empty() ? "none" : settings_.cgroup_manager);
    w.member("CgroupVersion", v2 ? "2" : "1");
    w.member("KernelVersion", name.release);
    w.member("OperatingSystem", os);
    w.member("OSType", "linux");
    w.member("Architecture", name.machine);
    w.member("NCPU", static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)));
    w.member("MemTotal", static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE));
    w.member("DockerRootDir", paths_.data);
    w.member("Name", name.nodename);
    w.object("Runtimes", [&] {
      w.object("hull-oci", [&] { w.member("path", settings_.runtime); });
      w.object("hull-oci-vm", [&] { w.member("path", settings_.vm_runtime); });
    });
    w.member("DefaultRuntime", "hull-oci");
    w.member("Isolation", "container");
    std::vector<std::string> security = {"name=seccomp,profile=builtin"};
    if (isolation::apparmor_enabled()) security.emplace_back("name=apparmor");
    if (isolation::selinux_enabled()) security.emplace_back("name=selinux");
    if (v2) security.emplace_back("name=cgroupns");
    if (rootless::inside()) security.emplace_back("name=rootless");
    w.member("SecurityOptions", security);
    w.member("Warnings", std::vector<std::string>{});
  });
  return std::move(w).take();
}

}  // namespace hull::engine
