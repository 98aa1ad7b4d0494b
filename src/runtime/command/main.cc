#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "runtime/command/commands.h"
#include "runtime/command/flags.h"
#include "runtime/runtime.h"
#include "runtime/safe_exe.h"
#include "sys/file.h"

#ifndef HULL_VERSION
#define HULL_VERSION "0.1.0"
#endif

namespace hull::runtime::command {
namespace {

struct Command {
  std::string_view name;
  Result<int> (*run)(const Global&, const Words&);
  std::string_view help;
  bool enters = false;  ///< brings this program's code into a container: see safe_exe.h
  int failure_code = 1;
};

constexpr std::array kCommands = {
    Command{"checkpoint", checkpoint, "checkpoint a running container (not supported)"},
    Command{"create", create, "create a container", true},
    Command{"delete", remove, "delete any resources held by the container"},
    Command{"events", events, "display container events such as OOM notifications and statistics"},
    Command{"exec", exec, "execute new process inside the container", true, 255},
    Command{"features", features, "show the enabled features"},
    Command{"kill", kill, "send the specified signal (default: SIGTERM) to the container's init process"},
    Command{"list", list, "list containers with the given root"},
    Command{"pause", pause, "suspend all processes inside the container"},
    Command{"ps", ps, "display the processes running inside a container"},
    Command{"restore", checkpoint, "restore a container from a checkpoint (not supported)"},
    Command{"resume", resume, "resume all processes that have been previously paused"},
    Command{"run", run, "create and run a container", true},
    Command{"spec", spec, "create a new specification file"},
    Command{"start", start, "execute the user defined process in a created container"},
    Command{"state", state, "output the state of a container"},
    Command{"update", update, "update container resource constraints"},
};

constexpr std::string_view kVersionText =
    " version " HULL_VERSION "\ncommit: " HULL_VERSION
    "\nspec: 1.3.0\n+SYSTEMD +SECCOMP +CAP +APPARMOR +SELINUX +CGROUP_V1 +CGROUP_V2\n";

std::string usage(const Program& program, const std::vector<Flag>& flags) {
  std::string out = fmt::format(
      "NAME:\n   {0} - Open Container Initiative runtime{1}\n\nUSAGE:\n   {0} [global options] command [command "
      "options] [arguments...]\n\nCOMMANDS:\n",
      program.name, program.isolation == "vm" ? " whose containers are virtual machines" : "");
  for (const Command& command : kCommands) out += fmt::format("   {:<12} {}\n", command.name, command.help);
  return out + "\nGLOBAL " + flags_help(flags);
}

/// Where errors go beside standard error; a pipe or file that the engine reads.
struct LogTarget {
  UniqueFd fd;
  LogFormat format = LogFormat::kText;
};

Result<LogTarget> open_log(const std::string& path, const std::string& format, bool debug) {
  LogTarget target;
  if (format == "json")
    target.format = LogFormat::kJson;
  else if (format != "text" && !format.empty()) {
    return errorf(ErrorKind::kInvalid, "invalid log-format: {} (text or json)", format);
  }
  if (!path.empty() && path != "/dev/stderr") {
    TRY_ASSIGN(target.fd, sys::open(path, O_WRONLY | O_CREAT | O_APPEND, 0644));
  }
  set_log(debug ? LogLevel::kDebug : LogLevel::kWarning, target.format, target.fd ? target.fd.get() : STDERR_FILENO);
  return target;
}

int tell(const Error& error, const std::string& prefix, const LogTarget& log, int code) {
  const std::string message = prefix + error.message();
  if (log.fd) {
    log_error("{}", message);
    const std::string line = message + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  } else {
    log_error("{}", message);
  }
  return code;
}

std::string default_root() {
  if (::geteuid() == 0) return "/run/hull-oci";
  const char* runtime_dir = ::getenv("XDG_RUNTIME_DIR");
  return runtime_dir != nullptr && *runtime_dir == '/' ? std::string(runtime_dir) + "/hull-oci"
                                                       : fmt::format("/tmp/hull-oci-{}", ::geteuid());
}

/// The same command by hull-oci-vm, which stands beside this program. Returns only when that fails.
Error become_vm_program(char** argv) {
  constexpr const char* kName = "hull-oci-vm";
  std::vector<std::string> places;
  if (const char* folder = ::getenv("HULL_LIBEXEC")) places.push_back(std::string(folder) + "/" + kName);
  // Not /proc/self/exe: this may run from a protected copy, which has no place.
  const std::string self = argv[0] == nullptr ? "" : argv[0];
  const size_t slash = self.rfind('/');
  if (slash != std::string::npos) places.push_back(self.substr(0, slash + 1) + kName);
  std::string failed;
  for (const std::string& place : places) {
    argv[0] = const_cast<char*>(place.c_str());
    ::execv(place.c_str(), argv);
    failed += fmt::format("{}: {}; ", place, ::strerror(errno));
  }
  argv[0] = const_cast<char*>(kName);
  ::execvp(kName, argv);
  return errorf(ErrorKind::kUnsupported, "virtual machines need the program hull-oci-vm ({}PATH: {})", failed,
                ::strerror(errno));
}

Result<void> check_isolation(const std::string& wanted, const Program& program) {
  if (wanted.empty() || wanted == program.isolation) return {};
  if (wanted != "container" && wanted != "vm") {
    return errorf(ErrorKind::kInvalid, "invalid isolation: {} (container or vm)", wanted);
  }
  return errorf(ErrorKind::kUnsupported, "{} makes nothing but {}: use {}", program.name,
                program.isolation == "vm" ? "virtual machines" : "containers",
                wanted == "vm" ? "hull-oci-vm" : "hull-oci");
}

}  // namespace

void print(std::string_view text) {
  auto written = sys::write_all(STDOUT_FILENO, text);
  if (!written.ok()) log_debug("{}", written.error().message());
}

int main(int argc, char** argv, const Program& program) {
  // Descriptors 0 to 2 must exist, else files of ours would take their place.
  struct stat info{};
  for (int fd = 0; fd < 3; ++fd) {
    if (::fstat(fd, &info) != 0 && ::open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) < 0) return 1;
  }
  Words words(argv, argv + argc);
  Global global;
  global.program = &program;
  global.options.root = default_root();
  std::string log_path;
  std::string log_format;
  std::string rootless;
  bool version = false;
  std::string ignored;
  std::string isolation;
  const std::vector<Flag> flags = {
      {"debug", 0, &global.debug, "write debug lines to the log"},
      {"log", 0, &log_path, "file for errors and warnings (default: /dev/stderr)"},
      {"log-format", 0, &log_format, "text or json"},
      {"root", 0, &global.options.root, "folder for the records of containers (default: /run/hull-oci)"},
      {"systemd-cgroup", 0, &global.options.systemd_cgroup, "make cgroups through systemd"},
      {"rootless", 0, &rootless, "true, false or auto: tolerate cgroups that may not be written"},
      {"isolation", 0, &isolation, "container or vm (hull-oci-vm does it then)"},
      {"cgroup-manager", 0, &ignored, "cgroupfs or systemd (crun's spelling)"},
      {"criu", 0, &ignored, "accepted, not used"},
      {"version", 'v', &version, "print the version"},
  };
  size_t next = 0;
  const LogTarget plain;
  auto parsed = parse_flags(words, flags, true, &next);
  if (!parsed.ok()) return tell(parsed.error(), "", plain, 1);
  if (version) {
    print(fmt::format("{}{}", program.name, kVersionText));
    return 0;
  }
  if (parsed->help || parsed->arguments.empty() || parsed->arguments[0] == "help") {
    print(usage(program, flags));
    return 0;
  }
  if (ignored == "systemd") global.options.systemd_cgroup = true;
  auto log = open_log(log_path, log_format, global.debug);
  if (!log.ok()) return tell(log.error(), "", plain, 1);
  if (rootless == "true") global.options.rootless = true;
  if (rootless == "false") global.options.rootless = false;
  if (!global.options.root.empty() && global.options.root.front() != '/') {
    char here[4096];
    if (::getcwd(here, sizeof here) != nullptr) global.options.root = std::string(here) + "/" + global.options.root;
  }
  if (isolation == "vm" && program.isolation != "vm") return tell(become_vm_program(argv), "", *log, 1);
  auto isolated = check_isolation(isolation, program);
  if (!isolated.ok()) return tell(isolated.error(), "", *log, 1);
  const std::unique_ptr<OciRuntime> runtime = program.open(global.options);
  global.runtime = runtime.get();
  for (const Command& command : kCommands) {
    if (command.name != parsed->arguments[0]) continue;
    if (command.enters && program.enters) {
      auto safe = ensure_safe_exe(argv);
      if (!safe.ok()) return tell(safe.error(), "", *log, command.failure_code);
    }
    auto code = command.run(global, parsed->arguments);
    if (code.ok()) return *code;
    if (runtime->wants_vm()) return tell(become_vm_program(argv), "", *log, command.failure_code);
    std::string prefix;
    if (command.name == "create" || command.name == "run") {
      prefix = fmt::format("{} {} failed: ", program.name, command.name);
    }
    if (command.name == "exec") prefix = "exec failed: ";
    return tell(code.error(), prefix, *log, command.failure_code);
  }
  if (program.own_command != nullptr && parsed->arguments[0] == program.own_name) {
    auto code = program.own_command(global, parsed->arguments);
    return code.ok() ? *code : tell(code.error(), "", *log, 1);
  }
  return tell(errorf(ErrorKind::kInvalid, "no such command: {} (see {} --help)", parsed->arguments[0], program.name),
              "", *log, 1);
}

int main(int argc, char** argv) {
  const Program program{"hull-oci", "container", true, [](Options options) -> std::unique_ptr<OciRuntime> {
                          return std::make_unique<Runtime>(std::move(options));
                        }};
  return main(argc, argv, program);
}

}  // namespace hull::runtime::command
