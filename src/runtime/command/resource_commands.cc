// update and events.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/units.h"
#include "runtime/command/commands.h"
#include "runtime/command/flags.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime::command {
namespace {

template <typename T>
Result<void> set_number(const std::string& text, const char* flag, std::optional<T>& out, int64_t lowest) {
  if (text.empty()) return {};
  auto value = parse_int(text, lowest, INT64_MAX);
  if (!value.ok()) return std::move(value).error().context(fmt::format("invalid value for --{}", flag));
  out = static_cast<T>(*value);
  return {};
}

Result<void> set_bytes(const std::string& text, const char* flag, std::optional<int64_t>& out) {
  if (text.empty()) return {};
  if (text == "-1") {
    out = -1;
    return {};
  }
  auto value = parse_size(text);
  if (!value.ok()) return std::move(value).error().context(fmt::format("invalid value for --{}", flag));
  out = *value;
  return {};
}

struct UpdateFlags {
  std::string resources, blkio_weight, cpu_period, cpu_quota, cpu_burst, cpu_share, cpu_rt_period, cpu_rt_runtime, cpus,
      mems, cpu_idle, kernel_memory, kernel_memory_tcp, memory, reservation, swap, pids, l3_cache, mem_bw;
};

Result<oci::Resources> from_flags(const UpdateFlags& flags) {
  oci::Resources resources;
  oci::CpuResources cpu;
  oci::MemoryResources memory;
  TRY(set_number(flags.cpu_period, "cpu-period", cpu.period, 0));
  TRY(set_number(flags.cpu_quota, "cpu-quota", cpu.quota, -1));
  TRY(set_number(flags.cpu_burst, "cpu-burst", cpu.burst, 0));
  TRY(set_number(flags.cpu_share, "cpu-share", cpu.shares, 0));
  TRY(set_number(flags.cpu_rt_period, "cpu-rt-period", cpu.realtime_period, 0));
  TRY(set_number(flags.cpu_rt_runtime, "cpu-rt-runtime", cpu.realtime_runtime, -1));
  TRY(set_number(flags.cpu_idle, "cpu-idle", cpu.idle, 0));
  cpu.cpus = flags.cpus;
  cpu.mems = flags.mems;
  resources.cpu = cpu;
  TRY(set_bytes(flags.memory, "memory", memory.limit));
  TRY(set_bytes(flags.reservation, "memory-reservation", memory.reservation));
  TRY(set_bytes(flags.swap, "memory-swap", memory.swap));
  resources.memory = memory;
  TRY(set_number(flags.pids, "pids-limit", resources.pids_limit, -1));
  if (!flags.blkio_weight.empty()) {
    auto weight = parse_int(flags.blkio_weight, 0, 1000);
    if (!weight.ok()) return std::move(weight).error().context("invalid value for --blkio-weight");
    resources.block_io.emplace().weight = static_cast<uint16_t>(*weight);
  }
  return resources;
}

/// Tells of OOM kills: v1 through cgroup.event_control, v2 by watching memory.events.
class OomWatch {
 public:
  static Result<OomWatch> open(const std::string& folder) {
    OomWatch watch;
    if (folder.empty()) return watch;
    watch.events_file_ = folder + "/memory.events";
    if (sys::exists(watch.events_file_)) {
      watch.fd_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
      if (!watch.fd_ || ::inotify_add_watch(watch.fd_.get(), watch.events_file_.c_str(), IN_MODIFY) < 0) {
        return errnof("watch {}", watch.events_file_);
      }
      watch.count_ = watch.kills();
      return watch;
    }
    watch.events_file_.clear();
    watch.fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!watch.fd_) return errno_error("eventfd");
    TRY_ASSIGN(const UniqueFd control, sys::open(folder + "/memory.oom_control", O_RDONLY));
    TRY(sys::write_value(AT_FDCWD, folder + "/cgroup.event_control",
                         fmt::format("{} {}", watch.fd_.get(), control.get())));
    return watch;
  }
  int fd() const { return fd_.get(); }
  /// After the descriptor became readable: whether somebody was killed for memory since.
  bool fired() {
    char buffer[4096];
    const bool readable = ::read(fd_.get(), buffer, sizeof buffer) > 0;
    if (events_file_.empty()) return readable;
    const int64_t now = kills();
    const bool more = now > count_;
    count_ = now;
    return more;
  }

 private:
  int64_t kills() const {
    auto text = sys::read_file(events_file_, 4096);
    if (!text.ok()) return 0;
    const size_t at = text->find("oom_kill ");
    return at == std::string::npos ? 0 : std::atoll(text->c_str() + at + 9);
  }
  UniqueFd fd_;
  std::string events_file_;
  int64_t count_ = 0;
};

}  // namespace

Result<int> update(const Global& global, const Words& words) {
  UpdateFlags values;
  const std::vector<Flag> flags = {
      {"resources", 'r', &values.resources, "file with a resources object, - for standard input"},
      {"blkio-weight", 0, &values.blkio_weight, "block IO weight, 10 to 1000"},
      {"cpu-period", 0, &values.cpu_period, "CFS period, microseconds"},
      {"cpu-quota", 0, &values.cpu_quota, "CFS quota, microseconds; -1: none"},
      {"cpu-burst", 0, &values.cpu_burst, "CFS burst, microseconds"},
      {"cpu-share", 0, &values.cpu_share, "CPU shares"},
      {"cpu-rt-period", 0, &values.cpu_rt_period, "realtime period, microseconds"},
      {"cpu-rt-runtime", 0, &values.cpu_rt_runtime, "realtime runtime, microseconds"},
      {"cpuset-cpus", 0, &values.cpus, "CPUs to use"},
      {"cpuset-mems", 0, &values.mems, "memory nodes to use"},
      {"cpu-idle", 0, &values.cpu_idle, "0 or 1: SCHED_IDLE"},
      {"kernel-memory", 0, &values.kernel_memory, "obsolete, ignored"},
      {"kernel-memory-tcp", 0, &values.kernel_memory_tcp, "obsolete, ignored"},
      {"memory", 0, &values.memory, "memory limit; -1: none"},
      {"memory-reservation", 0, &values.reservation, "soft limit"},
      {"memory-swap", 0, &values.swap, "memory + swap; -1: none"},
      {"pids-limit", 0, &values.pids, "most processes; -1: no limit"},
      {"l3-cache-schema", 0, &values.l3_cache, "Intel RDT"},
      {"mem-bw-schema", 0, &values.mem_bw, "Intel RDT"},
  };
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} update [command options] <container-id>\n\n{}", global.program->name,
                      flags_help(flags)));
    return 0;
  }
  if (parsed.arguments.size() != 1) return errorf(ErrorKind::kInvalid, "\"update\" requires exactly 1 argument(s)");
  if (!values.l3_cache.empty() || !values.mem_bw.empty()) {
    return errorf(ErrorKind::kUnsupported,
                  "Intel RDT schemata can't be changed by update: set linux.intelRdt at create");
  }
  oci::Resources resources;
  if (!values.resources.empty()) {
    std::string text;
    if (values.resources == "-") {
      TRY(global.runtime->check(parsed.arguments[0]));  // what is read here can't be read again by hull-oci-vm
      TRY_ASSIGN(text, sys::read_all(STDIN_FILENO));
    } else {
      TRY_ASSIGN(text, sys::read_file(values.resources));
    }
    TRY_ASSIGN(resources, oci::parse_resources(text));
    // As with runc, update never changes device rules.
    resources.devices.clear();
  } else {
    TRY_ASSIGN(resources, from_flags(values));
  }
  TRY(global.runtime->update(parsed.arguments[0], resources));
  return 0;
}

Result<int> events(const Global& global, const Words& words) {
  bool once = false;
  std::string interval_text = "5s";
  const std::vector<Flag> flags = {{"stats", 0, &once, "print statistics once and exit"},
                                   {"interval", 0, &interval_text, "time between statistics"}};
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} events [command options] <container-id>\n\n{}", global.program->name,
                      flags_help(flags)));
    return 0;
  }
  if (parsed.arguments.size() != 1) return errorf(ErrorKind::kInvalid, "\"events\" requires exactly 1 argument(s)");
  TRY_ASSIGN(const std::chrono::nanoseconds interval, parse_duration(interval_text));
  const auto interval_ms = std::chrono::duration_cast<std::chrono::milliseconds>(interval).count();
  if (interval_ms <= 0 || interval_ms > 86400000) {
    return errorf(ErrorKind::kInvalid, "duration interval must be greater than 0 and at most a day");
  }
  const std::string& id = parsed.arguments[0];
  OciRuntime& runtime = *global.runtime;
  if (once) {
    TRY_ASSIGN(const std::string line, runtime.stats(id));
    print(line + "\n");
    return 0;
  }
  TRY_ASSIGN(const ContainerInfo info, runtime.state(id));
  if (info.state.status == "stopped") {
    return errorf(ErrorKind::kConflict, "container with id {} is not running", id);
  }
  TRY_ASSIGN(const UniqueFd process, sys::pidfd_open(info.state.pid));
  TRY_ASSIGN(const std::string folder, runtime.cgroup_folder(id, "memory"));
  TRY_ASSIGN(OomWatch oom, OomWatch::open(folder));
  for (;;) {
    pollfd polled[2] = {{process.get(), POLLIN, 0}, {oom.fd(), POLLIN, 0}};
    const int ready = ::poll(polled, 2, static_cast<int>(interval_ms));
    if (ready < 0 && errno != EINTR) return errno_error("wait for events");
    if (polled[1].revents != 0 && oom.fired()) print(fmt::format("{{\"type\":\"oom\",\"id\":\"{}\"}}\n", id));
    if (polled[0].revents != 0) return 0;
    if (ready == 0) {
      auto line = runtime.stats(id);
      if (line.ok()) print(*line + "\n");
    }
  }
}

}  // namespace hull::runtime::command
