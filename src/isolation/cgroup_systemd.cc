// The client side of hull-systemd-cgroup; see systemd/ for what it does.

#include "isolation/cgroup_systemd.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error_format.h"
#include "isolation/cgroup_files.h"
#include "sys/file.h"

namespace hull::isolation {

namespace {

constexpr const char* kHelper = "hull-systemd-cgroup";

bool name_is_good(std::string_view name) {
  // Characters of unit names (systemd.unit(5)).
  return !name.empty() && name.size() <= 255 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == ':' || c == '-' ||
           c == '_' || c == '.' || c == '\\' || c == '@';
  });
}

Result<std::string> helper_path() {
  std::vector<std::string> places;
  if (const char* folder = std::getenv("HULL_LIBEXEC")) places.push_back(std::string(folder) + "/" + kHelper);
  char self[4096];
  const ssize_t count = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (count > 0) {
    std::string dir(self, static_cast<size_t>(count));
    dir.resize(std::min(dir.rfind('/'), dir.size()));
    places.push_back(dir + "/../libexec/hull/" + kHelper);
    places.push_back(dir + "/" + kHelper);
  }
  for (const std::string& place : places) {
    if (::access(place.c_str(), X_OK) == 0) return place;
  }
  return errorf(ErrorKind::kUnsupported,
                "the program {} is not installed ({}); install it, or leave --systemd-cgroup out", kHelper,
                fmt::join(places, ", "));
}

/// Runs the helper; its standard error is the message when it fails.
Result<std::string> run_helper(std::vector<std::string> arguments, std::string_view asker = "--systemd-cgroup") {
  if (!sys::exists("/run/systemd/system")) {
    return errorf(ErrorKind::kUnsupported,
                  "{}: systemd is not running here (/run/systemd/system is absent): leave the option out", asker);
  }
  TRY_ASSIGN(const std::string program, helper_path());
  TRY_ASSIGN(sys::Pipe out, sys::make_pipe());
  TRY_ASSIGN(sys::Pipe err, sys::make_pipe());
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, out.write_end.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, err.write_end.get(), STDERR_FILENO);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Error::from_errno(error, fmt::format("start {}", program));
  out.write_end.reset();
  err.write_end.reset();
  // The answer is one short line, so the pipes can't fill up against each other.
  Result<std::string> answer = sys::read_all(out.read_end.get(), 1 << 16);
  Result<std::string> message = sys::read_all(err.read_end.get(), 1 << 16);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return answer;
  const std::string said = message.ok() ? std::string(cgroup_files::trimmed(*message)) : std::string();
  return errorf(ErrorKind::kUnavailable, "{}: {}", asker, said.empty() ? "the helper failed" : said);
}

/// The resource members as `key=value` arguments; the helper turns them into unit properties.
std::vector<std::string> resource_arguments(const oci::Resources& resources) {
  std::vector<std::string> out;
  if (resources.memory) {
    const oci::MemoryResources& memory = *resources.memory;
    if (memory.limit.value_or(0) != 0) out.push_back(fmt::format("memory-max={}", *memory.limit));
    if (memory.reservation.value_or(0) != 0) out.push_back(fmt::format("memory-low={}", *memory.reservation));
    if (memory.swap.value_or(0) != 0) {
      const Result<int64_t> swap = swap_max_of_memsw(*memory.swap, memory.limit.value_or(0));
      if (swap.ok()) out.push_back(fmt::format("memory-swap-max={}", *swap));
    }
  }
  if (resources.cpu) {
    const oci::CpuResources& cpu = *resources.cpu;
    if (cpu.shares.value_or(0) != 0) {
      out.push_back(fmt::format("cpu-weight={}", cpu_weight_of_shares(*cpu.shares)));
      out.push_back(fmt::format("cpu-shares={}", *cpu.shares));
    }
    if (cpu.quota.value_or(0) != 0) {
      constexpr uint64_t kDefaultPeriodUs = 100000;
      const uint64_t period = cpu.period.value_or(0) != 0 ? *cpu.period : kDefaultPeriodUs;
      out.push_back(fmt::format("cpu-period={}", period));
      // Microseconds of run time in a second; -1 is no limit.
      const int64_t per_second = *cpu.quota < 0 ? -1 : *cpu.quota * 1'000'000 / static_cast<int64_t>(period);
      out.push_back(fmt::format("cpu-quota={}", per_second));
    }
    if (!cpu.cpus.empty()) out.push_back("cpus=" + cpu.cpus);
    if (!cpu.mems.empty()) out.push_back("mems=" + cpu.mems);
  }
  if (resources.pids_limit) out.push_back(fmt::format("tasks-max={}", *resources.pids_limit));
  if (resources.block_io && resources.block_io->weight.value_or(0) != 0) {
    out.push_back(fmt::format("io-weight={}", io_weight_of_blkio(*resources.block_io->weight)));
  }
  return out;
}

}  // namespace

Result<std::string> expand_slice(const std::string& slice) {
  const std::string suffix = ".slice";
  if (slice == "-.slice") return std::string("/");
  const auto wrong = [&] {
    return errorf(ErrorKind::kInvalid, "linux.cgroupsPath: \"{}\" is no slice name such as system.slice", slice);
  };
  if (!slice.ends_with(suffix) || slice.size() == suffix.size() || !name_is_good(slice)) return wrong();
  const std::string stem = slice.substr(0, slice.size() - suffix.size());
  if (stem.starts_with('-') || stem.ends_with('-') || stem.find("--") != std::string::npos) return wrong();
  std::string path;
  for (size_t dash = stem.find('-');; dash = stem.find('-', dash + 1)) {
    path += "/" + stem.substr(0, dash) + suffix;
    if (dash == std::string::npos) return path;
  }
}

Result<SystemdNames> parse_systemd_path(const std::string& cgroups_path, const std::string& container_id) {
  SystemdNames names;
  if (cgroups_path.empty()) {
    names.slice = ::geteuid() == 0 ? "system.slice" : "user.slice";
    names.unit = "hull-" + container_id + ".scope";
  } else {
    const size_t first = cgroups_path.find(':');
    const size_t second = first == std::string::npos ? first : cgroups_path.find(':', first + 1);
    if (second == std::string::npos || cgroups_path.find(':', second + 1) != std::string::npos) {
      return errorf(ErrorKind::kInvalid,
                    "linux.cgroupsPath: \"{}\" is not of the form slice:prefix:name, which --systemd-cgroup needs",
                    cgroups_path);
    }
    names.slice = cgroups_path.substr(0, first);
    if (names.slice.empty()) names.slice = ::geteuid() == 0 ? "system.slice" : "user.slice";
    const std::string prefix = cgroups_path.substr(first + 1, second - first - 1);
    const std::string name = cgroups_path.substr(second + 1);
    // A name that is a slice itself is taken as it is (pods).
    if (name.ends_with(".slice")) {
      names.unit = name;
    } else {
      names.unit = (prefix.empty() ? "" : prefix + "-") + name + ".scope";
    }
  }
  if (!name_is_good(names.unit)) {
    return errorf(ErrorKind::kInvalid, "linux.cgroupsPath: \"{}\" can't be the name of a systemd unit", names.unit);
  }
  TRY(expand_slice(names.slice));
  return names;
}

Result<SystemdScope> start_systemd_scope(const CgroupRequest& request, const oci::Resources* resources, pid_t pid) {
  TRY_ASSIGN(const SystemdNames names, parse_systemd_path(request.cgroups_path, request.container_id));
  TRY_ASSIGN(const std::string parent, expand_slice(names.slice));
  std::vector<std::string> arguments = {"start", names.unit, "slice=" + names.slice,
                                        "description=hull container " + request.container_id,
                                        fmt::format("pid={}", pid)};
  if (resources != nullptr) {
    const std::vector<std::string> more = resource_arguments(*resources);
    arguments.insert(arguments.end(), more.begin(), more.end());
  }
  TRY_ASSIGN(const std::string answer, run_helper(std::move(arguments)));
  // The helper prints where systemd put the unit; it knows about user managers and nesting.
  const std::string said(cgroup_files::trimmed(answer));
  return SystemdScope{.unit = names.unit,
                      .cgroup = said.starts_with('/') ? said : (parent == "/" ? "" : parent) + "/" + names.unit};
}

Result<void> attach_to_user_scope(const std::string& unit, const std::string& slice, pid_t pid) {
  TRY(run_helper({"attach", unit, "slice=" + slice, "description=containers of hull", fmt::format("pid={}", pid)},
                 "ask the user's systemd for a control group"));
  return {};
}

Result<void> stop_systemd_unit(const std::string& unit) {
  TRY(run_helper({"stop", unit}));
  return {};
}

Result<void> update_systemd_unit(const std::string& unit, const oci::Resources& resources) {
  std::vector<std::string> arguments = resource_arguments(resources);
  if (arguments.empty()) return {};
  arguments.insert(arguments.begin(), {"set", unit});
  TRY(run_helper(std::move(arguments)));
  return {};
}

}  // namespace hull::isolation
