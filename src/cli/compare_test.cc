#include "cli/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/fake_engine.h"
#include "cli/value.h"

namespace hull::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

CompareRun run_of(double first_ms, double run_ms, int code = 0, uint64_t hash = 1) {
  CompareRun run;
  run.first_line_ms = first_ms;
  run.run_ms = run_ms;
  run.exit_code = code;
  run.output_bytes = 10;
  run.output_hash = hash;
  return run;
}

/// A program of a minute, for which a machine costs little.
Comparison long_program() {
  Comparison c;
  c.image = "image";
  c.command = {"work", "<&\"'"};
  c.container.runs = {run_of(10, 60'000), run_of(12, 60'200), run_of(900, 61'000)};
  c.vm.runs = {run_of(3010, 63'000), run_of(3012, 63'100), run_of(3100, 63'200)};
  c.container.memory = 4 << 20;
  c.vm.memory = 204 << 20;
  c.container.syscalls = 900;
  c.vm.syscalls = 40'000;
  c.container.processes = 2;
  c.vm.processes = 5;
  c.available_memory = uint64_t{8} << 30;
  return c;
}

std::string decided_by(const Comparison& c) {
  for (const RuleVerdict& rule : apply_rules(c)) {
    if (!rule.verdict.empty()) return rule.rule + ": " + rule.verdict;
  }
  return "none";
}

TEST(Compare, Medians) {
  EXPECT_FALSE(median({}).has_value());
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({3, 1, 100}), 3);
  EXPECT_EQ(median({1, 2, 3, 100}), 2.5);
  EXPECT_EQ(median_first_line(long_program().container), 12);
}

TEST(Compare, SamenessOfOutputAndExitCode) {
  Comparison c = long_program();
  EXPECT_EQ(same_output(c), Sameness::kSame);
  EXPECT_EQ(same_exit_code(c), true);
  for (CompareRun& run : c.vm.runs) run.output_hash = 2;
  EXPECT_EQ(same_output(c), Sameness::kDifferent);
  c.vm.runs[1].output_hash = 3;
  EXPECT_EQ(same_output(c), Sameness::kVaries);
  c.vm.runs[2].exit_code = 1;
  EXPECT_EQ(same_exit_code(c), false);
  c.vm.runs.clear();
  EXPECT_EQ(same_output(c), Sameness::kUnknown);
  EXPECT_FALSE(same_exit_code(c).has_value());
}

TEST(Compare, EachRuleDecidesWhereItSpeaksFirst) {
  Comparison c = long_program();
  EXPECT_EQ(decided_by(c), "otherwise: vm");

  // Start-up: a short program feels it.
  Comparison brief = c;
  for (CompareRun& run : brief.container.runs) run.run_ms = 20;
  for (CompareRun& run : brief.vm.runs) run.run_ms = 3020;
  EXPECT_EQ(decided_by(brief), "start-up: container");
  // ... but not what nobody notices.
  Comparison quick = brief;
  for (CompareRun& run : quick.vm.runs) run = run_of(120, 140);
  EXPECT_EQ(decided_by(quick), "otherwise: vm");

  // Density: 100 machines of 204 MiB do not fit into 8 GiB, 100 containers do.
  c.instances = 100;
  EXPECT_EQ(decided_by(c), "density: container");
  c.instances = 30;
  EXPECT_EQ(decided_by(c), "otherwise: vm");

  // Trust comes before both.
  brief.untrusted = true;
  brief.instances = 100;
  EXPECT_EQ(decided_by(brief), "trust: vm");
  // Kernel needs before trust.
  brief.kernel_wishes = {"--privileged"};
  EXPECT_EQ(decided_by(brief), "kernel needs: vm");
  // What does not work is no choice, whatever else speaks for it.
  brief.vm.problem = "no guest kernel";
  EXPECT_EQ(decided_by(brief), "works: container");
  brief.vm.problem.clear();
  for (CompareRun& run : brief.vm.runs) run.exit_code = 1;
  EXPECT_EQ(decided_by(brief), "works: container");
  Comparison other = long_program();
  other.container.problem = "sysctl kernel.panic";
  EXPECT_EQ(decided_by(other), "works: vm");
  other.vm.problem = "neither";
  EXPECT_EQ(decided_by(other), "none");
  EXPECT_THAT(compare_table(other), HasSubstr("neither"));
}

TEST(Compare, WishesForTheKernel) {
  engine::Config config;
  EXPECT_TRUE(kernel_wishes(config).empty());
  config.privileged = true;
  config.cap_add = {"CHOWN", "cap_sys_admin", "ALL"};
  config.sysctls = {{"net.core.somaxconn", "1"}, {"kernel.panic", "1"}};
  config.security_opt = {"seccomp=unconfined", "no-new-privileges"};
  EXPECT_THAT(kernel_wishes(config), ElementsAre("--privileged", "--cap-add cap_sys_admin", "--cap-add ALL",
                                                 "--sysctl kernel.panic", "--security-opt seccomp=unconfined"));
}

TEST(Compare, TwoSentencesWithTheNumbers) {
  Comparison c = long_program();
  c.vm.emulated = true;
  const auto sentences = difference(c);
  ASSERT_EQ(sentences.size(), 2U);
  EXPECT_THAT(sentences[0], HasSubstr("3.00 s later"));
  EXPECT_THAT(sentences[0], HasSubstr("200MiB more of the host's memory"));
  EXPECT_THAT(sentences[0], HasSubstr("40000 system calls"));
  EXPECT_THAT(sentences[1], HasSubstr("emulated processor"));
  for (const std::string& sentence : sentences) EXPECT_EQ(sentence.back(), '.');
  c.vm.emulated = false;
  EXPECT_THAT(difference(c)[1], Not(HasSubstr("emulated")));
}

TEST(Compare, Table) {
  Comparison c = long_program();
  c.container.memory_is_charge = true;
  c.no_syscalls = "this kernel counts none";
  const std::string text = compare_table(c);
  EXPECT_THAT(text, HasSubstr("MEASURE"));
  EXPECT_THAT(text, ::testing::ContainsRegex("first line of output +12 ms +3.01 s +251x"));
  EXPECT_THAT(text, ::testing::ContainsRegex("memory on the host +4MiB \\* +204MiB +51x"));
  EXPECT_THAT(text, ::testing::ContainsRegex("exit code +0 +0 +same"));
  EXPECT_THAT(text, ::testing::ContainsRegex("output +identical"));
  EXPECT_THAT(text, HasSubstr("not counted: this kernel counts none"));
  EXPECT_THAT(text, HasSubstr("Recommended: vm, by the rule \"otherwise\""));
}

TEST(Compare, JsonHoldsAllOfIt) {
  const auto document = Value::parse(compare_json(long_program()));
  ASSERT_TRUE(document.ok()) << document.error().message();
  const std::string text = document->dump(-1);
  for (const char* part : {"\"firstLineMs\":12", "\"memoryBytes\":213909504", "\"syscalls\":40000",
                           "\"output\":\"identical\"", "\"sameExitCode\":true", "\"isolation\":\"vm\""}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Compare, PictureIsXmlWhateverTheCommandIs) {
  const std::string svg = compare_svg(long_program());
  EXPECT_TRUE(svg.starts_with("<svg "));
  EXPECT_THAT(svg, HasSubstr("image work &lt;&amp;&quot;"));
  EXPECT_THAT(svg, Not(HasSubstr("work <&")));
  EXPECT_THAT(svg, HasSubstr("3.01 s"));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
}

TEST(Compare, RefusesWhatMakesNoSense) {
  const auto says = [](std::initializer_list<std::string_view> words) { return testing::Session(words).err; };
  EXPECT_THAT(says({"compare", "-t", "x"}), HasSubstr("nobody types"));
  EXPECT_THAT(says({"compare", "--name", "some", "x"}), HasSubstr("several workloads"));
  EXPECT_THAT(says({"compare", "-n", "0", "x"}), HasSubstr("expected 1 to"));
  EXPECT_THAT(says({"compare", "--format", "xml", "x"}), HasSubstr("expected one of table json"));
  EXPECT_THAT(says({"compare"}), HasSubstr("requires at least 1 argument"));
}

}  // namespace
}  // namespace hull::cli
