// exec.
#include "base/detach_keys.h"
#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/foreground.h"
#include "cli/values.h"

namespace hull::cli {
namespace {

constexpr Flag kFlags[] = {
    {.name = "detach", .short_name = 'd', .help = "Run it in the background"},
    {.name = "detach-keys",
     .kind = ValueKind::kText,
     .metavar = "KEYS",
     .help = "Keys that leave it running",
     .fallback = "ctrl-p,ctrl-q"},
    {.name = "env",
     .short_name = 'e',
     .kind = ValueKind::kText,
     .metavar = "NAME[=VALUE]",
     .help = "Set an environment variable, or pass the caller's on",
     .repeatable = true},
    {.name = "env-file",
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Set the variables of a file, NAME=VALUE a line",
     .repeatable = true,
     .complete = Complete::kFile},
    {.name = "interactive", .short_name = 'i', .help = "Keep standard input open"},
    {.name = "privileged", .help = "Give it all capabilities"},
    {.name = "tty", .short_name = 't', .help = "Allocate a pseudo-terminal"},
    {.name = "user",
     .short_name = 'u',
     .kind = ValueKind::kText,
     .metavar = "USER[:GROUP]",
     .help = "User name or uid, and group name or gid"},
    {.name = "workdir",
     .short_name = 'w',
     .kind = ValueKind::kText,
     .metavar = "FOLDER",
     .help = "Working folder in the container"},
};
constexpr std::span<const Flag> kTables[] = {kFlags};

Result<engine::ExecConfig> parse_exec(const Parsed& parsed) {
  engine::ExecConfig config;
  config.cmd.assign(parsed.arguments.begin() + 1, parsed.arguments.end());
  for (const std::string& path : parsed.values("env-file")) {
    auto content = read_value_file(path);
    if (!content.ok()) return std::move(content).error().context("--env-file");
    auto lines = parse_env_file(*content, lookup_environment);
    if (!lines.ok()) return std::move(lines).error().context(fmt::format("--env-file: {}", path));
    config.env.insert(config.env.end(), lines->begin(), lines->end());
  }
  for (const std::string& text : parsed.values("env")) {
    TRY_ASSIGN(std::string entry, parse_env(text, lookup_environment));
    config.env.push_back(std::move(entry));
  }
  config.working_dir = parsed.value("workdir");
  if (!config.working_dir.empty() && !config.working_dir.starts_with('/')) {
    return errorf(ErrorKind::kInvalid, "the working directory '{:.200}' is invalid, it needs to be an absolute path",
                  config.working_dir);
  }
  config.user = parsed.value("user");
  config.tty = parsed.on("tty");
  config.detach = parsed.on("detach");
  config.open_stdin = parsed.on("interactive") && !config.detach;
  config.privileged = parsed.on("privileged");
  config.detach_keys = parsed.value("detach-keys");
  TRY(parse_detach_keys(config.detach_keys));
  return config;
}

Result<int> exec_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const engine::ExecConfig config, parse_exec(parsed));
  TRY(check_terminal(context, config.open_stdin, config.tty));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  const std::string& name = parsed.arguments[0];

  engine::Engine::ExecHandle handle;
  ForegroundOptions options;
  options.tty = config.tty;
  options.input = config.open_stdin;
  // As Docker: exec passes no signals on; ending the command leaves the process to its own.
  options.sig_proxy = false;
  options.detach_keys = config.detach_keys;
  options.resize = [&](oci::Box size) { return engine->resize_exec(handle, size); };
  TRY_ASSIGN(Foreground front, Foreground::prepare(context, std::move(options)));
  std::optional<oci::Box> size;
  if (config.tty) size = terminal_size(context.out.fd());
  auto started = engine->exec(name, config, size);
  if (!started.ok()) {
    const int code = start_failure_code(started.error());
    const bool of_program = code == 126 || code == 127;
    // A workload that is not there or does not run is 1, as with Docker.
    if (!of_program || started.error().kind() == ErrorKind::kConflict) return std::move(started).error();
    context.report(started.error());
    return code;
  }
  handle = std::move(*started);
  if (config.detach) return 0;
  TRY_ASSIGN(const PumpEnd end, front.run(handle.streams, handle.exit_fd.get(), true));
  if (end == PumpEnd::kDetached) return 0;
  if (end == PumpEnd::kGivenUp) return 1;
  if (end == PumpEnd::kReaderGone) return 128 + SIGPIPE;
  TRY_ASSIGN(const engine::ExitInfo info, engine->wait_exec(handle));
  return info.code;
}

}  // namespace

constinit const Command kExec = {
    .path = "exec",
    .aliases = "container exec",
    .arguments = "WORKLOAD COMMAND [ARG...]",
    .summary = "Run a command in a running workload",
    .description =
        "Starts a process beside the workload's first one, with its namespaces, limits and rights. The exit "
        "code is the command's; 126 when it can't be executed, 127 when it is not there.",
    .examples = "hull exec -it web sh\nhull exec -u 0 -w /etc web cat nginx/nginx.conf\n",
    .flags = kTables,
    .least = 2,
    .most = -1,
    .stop_at_first_argument = true,
    .complete = Complete::kRunning,
    .section = Section::kCommon,
    .run = exec_main};

}  // namespace hull::cli
