#include "isolation/namespaces.h"

#include <linux/sched.h>

#include "base/error_format.h"

namespace hull::isolation {

using oci::NamespaceType;

uint64_t clone_flag(NamespaceType type) {
  switch (type) {
    case NamespaceType::kPid:
      return CLONE_NEWPID;
    case NamespaceType::kNetwork:
      return CLONE_NEWNET;
    case NamespaceType::kMount:
      return CLONE_NEWNS;
    case NamespaceType::kIpc:
      return CLONE_NEWIPC;
    case NamespaceType::kUts:
      return CLONE_NEWUTS;
    case NamespaceType::kUser:
      return CLONE_NEWUSER;
    case NamespaceType::kCgroup:
      return CLONE_NEWCGROUP;
    case NamespaceType::kTime:
      return CLONE_NEWTIME;
  }
  return 0;
}

std::string_view proc_name(NamespaceType type) {
  switch (type) {
    case NamespaceType::kPid:
      return "pid";
    case NamespaceType::kNetwork:
      return "net";
    case NamespaceType::kMount:
      return "mnt";
    case NamespaceType::kIpc:
      return "ipc";
    case NamespaceType::kUts:
      return "uts";
    case NamespaceType::kUser:
      return "user";
    case NamespaceType::kCgroup:
      return "cgroup";
    case NamespaceType::kTime:
      return "time";
  }
  return {};
}

NamespaceFlags namespace_flags(const std::vector<oci::Namespace>& namespaces) {
  NamespaceFlags flags;
  for (const oci::Namespace& space : namespaces) {
    (space.path.empty() ? flags.fresh : flags.joined) |= clone_flag(space.type);
  }
  return flags;
}

std::string id_map_text(const std::vector<oci::IdMapping>& mappings) {
  std::string text;
  for (const oci::IdMapping& mapping : mappings) {
    fmt::format_to(std::back_inserter(text), "{} {} {}\n", mapping.container_id, mapping.host_id, mapping.size);
  }
  return text;
}

Result<uint32_t> map_to_host(const std::vector<oci::IdMapping>& mappings, uint32_t id, std::string_view what) {
  if (mappings.empty()) return id;
  for (const oci::IdMapping& mapping : mappings) {
    if (id < mapping.container_id || id - mapping.container_id >= mapping.size) continue;
    const uint64_t host = uint64_t{mapping.host_id} + (id - mapping.container_id);
    if (host < 0xffffffffULL) return static_cast<uint32_t>(host);
  }
  return errorf(ErrorKind::kInvalid, "{}: {} has no mapping in the container's user namespace", what, id);
}

std::string time_offsets_text(const std::map<std::string, oci::TimeOffset>& offsets) {
  std::string text;
  for (const auto& [clock, offset] : offsets) {
    fmt::format_to(std::back_inserter(text), "{} {} {}\n", clock, offset.secs, offset.nanosecs);
  }
  return text;
}

Result<std::string> sysctl_path(std::string_view name) {
  // sysctl(8): the separator that comes first decides; the other one is then part of a component.
  std::string path(name);
  const size_t first = path.find_first_of("./");
  if (first != std::string::npos && path[first] == '.') {
    for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  bool good = !path.empty() && path.size() <= 255;
  for (size_t at = 0; good && at <= path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view part = std::string_view(path).substr(at, slash - at);
    good = !part.empty() && part != "." && part != "..";
    for (const char c : part) good = good && static_cast<unsigned char>(c) > ' ';
    at = slash + 1;
  }
  if (!good) return errorf(ErrorKind::kInvalid, "linux.sysctl: \"{}\" is no sysctl name", name.substr(0, 80));
  return path;
}

}  // namespace hull::isolation
