// Finding the hierarchies.

#include "isolation/cgroup_host.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "isolation/cgroup.h"
#include "isolation/cgroup_files.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::isolation {

namespace {

constexpr const char* kCgroupTop = "/sys/fs/cgroup";
constexpr size_t kMaxMountinfoBytes = 64 << 20;

using cgroup_files::split;

/// mountinfo writes space, tab, newline and backslash as three octal digits.
std::string unescape(std::string_view text) {
  std::string out;
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
      out.push_back(static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0')));
      i += 3;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

std::vector<std::string> to_strings(const std::vector<std::string_view>& views) { return {views.begin(), views.end()}; }

std::vector<std::string> unified_controllers(const std::string& path) {
  Result<std::string> text = sys::read_file(path + "/cgroup.controllers", 4096);
  if (!text.ok()) return {};
  return to_strings(split(*text, " \n"));
}

/// "36 35 98:0 /root /mount/point rw,relatime shared:1 - cgroup cgroup rw,memory"
std::optional<CgroupMount> parse_line(std::string_view line) {
  const size_t dash = line.find(" - cgroup");
  if (dash == std::string_view::npos) return std::nullopt;
  const std::vector<std::string_view> before = split(line.substr(0, dash), " ");
  const std::vector<std::string_view> after = split(line.substr(dash + 3), " ");
  if (before.size() < 5 || after.size() < 3) return std::nullopt;
  CgroupMount mount;
  mount.root = unescape(before[3]);
  mount.path = unescape(before[4]);
  if (after[0] == "cgroup2") {
    mount.version = 2;
    return mount;
  }
  if (after[0] != "cgroup") return std::nullopt;
  mount.version = 1;
  // What of the options is a controller: everything but the generic ones.
  constexpr std::array<std::string_view, 8> kGeneric = {
      "rw", "ro", "relatime", "noprefix", "clone_children", "xattr", "cpuset_v2_mode", "favordynmods"};
  for (const std::string_view option : split(after.back(), ",")) {
    if (std::find(kGeneric.begin(), kGeneric.end(), option) != kGeneric.end()) continue;
    if (option.starts_with("release_agent=")) continue;
    mount.controllers.emplace_back(option);
  }
  return mount;
}

/// The usual places: for each line "4:memory:/path" of /proc/self/cgroup the folder named after its controllers.
/// Nothing when one is missing or of another file system, so that mountinfo must tell.
std::optional<std::vector<CgroupMount>> usual_mounts() {
  const Result<std::string> text = sys::read_file("/proc/self/cgroup", 1 << 20);
  if (!text.ok()) return std::nullopt;
  std::vector<CgroupMount> mounts;
  for (const std::string_view line : split(*text, "\n")) {
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) return std::nullopt;
    const std::string_view names = line.substr(first + 1, second - first - 1);
    CgroupMount mount;
    struct statfs info = {};
    if (names.empty()) {
      mount.version = 2;
      mount.path = std::string(kCgroupTop) + "/unified";
      // A v2 hierarchy exists in every kernel; on a v1 host it need not be mounted.
      if (::statfs(mount.path.c_str(), &info) != 0) continue;
      if (info.f_type != CGROUP2_SUPER_MAGIC) return std::nullopt;
      mount.controllers = unified_controllers(mount.path);
    } else {
      mount.version = 1;
      mount.controllers = to_strings(split(names, ","));
      const bool named = names.starts_with("name=");
      mount.path = std::string(kCgroupTop) + "/" + std::string(named ? names.substr(5) : names);
      if (::statfs(mount.path.c_str(), &info) != 0 || info.f_type != CGROUP_SUPER_MAGIC) {
        if (named) continue;
        return std::nullopt;
      }
    }
    mounts.push_back(std::move(mount));
  }
  // A v2 mount elsewhere on a hybrid host is what mountinfo knows.
  if (mounts.empty()) return std::nullopt;
  return mounts;
}

}  // namespace

Result<std::vector<CgroupMount>> mounted_cgroups() {
  TRY_ASSIGN(const std::string text, sys::read_file("/proc/self/mountinfo", kMaxMountinfoBytes));
  std::vector<CgroupMount> mounts;
  for (const std::string_view line : split(text, "\n")) {
    std::optional<CgroupMount> mount = parse_line(line);
    if (!mount) continue;
    // The first mount of a hierarchy counts; further ones are bind mounts (containers' own).
    const bool known = std::any_of(mounts.begin(), mounts.end(), [&](const CgroupMount& other) {
      return other.version == mount->version && other.controllers == mount->controllers;
    });
    if (!known) mounts.push_back(std::move(*mount));
  }
  for (CgroupMount& mount : mounts) {
    if (mount.version == 2) mount.controllers = unified_controllers(mount.path);
  }
  return mounts;
}

Result<std::string> OwnGroups::of(const CgroupMount& mount) {
  if (text_.empty()) {
    TRY_ASSIGN(text_, sys::read_file("/proc/self/cgroup", 1 << 20));
  }
  for (const std::string_view line : split(text_, "\n")) {
    const size_t first = line.find(':');
    const size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view names = line.substr(first + 1, second - first - 1);
    const bool here = mount.version == 2 ? line.starts_with("0::")
                                         : !names.empty() && !mount.controllers.empty() &&
                                               split(names, ",").front() == mount.controllers.front();
    if (!here) continue;
    std::string_view path = line.substr(second + 1);
    // The file tells the path in the hierarchy; the mount may show only a part of it (inside another container).
    if (path != "/") {
      const Result<std::string> root = root_of(mount);
      if (!root.ok()) return root.error();
      if (*root != "/" && path.starts_with(*root)) path.remove_prefix(root->size());
    }
    // "/../x" is a group outside this group namespace: not reachable here.
    if (path.starts_with("/..")) path = "/";
    return sys::clean_path(path);
  }
  return std::string();
}

Result<std::string> OwnGroups::root_of(const CgroupMount& mount) {
  if (!mount.root.empty()) return mount.root;
  if (!mounts_) {
    TRY_ASSIGN(mounts_, mounted_cgroups());
  }
  for (const CgroupMount& other : *mounts_) {
    if (other.path == mount.path) return other.root;
  }
  return std::string("/");
}

bool CgroupMount::has(std::string_view controller) const {
  return std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
}

Result<CgroupHost> CgroupHost::detect() {
  CgroupHost host;
  struct statfs info = {};
  if (::statfs(kCgroupTop, &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC) {
    host.mounts_.push_back({2, unified_controllers(kCgroupTop), kCgroupTop, ""});
    return host;
  }
  if (std::optional<std::vector<CgroupMount>> usual = usual_mounts()) {
    host.mounts_ = std::move(*usual);
    return host;
  }
  TRY_ASSIGN(host.mounts_, mounted_cgroups());
  if (host.mounts_.empty()) {
    return errorf(ErrorKind::kUnsupported,
                  "no control group file system is mounted: mount one (mount -t cgroup2 none {}) or run where there "
                  "is one",
                  kCgroupTop);
  }
  return host;
}

CgroupHost CgroupHost::from_mounts(std::vector<CgroupMount> mounts, bool fixture) {
  CgroupHost host;
  host.mounts_ = std::move(mounts);
  host.fixture_ = fixture;
  return host;
}

CgroupLayout CgroupHost::layout() const {
  const bool v1 = std::any_of(mounts_.begin(), mounts_.end(), [](const CgroupMount& mount) {
    return mount.version == 1 && std::any_of(mount.controllers.begin(), mount.controllers.end(),
                                             [](const std::string& name) { return !name.starts_with("name="); });
  });
  if (!v1) return unified() != nullptr ? CgroupLayout::kUnified : CgroupLayout::kLegacy;
  return unified() != nullptr ? CgroupLayout::kHybrid : CgroupLayout::kLegacy;
}

const CgroupMount* CgroupHost::find(std::string_view controller) const {
  for (const CgroupMount& mount : mounts_) {
    if (mount.has(controller)) return &mount;
  }
  return nullptr;
}

const CgroupMount* CgroupHost::unified() const {
  for (const CgroupMount& mount : mounts_) {
    if (mount.version == 2) return &mount;
  }
  return nullptr;
}

}  // namespace hull::isolation
