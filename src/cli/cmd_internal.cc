// help, and what Hull's own programs, shells and packages call: internal cleanup, complete, completion, man.
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <limits>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/complete.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

Result<int> help_main(Context& context, const Parsed& parsed) {
  if (parsed.arguments.empty()) {
    print_overview(context.out);
    return 0;
  }
  const std::vector<std::string_view> words(parsed.arguments.begin(), parsed.arguments.end());
  const Found found = find_command(words);
  if (found.command != nullptr && found.words == words.size()) {
    print_command_help(context.out, *found.command);
    return 0;
  }
  if (found.group != nullptr && found.words == words.size()) {
    print_group_help(context.out, *found.group);
    return 0;
  }
  return errorf(ErrorKind::kNotFound, "unknown help topic: {}", fmt::join(words, " "));
}

Result<int> cleanup_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->cleanup(parsed.arguments[0]));
  return 0;
}

/// The descriptor of the monitor's lock comes with the program and goes with it, not with what it starts.
void keep_descriptors_back() { ::syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC); }

Result<int> restart_main(Context& context, const Parsed& parsed) {
  keep_descriptors_back();
  std::optional<int64_t> started_ns;
  if (parsed.arguments.size() > 1) {
    TRY_ASSIGN(started_ns, parse_int(parsed.arguments[1], 0, std::numeric_limits<int64_t>::max()));
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->restart_after_exit(parsed.arguments[0], started_ns));
  return 0;
}

Result<int> health_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->health_changed(parsed.arguments[0], parsed.arguments[1]));
  return 0;
}

constexpr Flag kKeeperFlags[] = {
    {.name = "detach", .help = "Nobody takes the output"},
    {.name = "size", .kind = ValueKind::kText, .metavar = "ROWSxCOLUMNS", .help = "Of the terminal"},
};
constexpr std::span<const Flag> kKeeperTables[] = {kKeeperFlags};

/// Descriptor 3 is a socket to the one who asked for the exec.
Result<int> exec_keeper_main(Context& context, const Parsed& parsed) {
  UniqueFd client(3);
  ::fcntl(client.get(), F_SETFD, FD_CLOEXEC);
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  engine::Engine::ExecStart how;
  how.detach = parsed.on("detach");
  if (const std::string_view size = parsed.value("size"); !size.empty()) {
    const size_t cross = size.find('x');
    TRY_ASSIGN(const int64_t rows, parse_int(size.substr(0, cross), 1, 65535));
    TRY_ASSIGN(const int64_t columns, parse_int(size.substr(std::min(cross, size.size() - 1) + 1), 1, 65535));
    how.size = oci::Box{.height = static_cast<uint32_t>(rows), .width = static_cast<uint32_t>(columns)};
  }
  engine->exec_keep(parsed.arguments[0], how, std::move(client));
  return 0;
}

Result<int> completion_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const std::string script, completion_script(parsed.arguments[0]));
  context.out.write(script);
  return 0;
}

Result<int> complete_main(Context& context, const Parsed& parsed) {
  for (const std::string& line : complete(context, parsed.arguments)) context.out.print("{}\n", line);
  return 0;
}

Result<int> man_main(Context& context, const Parsed& parsed) {
  const std::string& folder = parsed.arguments[0];
  TRY(sys::make_dirs(folder, 0755));
  const auto write = [&](const std::string& name, const std::string& page) {
    return sys::replace_file(folder + "/" + name, page, 0644, false);
  };
  TRY(write("hull.1", man_overview()));
  int count = 1;
  for (const Command* command : all_commands()) {
    if (command->section == Section::kInternal && command != &kHelp) continue;
    TRY(write(man_name(*command) + ".1", man_page(*command)));
    ++count;
  }
  context.out.print("{} pages in {}\n", count, folder);
  return 0;
}

}  // namespace

constinit const Command kHelp = {.path = "help",
                                 .arguments = "[COMMAND]",
                                 .summary = "Show help for Hull or for a command",
                                 .most = 3,
                                 .complete = Complete::kCommand,
                                 .section = Section::kInternal,
                                 .run = help_main};

constinit const Command kInternalCleanup = {.path = "internal cleanup",
                                            .arguments = "ID",
                                            .summary = "Clean up after a workload that ended",
                                            .least = 1,
                                            .most = 1,
                                            .section = Section::kInternal,
                                            .run = cleanup_main};

constinit const Command kInternalRestart = {.path = "internal restart",
                                            .arguments = "ID [STARTED]",
                                            .summary = "Start a workload again that ended, as its policy says",
                                            .least = 1,
                                            .most = 2,
                                            .section = Section::kInternal,
                                            .run = restart_main};

constinit const Command kInternalHealth = {.path = "internal health",
                                           .arguments = "ID STATUS",
                                           .summary = "Take note of a workload's health",
                                           .least = 2,
                                           .most = 2,
                                           .section = Section::kInternal,
                                           .run = health_main};

constinit const Command kInternalExecKeeper = {.path = "internal exec-keeper",
                                               .arguments = "ID",
                                               .summary = "Stay with a process that was started for a client",
                                               .flags = kKeeperTables,
                                               .least = 1,
                                               .most = 1,
                                               .section = Section::kInternal,
                                               .run = exec_keeper_main};

constinit const Command kInternalComplete = {.path = "internal complete",
                                             .arguments = "[WORD...]",
                                             .summary = "Print what may stand in place of the last word",
                                             .most = -1,
                                             .stop_at_first_argument = true,
                                             .section = Section::kInternal,
                                             .run = complete_main};

constinit const Command kInternalCompletion = {.path = "internal completion",
                                               .aliases = "completion",
                                               .arguments = "bash|zsh|fish",
                                               .summary = "Print the completion script of a shell",
                                               .least = 1,
                                               .most = 1,
                                               .section = Section::kInternal,
                                               .run = completion_main};

constinit const Command kInternalMan = {.path = "internal man",
                                        .arguments = "FOLDER",
                                        .summary = "Write the man pages into a folder",
                                        .least = 1,
                                        .most = 1,
                                        .complete = Complete::kFolder,
                                        .section = Section::kInternal,
                                        .run = man_main};

}  // namespace hull::cli
