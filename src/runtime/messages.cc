#include "runtime/messages.h"

#include <cstring>

#include "base/error_format.h"
#include "isolation/capabilities.h"
#include "isolation/process_attributes.h"

namespace hull::runtime {
namespace {

using child::Step;

std::string mount_name(const MessageContext& context, uint32_t index) {
  if (context.spec == nullptr || index >= context.spec->mounts.size()) return fmt::format("mounts[{}]", index);
  const oci::Mount& mount = context.spec->mounts[index];
  return fmt::format("mounts[{}] ({} of {} at {})", index, mount.type.empty() ? "bind" : mount.type, mount.source,
                     mount.destination);
}

std::string program(const MessageContext& context) {
  return context.process == nullptr || context.process->args.empty() ? "" : context.process->args[0];
}

/// The words that Docker and Podman look for to tell 126 and 127 from other failures.
Error explain_program(const child::Report& report, const MessageContext& context) {
  const std::string name = program(context);
  const bool has_slash = name.find('/') != std::string::npos;
  if (report.error == ENOENT && !has_slash) {
    return errorf(ErrorKind::kNotFound, "exec: \"{}\": executable file not found in $PATH", name);
  }
  if (report.error == ENOENT || report.error == ENOTDIR || report.error == ELOOP) {
    return Error::from_errno(report.error, fmt::format("exec: \"{}\": stat {}", name, name));
  }
  if (report.error == EISDIR) {
    return errorf(ErrorKind::kPermission, "exec: \"{}\": is a directory: permission denied", name);
  }
  if (report.error == EACCES) return errorf(ErrorKind::kPermission, "exec: \"{}\": permission denied", name);
  return Error::from_errno(report.error, fmt::format("exec: \"{}\"", name));
}

Error explain_exec(const child::Report& report, const MessageContext& context) {
  const std::string name = program(context);
  if (name.empty()) return errorf(ErrorKind::kInvalid, "cannot start: config.json names no process");
  switch (report.error) {
    case ENOEXEC:
      return errorf(ErrorKind::kInvalid, "exec {}: exec format error", name);
    case EACCES:
      return errorf(ErrorKind::kPermission, "exec {}: permission denied", name);
    case ENOENT:
      return errorf(ErrorKind::kNotFound, "exec {}: no such file or directory", name);
    default:
      return Error::from_errno(report.error, "exec " + name);
  }
}

std::string listed(const child::Span<const char* const>& list, uint32_t index) {
  return index < list.count ? list.data[index] : "?";
}

std::string what(const child::Report& report, const MessageContext& context) {
  const uint32_t index = report.index;
  const child::ContainerPlan* plan = context.plan;
  switch (report.step) {
    case Step::kMaps:
      return "map ids of the user namespace";
    case Step::kBecomeRoot:
      return "become root of the user namespace (is id 0 mapped?)";
    case Step::kJoinNamespace:
      return "join namespaces";
    case Step::kNewNamespaces:
      return "make namespaces";
    case Step::kTimeOffsets:
      return "linux.timeOffsets: set the clocks of the time namespace";
    case Step::kSession:
      return "start a session";
    case Step::kKeyring:
      return "join a session keyring (--no-new-keyring does without)";
    case Step::kKeyringLabel:
      return "label the session keyring";
    case Step::kJoinCgroup:
      return "join the cgroup";
    case Step::kCgroupNamespace:
      return "make a cgroup namespace";
    case Step::kLoopback:
      return "bring up lo";
    case Step::kHostname:
      return "set the hostname";
    case Step::kDomainname:
      return "set the domainname";
    case Step::kPropagation:
      return "set the propagation of the host's tree";
    case Step::kAttachRoot:
      return "attach the root file system";
    case Step::kMountSource:
      return fmt::format("{}: source", mount_name(context, index));
    case Step::kMountNew:
      return mount_name(context, index);
    case Step::kMountOption:
      return fmt::format("{}: options", mount_name(context, index));
    case Step::kMountTarget:
      return fmt::format("{}: make or open the mount point", mount_name(context, index));
    case Step::kMountLink:
      return fmt::format("{}: make a link", mount_name(context, index));
    case Step::kMountAttach:
      return fmt::format("{}: attach", mount_name(context, index));
    case Step::kMountAttributes:
      return fmt::format("{}: set attributes", mount_name(context, index));
    case Step::kMountCopyUp:
      return fmt::format("{}: tmpcopyup", mount_name(context, index));
    case Step::kDevFolder:
      return "/dev of the container";
    case Step::kDevice:
      return fmt::format("device /{}",
                         plan != nullptr && index < plan->devices.count ? plan->devices.data[index].path : "?");
    case Step::kDevLink:
      return fmt::format("link /{}", plan != nullptr && index < plan->links.count ? plan->links.data[index].path : "?");
    case Step::kConsole:
      return "set up the terminal (is devpts mounted at /dev/pts?)";
    case Step::kConsoleSend:
      return "send the terminal to the console socket";
    case Step::kMaskSource:
      return "prepare the cover of masked paths";
    case Step::kMask:
      return fmt::format("mask /{}", plan == nullptr ? "?" : listed(plan->masked, index));
    case Step::kReadonlyPath:
      return fmt::format("make /{} read-only", plan == nullptr ? "?" : listed(plan->readonly, index));
    case Step::kReadonlyRoot:
      return "make the root file system read-only";
    case Step::kSysctl:
      return fmt::format("linux.sysctl: write /proc/{}",
                         plan != nullptr && index < plan->sysctls.count ? plan->sysctls.data[index].path : "?");
    case Step::kPivot:
      return "enter the root file system";
    case Step::kDetachOldRoot:
      return "detach the host's tree";
    case Step::kRootPropagation:
      return "linux.rootfsPropagation";
    case Step::kWorkingFolder:
      return fmt::format("chdir to cwd (\"{}\") set in config.json failed",
                         context.process == nullptr ? "" : context.process->cwd);
    case Step::kWorkingFolderOutside:
      return "process.cwd lies outside the container's root: refused";
    case Step::kOom:
      return "process.oomScoreAdj";
    case Step::kRlimit:
      if (context.process != nullptr && index < context.process->rlimits.size()) {
        return fmt::format("process.rlimits: set {}", context.process->rlimits[index].type);
      }
      return "process.rlimits";
    case Step::kScheduler:
      return "process.scheduler";
    case Step::kIoPriority:
      return "process.ioPriority";
    case Step::kAffinity:
      return "process.execCPUAffinity";
    case Step::kMemoryPolicy:
      return "linux.memoryPolicy";
    case Step::kPersonality:
      return "linux.personality";
    case Step::kLabel:
      return "set the security label";
    case Step::kNoNewPrivileges:
      return "process.noNewPrivileges";
    case Step::kSeccomp:
      return "install the seccomp filter";
    case Step::kSeccompListener:
      return "hand over the seccomp listener";
    case Step::kBoundingSet:
      return fmt::format("drop {} from the bounding set", isolation::capability_name(static_cast<int>(index)));
    case Step::kKeepCaps:
      return "keep capabilities";
    case Step::kGroups:
      return "process.user.additionalGids: setgroups";
    case Step::kGroupId:
      return fmt::format("process.user.gid: setgid {}", index);
    case Step::kUserId:
      return fmt::format("process.user.uid: setuid {}", index);
    case Step::kCapabilities:
      return "process.capabilities: set";
    case Step::kAmbient:
      return fmt::format("process.capabilities.ambient: raise {}", isolation::capability_name(static_cast<int>(index)));
    case Step::kCloseFds:
      return "close descriptors";
    case Step::kGate:
      return "wait for start";
    case Step::kClone:
      return "clone into namespaces";
    case Step::kParentGone:
      return "the runtime ended";
    case Step::kFindProgram:
    case Step::kExec:
    case Step::kNone:
      break;
  }
  return "container process";
}

}  // namespace

Error explain(const child::Report& report, const MessageContext& context) {
  if (report.step == Step::kFindProgram) return explain_program(report, context);
  if (report.step == Step::kExec) return explain_exec(report, context);
  return Error::from_errno(report.error, what(report, context));
}

}  // namespace hull::runtime
