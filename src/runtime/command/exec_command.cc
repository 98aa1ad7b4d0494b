#include <fcntl.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/units.h"
#include "runtime/command/commands.h"
#include "runtime/command/flags.h"
#include "sys/file.h"

namespace hull::runtime::command {
namespace {

/// What the flags change in the process.
struct Overrides {
  std::string cwd, user, process_file, apparmor, label;
  std::vector<std::string> env, caps, gids;
  bool tty = false, no_new_privs = false;
};

Result<uint32_t> parse_id(std::string_view text, const char* what) {
  // Strict: what does not fit is refused, never cut (containerd CVE-2024-40635).
  auto value = parse_int(text, 0, 4294967294LL);
  if (!value.ok()) return std::move(value).error().context(fmt::format("bad {}", what));
  return static_cast<uint32_t>(*value);
}

/// Numbers only, where nobody could look a name up inside.
Result<void> apply_user(const std::string& user, bool by_name, ExecOptions& options) {
  if (user.empty()) return {};
  if (by_name) {
    options.user = user;
    return {};
  }
  const size_t colon = user.find(':');
  TRY_ASSIGN(options.process.user.uid, parse_id(std::string_view(user).substr(0, colon), "uid"));
  if (colon != std::string::npos) {
    TRY_ASSIGN(options.process.user.gid, parse_id(std::string_view(user).substr(colon + 1), "gid"));
  }
  return {};
}

Result<void> apply(const Overrides& overrides, oci::Process& process) {
  if (!overrides.cwd.empty()) process.cwd = overrides.cwd;
  if (!overrides.apparmor.empty()) process.apparmor_profile = overrides.apparmor;
  if (!overrides.label.empty()) process.selinux_label = overrides.label;
  process.terminal = overrides.tty;
  if (overrides.no_new_privs) process.no_new_privileges = true;
  process.env.insert(process.env.end(), overrides.env.begin(), overrides.env.end());
  for (const std::string& gid : overrides.gids) {
    TRY_ASSIGN(const uint32_t number, parse_id(gid, "additional gid"));
    process.user.additional_gids.push_back(number);
  }
  if (!overrides.caps.empty() && !process.capabilities) process.capabilities.emplace();
  for (const std::string& cap : overrides.caps) {
    process.capabilities->bounding.push_back(cap);
    process.capabilities->effective.push_back(cap);
    process.capabilities->permitted.push_back(cap);
    if (!process.capabilities->inheritable.empty()) process.capabilities->ambient.push_back(cap);
  }
  return {};
}

}  // namespace

Result<int> exec(const Global& global, const Words& words) {
  Overrides overrides;
  ExecOptions options;
  const std::vector<Flag> flags = {
      {"console-socket", 0, &options.console_socket, "unix socket that receives the master of the terminal"},
      {"pidfd-socket", 0, &options.pidfd_socket, "unix socket that receives a pidfd of the process"},
      {"cwd", 0, &overrides.cwd, "current working folder in the container"},
      {"env", 'e', &overrides.env, "set an environment variable"},
      {"tty", 't', &overrides.tty, "allocate a pseudo-terminal"},
      {"user", 'u', &overrides.user, "uid[:gid]; a virtual machine takes names too"},
      {"additional-gids", 'g', &overrides.gids, "additional group id"},
      {"process", 'p', &overrides.process_file, "path of a process.json"},
      {"detach", 'd', &options.detach, "return when the process runs"},
      {"pid-file", 0, &options.pid_file, "file to write the process id to"},
      {"process-label", 0, &overrides.label, "SELinux label of the process"},
      {"apparmor", 0, &overrides.apparmor, "AppArmor profile of the process"},
      {"no-new-privs", 0, &overrides.no_new_privs, "set no_new_privs for the process"},
      {"cap", 'c', &overrides.caps, "add a capability"},
      {"preserve-fds", 0, &options.preserve_fds, "pass N additional file descriptors to the process"},
      {"cgroup", 0, &options.cgroups, "run in a group below the container's: [controller:]path"},
      {"ignore-paused", 0, &options.ignore_paused, "allow exec in a paused container"},
  };
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, true));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} exec [command options] <container-id> <command> [command options]\n\n{}",
                      global.program->name, flags_help(flags)));
    return 0;
  }
  if (parsed.arguments.empty()) return errorf(ErrorKind::kInvalid, "\"exec\" requires a minimum of 1 argument");
  const std::string& id = parsed.arguments[0];
  for (int fd = 3; fd < 3 + options.preserve_fds; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) return errorf(ErrorKind::kInvalid, "--preserve-fds: descriptor {} is not open", fd);
  }
  OciRuntime& runtime = *global.runtime;
  if (!overrides.process_file.empty()) {
    TRY_ASSIGN(const std::string text, sys::read_file(overrides.process_file));
    auto process = oci::parse_process(text);
    if (!process.ok()) return std::move(process).error().context(overrides.process_file);
    options.process = std::move(*process);
    // crun takes a terminal from the flag too; the file alone decides in runc.
    if (overrides.tty) options.process.terminal = true;
  } else {
    TRY_ASSIGN(options.process, runtime.default_process(id));
    if (parsed.arguments.size() < 2) return errorf(ErrorKind::kInvalid, "exec args cannot be empty");
    options.process.args.assign(parsed.arguments.begin() + 1, parsed.arguments.end());
    TRY(apply(overrides, options.process));
    TRY(apply_user(overrides.user, runtime.resolves_users(), options));
  }
  return runtime.exec(id, options);
}

}  // namespace hull::runtime::command
