#pragma once
// Flags as data. A command's flags are one constexpr table; parsing, help, man pages and shell completion all read it.
//
// The grammar is Docker's (Go's pflag), not getopt's: no abbreviated long names, "-t=false" and "--tty=false" for
// switches, clusters ("-it"), a value in the same word ("-eA=1", "-e=A=1", "--env=A=1") or in the next, "--" ends.
// getopt_long differs in the first two and keeps global state, hence the small parser here.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::cli {

enum class ValueKind : uint8_t {
  kBool,      // a switch: no value, or =true / =false
  kText,      // any text
  kInt,       // a whole number
  kDecimal,   // a decimal number
  kSize,      // bytes: 512m
  kDuration,  // 1m30s
};

/// What the shell offers after the flag (or as an argument of the command).
enum class Complete : uint8_t {
  kNothing,
  kFile,
  kFolder,
  kWorkload,
  kRunning,
  kStopped,
  kPaused,
  kImage,
  kVolume,
  kNetwork,
  kGuestKernel,
  kSignal,
  kCapability,
  kObject,
  kCommand,
  kWords,  // the flag's `words`
};

/// Under which heading help and man pages show a flag.
enum class Group : uint8_t {
  kGeneral,
  kProcess,
  kFiles,
  kNetwork,
  kLimits,
  kRights,
  kNamespaces,
  kHealth,
  kLogs,
  kLater
};

/// In the order of help and man pages.
struct GroupTitle {
  Group group;
  std::string_view title;
};
inline constexpr GroupTitle kGroupTitles[] = {
    {Group::kGeneral, "Options"},
    {Group::kProcess, "Process"},
    {Group::kFiles, "Files"},
    {Group::kNetwork, "Network"},
    {Group::kLimits, "Limits"},
    {Group::kRights, "Rights and devices"},
    {Group::kNamespaces, "Namespaces"},
    {Group::kHealth, "Restart and health"},
    {Group::kLogs, "Logs"},
    {Group::kLater, "Understood, not in this version"},
};

struct RunOptions;
/// Takes one value of a flag of run and create into the request (run_flags.cc).
using RunSetter = Result<void> (*)(RunOptions& options, std::string_view value);

struct Flag {
  std::string_view name;  // long name without dashes
  char short_name = 0;    // or 0
  ValueKind kind = ValueKind::kBool;
  std::string_view metavar;  // what help calls the value: "SIZE"
  std::string_view help;     // one sentence without a full stop
  Group group = Group::kGeneral;
  bool repeatable = false;  // may be given several times; otherwise the last one counts
  bool hidden = false;      // an old spelling: parsed, not shown
  Complete complete = Complete::kNothing;
  std::string_view words;     // choices, separated by blanks, for completion and help; "a:" takes more after it
  std::string_view fallback;  // the default, as help shows it
  RunSetter set = nullptr;
};

/// Tables of one command, in the order in which help shows them.
using FlagTables = std::span<const std::span<const Flag>>;

const Flag* find_flag(FlagTables tables, std::string_view long_name);
const Flag* find_flag(FlagTables tables, char short_name);

/// What stood on a command line.
class Parsed {
 public:
  struct Given {
    const Flag* flag;
    std::string value;  // "true" or "false" for a switch
  };
  std::vector<Given> given;            // in order
  std::vector<std::string> arguments;  // positional ones
  bool help = false;                   // --help (or -h where no flag has that letter)

  /// True when the switch is on (its last value counts).
  bool on(std::string_view name) const;
  bool has(std::string_view name) const;
  /// The last value given, or the fallback.
  std::string_view value(std::string_view name, std::string_view fallback = {}) const;
  std::vector<std::string> values(std::string_view name) const;
  /// The last value of a kInt flag; it was checked when parsed.
  std::optional<int64_t> number(std::string_view name) const;
};

struct ParseRules {
  /// Docker's run, create, exec and top: everything from the first argument on belongs to the workload.
  bool stop_at_first_argument = false;
};

/// `words` are the words after the command's name. Errors are kInvalid and name the flag; an unknown flag comes with
/// the nearest known one.
Result<Parsed> parse_flags(FlagTables tables, std::span<const std::string_view> words, ParseRules rules);

/// Go's strconv.ParseBool: 1 t T true TRUE True, 0 f F false FALSE False.
std::optional<bool> parse_bool(std::string_view text);

/// The candidate nearest to `word` (edit distance with swaps, at most a third of its length and one), or "".
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace hull::cli
