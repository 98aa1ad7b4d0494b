#include "runtime/launch_parts.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "isolation/namespaces.h"
#include "isolation/process_attributes.h"
#include "runtime/launch.h"
#include "sys/file.h"

namespace hull::runtime {

Result<std::string> absolute_folder(const std::string& path) {
  char* resolved = ::realpath(path.empty() ? "." : path.c_str(), nullptr);
  if (resolved == nullptr) return errnof("bundle {}", path);
  std::string out(resolved);
  ::free(resolved);
  return out;
}

Result<oci::Spec> load_spec(const std::string& bundle, const std::string& config) {
  const std::string path = config.starts_with('/') ? config : bundle + "/" + config;
  auto text = sys::read_file(path);
  if (!text.ok()) {
    if (text.error().error_number() == ENOENT) {
      return errorf(ErrorKind::kNotFound, "JSON specification file {} not found", path);
    }
    return std::move(text).error();
  }
  auto spec = oci::parse_spec(*text);
  if (!spec.ok()) return std::move(spec).error().context("config.json");
  auto valid = oci::validate(*spec);
  if (!valid.ok()) return std::move(valid).error().context("config.json");
  return spec;
}

Result<UniqueFd> open_proc() {
  TRY_ASSIGN(UniqueFd proc, sys::open("/proc", O_PATH | O_DIRECTORY));
  struct statfs file_system{};
  struct stat info{};
  constexpr ino_t kProcRoot = 1;
  if (::fstatfs(proc.get(), &file_system) != 0 || ::fstat(proc.get(), &info) != 0) return errno_error("/proc");
  if (file_system.f_type != PROC_SUPER_MAGIC || info.st_ino != kProcRoot) {
    return errorf(ErrorKind::kConflict, "/proc of the host is not a proc file system: refused");
  }
  return proc;
}

Result<void> write_pid_file(const std::string& path, pid_t pid) {
  return sys::replace_file(path, fmt::to_string(pid), 0644, false).context("pid file");
}

std::string filter_cache(const Options& options) {
  // No valid id, so it never collides with a container.
  return options.root + "/@seccomp";
}

Result<UniqueFd> open_namespace(const oci::Namespace& entry) {
  TRY_ASSIGN(UniqueFd fd, sys::open(entry.path, O_RDONLY));
  const int type = ::ioctl(fd.get(), NS_GET_NSTYPE);
  if (type < 0 || static_cast<uint64_t>(static_cast<unsigned>(type)) != isolation::clone_flag(entry.type)) {
    return errorf(ErrorKind::kInvalid, "linux.namespaces: {} is not a {} namespace", entry.path,
                  oci::to_string(entry.type));
  }
  return fd;
}

Result<void> plan_machine(const oci::Spec& spec, Arena& arena, child::ProcessPlan& plan) {
  if (!spec.linux_config) return {};
  if (spec.linux_config->personality) {
    TRY_ASSIGN(plan.personality, isolation::resolve_personality(*spec.linux_config->personality));
    plan.set_personality = true;
  }
  if (spec.linux_config->memory_policy) {
    TRY_ASSIGN(const isolation::MemoryPolicyValue policy,
               isolation::resolve_memory_policy(*spec.linux_config->memory_policy));
    plan.memory_policy_mode = policy.mode;
    if (policy.max_node != 0) {  // the kernel takes no nodes only as no pointer
      plan.memory_nodes = arena.copy(std::vector<unsigned long>(policy.nodemask.begin(), policy.nodemask.end())).data;
    }
    plan.memory_nodes_bits = policy.max_node;
    plan.set_memory_policy = true;
  }
  return {};
}

Result<void> set_oom_score(pid_t pid, int score, bool tolerate) {
  auto written = sys::write_value(AT_FDCWD, fmt::format("/proc/{}/oom_score_adj", pid), fmt::to_string(score));
  if (written.ok()) return written;
  if (tolerate && (written.error().error_number() == EACCES || written.error().error_number() == EPERM)) {
    log_debug("process.oomScoreAdj: {}", written.error().message());
    return {};
  }
  return std::move(written).error().context("process.oomScoreAdj");
}

}  // namespace hull::runtime
