// generate systemd, generate quadlet: unit files for workloads that systemd shall keep running.
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/run_words.h"
#include "engine/dependencies.h"
#include "engine/host.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

constexpr int kDefaultStopSeconds = 10;
/// What systemd leaves beyond the workload's own grace before it kills the command itself.
constexpr int kStopMarginSeconds = 60;

/// One word of a command line in a unit file (systemd.service(5), "Command lines").
std::string quoted(std::string_view word) {
  std::string out;
  bool plain = !word.empty();
  for (const char c : word) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    plain = plain && (letter || std::string_view("-_./:=,@+").find(c) != std::string_view::npos);
    if (c == '"' || c == '\\') out += '\\';
    if (c == '%' || c == '$') out += c;
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return plain ? out : "\"" + out + "\"";
}

std::string command_line(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + quoted(word);
  return out;
}

struct UnitOptions {
  std::string prefix = "hull", separator = "-", restart;
  std::vector<std::string> after, wants, requires_;
  std::optional<int> stop_seconds, restart_seconds;
  bool by_name = false, anew = false, header = true;
};

std::string unit_name(const UnitOptions& options, const std::string& workload) {
  return options.prefix.empty() ? workload : options.prefix + options.separator + workload;
}

Result<std::string> unit_text(Context& context, const UnitOptions& options, const engine::WorkloadDetails& details) {
  const engine::Config& config = details.config;
  const std::string& name = details.summary.name;
  const std::string shown = options.by_name || options.anew ? name : details.summary.id;
  const std::string program = engine::own_program();
  const int grace = options.stop_seconds.value_or(config.stop_timeout_s.value_or(kDefaultStopSeconds));
  std::string out;
  if (options.header) {
    out += fmt::format("# {}.service\n# Made by 'hull generate systemd' of Hull {}.\n\n", unit_name(options, shown),
                       HULL_VERSION);
  }
  out += fmt::format("[Unit]\nDescription=Hull workload {}\nDocumentation=man:hull-generate-systemd(1)\n", name);
  out += "Wants=network-online.target\nAfter=network-online.target\n";
  for (const std::string& dependency : engine::dependencies_of(config)) {
    out += fmt::format("BindsTo={0}.service\nAfter={0}.service\n", unit_name(options, dependency));
  }
  for (const std::string& unit : options.after) out += "After=" + unit + "\n";
  for (const std::string& unit : options.wants) out += "Wants=" + unit + "\n";
  for (const std::string& unit : options.requires_) out += "Requires=" + unit + "\n";
  out += "\n[Service]\n";
  // With a policy of its own the workload is kept running by its monitor, and systemd only starts and stops it.
  const bool own_policy = config.restart.restarts() && !options.anew;
  if (own_policy) {
    out += fmt::format("# Restarts are the workload's own: --restart {}\nType=oneshot\nRemainAfterExit=yes\n",
                       config.restart.name);
  } else {
    out += "Type=exec\nRestart=" + (options.restart.empty() ? "on-failure" : options.restart) + "\n";
    if (options.restart_seconds) out += fmt::format("RestartSec={}\n", *options.restart_seconds);
  }
  if (grace >= 0) out += fmt::format("TimeoutStopSec={}\n", grace + kStopMarginSeconds);
  // Its processes are in control groups of their own; what systemd may end is the command.
  out += "KillMode=process\nDelegate=yes\n";
  if (options.anew) {
    TRY_ASSIGN(engine::Engine * engine, context.engine());
    oci::ImageRunConfig image;
    if (auto found = engine->images().find(details.summary.image_id.str()); found.ok()) image = found->config.config;
    TRY_ASSIGN(std::vector<std::string> words, run_words(config, image));
    std::vector<std::string> line = {program, "run", "--rm", "--name", name};
    line.insert(line.end(), std::make_move_iterator(words.begin()), std::make_move_iterator(words.end()));
    out += "ExecStartPre=-" + command_line({program, "rm", "--force", name}) + "\n";
    out += "ExecStart=" + command_line(line) + "\n";
  } else if (own_policy) {
    out += "ExecStart=" + command_line({program, "start", shown}) + "\n";
  } else {
    out += "ExecStart=" + command_line({program, "start", "--attach", shown}) + "\n";
  }
  const std::string verb = command_line({program, "stop", "--time", std::to_string(grace), shown});
  out += fmt::format("ExecStop={}{}\n\n[Install]\nWantedBy=multi-user.target\n", options.anew ? "-" : "", verb);
  return out;
}

constexpr Flag kSystemdFlags[] = {
    {.name = "name", .short_name = 'n', .help = "Use the workload's name instead of its id"},
    {.name = "new", .help = "Make the workload anew at each start, instead of starting the one there is"},
    {.name = "files", .short_name = 'f', .help = "Write the unit into a file of the current folder and print its path"},
    {.name = "no-header", .help = "Leave out the comment in front"},
    {.name = "time",
     .short_name = 't',
     .kind = ValueKind::kInt,
     .metavar = "SECONDS",
     .help = "How long a stop waits before it kills",
     .fallback = "the workload's, or 10"},
    {.name = "restart-policy",
     .kind = ValueKind::kText,
     .metavar = "POLICY",
     .help = "systemd's Restart=",
     .complete = Complete::kWords,
     .words = "no on-success on-failure on-abnormal on-watchdog on-abort always",
     .fallback = "on-failure"},
    {.name = "restart-sec", .kind = ValueKind::kInt, .metavar = "SECONDS", .help = "systemd's RestartSec="},
    {.name = "container-prefix",
     .kind = ValueKind::kText,
     .metavar = "TEXT",
     .help = "First part of the unit's name",
     .fallback = "hull"},
    {.name = "separator",
     .kind = ValueKind::kText,
     .metavar = "TEXT",
     .help = "Between the parts of the unit's name",
     .fallback = "-"},
    {.name = "after", .kind = ValueKind::kText, .metavar = "UNIT", .help = "Add After=", .repeatable = true},
    {.name = "wants", .kind = ValueKind::kText, .metavar = "UNIT", .help = "Add Wants=", .repeatable = true},
    {.name = "requires", .kind = ValueKind::kText, .metavar = "UNIT", .help = "Add Requires=", .repeatable = true},
};
constexpr std::span<const Flag> kSystemdTables[] = {kSystemdFlags};

Result<void> check_unit_text(std::string_view flag, std::string_view text) {
  const auto bad = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == '/'; };
  if (std::any_of(text.begin(), text.end(), bad)) {
    return errorf(ErrorKind::kInvalid, "--{}: \"{:.80}\" can't be part of a unit's name", flag, text);
  }
  return {};
}

Result<int> systemd_main(Context& context, const Parsed& parsed) {
  UnitOptions options;
  options.by_name = parsed.on("name");
  options.anew = parsed.on("new");
  options.header = !parsed.on("no-header");
  options.prefix = parsed.value("container-prefix", "hull");
  options.separator = parsed.value("separator", "-");
  options.restart = parsed.value("restart-policy");
  options.after = parsed.values("after");
  options.wants = parsed.values("wants");
  options.requires_ = parsed.values("requires");
  for (const char* flag : {"container-prefix", "separator"}) TRY(check_unit_text(flag, parsed.value(flag)));
  for (const auto* list : {&options.after, &options.wants, &options.requires_}) {
    for (const std::string& unit : *list) TRY(check_unit_text("after, --wants, --requires", unit));
  }
  static constexpr std::string_view kPolicies[] = {
      "", "no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"};
  if (std::find(std::begin(kPolicies), std::end(kPolicies), options.restart) == std::end(kPolicies)) {
    return errorf(ErrorKind::kInvalid, "{} is not a valid restart policy of systemd", options.restart);
  }
  if (const auto seconds = parsed.number("time")) options.stop_seconds = static_cast<int>(*seconds);
  if (const auto seconds = parsed.number("restart-sec")) options.restart_seconds = static_cast<int>(*seconds);
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const engine::WorkloadDetails details, engine->inspect(parsed.arguments[0]));
  if (options.anew && details.summary.name.empty()) return errorf(ErrorKind::kInvalid, "--new needs a name");
  TRY_ASSIGN(const std::string text, unit_text(context, options, details));
  if (!parsed.on("files")) {
    context.out.write(text);
    return 0;
  }
  const std::string& shown = options.by_name || options.anew ? details.summary.name : details.summary.id;
  char folder[4096];
  if (::getcwd(folder, sizeof folder) == nullptr) return errno_error("find the current folder");
  const std::string path = fmt::format("{}/{}.service", folder, unit_name(options, shown));
  TRY(sys::replace_file(path, text, 0644, false));
  context.out.print("{}\n", path);
  return 0;
}

/// Podman's form: keys for what has one, PodmanArgs for the rest.
Result<int> quadlet_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const engine::WorkloadDetails details, engine->inspect(parsed.arguments[0]));
  oci::ImageRunConfig image;
  if (auto found = engine->images().find(details.summary.image_id.str()); found.ok()) image = found->config.config;
  TRY_ASSIGN(const std::vector<std::string> words, run_words(details.config, image));
  static constexpr std::pair<std::string_view, std::string_view> kKeys[] = {
      {"--env", "Environment"},
      {"--volume", "Volume"},
      {"--mount", "Mount"},
      {"--publish", "PublishPort"},
      {"--network", "Network"},
      {"--label", "Label"},
      {"--annotation", "Annotation"},
      {"--user", "User"},
      {"--workdir", "WorkingDir"},
      {"--hostname", "HostName"},
      {"--cap-add", "AddCapability"},
      {"--cap-drop", "DropCapability"},
      {"--device", "AddDevice"},
      {"--tmpfs", "Tmpfs"},
      {"--expose", "ExposeHostPort"},
      {"--sysctl", "Sysctl"},
      {"--ulimit", "Ulimit"},
      {"--dns", "DNS"},
      {"--dns-search", "DNSSearch"},
      {"--dns-option", "DNSOption"},
      {"--add-host", "AddHost"},
      {"--ip", "IP"},
      {"--ip6", "IP6"},
      {"--log-driver", "LogDriver"},
      {"--log-opt", "LogOpt"},
      {"--pids-limit", "PidsLimit"},
      {"--shm-size", "ShmSize"},
      {"--stop-timeout", "StopTimeout"},
      {"--stop-signal", "StopSignal"},
      {"--group-add", "GroupAdd"},
      {"--memory", "Memory"},
      {"--health-cmd", "HealthCmd"},
      {"--health-interval", "HealthInterval"},
      {"--health-timeout", "HealthTimeout"},
      {"--health-retries", "HealthRetries"},
      {"--health-start-period", "HealthStartPeriod"},
      {"--health-on-failure", "HealthOnFailure"},
      {"--entrypoint", "Entrypoint"},
  };
  static constexpr std::pair<std::string_view, std::string_view> kSwitches[] = {{"--read-only", "ReadOnly=true"},
                                                                                {"--init", "RunInit=true"}};
  std::string out = fmt::format("# {}.container\n[Unit]\nDescription=Hull workload {}\n\n[Container]\nImage={}\n",
                                details.summary.name, details.summary.name, details.config.image);
  out += fmt::format("ContainerName={}\n", details.summary.name);
  size_t at = 0;
  for (; at < words.size() && words[at] != details.config.image; ++at) {
    const std::string& word = words[at];
    const auto same = [&](const auto& entry) { return entry.first == word; };
    if (const auto* found = std::find_if(std::begin(kSwitches), std::end(kSwitches), same);
        found != std::end(kSwitches)) {
      out += fmt::format("{}\n", found->second);
      continue;
    }
    const auto* found = std::find_if(std::begin(kKeys), std::end(kKeys), same);
    const Flag* flag = find_flag(kRun.flags, std::string_view(word).substr(2));
    const bool has_value = flag != nullptr && flag->kind != ValueKind::kBool;
    std::vector<std::string> both = {word};
    if (has_value && at + 1 < words.size()) both.push_back(words[++at]);
    if (found != std::end(kKeys) && both.size() == 2) {
      const bool splits = word == "--env" || word == "--label" || word == "--annotation";
      out += fmt::format("{}={}\n", found->second, splits ? quoted(both[1]) : both[1]);
    } else {
      out += "PodmanArgs=" + command_line(both) + "\n";
    }
  }
  if (at + 1 < words.size()) {
    out += "Exec=" + command_line({words.begin() + static_cast<ptrdiff_t>(at) + 1, words.end()}) + "\n";
  }
  const engine::RestartPolicy& policy = details.config.restart;
  const char* const restart = policy.name == "always" || policy.name == "unless-stopped" ? "always"
                              : policy.name == "on-failure"                              ? "on-failure"
                                                                                         : "no";
  out += fmt::format("\n[Service]\nRestart={}\n\n[Install]\nWantedBy=multi-user.target\n", restart);
  context.out.write(out);
  return 0;
}

}  // namespace

constinit const Command kGenerateSystemd = {
    .path = "generate systemd",
    .arguments = "WORKLOAD",
    .summary = "Print a systemd unit that keeps a workload running",
    .description =
        "The unit starts the workload in the foreground, so that systemd sees its exit code and restarts it; one with "
        "a "
        "restart policy of its own is only started and stopped. With --new each start makes the workload anew with the "
        "words of 'hull run' that say the same.",
    .examples = "hull generate systemd --name web > /etc/systemd/system/hull-web.service\n",
    .flags = kSystemdTables,
    .least = 1,
    .most = 1,
    .complete = Complete::kWorkload,
    .section = Section::kWorkloads,
    .run = systemd_main};

constinit const Command kGenerateQuadlet = {.path = "generate quadlet",
                                            .arguments = "WORKLOAD",
                                            .summary = "Print a workload as a .container file (Quadlet)",
                                            .description = "What has no key of its own is said with PodmanArgs.",
                                            .least = 1,
                                            .most = 1,
                                            .complete = Complete::kWorkload,
                                            .section = Section::kWorkloads,
                                            .run = quadlet_main};

}  // namespace hull::cli
