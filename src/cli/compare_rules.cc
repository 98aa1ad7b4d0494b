#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/compare.h"
#include "cli/text.h"
#include "oci/runtime_spec.h"

namespace hull::cli {
namespace {

/// A start-up that adds more than this part of what the container takes in all is felt.
constexpr double kFeltPart = 0.5;
/// And less than this is not, however short the program is.
constexpr double kFeltMs = 250;

bool all_succeed(const CompareSide& side) {
  return !side.runs.empty() && std::all_of(side.runs.begin(), side.runs.end(),
                                           [](const CompareRun& run) { return run.stopped || run.exit_code == 0; });
}

RuleVerdict works_rule(const Comparison& c) {
  RuleVerdict out{"works", "", ""};
  const bool container = c.container.problem.empty(), vm = c.vm.problem.empty();
  if (container != vm) {
    out.verdict = container ? "container" : "vm";
    out.finding = fmt::format("it does not run as a {}: {}", container ? "virtual machine" : "container",
                              container ? c.vm.problem : c.container.problem);
  } else if (all_succeed(c.container) != all_succeed(c.vm)) {
    out.verdict = all_succeed(c.container) ? "container" : "vm";
    out.finding = fmt::format("it succeeds only as a {}", out.verdict == "container" ? "container" : "virtual machine");
  } else if (same_exit_code(c) == false) {
    out.finding = "the exit codes differ: look at why before choosing";
  } else {
    out.finding = "it ends with the same exit code behind both walls";
  }
  return out;
}

RuleVerdict kernel_rule(const Comparison& c) {
  RuleVerdict out{"kernel needs", "it asks for no rights over the kernel", ""};
  if (c.kernel_wishes.empty()) return out;
  out.finding = fmt::format(
      "{} reaches into the kernel, which a container shares with this host and a machine has for "
      "itself",
      join(c.kernel_wishes, ", "));
  out.verdict = "vm";
  return out;
}

RuleVerdict trust_rule(const Comparison& c) {
  if (!c.untrusted) return {"trust", "nothing says that the image is not trusted (--untrusted would)", ""};
  return {"trust", "the image is not trusted, and a fault of the host's kernel would be within a container's reach",
          "vm"};
}

RuleVerdict density_rule(const Comparison& c) {
  RuleVerdict out{"density", "memory was not measured", ""};
  if (!c.container.memory || !c.vm.memory || c.available_memory == 0) return out;
  const auto fits = [&](uint64_t each) { return c.available_memory / std::max<uint64_t>(each, 1); };
  const uint64_t containers = fits(*c.container.memory), machines = fits(*c.vm.memory);
  out.finding = fmt::format(
      "{} of memory are free: enough for about {} as containers or {} as virtual machines, and {} "
      "{} wanted (--instances)",
      format_size_binary(c.available_memory), containers, machines, c.instances, c.instances == 1 ? "is" : "are");
  const auto wanted = static_cast<uint64_t>(std::max<int64_t>(c.instances, 1));
  if (machines < wanted && containers > machines) out.verdict = "container";
  return out;
}

RuleVerdict startup_rule(const Comparison& c) {
  RuleVerdict out{"start-up", "it was not measured", ""};
  const auto container = median_run(c.container), vm = median_run(c.vm);
  const auto first_container = median_first_line(c.container), first_vm = median_first_line(c.vm);
  if (!container || !vm) return out;
  const double extra = first_container && first_vm ? *first_vm - *first_container : *vm - *container;
  out.finding = fmt::format("the machine adds {} to the start, and the container takes {} in all",
                            format_ms(std::max(extra, 0.0)), format_ms(*container));
  if (extra > kFeltMs && extra > *container * kFeltPart) out.verdict = "container";
  return out;
}

}  // namespace

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::optional<double> median_first_line(const CompareSide& side) {
  std::vector<double> values;
  for (const CompareRun& run : side.runs) {
    if (run.first_line_ms) values.push_back(*run.first_line_ms);
  }
  return median(std::move(values));
}

std::optional<double> median_run(const CompareSide& side) {
  std::vector<double> values;
  values.reserve(side.runs.size());
  for (const CompareRun& run : side.runs) values.push_back(run.run_ms);
  return median(std::move(values));
}

Sameness same_output(const Comparison& c) {
  if (c.container.runs.empty() || c.vm.runs.empty()) return Sameness::kUnknown;
  const auto same = [](const CompareRun& a, const CompareRun& b) {
    return a.output_bytes == b.output_bytes && a.output_hash == b.output_hash;
  };
  for (const CompareSide* side : {&c.container, &c.vm}) {
    for (const CompareRun& run : side->runs) {
      if (!same(run, side->runs.front())) return Sameness::kVaries;
    }
  }
  return same(c.container.runs.front(), c.vm.runs.front()) ? Sameness::kSame : Sameness::kDifferent;
}

std::optional<bool> same_exit_code(const Comparison& c) {
  if (c.container.runs.empty() || c.vm.runs.empty()) return std::nullopt;
  const int first = c.container.runs.front().exit_code;
  const auto differs = [&](const CompareRun& run) { return run.exit_code != first; };
  return std::none_of(c.container.runs.begin(), c.container.runs.end(), differs) &&
         std::none_of(c.vm.runs.begin(), c.vm.runs.end(), differs);
}

std::vector<std::string> kernel_wishes(const engine::Config& config) {
  static constexpr std::array<std::string_view, 9> kOverTheKernel = {
      "ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "SYS_BOOT", "SYS_TIME", "BPF", "NET_ADMIN"};
  std::vector<std::string> wishes;
  if (config.privileged) wishes.emplace_back("--privileged");
  for (const std::string& name : config.cap_add) {
    std::string upper = name;
    for (char& ch : upper) ch = static_cast<char>(ch >= 'a' && ch <= 'z' ? ch - 'a' + 'A' : ch);
    if (upper.starts_with("CAP_")) upper.erase(0, 4);
    if (std::find(kOverTheKernel.begin(), kOverTheKernel.end(), upper) != kOverTheKernel.end()) {
      wishes.push_back("--cap-add " + name);
    }
  }
  for (const auto& [name, value] : config.sysctls) {
    if (!oci::sysctl_namespace(name).ok()) wishes.push_back("--sysctl " + name);
  }
  for (const std::string& option : config.security_opt) {
    if (option == "seccomp=unconfined" || option == "systempaths=unconfined") {
      wishes.push_back("--security-opt " + option);
    }
  }
  return wishes;
}

std::vector<RuleVerdict> apply_rules(const Comparison& c) {
  std::vector<RuleVerdict> out = {works_rule(c), kernel_rule(c), trust_rule(c), density_rule(c), startup_rule(c)};
  const bool any = std::any_of(out.begin(), out.end(), [](const RuleVerdict& rule) { return !rule.verdict.empty(); });
  RuleVerdict last{"otherwise", "the stronger wall, where it costs nothing that matters here", ""};
  if (!any) {
    const bool neither = !c.container.problem.empty() && !c.vm.problem.empty();
    if (neither) {
      last.finding = "it runs behind neither wall";
    } else {
      last.verdict = "vm";
    }
  }
  out.push_back(std::move(last));
  return out;
}

std::vector<std::string> difference(const Comparison& c) {
  if (!c.container.problem.empty() || !c.vm.problem.empty()) {
    const bool both = !c.container.problem.empty() && !c.vm.problem.empty();
    const std::string who = both                   ? "neither wall"
                            : c.vm.problem.empty() ? "the second wall only"
                                                   : "the first wall only";
    return {fmt::format("It ran behind {}, so there is nothing to compare.", who)};
  }
  const auto first_container = median_first_line(c.container), first_vm = median_first_line(c.vm);
  const auto run_container = median_run(c.container), run_vm = median_run(c.vm);
  std::string measured;
  if (first_container && first_vm) {
    const double extra = *first_vm - *first_container;
    measured = fmt::format("The virtual machine's first line came {} {}", format_ms(std::abs(extra)),
                           extra >= 0 ? "later" : "earlier");
  } else if (run_container && run_vm) {
    const double extra = *run_vm - *run_container;
    measured =
        fmt::format("The virtual machine took {} {}", format_ms(std::abs(extra)), extra >= 0 ? "longer" : "less");
  }
  if (c.container.memory && c.vm.memory) {
    const bool more = *c.vm.memory >= *c.container.memory;
    const uint64_t extra = more ? *c.vm.memory - *c.container.memory : *c.container.memory - *c.vm.memory;
    measured +=
        fmt::format(" and it used {} {} of the host's memory", format_size_binary(extra), more ? "more" : "less");
  }
  if (c.container.syscalls && c.vm.syscalls) {
    measured += fmt::format(", with {} system calls reaching the host's kernel against the container's {}",
                            *c.vm.syscalls, *c.container.syscalls);
  }
  std::string reasons = "It boots a kernel of its own";
  if (c.vm.emulated) reasons += " (on an emulated processor, for want of KVM: with KVM most of that goes)";
  reasons +=
      ", which then answers the program's system calls itself and keeps its own cache of files; the container is a "
      "process of the kernel that runs already, and calls it directly";
  return {measured + ".", reasons + "."};
}

}  // namespace hull::cli
