// run, create, start, attach.
#include <fcntl.h>
#include <unistd.h>

#include "base/detach_keys.h"
#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/foreground.h"
#include "cli/run_options.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

using engine::Config;

/// --cidfile: taken before the workload is made, removed again unless it was.
class IdFile {
 public:
  static Result<IdFile> take(const std::string& path) {
    if (path.empty()) return IdFile("", UniqueFd());
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (!fd && errno == EEXIST) {
      return errorf(ErrorKind::kExists,
                    "container ID file found, make sure the other container isn't running or delete {}", path);
    }
    if (!fd) return errnof("failed to create the container ID file {}", path);
    return IdFile(path, std::move(fd));
  }
  IdFile(IdFile&& other) noexcept : path_(std::exchange(other.path_, "")), fd_(std::move(other.fd_)) {}
  IdFile& operator=(IdFile&&) = delete;
  ~IdFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Result<void> write(const std::string& id) {
    if (path_.empty()) return {};
    TRY(sys::write_all(fd_.get(), id).context("write the container ID file"));
    path_.clear();
    return {};
  }

 private:
  IdFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  UniqueFd fd_;
};

Result<std::string> create(Context& context, engine::Engine& engine, RunOptions& options) {
  TRY_ASSIGN(IdFile id_file, IdFile::take(options.cidfile));
  options.config.quiet_pull = options.quiet;
  if (options.config.tty) options.config.console_size = terminal_size(context.out.fd());
  TRY_ASSIGN(engine::Engine::Created created, engine.create(options.config, options.pull));
  TRY(id_file.write(created.id));
  for (const std::string& warning : created.warnings) context.warn(warning);
  if (!options.quiet) {
    for (const std::string& notice : created.notices) context.err.print("hull: {}\n", notice);
    context.err.flush();
  }
  return created.id;
}

void print_timings(Context& context, const engine::Engine& engine) {
  context.err.write("\nstep                                  microseconds\n");
  double total = 0;
  for (const engine::Timing& timing : engine.timings()) {
    const double us = static_cast<double>(timing.took.count()) / 1000;
    total += us;
    context.err.print("{:<36} {:>13.1f}\n", timing.step, us);
  }
  context.err.print("{:<36} {:>13.1f}\n", "in all", total);
}

/// The code that the command ends with after the streams did.
Result<int> finish(Context& context, engine::Engine& engine, const std::string& id, PumpEnd end,
                   std::string_view condition) {
  if (end == PumpEnd::kDetached) return 0;
  if (end == PumpEnd::kGivenUp) return 1;
  if (end == PumpEnd::kReaderGone) {
    context.warn(fmt::format("standard output was closed; the workload goes on ('hull stop {:.12}' ends it)", id));
    return 128 + SIGPIPE;
  }
  TRY_ASSIGN(const engine::ExitInfo info, engine.wait(id, condition));
  if (!info.error.empty()) context.warn(info.error);
  return info.code;
}

ForegroundOptions foreground_options(engine::Engine& engine, const std::string& id) {
  ForegroundOptions options;
  options.resize = [&engine, id](oci::Box size) { return engine.resize(id, size); };
  options.signal = [&engine, id](const std::string& signal) { return engine.kill(id, signal); };
  return options;
}

Result<int> run_foreground(Context& context, engine::Engine& engine, const RunOptions& options, const std::string& id) {
  const Config& config = options.config;
  ForegroundOptions foreground = foreground_options(engine, id);
  foreground.tty = config.tty;
  foreground.input = config.attach_stdin;
  foreground.output = config.attach_stdout;
  foreground.error = config.attach_stderr;
  foreground.sig_proxy = options.sig_proxy;
  foreground.detach_keys = options.detach_keys;
  TRY_ASSIGN(Foreground front, Foreground::prepare(context, std::move(foreground)));
  const bool output = config.attach_stdout || config.attach_stderr;
  auto started = engine.start(id, output, config.attach_stdin);
  if (!started.ok()) {
    const int code = start_failure_code(started.error());
    context.report(started.error());
    if (config.auto_remove) ignore_result(engine.remove(id, true, true));
    return code;
  }
  engine::Attachment streams;
  if (started->has_value()) streams = std::move(**started);
  TRY_ASSIGN(const PumpEnd end, front.run(streams, streams.control.get(), false));
  return finish(context, engine, id, end, config.auto_remove ? "removed" : "not-running");
}

}  // namespace

Result<int> run_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(RunOptions options, parse_run_options(parsed));
  if (!options.detach) {
    if (auto terminal = check_terminal(context, options.config.attach_stdin, options.config.tty); !terminal.ok()) {
      context.report(terminal.error());
      return 1;
    }
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const std::string id, create(context, *engine, options));
  int code = 0;
  const bool attached = options.config.attach_stdin || options.config.attach_stdout || options.config.attach_stderr;
  if (attached) {
    TRY_ASSIGN(code, run_foreground(context, *engine, options, id));
  } else {
    auto started = engine->start(id, false, false);
    if (!started.ok()) {
      context.report(started.error());
      if (options.config.auto_remove) ignore_result(engine->remove(id, true, true));
      return start_failure_code(started.error());
    }
    context.out.print("{}\n", id);
  }
  if (options.timings) print_timings(context, *engine);
  return code;
}

Result<int> create_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(RunOptions options, parse_run_options(parsed));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const std::string id, create(context, *engine, options));
  context.out.print("{}\n", id);
  return 0;
}

namespace {

constexpr Flag kDetachKeysFlag = {.name = "detach-keys",
                                  .kind = ValueKind::kText,
                                  .metavar = "KEYS",
                                  .help = "Keys that leave the workload running",
                                  .fallback = "ctrl-p,ctrl-q"};

constexpr Flag kStartFlags[] = {
    {.name = "attach", .short_name = 'a', .help = "Attach standard output and error, and pass signals on"},
    kDetachKeysFlag,
    {.name = "interactive", .short_name = 'i', .help = "Attach standard input too"},
};
constexpr std::span<const Flag> kStartTables[] = {kStartFlags};

Result<int> start_attached(Context& context, engine::Engine& engine, const Parsed& parsed) {
  if (parsed.arguments.size() != 1) {
    return errorf(ErrorKind::kInvalid, "you cannot start and attach multiple containers at once");
  }
  TRY_ASSIGN(const engine::WorkloadDetails details, engine.inspect(parsed.arguments[0]));
  const std::string& id = details.summary.id;
  const bool input = parsed.on("interactive") && details.config.open_stdin;
  TRY(check_terminal(context, input, details.config.tty));
  if (details.summary.status == engine::Status::kRunning) {
    return errorf(ErrorKind::kConflict, "{} is running already: use 'hull attach {}'", parsed.arguments[0],
                  parsed.arguments[0]);
  }
  ForegroundOptions foreground = foreground_options(engine, id);
  foreground.tty = details.config.tty;
  foreground.input = input;
  foreground.detach_keys = parsed.value("detach-keys");
  TRY_ASSIGN(Foreground front, Foreground::prepare(context, std::move(foreground)));
  auto started = engine.start(id, true, input);
  if (!started.ok()) {
    context.report(started.error());
    return start_failure_code(started.error());
  }
  engine::Attachment streams;
  if (started->has_value()) streams = std::move(**started);
  TRY_ASSIGN(const PumpEnd end, front.run(streams, streams.control.get(), false));
  return finish(context, engine, id, end, details.config.auto_remove ? "removed" : "not-running");
}

Result<int> start_main(Context& context, const Parsed& parsed) {
  TRY(parse_detach_keys(parsed.value("detach-keys")));
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  if (parsed.on("attach") || parsed.on("interactive")) return start_attached(context, *engine, parsed);
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    auto started = engine->start(name, false, false);
    if (!started.ok() && started.error().kind() == ErrorKind::kConflict) {
      // Docker: starting what runs is success.
      auto details = engine->inspect(name);
      if (!details.ok() || details->summary.status != engine::Status::kRunning) return std::move(started).error();
    } else if (!started.ok()) {
      return std::move(started).error();
    }
    context.out.print("{}\n", name);
    return {};
  });
}

constexpr Flag kAttachFlags[] = {
    kDetachKeysFlag,
    {.name = "no-stdin", .help = "Do not attach standard input"},
    {.name = "sig-proxy", .help = "Pass the signals that this command gets on to the workload", .fallback = "true"},
};
constexpr std::span<const Flag> kAttachTables[] = {kAttachFlags};

Result<int> attach_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  const std::string& name = parsed.arguments[0];
  TRY_ASSIGN(const engine::WorkloadDetails details, engine->inspect(name));
  const std::string& id = details.summary.id;
  if (details.summary.status == engine::Status::kPaused) {
    return errorf(ErrorKind::kConflict, "you cannot attach to a paused container, unpause it first: hull unpause {}",
                  name);
  }
  if (details.summary.status != engine::Status::kRunning) {
    return errorf(ErrorKind::kConflict, "you cannot attach to a stopped container, start it first: hull start -a {}",
                  name);
  }
  const bool input = !parsed.on("no-stdin") && details.config.open_stdin;
  TRY(check_terminal(context, input, details.config.tty));
  ForegroundOptions foreground = foreground_options(*engine, id);
  foreground.tty = details.config.tty;
  foreground.input = input;
  // As Docker: with a terminal the keys themselves go through, so signals are this command's own.
  foreground.sig_proxy = parse_bool(parsed.value("sig-proxy", "true")).value_or(true) && !details.config.tty;
  foreground.detach_keys = parsed.value("detach-keys");
  TRY_ASSIGN(Foreground front, Foreground::prepare(context, std::move(foreground)));
  TRY_ASSIGN(engine::Attachment streams, engine->attach(id, input));
  TRY_ASSIGN(const PumpEnd end, front.run(streams, streams.control.get(), false));
  if (end != PumpEnd::kFinished) return finish(context, *engine, id, end, "not-running");
  auto info = engine->wait(id, "not-running");
  // Removed meanwhile (--rm): its code is gone with it.
  if (!info.ok() && info.error().kind() == ErrorKind::kNotFound) return 0;
  if (!info.ok()) return std::move(info).error();
  return info->code;
}

}  // namespace

constinit const Command kStart = {.path = "start",
                                  .aliases = "container start",
                                  .arguments = "WORKLOAD [WORKLOAD...]",
                                  .summary = "Start created or stopped workloads",
                                  .examples = "hull start web\nhull start -ai shell  # with this terminal\n",
                                  .flags = kStartTables,
                                  .least = 1,
                                  .most = -1,
                                  .complete = Complete::kStopped,
                                  .run = start_main};

constinit const Command kAttach = {
    .path = "attach",
    .aliases = "container attach",
    .arguments = "WORKLOAD",
    .summary = "Connect this terminal's input and output to a running workload",
    .description = "The detach keys (ctrl-p ctrl-q) leave it running. The exit code is the workload's.",
    .flags = kAttachTables,
    .least = 1,
    .most = 1,
    .complete = Complete::kRunning,
    .run = attach_main};

}  // namespace hull::cli
