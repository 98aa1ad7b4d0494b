#pragma once
// What `hull compare` found out, and what follows from it. Everything here is plain arithmetic and text: cmd_compare.cc
// does the measuring.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/config.h"

namespace hull::cli {

struct CompareRun {
  std::optional<double> first_line_ms;  // from the command's start to the first whole line; nothing without output
  double run_ms = 0;                    // until it had ended
  int exit_code = 0;
  uint64_t output_bytes = 0, output_hash = 0;  // of both streams
  bool stopped = false;                        // it ran longer than the limit
};

/// One wall.
struct CompareSide {
  std::string problem;  // why it can't run behind this wall; then there are no numbers
  std::vector<CompareRun> runs;
  // From one more run that was not timed.
  std::optional<uint64_t> memory;  // most proportional set size seen
  bool memory_is_charge = false;   // it ended too soon to be looked at: most that its control group was charged with
  std::optional<uint64_t> disk, syscalls;
  std::optional<int> processes, threads;
  bool emulated = false;  // the machine ran without KVM
};

struct Comparison {
  std::string image;
  std::vector<std::string> command;
  CompareSide container, vm;
  std::string no_syscalls;  // why the host could not count them
  // What the rules go by beside the numbers.
  bool untrusted = false;
  int64_t instances = 1;
  std::vector<std::string> kernel_wishes;  // options that ask for rights over the kernel
  uint64_t available_memory = 0;           // of the host, bytes
};

/// The middle one; the mean of the middle two.
std::optional<double> median(std::vector<double> values);
std::optional<double> median_first_line(const CompareSide& side);
std::optional<double> median_run(const CompareSide& side);

enum class Sameness { kSame, kDifferent, kVaries, kUnknown };
/// Whether both walls gave the same bytes; kVaries when one wall's own runs differ from one another.
Sameness same_output(const Comparison& c);
/// nothing where one side has no runs.
std::optional<bool> same_exit_code(const Comparison& c);

/// Options of the request that only a kernel of its own can grant without giving away the host's.
std::vector<std::string> kernel_wishes(const engine::Config& config);

/// One of the stated rules applied: what it found, and whom it speaks for ("container", "vm", or "" for neither).
struct RuleVerdict {
  std::string rule, finding, verdict;
};
/// In their order; the first that speaks for somebody decides. The last always does.
std::vector<RuleVerdict> apply_rules(const Comparison& c);

/// Two sentences: the measured difference, and the reasons.
std::vector<std::string> difference(const Comparison& c);

std::string compare_table(const Comparison& c);
std::string compare_json(const Comparison& c);
/// A picture of the measures, two bars each.
std::string compare_svg(const Comparison& c);

/// "3.2 ms", "1.45 s".
std::string format_ms(double ms);

/// One measure of both sides, as the table and the picture show it.
struct CompareRow {
  std::string title;
  std::optional<double> container, vm;
  std::string container_text, vm_text;
};
std::vector<CompareRow> compare_rows(const Comparison& c);

}  // namespace hull::cli
