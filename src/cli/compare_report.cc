#include <cmath>

#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/units.h"
#include "cli/compare.h"
#include "cli/table.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

std::string ratio_text(const std::optional<double>& container, const std::optional<double>& vm) {
  if (!container || !vm || *container <= 0) return "";
  const double ratio = *vm / *container;
  return ratio < 10 ? fmt::format("{:.2f}x", ratio) : fmt::format("{:.0f}x", ratio);
}

CompareRow row(std::string title, const std::optional<double>& container, const std::optional<double>& vm,
               std::string (*text)(double)) {
  const auto shown = [&](const std::optional<double>& value) { return value ? text(*value) : std::string("-"); };
  return {std::move(title), container, vm, shown(container), shown(vm)};
}

template <typename T>
std::optional<double> as_double(const std::optional<T>& value) {
  return value ? std::optional<double>(static_cast<double>(*value)) : std::nullopt;
}

std::string size_text(double bytes) { return format_size_binary(static_cast<uint64_t>(bytes)); }
std::string count_text(double count) { return fmt::format("{:.0f}", count); }

std::string exit_codes(const CompareSide& side) {
  if (side.runs.empty()) return "-";
  std::string text;
  for (const CompareRun& run : side.runs) {
    const std::string one = run.stopped ? "stopped" : std::to_string(run.exit_code);
    if (text.find(one) == std::string::npos) text += (text.empty() ? "" : ", ") + one;
  }
  return text;
}

std::string sameness_text(Sameness same) {
  switch (same) {
    case Sameness::kSame:
      return "identical";
    case Sameness::kDifferent:
      return "different";
    case Sameness::kVaries:
      return "differs from run to run";
    case Sameness::kUnknown:
      return "-";
  }
  return "";
}

const RuleVerdict* deciding(const std::vector<RuleVerdict>& rules) {
  for (const RuleVerdict& rule : rules) {
    if (!rule.verdict.empty()) return &rule;
  }
  return nullptr;
}

void write_number(JsonWriter& w, std::string_view name, const std::optional<double>& value) {
  if (value) w.number(name, std::round(*value * 1000) / 1000);
}

void write_side(JsonWriter& w, std::string_view name, const CompareSide& side) {
  w.object(name, [&] {
    if (!side.problem.empty()) w.member("problem", side.problem);
    write_number(w, "firstLineMs", median_first_line(side));
    write_number(w, "runMs", median_run(side));
    w.member_opt("memoryBytes", side.memory);
    if (side.memory) w.member("memoryIs", side.memory_is_charge ? "control group peak" : "proportional set size");
    w.member_opt("diskBytes", side.disk);
    w.member_opt("processes", side.processes);
    w.member_opt("threads", side.threads);
    w.member_opt("syscalls", side.syscalls);
    w.member("emulated", side.emulated);
    w.array("runs", [&] {
      for (const CompareRun& run : side.runs) {
        w.object([&] {
          write_number(w, "firstLineMs", run.first_line_ms);
          write_number(w, "runMs", run.run_ms);
          w.member("exitCode", run.exit_code);
          w.member("outputBytes", run.output_bytes);
          w.member("stopped", run.stopped);
        });
      }
    });
  });
}

}  // namespace

std::string format_ms(double ms) {
  if (ms < 10) return fmt::format("{:.1f} ms", ms);
  if (ms < 1000) return fmt::format("{:.0f} ms", ms);
  return fmt::format("{:.2f} s", ms / 1000);
}

std::vector<CompareRow> compare_rows(const Comparison& c) {
  std::vector<CompareRow> rows;
  rows.push_back(row("first line of output", median_first_line(c.container), median_first_line(c.vm), format_ms));
  rows.push_back(row("run time", median_run(c.container), median_run(c.vm), format_ms));
  CompareRow memory = row("memory on the host", as_double(c.container.memory), as_double(c.vm.memory), size_text);
  if (c.container.memory_is_charge) memory.container_text += " *";
  if (c.vm.memory_is_charge) memory.vm_text += " *";
  rows.push_back(std::move(memory));
  rows.push_back(row("disk", as_double(c.container.disk), as_double(c.vm.disk), size_text));
  rows.push_back(row("processes", as_double(c.container.processes), as_double(c.vm.processes), count_text));
  rows.push_back(row("threads", as_double(c.container.threads), as_double(c.vm.threads), count_text));
  rows.push_back(
      row("system calls of the host", as_double(c.container.syscalls), as_double(c.vm.syscalls), count_text));
  return rows;
}

std::string compare_table(const Comparison& c) {
  Table table({"MEASURE", "CONTAINER", "VM", "VM/CONTAINER"});
  for (const CompareRow& one : compare_rows(c)) {
    table.add({one.title, one.container_text, one.vm_text, ratio_text(one.container, one.vm)});
  }
  table.add({"exit code", exit_codes(c.container), exit_codes(c.vm), same_exit_code(c) == true ? "same" : ""});
  table.add({"output", sameness_text(same_output(c)), "", ""});
  std::string text = table.render(0);
  if (c.container.memory_is_charge || c.vm.memory_is_charge) {
    text += "* it ended too soon to be looked at: the most that its control group was charged with\n";
  }
  if (!c.no_syscalls.empty()) text += fmt::format("System calls were not counted: {}\n", c.no_syscalls);
  if (!c.container.problem.empty()) text += fmt::format("As a container: {}\n", c.container.problem);
  if (!c.vm.problem.empty()) text += fmt::format("As a virtual machine: {}\n", c.vm.problem);
  text += "\n" + join(difference(c), " ") + "\n";
  const std::vector<RuleVerdict> rules = apply_rules(c);
  if (const RuleVerdict* rule = deciding(rules); rule != nullptr) {
    text += fmt::format("\nRecommended: {}, by the rule \"{}\": {}.\n", rule->verdict, rule->rule, rule->finding);
  } else {
    text += "\nRecommended: neither, it runs behind neither wall.\n";
  }
  for (const RuleVerdict& rule : rules) {
    if (&rule == deciding(rules) || rule.rule == "otherwise") continue;
    text += fmt::format("  {}: {}{}\n", rule.rule, rule.finding, rule.verdict.empty() ? "" : " -> " + rule.verdict);
  }
  return text;
}

std::string compare_json(const Comparison& c) {
  const std::vector<RuleVerdict> rules = apply_rules(c);
  JsonWriter w(2);
  w.object([&] {
    w.member("image", c.image);
    w.member("command", c.command);
    write_side(w, "container", c.container);
    write_side(w, "vm", c.vm);
    w.member("output", sameness_text(same_output(c)));
    if (const auto same = same_exit_code(c)) w.member("sameExitCode", *same);
    w.member_opt("syscallsNotCounted", c.no_syscalls);
    w.member("difference", difference(c));
    const RuleVerdict* rule = deciding(rules);
    w.object("recommendation", [&] {
      w.member("isolation", rule == nullptr ? std::string() : rule->verdict);
      w.member("rule", rule == nullptr ? std::string() : rule->rule);
      w.member("reason", rule == nullptr ? std::string() : rule->finding);
    });
    w.array("rules", [&] {
      for (const RuleVerdict& one : rules) {
        w.object([&] {
          w.member("rule", one.rule);
          w.member("finding", one.finding);
          w.member("verdict", one.verdict);
        });
      }
    });
  });
  return std::move(w).take() + "\n";
}

}  // namespace hull::cli
