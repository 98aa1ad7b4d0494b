#pragma once
// Commands as data: one constant each, beside the function that does it. Dispatch, help, man pages and completion
// read the same table (commands.cc).

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "engine/engine.h"

namespace hull::cli {

/// What a command works with. Tests give their own engine and in-memory outputs.
class Context {
 public:
  using EngineOpener = std::function<Result<std::unique_ptr<engine::Engine>>()>;

  Context(int out_fd, int error_fd, EngineOpener opener) : out(out_fd), err(error_fd), opener_(std::move(opener)) {}

  Output out, err;
  int in_fd = 0;
  std::string_view command;  // path of the running command, for messages

  /// Opened at the first call, so that help and version touch no state.
  Result<engine::Engine*> engine();
  /// Writes one failure as "hull: <command>: <message>".
  void report(const Error& error);
  void warn(std::string_view message);

 private:
  EngineOpener opener_;
  std::unique_ptr<engine::Engine> engine_;
};

/// Where `hull help` lists a command.
enum class Section : uint8_t { kCommon, kWorkloads, kImages, kVolumes, kNetworks, kSystem, kCompose, kInternal };

struct Command {
  std::string_view path;       // "run", "volume create"
  std::string_view aliases;    // other paths, separated by commas: "container run"
  std::string_view arguments;  // "IMAGE [COMMAND] [ARG...]"
  std::string_view summary;    // one line without a full stop
  std::string_view
      description;            // paragraphs, separated by empty lines; lines starting with two blanks stay as they are
  std::string_view examples;  // lines "command  # what it does"
  FlagTables flags;
  int least = 0, most = 0;  // arguments; most -1: any number
  bool stop_at_first_argument = false;
  Complete complete = Complete::kNothing;
  Section section = Section::kWorkloads;
  /// Gives the exit code. Null: another program of Hull's does it.
  Result<int> (*run)(Context& context, const Parsed& parsed) = nullptr;
  std::string_view program = "hull-images";
};

/// Every command, in the order of help.
std::span<const Command* const> all_commands();
/// A folder of commands ("volume"), and what it is for.
struct CommandGroup {
  std::string_view name, summary;
  FlagTables flags{};          // between the group's name and the command
  std::string_view program{};  // does every command of the group
};
std::span<const CommandGroup> command_groups();

struct Found {
  const Command* command = nullptr;
  const CommandGroup* group = nullptr;  // "hull volume": a group, no command
  size_t words = 0;                     // how many words the name took
};
/// By path or alias; the longest match. Nothing found: both null.
Found find_command(std::span<const std::string_view> words);
/// The known command nearest to what was typed, or "".
std::string nearest_command(std::string_view word, std::string_view group);
/// Calls `visit` with the path and then each alias.
void for_each_path(const Command& command, const std::function<void(std::string_view path)>& visit);

/// Global flags, before the command.
extern const FlagTables kGlobalFlags;

/// The program: parses, dispatches, reports. Returns the exit code.
int hull_main(Context& context, std::span<const std::string_view> words);

/// "vm kernel" of "vm kernel ls", "" of "run".
std::string_view group_of(std::string_view path);
/// "ls" of "vm kernel ls".
std::string_view last_word(std::string_view path);

/// Replaces this process by one of Hull's other programs. Returns only on failure.
Error exec_program(std::string_view name, std::span<const std::string_view> words);

/// The exit code that a failed command ends with: run 125, everything else 1.
int exit_code_of(const Command& command, const Error& error);

/// `work` on every argument; failures are reported one by one and the rest goes on. The exit code.
int for_each_argument(Context& context, const Parsed& parsed,
                      const std::function<Result<void>(const std::string& argument)>& work);

/// Asks "… [y/N]" on the terminal. Without one the answer is no, and the caller says that --force is needed.
Result<bool> confirm(Context& context, std::string_view warning);

// help.cc
void print_overview(Output& out);
void print_group_help(Output& out, const CommandGroup& group);
void print_command_help(Output& out, const Command& command);
/// Width at which text is broken: the terminal's, between 60 and 100; 80 without one.
int text_width(const Output& out);

// man.cc: one page for a command ("hull-run.1" has the name "hull-run"), one for hull itself.
std::string man_name(const Command& command);
std::string man_page(const Command& command);
std::string man_overview();

// completion.cc
Result<std::string> completion_script(std::string_view shell);

}  // namespace hull::cli
