#include "vm/program_check.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/error_format.h"
#include "sys/root.h"

namespace hull::vm {
namespace {

/// Folders in which engines mount files and file systems of their own, none of which has programs.
constexpr std::array<std::string_view, 6> kNoPrograms = {"/etc/", "/run/", "/var/run/", "/dev/", "/proc/", "/sys/"};

bool may_bring_programs(const oci::Mount& mount) {
  const std::string place = mount.destination + "/";
  if (place == "/tmp/") return false;
  return std::none_of(kNoPrograms.begin(), kNoPrograms.end(),
                      [&](std::string_view folder) { return place.starts_with(folder); });
}

std::vector<std::string> candidates(const oci::Process& process) {
  const std::string& name = process.args[0];
  if (name.starts_with('/')) return {name};
  if (name.find('/') != std::string::npos) return {process.cwd + "/" + name};
  std::string_view path;
  for (const std::string& entry : process.env) {
    if (entry.starts_with("PATH=")) path = std::string_view(entry).substr(5);
  }
  std::vector<std::string> out;
  while (!path.empty()) {
    const size_t end = std::min(path.find(':'), path.size());
    const std::string_view folder = path.substr(0, end);
    out.push_back(fmt::format("{}/{}", folder.empty() ? std::string_view(process.cwd) : folder, name));
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return out;
}

}  // namespace

Result<void> check_program(const oci::Spec& spec, const std::string& rootfs) {
  if (std::any_of(spec.mounts.begin(), spec.mounts.end(), may_bring_programs)) return {};
  TRY_ASSIGN(const sys::Root root, sys::Root::open(rootfs));
  const std::string& name = spec.process->args[0];
  bool denied = false;
  for (const std::string& candidate : candidates(*spec.process)) {
    const auto found = root.open_in("./" + candidate, O_PATH);
    struct stat info{};
    if (!found.ok() || ::fstat(found->get(), &info) != 0) continue;
    constexpr mode_t kExecute = S_IXUSR | S_IXGRP | S_IXOTH;
    if (S_ISREG(info.st_mode) && (info.st_mode & kExecute) != 0) return {};
    denied = true;
  }
  if (denied) return errorf(ErrorKind::kPermission, "exec: \"{}\": permission denied", name);
  if (name.find('/') == std::string::npos) {
    return errorf(ErrorKind::kNotFound, "exec: \"{}\": executable file not found in $PATH", name);
  }
  return Error::from_errno(ENOENT, fmt::format("exec: \"{}\": stat {}", name, name));
}

}  // namespace hull::vm
