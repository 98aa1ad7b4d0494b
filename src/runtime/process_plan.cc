#include "runtime/process_plan.h"

#include <sys/resource.h>

#include <map>

#include "base/error_format.h"
#include "base/log.h"
#include "isolation/capabilities.h"
#include "isolation/lsm.h"
#include "isolation/process_attributes.h"
#include "runtime/user_namespace.h"

namespace hull::runtime {
namespace {

Result<void> plan_identity(const oci::Process& process, const ProcessContext& context, Arena& arena,
                           child::IdentityPlan& plan) {
  plan.uid = process.user.uid;
  plan.gid = process.user.gid;
  if (plan.uid == static_cast<uid_t>(-1) || plan.gid == static_cast<gid_t>(-1)) {
    return errorf(ErrorKind::kInvalid, "process.user: 4294967295 is no user or group id");
  }
  plan.groups = arena.copy(process.user.additional_gids);
  plan.set_groups = !context.deny_setgroups;
  if (context.deny_setgroups && !process.user.additional_gids.empty()) {
    return errorf(ErrorKind::kPermission, "process.user.additionalGids: this user namespace has no right to setgroups");
  }
  plan.no_new_privileges = process.no_new_privileges;
  plan.last_capability = isolation::last_capability();
  if (process.capabilities) {
    const isolation::ResolvedCapabilities resolved = isolation::resolve_capabilities(*process.capabilities);
    for (const std::string& name : resolved.ignored)
      log_warning("capability {} is unknown to this kernel, left out", name);
    // What can't be granted is told and left out (config.md, "capabilities"); in a user namespace all can be.
    const uint64_t ours = context.own_user_namespace ? ~0ULL : permitted_capabilities();
    const uint64_t missing = (resolved.sets.permitted | resolved.sets.effective) & ~ours;
    if (missing != 0) {
      for (const std::string& name : isolation::capability_names(missing)) {
        log_warning("capability {} can't be granted: the runtime itself lacks it; left out", name);
      }
    }
    plan.bounding = resolved.sets.bounding;
    plan.effective = resolved.sets.effective & ours;
    plan.permitted = resolved.sets.permitted & ours;
    plan.inheritable = resolved.sets.inheritable & ours;
    plan.ambient = resolved.sets.ambient & ours;
  }
  // No object means no capability at all (config.md: the sets are empty), as runc has it.
  plan.has_capabilities = true;
  return {};
}

std::string_view name_of(std::string_view variable) { return variable.substr(0, variable.find('=')); }

void plan_environment(const oci::Process& process, Arena& arena, child::ProcessPlan& plan) {
  const size_t count = process.env.size();
  plan.env = arena.array<char*>(count + 2);
  bool has_home = false;
  size_t used = 0;
  std::map<std::string_view, size_t> last;  // of a variable given twice the later value holds
  for (size_t i = 0; i < count; ++i) last[name_of(process.env[i])] = i;
  for (size_t i = 0; i < count; ++i) {
    const std::string& variable = process.env[i];
    if (last[name_of(variable)] != i) continue;
    char* text = arena.mutable_text(variable);
    plan.env[used++] = text;
    if (variable.starts_with("HOME=") && variable.size() > 5) has_home = true;
    if (variable.starts_with("PATH=")) plan.path_variable = text + 5;
  }
  if (!has_home) plan.home_slot = plan.env + used;
}

Result<void> plan_scheduling(const oci::Process& process, Arena& arena, child::ProcessPlan& plan) {
  if (process.scheduler) {
    TRY_ASSIGN(const isolation::SchedAttr attributes, isolation::resolve_scheduler(*process.scheduler));
    auto* copy = arena.array<isolation::SchedAttr>(1);
    *copy = attributes;
    plan.scheduler = copy;
  }
  if (process.io_priority) {
    TRY_ASSIGN(plan.io_priority, isolation::resolve_io_priority(*process.io_priority));
    plan.set_io_priority = true;
  }
  return {};
}

Result<void> plan_labels(const oci::Process& process, Arena& arena, child::ProcessPlan& plan) {
  std::vector<child::WriteStep> writes;
  const auto add = [&](const isolation::LabelWrite& label) {
    if (label.empty()) return;
    const std::string path = "thread-self/" + label.path;
    const std::string fallback = "thread-self/" + label.fallback_path;
    child::WriteStep step;
    step.path = arena.text(path);
    if (!label.fallback_path.empty()) step.fallback = arena.text(fallback);
    step.value = arena.text(label.value);
    step.size = label.value.size();
    writes.push_back(step);
  };
  TRY_ASSIGN(const isolation::LabelWrite apparmor, isolation::apparmor_exec(process.apparmor_profile));
  add(apparmor);
  TRY_ASSIGN(const isolation::LabelWrite selinux, isolation::selinux_exec(process.selinux_label));
  add(selinux);
  plan.labels = arena.copy(writes);
  return {};
}

}  // namespace

Result<void> check_process(const oci::Process& process) {
  if (process.args.empty()) return errorf(ErrorKind::kInvalid, "process.args: at least one argument is needed");
  if (process.cwd.empty() || process.cwd.front() != '/') {
    return errorf(ErrorKind::kInvalid, "process.cwd: \"{:.200}\" is not an absolute path", process.cwd);
  }
  if (process.cwd.size() >= 4096) return errorf(ErrorKind::kInvalid, "process.cwd: longer than 4095 bytes");
  for (const auto* list : {&process.args, &process.env}) {
    for (const std::string& text : *list) {
      if (text.find('\0') != std::string::npos) return errorf(ErrorKind::kInvalid, "process: a NUL byte in a text");
    }
  }
  return {};
}

Result<void> plan_process(const oci::Process& process, const ProcessContext& context, Arena& arena,
                          child::ProcessPlan& plan) {
  TRY(check_process(process));
  char** args = arena.array<char*>(process.args.size() + 1);
  for (size_t i = 0; i < process.args.size(); ++i) args[i] = arena.mutable_text(process.args[i]);
  plan.args = args;
  plan_environment(process, arena, plan);
  plan.cwd = arena.text(process.cwd);
  TRY(plan_identity(process, context, arena, plan.identity));
  if (process.user.umask) {
    plan.umask = *process.user.umask & 0777U;
    plan.set_umask = true;
  }
  TRY_ASSIGN(const auto limits, isolation::resolve_rlimits(process.rlimits));
  if (!context.own_user_namespace) {
    std::vector<child::RlimitStep> steps;
    for (const isolation::RlimitValue& limit : limits) {
      steps.push_back({limit.resource, {limit.limit.rlim_cur, limit.limit.rlim_max}});
    }
    plan.rlimits = arena.copy(steps);
  }
  TRY(plan_scheduling(process, arena, plan));
  TRY(plan_labels(process, arena, plan));
  if (context.filter != nullptr && !context.filter->program.empty()) {
    plan.seccomp.filter = context.filter->program.data();
    plan.seccomp.length = static_cast<uint16_t>(context.filter->program.size());
    plan.seccomp.flags = context.filter->flags;
    plan.seccomp.listener = context.filter->needs_listener;
  }
  plan.terminal = process.terminal;
  if (process.console_size) {
    if (process.console_size->height > 0xffff || process.console_size->width > 0xffff) {
      return errorf(ErrorKind::kInvalid, "process.consoleSize: rows and columns are at most 65535");
    }
    plan.rows = static_cast<uint16_t>(process.console_size->height);
    plan.columns = static_cast<uint16_t>(process.console_size->width);
  }
  plan.console_socket = context.console_socket;
  plan.preserve_fds = context.preserve_fds;
  if (context.new_keyring) {
    plan.keyring = arena.text("_ses." + context.container_id);
    TRY_ASSIGN(const isolation::LabelWrite label, isolation::selinux_keycreate(process.selinux_label));
    if (!label.empty()) plan.keyring_label = arena.text(label.value);
  }
  return {};
}

Result<void> apply_rlimits(const std::vector<oci::Rlimit>& limits, pid_t pid) {
  TRY_ASSIGN(const auto values, isolation::resolve_rlimits(limits));
  for (const isolation::RlimitValue& value : values) {
    if (::prlimit64(pid, static_cast<__rlimit_resource>(value.resource), &value.limit, nullptr) != 0) {
      return errnof("process.rlimits: set {} to {}:{}", isolation::rlimit_name(value.resource), value.limit.rlim_cur,
                    value.limit.rlim_max);
    }
  }
  return {};
}

}  // namespace hull::runtime
