#include "engine/host.h"

#include <fts.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>

#include "base/error_format.h"
#include "engine/user_group.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

bool memory_v1() { return ::access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0; }

}  // namespace

std::string host_cgroup_file(const Config& config, const Settings& settings, std::string_view id) {
  if (settings.cgroup_manager == "systemd") return {};
  const std::string parent = cgroup_parent_of(config, settings);
  if (parent.empty()) return {};
  if (memory_v1()) return fmt::format("/sys/fs/cgroup/memory/{}/{}/memory.oom_control", parent, id);
  if (::access("/sys/fs/cgroup/cgroup.controllers", F_OK) != 0) return {};
  return fmt::format("/sys/fs/cgroup/{}/{}/memory.events", parent, id);
}

bool host_has_swap_accounting() {
  if (memory_v1()) return ::access("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", F_OK) == 0;
  return true;  // v2 has memory.swap.max wherever swap is compiled in; the runtime says so otherwise
}

std::string own_program() {
  if (const char* given = std::getenv("HULL_PROGRAM")) return given;  // tests, where the caller is not hull
  char path[4096];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  std::string program(path, length > 0 ? static_cast<size_t>(length) : 0);
  // Another of Hull's programs: hull is beside it, or in bin when this one is in libexec/hull.
  const size_t slash = program.rfind('/');
  if (slash == std::string::npos || program.substr(slash) == "/hull") return program;
  for (const char* other : {"/hull", "/../../bin/hull"}) {
    if (std::string found = program.substr(0, slash) + other; ::access(found.c_str(), X_OK) == 0) return found;
  }
  return program;
}

uint64_t tree_size(const std::string& folder) {
  uint64_t total = 0;
  std::set<std::pair<dev_t, ino_t>> seen;
  char* const roots[] = {const_cast<char*>(folder.c_str()), nullptr};  // NOLINT: fts does not write to them
  FTS* walk = ::fts_open(roots, FTS_PHYSICAL | FTS_XDEV | FTS_NOCHDIR, nullptr);
  if (walk == nullptr) return 0;
  while (const FTSENT* entry = ::fts_read(walk)) {
    if (entry->fts_info == FTS_DP || entry->fts_statp == nullptr) continue;
    if (entry->fts_info == FTS_NS || entry->fts_info == FTS_ERR) continue;
    const struct stat& info = *entry->fts_statp;
    if (info.st_nlink > 1 && !S_ISDIR(info.st_mode) && !seen.insert({info.st_dev, info.st_ino}).second) continue;
    total += static_cast<uint64_t>(info.st_blocks) * 512;
  }
  ::fts_close(walk);
  return total;
}

uint64_t host_memory() {
  return static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

uint32_t host_cpus() { return static_cast<uint32_t>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L)); }

std::string host_name() {
  utsname name{};
  return ::uname(&name) == 0 ? name.nodename : "localhost";
}

}  // namespace hull::engine
