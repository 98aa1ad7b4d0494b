#include "runtime/user_namespace.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>

#include "base/error_format.h"
#include "isolation/namespaces.h"
#include "sys/file.h"

namespace hull::runtime {
namespace {

struct OwnCapabilities {
  uint64_t effective = 0, permitted = 0;
};

OwnCapabilities own_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2] = {};
  if (::syscall(SYS_capget, &header, sets) != 0) return {};
  return {sets[0].effective | static_cast<uint64_t>(sets[1].effective) << 32U,
          sets[0].permitted | static_cast<uint64_t>(sets[1].permitted) << 32U};
}

bool is_own_single_id(const std::vector<oci::IdMapping>& map, uint32_t own) {
  return map.size() == 1 && map[0].size == 1 && map[0].host_id == own;
}

/// Runs newuidmap or newgidmap.
Result<void> run_map_helper(const char* program, pid_t pid, const std::vector<oci::IdMapping>& map) {
  std::vector<std::string> args = {program, fmt::to_string(pid)};
  for (const oci::IdMapping& entry : map) {
    args.push_back(fmt::to_string(entry.container_id));
    args.push_back(fmt::to_string(entry.host_id));
    args.push_back(fmt::to_string(entry.size));
  }
  std::vector<char*> pointers;
  for (std::string& arg : args) pointers.push_back(arg.data());
  pointers.push_back(nullptr);
  const pid_t helper = ::fork();
  if (helper < 0) return errnof("start {}", program);
  if (helper == 0) {
    ::execvp(program, pointers.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(helper, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
    return errorf(ErrorKind::kUnsupported, "{} is not installed (package uidmap): the map needs it", program);
  }
  return errorf(ErrorKind::kPermission, "{} refused the map: see /etc/subuid and /etc/subgid", program);
}

Result<void> write_map(pid_t pid, const char* file, const std::vector<oci::IdMapping>& map) {
  const std::string path = fmt::format("/proc/{}/{}", pid, file);
  auto written = sys::write_value(AT_FDCWD, path, isolation::id_map_text(map));
  if (!written.ok()) return std::move(written).error().context("map ids of the user namespace");
  return {};
}

}  // namespace

bool can_write_maps() {
  const uint64_t capabilities = own_capabilities().effective;
  return (capabilities >> CAP_SETUID & 1U) != 0 && (capabilities >> CAP_SETGID & 1U) != 0;
}

bool can_mount() { return (own_capabilities().effective >> CAP_SYS_ADMIN & 1U) != 0; }

uint64_t permitted_capabilities() { return own_capabilities().permitted; }

bool in_initial_user_namespace() {
  auto map = sys::read_file("/proc/self/uid_map", 4096);
  if (!map.ok()) return true;
  unsigned long inside = 1;
  unsigned long outside = 1;
  unsigned long size = 0;
  return std::sscanf(map->c_str(), "%lu %lu %lu", &inside, &outside, &size) == 3 && inside == 0 && outside == 0 &&
         size == 4294967295UL;
}

bool must_deny_setgroups(const IdMaps& maps) { return !can_write_maps() && is_own_single_id(maps.gids, ::getegid()); }

Result<void> write_id_maps(pid_t pid, const IdMaps& maps, bool* denied_setgroups) {
  const bool privileged = can_write_maps();
  if (denied_setgroups != nullptr) *denied_setgroups = must_deny_setgroups(maps);
  if (must_deny_setgroups(maps)) {
    auto denied = sys::write_value(AT_FDCWD, fmt::format("/proc/{}/setgroups", pid), "deny");
    if (!denied.ok() && denied.error().error_number() != ENOENT) return denied;
  }
  if (privileged || is_own_single_id(maps.gids, ::getegid())) {
    TRY(write_map(pid, "gid_map", maps.gids));
  } else {
    TRY(run_map_helper("newgidmap", pid, maps.gids));
  }
  if (privileged || is_own_single_id(maps.uids, ::geteuid())) return write_map(pid, "uid_map", maps.uids);
  return run_map_helper("newuidmap", pid, maps.uids);
}

Result<UniqueFd> make_user_namespace(const IdMaps& maps) {
  TRY_ASSIGN(const sys::Pipe pipe, sys::make_pipe());
  // A process that only holds the namespace open until its file is opened here.
  const pid_t pid =
      static_cast<pid_t>(::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, nullptr, nullptr, nullptr, nullptr));
  if (pid < 0) return errno_error("make a user namespace");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    char byte = 0;
    ::close(pipe.write_end.get());
    [[maybe_unused]] const ssize_t got = ::read(pipe.read_end.get(), &byte, 1);
    ::_exit(0);
  }
  auto made = [&]() -> Result<UniqueFd> {
    TRY(write_id_maps(pid, maps, nullptr));
    return sys::open(fmt::format("/proc/{}/ns/user", pid), O_RDONLY);
  }();
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return made;
}

}  // namespace hull::runtime
