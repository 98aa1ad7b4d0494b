#include "sys/overlay.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>

#include "base/error_format.h"
#include "sys/user_namespace.h"

namespace hull::sys {
namespace {

constexpr size_t kLongestFsString = 255;
constexpr size_t kMountDataBytes = 4096;  // one page, with the end
constexpr size_t kChildStackBytes = 64 << 10;
constexpr const char* kTarget = "m";

std::string join_lower_folders(const std::vector<std::string>& lower) {
  std::string out;
  for (const std::string& folder : lower) {
    if (!out.empty()) out += ':';
    for (const char c : folder) {
      if (c == ':' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out;
}

Result<UniqueFd> make_with_one_string(const std::string& source, const std::vector<std::string>& lower,
                                      const std::vector<FsParameter>& parameters, uint64_t attributes) {
  std::vector<FsParameter> all = {{"lowerdir", join_lower_folders(lower), false}};
  all.insert(all.end(), parameters.begin(), parameters.end());
  return make_mount("overlay", source, all, attributes);
}

Result<UniqueFd> make_by_appending(const std::string& source, const std::vector<std::string>& lower,
                                   const std::vector<FsParameter>& parameters, uint64_t attributes) {
  std::vector<FsParameter> all;
  for (const std::string& folder : lower) all.push_back({"lowerdir+", folder, false});
  all.insert(all.end(), parameters.begin(), parameters.end());
  return make_mount("overlay", source, all, attributes);
}

/// mount(2) takes the super block's flags apart from the options of the file system.
unsigned long mount_flag(std::string_view name) {
  static constexpr std::pair<std::string_view, unsigned long> kFlags[] = {
      {"ro", MS_RDONLY}, {"sync", MS_SYNCHRONOUS}, {"dirsync", MS_DIRSYNC}, {"lazytime", MS_LAZYTIME}};
  for (const auto& [known, flag] : kFlags) {
    if (known == name) return flag;
  }
  return 0;
}

/// What the child needs; it shares our memory and table of descriptors and makes nothing but system calls.
struct LinkMount {
  int folder = -1;  // detached tmpfs with the links
  const char* source = nullptr;
  unsigned long flags = 0;
  const char* data = nullptr;
  const char* failed = nullptr;  // step
  int error_number = 0;
  int mount = -1;
};

int mount_in_own_namespace(void* argument) {
  auto* job = static_cast<LinkMount*>(argument);
  const auto fail = [job](const char* step) {
    job->failed = step;
    job->error_number = errno;
    return 1;
  };
  if (::unshare(CLONE_NEWNS) != 0) return fail("make a mount namespace");
  // mount(2) takes only attached targets, and /proc is a mount everywhere: private, so that nobody else sees this.
  if (::mount(nullptr, "/proc", nullptr, MS_PRIVATE, nullptr) != 0) return fail("make /proc private");
  if (::move_mount(job->folder, "", AT_FDCWD, "/proc", MOVE_MOUNT_F_EMPTY_PATH) != 0) return fail("attach the links");
  if (::fchdir(job->folder) != 0) return fail("enter the links");
  if (::mount(job->source, kTarget, "overlay", job->flags, job->data) != 0) return fail("mount overlay");
  job->mount = ::open_tree(job->folder, kTarget, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
  return job->mount < 0 ? fail("take the overlay") : 0;
}

Result<UniqueFd> run_link_mount(LinkMount& job) {
  const auto stack = std::make_unique<std::byte[]>(kChildStackBytes);
  // Suspended until the child has ended, in the way of vfork: no copy of our memory, and the descriptor is ours.
  const pid_t child = ::clone(mount_in_own_namespace, stack.get() + kChildStackBytes,
                              CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, &job);
  if (child < 0) return errno_error("mount overlay: start a process");
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  UniqueFd mount(job.mount);
  if (job.failed != nullptr) return Error::from_errno(job.error_number, fmt::format("mount overlay: {}", job.failed));
  if (!mount) return errorf(ErrorKind::kInternal, "mount overlay: the process that mounts was killed");
  return mount;
}

Result<UniqueFd> make_by_links(const std::string& source, const std::vector<std::string>& lower,
                               const std::vector<FsParameter>& parameters, uint64_t attributes) {
  TRY_ASSIGN(const UniqueFd folder, make_mount("tmpfs", "hull-layers", {{"mode", "0700", false}}, 0));
  if (::mkdirat(folder.get(), kTarget, 0700) != 0) return errno_error("mount overlay: make the links");
  std::string data = "lowerdir=";
  for (size_t i = 0; i < lower.size(); ++i) {
    const std::string name = fmt::to_string(i);
    if (::symlinkat(lower[i].c_str(), folder.get(), name.c_str()) != 0) return errnof("overlay layer {}", lower[i]);
    data += (i == 0 ? "" : ":") + name;
  }
  LinkMount job;
  for (const FsParameter& parameter : parameters) {
    if (parameter.is_flag && mount_flag(parameter.key) != 0) {
      job.flags |= mount_flag(parameter.key);
      continue;
    }
    data += "," + parameter.key;
    if (parameter.is_flag) continue;
    data += '=';
    for (const char c : parameter.value) {
      if (c == ',' || c == '\\') data += '\\';
      data += c;
    }
  }
  if (data.size() >= kMountDataBytes) {
    return errorf(ErrorKind::kUnsupported, "an overlay of {} layers needs Linux 6.8 or newer", lower.size());
  }
  job.folder = folder.get();
  job.source = source.c_str();
  job.data = data.c_str();
  TRY_ASSIGN(UniqueFd mount, run_link_mount(job));
  if (attributes != 0) TRY(set_mount_attributes(mount.get(), attributes, 0, 0, false));
  return mount;
}

}  // namespace

Result<UniqueFd> make_overlay(const std::string& source, const std::vector<std::string>& lower,
                              const std::vector<FsParameter>& given, uint64_t attributes, LowerFolders how) {
  std::vector<FsParameter> parameters = given;
  const auto named = [](const FsParameter& one) { return one.key == "userxattr"; };
  // trusted.* attributes are for the host's root: in a user namespace overlayfs marks by user.* (Linux 5.11).
  if (in_user_namespace() && std::none_of(given.begin(), given.end(), named))
    parameters.push_back({"userxattr", "", true});
  switch (how) {
    case LowerFolders::kOneString:
      return make_with_one_string(source, lower, parameters, attributes);
    case LowerFolders::kAppended:
      return make_by_appending(source, lower, parameters, attributes);
    case LowerFolders::kLinks:
      return make_by_links(source, lower, parameters, attributes);
    case LowerFolders::kAuto:
      break;
  }
  if (join_lower_folders(lower).size() <= kLongestFsString) {
    return make_with_one_string(source, lower, parameters, attributes);
  }
  auto appended = make_by_appending(source, lower, parameters, attributes);
  // An older kernel doesn't know "lowerdir+" and calls it invalid.
  if (appended.ok() || appended.error().error_number() != EINVAL) return appended;
  auto linked = make_by_links(source, lower, parameters, attributes);
  return linked.ok() ? std::move(linked) : std::move(appended);
}

std::vector<std::string> split_lower_folders(std::string_view value) {
  std::vector<std::string> out(1);
  for (size_t at = 0; at < value.size(); ++at) {
    if (value[at] == ':') {
      out.emplace_back();
      continue;
    }
    if (value[at] == '\\' && at + 1 < value.size()) ++at;
    out.back() += value[at];
  }
  return out;
}

}  // namespace hull::sys
