// What a workload takes of the host, whichever wall it is behind.
#include <dirent.h>

#include <algorithm>
#include <set>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

constexpr size_t kMostProcesses = 100'000;

uint64_t first_number(std::string_view text) {
  const size_t begin = text.find_first_of("0123456789");
  if (begin == std::string_view::npos) return 0;
  text.remove_prefix(begin);
  const auto value = parse_int(text.substr(0, text.find_first_not_of("0123456789")), 0, INT64_MAX);
  return value.ok() ? static_cast<uint64_t>(*value) : 0;
}

/// The number after "Name:" in a /proc file; 0 when it is not there.
uint64_t field_of(std::string_view text, std::string_view name) {
  const size_t at = text.find(name);
  return at == std::string_view::npos ? 0 : first_number(text.substr(at + name.size()));
}

std::string proc_file(int pid, const char* name) {
  return sys::read_file(fmt::format("/proc/{}/{}", pid, name), 1 << 20).value_or("");
}

/// The process and all below it. The monitor adopts what its children leave behind, so nothing of a workload is
/// outside.
std::set<int> tree_of(int root) {
  std::set<int> all;
  std::vector<int> next = {root};
  while (!next.empty() && all.size() < kMostProcesses) {
    const int pid = next.back();
    next.pop_back();
    if (pid <= 1 || !all.insert(pid).second) continue;
    // A child belongs to the thread that made it.
    const std::string tasks = fmt::format("/proc/{}/task", pid);
    DIR* stream = ::opendir(tasks.c_str());
    if (stream == nullptr) continue;
    while (const dirent* entry = ::readdir(stream)) {
      if (entry->d_name[0] == '.') continue;
      const std::string children =
          sys::read_file(fmt::format("{}/{}/children", tasks, entry->d_name), 1 << 20).value_or("");
      std::string_view rest = children;
      while (!rest.empty()) {
        const size_t end = std::min(rest.find(' '), rest.size());
        const auto child = parse_int(rest.substr(0, end), 2, 1 << 30);
        if (child.ok()) next.push_back(static_cast<int>(*child));
        rest.remove_prefix(std::min(end + 1, rest.size()));
      }
    }
    ::closedir(stream);
  }
  return all;
}

}  // namespace

Result<Footprint> EngineImpl::footprint(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  const RunState state = read_state(paths_, row.id);
  Footprint out;
  out.disk = written_size(row.id, row.isolation);
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(const Config config, parse_config(json));
  const std::string events = host_cgroup_file(config, settings_, row.id);
  const std::string folder = events.substr(0, events.rfind('/') + 1);
  for (const char* name : {"memory.max_usage_in_bytes", "memory.peak"}) {
    if (folder.empty()) break;
    if (const auto text = sys::read_file(folder + name, 64); text.ok()) out.memory_peak = first_number(*text);
  }
  if (state.status != Status::kRunning && state.status != Status::kPaused) return out;
  const auto monitor = static_cast<int>(field_of(proc_file(state.pid, "status"), "\nPPid:"));
  for (const int pid : tree_of(monitor > 1 ? monitor : state.pid)) {
    const std::string status = proc_file(pid, "status");
    const std::string memory = proc_file(pid, "smaps_rollup");
    if (status.empty() || memory.empty()) continue;  // it ended while we looked
    ++out.processes;
    out.threads += static_cast<int>(field_of(status, "\nThreads:"));
    out.memory += field_of(memory, "\nPss:") * 1024;
  }
  return out;
}

}  // namespace hull::engine
