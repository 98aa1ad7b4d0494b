#include "isolation/delegation.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error_format.h"
#include "isolation/cgroup_files.h"
#include "isolation/cgroup_host.h"
#include "isolation/cgroup_systemd.h"
#include "sys/file.h"
#include "sys/root.h"
#include "sys/user_namespace.h"

namespace hull::isolation {

namespace {

using cgroup_files::split;

constexpr const char* kCommands = "commands";
constexpr const char* kUserScope = "hull.scope";
constexpr const char* kUserSlice = "app.slice";

std::string full(const CgroupMount& mount, const std::string& path) {
  return path.empty() ? mount.path : mount.path + "/" + path;
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

bool is_below(const std::string& path, const std::string& group) {
  return group.empty() || path == group || path.starts_with(group + "/");
}

bool may(const std::string& path, int mode) { return ::faccessat(AT_FDCWD, path.c_str(), mode, AT_EACCESS) == 0; }

/// A folder to make groups in and to bring processes to.
bool is_ours(const CgroupMount& mount, const std::string& group) {
  return may(full(mount, group), W_OK | X_OK) && may(full(mount, group) + "/cgroup.procs", W_OK);
}

std::vector<std::string> controllers_of(const CgroupMount& mount, const std::string& group) {
  if (mount.version == 1) return mount.controllers;
  const std::string text = sys::read_file(full(mount, group) + "/cgroup.controllers", 4096).value_or("");
  const std::vector<std::string_view> names = split(text, " \n");
  return {names.begin(), names.end()};
}

void add(std::vector<std::string>& names, const std::vector<std::string>& more) {
  names.insert(names.end(), more.begin(), more.end());
}

/// The group of the user's systemd, whatever session this process is of.
std::string users_systemd() {
  const char* user = std::getenv(sys::kUserVariable);
  const std::string id = user != nullptr ? user : std::to_string(::geteuid());
  return fmt::format("user.slice/user-{}.slice/user@{}.service", id, id);
}

/// The highest group at or above `own` that is the user's.
std::optional<std::string> highest(const CgroupMount& mount, const std::string& own) {
  std::optional<std::string> found;
  for (std::string at = own;; at = parent_of(at)) {
    if (is_ours(mount, at) && may(full(mount, at) + "/cgroup.subtree_control", W_OK) && !at.empty()) found = at;
    if (at.empty()) return found;
  }
}

Result<void> move_here(const std::string& group) {
  TRY_ASSIGN(const UniqueFd dir, sys::open(group, O_PATH | O_DIRECTORY));
  return sys::write_value(dir.get(), "cgroup.procs", "0");
}

/// Everybody who is in the group itself goes one below.
Result<void> clear(const CgroupMount& mount, const std::string& group) {
  const std::string below = full(mount, group) + "/" + kCommands;
  if (::mkdir(below.c_str(), 0755) != 0 && errno != EEXIST) return errnof("make the control group {}", below);
  TRY(move_here(below));
  const std::string rest = sys::read_file(full(mount, group) + "/cgroup.procs", 1 << 20).value_or("");
  TRY_ASSIGN(const UniqueFd dir, sys::open(below, O_PATH | O_DIRECTORY));
  // One that has ended meanwhile is no loss; one that can't be moved shows when a controller is asked for.
  for (const std::string_view pid : split(rest, "\n")) ignore_result(sys::write_value(dir.get(), "cgroup.procs", pid));
  return {};
}

}  // namespace

bool may_make_group(const CgroupMount& mount, const std::string& path, const std::string& own) {
  std::string at = path;
  struct stat info{};
  while (!at.empty() && ::stat(full(mount, at).c_str(), &info) != 0) at = parent_of(at);
  if (!may(full(mount, at), W_OK | X_OK)) return false;
  if (mount.version == 1) return true;
  std::string common = path;
  while (!is_below(own, common)) common = parent_of(common);
  return may(full(mount, common) + "/cgroup.procs", W_OK);
}

bool Delegation::has(std::string_view controller) const {
  return std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
}

Delegation find_delegation(const CgroupHost& host, const std::string& wanted) {
  Delegation out;
  OwnGroups own;
  if (wanted.starts_with('/')) {
    const std::string path = sys::clean_path(wanted);
    for (const CgroupMount& mount : host.mounts()) {
      const auto here = own.of(mount);
      if (path.empty() || !here.ok() || !is_ours(mount, path) || !may_make_group(mount, path + "/x", *here)) continue;
      out.group = path;
      out.named = true;
      add(out.controllers, controllers_of(mount, path));
    }
    if (out.named) return out;
  }
  const CgroupMount* unified = host.unified();
  if (unified == nullptr) return out;
  if (const std::string manager = users_systemd(); is_ours(*unified, manager)) {
    out.group = fmt::format("{}/{}/{}", manager, kUserSlice, kUserScope);
    out.scope = true;
    out.controllers = controllers_of(*unified, manager);
    return out;
  }
  const auto here = own.of(*unified);
  if (!here.ok()) return out;
  if (const auto group = highest(*unified, *here)) {
    out.group = *group;
    out.controllers = controllers_of(*unified, *group);
  }
  return out;
}

Result<void> enter_delegation(const CgroupHost& host, const Delegation& delegation, const std::string& lock_file) {
  const CgroupMount* unified = host.unified();
  if (unified == nullptr || delegation.group.empty()) return {};
  const auto place = [&] { return OwnGroups().of(*unified); };
  TRY_ASSIGN(std::string here, place());
  if (here != delegation.group && (!delegation.scope || is_below(here, delegation.group))) return {};
  TRY_ASSIGN(const sys::FileLock lock, sys::FileLock::acquire(lock_file, true, true));
  if (delegation.scope && here != delegation.group) {
    TRY(attach_to_user_scope(kUserScope, kUserSlice, ::getpid()));
    TRY_ASSIGN(here, place());
  }
  return here == delegation.group ? clear(*unified, here) : Result<void>();
}

}  // namespace hull::isolation
