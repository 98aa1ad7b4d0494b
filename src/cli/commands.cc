// The list of commands, and the way from a command line to one of them.
#include "cli/commands.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

#include "base/error_format.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/compose_flags.h"
#include "cli/contexts.h"
#include "cli/image_transfer_flags.h"
#include "cli/text.h"
#include "rootless/rootless.h"

namespace hull::cli {
namespace {

constexpr const Command* kCommands[] = {
    // Common
    &kRun,
    &kExec,
    &kPs,
    &kImages,
    &kPull,
    &kLogs,
    &kVersion,
    &kInfo,
    &kDoctor,
    // Workloads
    &kAttach,
    &kCommit,
    &kCompare,
    &kCopy,
    &kCreate,
    &kDiff,
    &kExport,
    &kGenerateQuadlet,
    &kGenerateSystemd,
    &kInspect,
    &kKill,
    &kPause,
    &kPort,
    &kRemove,
    &kRename,
    &kRestart,
    &kStart,
    &kStats,
    &kStop,
    &kTop,
    &kUnpause,
    &kUpdate,
    &kWait,
    &kContainerInspect,
    &kContainerPrune,
    // Images
    &kHistory,
    &kImageInspect,
    &kImagePrune,
    &kImport,
    &kLoad,
    &kLogin,
    &kLogout,
    &kPush,
    &kRemoveImage,
    &kSave,
    &kSearch,
    &kTag,
    // Volumes and networks
    &kVolumeCreate,
    &kVolumeInspect,
    &kVolumeList,
    &kVolumePrune,
    &kVolumeRemove,
    &kNetworkConnect,
    &kNetworkCreate,
    &kNetworkDisconnect,
    &kNetworkInspect,
    &kNetworkList,
    &kNetworkPrune,
    &kNetworkRemove,
    // The whole
    &kDashboard,
    &kEvents,
    &kSystemCheck,
    &kSystemDf,
    &kSystemPrune,
    &kContextCreate,
    &kContextInspect,
    &kContextList,
    &kContextRemove,
    &kContextShow,
    &kContextUse,
    &kSystemStartAll,
    &kSystemStopAll,
    // Virtual machines
    &kVmKernelInstall,
    &kVmKernelList,
    &kVmKernelRemove,
    &kVmKernelUse,
    // Applications
    &kComposeConfig,
    &kComposeCreate,
    &kComposeCp,
    &kComposeDown,
    &kComposeEvents,
    &kComposeExec,
    &kComposeImages,
    &kComposeKill,
    &kComposeList,
    &kComposeLogs,
    &kComposePause,
    &kComposePort,
    &kComposePs,
    &kComposePull,
    &kComposeRemove,
    &kComposeRestart,
    &kComposeRun,
    &kComposeScale,
    &kComposeStart,
    &kComposeStats,
    &kComposeStop,
    &kComposeTop,
    &kComposeUnpause,
    &kComposeUp,
    &kComposeVersion,
    &kComposeWait,
    &kKubeDown,
    &kKubeGenerate,
    &kKubePlay,
    // For programs
    &kHelp,
    &kInternalCleanup,
    &kInternalExecKeeper,
    &kInternalComplete,
    &kInternalCompletion,
    &kInternalHealth,
    &kInternalMan,
    &kInternalRestart,
};

const CommandGroup kGroups[] = {
    {"container", "Manage workloads"},
    {"generate", "Make unit files of workloads"},
    {"image", "Manage images"},
    {"network", "Manage networks"},
    {"system", "Manage Hull as a whole"},
    {"volume", "Manage volumes"},
    {"internal", "Commands that Hull's own programs and packages use"},
    {"vm", "Manage what virtual machines need"},
    {"vm kernel", "Manage the guest kernels of virtual machines"},
    {"context", "Manage where Hull keeps things"},
    {"compose", "Run applications that Compose files describe", kComposeGroupFlags, "hull-compose"},
    {"kube", "Run pods that Kubernetes YAML describes", {}, "hull-compose"},
};

constexpr Flag kGlobal[] = {
    {.name = "config",
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Read this configuration",
     .complete = Complete::kFile,
     .fallback = "/etc/hull/hull.toml"},
    {.name = "context",
     .short_name = 'c',
     .kind = ValueKind::kText,
     .metavar = "NAME",
     .help = "Work in this context (see 'hull context create')"},
    {.name = "debug", .short_name = 'D', .help = "Write debug messages to standard error"},
    {.name = "log-level",
     .short_name = 'l',
     .kind = ValueKind::kText,
     .metavar = "LEVEL",
     .help = "Lowest level of messages on standard error",
     .complete = Complete::kWords,
     .words = "debug info warn error fatal",
     .fallback = "warn"},
    {.name = "root",
     .kind = ValueKind::kText,
     .metavar = "FOLDER",
     .help = "Keep images, volumes and workloads here",
     .complete = Complete::kFolder,
     .fallback = "/var/lib/hull"},
    {.name = "run-root",
     .kind = ValueKind::kText,
     .metavar = "FOLDER",
     .help = "Keep the state of this boot here",
     .complete = Complete::kFolder,
     .fallback = "/run/hull"},
    {.name = "version", .short_name = 'v', .help = "Print the version and quit"},
};
constexpr std::span<const Flag> kGlobalTables[] = {kGlobal};

/// Docker's commands that Hull does not have yet, so that nobody searches for a typing mistake.
constexpr std::string_view kLater[] = {"build", "buildx", "swarm", "service", "stack"};

int refuse_flags(Context& context, const Command* command, const Error& error) {
  context.report(error);
  if (command != nullptr) {
    context.err.print("See 'hull {} --help'.\n", command->path);
  } else {
    context.err.write("See 'hull --help'.\n");
  }
  return 125;
}

/// Global flags go into the environment, where the engine and hull-images look.
Result<void> apply_global(const Parsed& parsed) {
  TRY(apply_context(parsed.has("context") ? std::optional(std::string(parsed.value("context"))) : std::nullopt));
  constexpr std::pair<std::string_view, const char*> kVariables[] = {
      {"config", "HULL_CONFIG"}, {"root", "HULL_ROOT"}, {"run-root", "HULL_RUN"}};
  for (const auto& [flag, variable] : kVariables) {
    if (!parsed.has(flag)) continue;
    const std::string value(parsed.value(flag));
    if (value.empty()) return errorf(ErrorKind::kInvalid, "--{} needs a path", flag);
    ::setenv(variable, value.c_str(), 1);
  }
  const std::string_view level = parsed.on("debug") ? "debug" : parsed.value("log-level", "warn");
  LogLevel lowest = LogLevel::kWarning;
  if (level == "debug") lowest = LogLevel::kDebug;
  if (level == "info") lowest = LogLevel::kInfo;
  if (level == "error" || level == "fatal") lowest = LogLevel::kError;
  set_log(lowest, LogFormat::kText, STDERR_FILENO);
  return {};
}

int unknown_command(Context& context, std::string_view word, std::string_view group) {
  const std::string full = group.empty() ? std::string(word) : fmt::format("{} {}", group, word);
  const auto later = std::find(std::begin(kLater), std::end(kLater), word);
  if (later != std::end(kLater)) {
    context.err.print("hull: '{}' is not in this version of Hull\n", printable(full));
  } else if (const std::string near = nearest_command(word, group); !near.empty()) {
    context.err.print("hull: unknown command: hull {} (did you mean 'hull {}'?)\n", printable(full), near);
  } else {
    context.err.print("hull: unknown command: hull {}\n", printable(full));
  }
  context.err.print("See 'hull{}{} --help'.\n", group.empty() ? "" : " ", group);
  return 1;
}

/// Docker's words for a wrong number of arguments.
int refuse_count(Context& context, const Command& command, size_t count) {
  const auto plural = [](int number) { return number == 1 ? "" : "s"; };
  const int least = command.least;
  const int most = command.most;
  if (least == most && most == 0) {
    context.err.print("hull: 'hull {}' accepts no arguments\n", command.path);
  } else if (least == most) {
    context.err.print("hull: 'hull {}' requires {} argument{}\n", command.path, least, plural(least));
  } else if (static_cast<int>(count) < least) {
    context.err.print("hull: 'hull {}' requires at least {} argument{}\n", command.path, least, plural(least));
  } else {
    context.err.print("hull: 'hull {}' requires at most {} argument{}\n", command.path, most, plural(most));
  }
  context.err.print("\nUsage:  hull {}{} {}\n\nSee 'hull {} --help'.\n", command.path,
                    command.flags.empty() ? "" : " [OPTIONS]", command.arguments, command.path);
  return 1;
}

int run_command(Context& context, const Command& command, std::span<const std::string_view> words) {
  context.command = command.path;
  auto parsed = parse_flags(command.flags, words, {.stop_at_first_argument = command.stop_at_first_argument});
  if (!parsed.ok()) return refuse_flags(context, &command, parsed.error());
  if (parsed->help) {
    print_command_help(context.out, command);
    return 0;
  }
  const size_t count = parsed->arguments.size();
  if (static_cast<int>(count) < command.least || (command.most >= 0 && static_cast<int>(count) > command.most)) {
    return refuse_count(context, command, count);
  }
  if (command.run == nullptr) {
    std::vector<std::string_view> all = split(command.path, ' ');
    all.insert(all.end(), words.begin(), words.end());
    context.report(exec_program(command.program, all));
    return 1;
  }
  auto code = command.run(context, *parsed);
  context.out.flush();
  if (!code.ok()) {
    context.report(code.error());
    if (code.error().kind() == ErrorKind::kInvalid) context.err.print("See 'hull {} --help'.\n", command.path);
    return exit_code_of(command, code.error());
  }
  if (!context.out.good()) {
    context.report(Error(ErrorKind::kIo, "write to standard output failed"));
    return *code == 0 ? 1 : *code;
  }
  return *code;
}

}  // namespace

const FlagTables kGlobalFlags = kGlobalTables;

std::span<const Command* const> all_commands() { return kCommands; }
std::span<const CommandGroup> command_groups() { return kGroups; }

void for_each_path(const Command& command, const std::function<void(std::string_view path)>& visit) {
  visit(command.path);
  if (command.aliases.empty()) return;
  for (const std::string_view alias : split(command.aliases, ',')) visit(alias);
}

std::string_view group_of(std::string_view path) {
  const size_t blank = path.rfind(' ');
  return blank == std::string_view::npos ? std::string_view() : path.substr(0, blank);
}
std::string_view last_word(std::string_view path) { return path.substr(path.rfind(' ') + 1); }

Found find_command(std::span<const std::string_view> words) {
  Found found;
  if (words.empty()) return found;
  // The longest name counts, and a command before a group.
  std::string name;
  constexpr size_t kMostWords = 3;
  for (size_t count = 1; count <= std::min(words.size(), kMostWords); ++count) {
    name += fmt::format("{}{}", count > 1 ? " " : "", words[count - 1]);
    for (const Command* command : kCommands) {
      for_each_path(*command, [&](std::string_view path) {
        if (path == name) found = {command, nullptr, count};
      });
    }
    for (const CommandGroup& group : kGroups) {
      if (group.name == name && found.command == nullptr) found = {nullptr, &group, count};
    }
  }
  return found;
}

std::string nearest_command(std::string_view word, std::string_view group) {
  std::vector<std::string_view> names;
  for (const Command* command : kCommands) {
    if (command->section == Section::kInternal && group != "internal") continue;
    for_each_path(*command, [&](std::string_view path) {
      if (group_of(path) == group) names.push_back(last_word(path));
    });
  }
  for (const CommandGroup& below : kGroups) {
    if (!group.empty() && group_of(below.name) == group) names.push_back(last_word(below.name));
  }
  const std::string_view near = nearest(word, names);
  if (near.empty()) return {};
  return group.empty() ? std::string(near) : fmt::format("{} {}", group, near);
}

int exit_code_of(const Command& command, const Error& error) {
  // Docker: what keeps `run` from starting its program is 125, so that the program's own codes stay apart.
  if (&command == &kRun) return 125;
  if (&command == &kCreate && error.kind() == ErrorKind::kInvalid) return 125;
  return 1;
}

int hull_main(Context& context, std::span<const std::string_view> words) {
  auto global = parse_flags(kGlobalFlags, words, {.stop_at_first_argument = true});
  if (!global.ok()) return refuse_flags(context, nullptr, global.error());
  if (auto applied = apply_global(*global); !applied.ok()) return refuse_flags(context, nullptr, applied.error());
  if (global->on("version")) {
    context.out.print("Hull version {}\n", HULL_VERSION);
    return 0;
  }
  // The words from the command on.
  const std::span<const std::string_view> rest = words.last(global->arguments.size());
  if (rest.empty() || global->help) {
    const Found found = find_command(rest);
    if (found.command != nullptr) {
      print_command_help(context.out, *found.command);
    } else {
      print_overview(context.out);
    }
    return 0;
  }
  const Found found = find_command(rest);
  if (found.command != nullptr) return run_command(context, *found.command, rest.subspan(found.words));
  if (found.group == nullptr) return unknown_command(context, rest[0], {});
  const auto below = rest.subspan(found.words);
  const bool asks_help = !below.empty() && (below[0] == "--help" || below[0] == "-h");
  if (!found.group->program.empty() && !below.empty() && below[0].starts_with('-') && !asks_help) {
    // Flags of the group stand before the command.
    context.report(exec_program(found.group->program, rest));
    return 1;
  }
  if (below.empty() || asks_help) {
    print_group_help(context.out, *found.group);
    return 0;
  }
  return unknown_command(context, below[0], found.group->name);
}

Error exec_program(std::string_view name, std::span<const std::string_view> words) {
  if (auto entered = rootless::enter(); !entered.ok()) return std::move(entered).error();
  std::vector<std::string> candidates;
  if (const char* folder = std::getenv("HULL_LIBEXEC"); folder != nullptr && *folder != '\0') {
    candidates.push_back(fmt::format("{}/{}", folder, name));
  } else {
    std::array<char, 4096> self{};
    const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
    const std::string_view path(self.data(), length > 0 ? static_cast<size_t>(length) : 0);
    const std::string beside(path.substr(0, path.rfind('/') == std::string_view::npos ? 0 : path.rfind('/')));
    // Installed (<prefix>/bin and <prefix>/libexec/hull), and the build tree.
    candidates.push_back(fmt::format("{}/../libexec/hull/{}", beside, name));
    candidates.push_back(fmt::format("{}/{}", beside, name));
  }
  std::vector<std::string> copies(words.begin(), words.end());
  std::vector<char*> argv;
  std::string program(name);
  argv.push_back(program.data());
  for (std::string& word : copies) argv.push_back(word.data());
  argv.push_back(nullptr);
  for (const std::string& candidate : candidates) {
    ::execv(candidate.c_str(), argv.data());
    if (errno != ENOENT) return errnof("start {}", candidate);
  }
  return errorf(ErrorKind::kNotFound,
                "the program {} is not beside hull (looked for {}): install it, or name its folder in HULL_LIBEXEC",
                name, join(candidates, ", "));
}

}  // namespace hull::cli
