#include "engine/merge.h"

#include <gtest/gtest.h>

namespace hull::engine {
namespace {

using Words = std::vector<std::string>;

oci::ImageRunConfig image() {
  oci::ImageRunConfig out;
  out.entrypoint = {"/entry", "-x"};
  out.cmd = {"serve"};
  out.env = {"PATH=/opt/bin", "A=image", "B=image"};
  out.working_dir = "/srv/../app";
  out.user = "web";
  out.labels = {{"a", "image"}, {"b", "image"}};
  out.volumes = {"/data", "/log"};
  out.exposed_ports = {"80/tcp"};
  out.stop_signal = "SIGQUIT";
  return out;
}

TEST(Merge, TakesWhatIsOpenFromTheImage) {
  const auto merged = merge_image(Config(), image());
  ASSERT_TRUE(merged.ok());
  EXPECT_EQ(full_command(*merged), (Words{"/entry", "-x", "serve"}));
  EXPECT_EQ(merged->env, (Words{"PATH=/opt/bin", "A=image", "B=image"}));
  EXPECT_EQ(merged->working_dir, "/app");
  EXPECT_EQ(merged->user, "web");
  EXPECT_EQ(merged->stop_signal, "SIGQUIT");
  EXPECT_EQ(merged->exposed_ports, Words{"80/tcp"});
  ASSERT_EQ(merged->mounts.size(), 2U);
  EXPECT_EQ(merged->mounts[0].target, "/data");
}

TEST(Merge, HealthMemberByMember) {
  oci::ImageRunConfig theirs = image();
  theirs.healthcheck = oci::HealthConfig{{"CMD", "probe"}, 5'000'000'000, 1'000'000'000, 0, 0, 7};
  Config config;
  config.healthcheck = oci::HealthConfig{{}, 0, 2'000'000'000, 0, 0, 0};
  const auto merged = merge_image(config, theirs);
  ASSERT_TRUE(merged.ok());
  EXPECT_EQ(merged->healthcheck->test, (Words{"CMD", "probe"}));
  EXPECT_EQ(merged->healthcheck->interval_ns, 5'000'000'000);
  EXPECT_EQ(merged->healthcheck->timeout_ns, 2'000'000'000);
  EXPECT_EQ(merged->healthcheck->retries, 7);
  config.healthcheck->test = {"NONE"};
  EXPECT_FALSE(merge_image(config, theirs)->has_health_check());
  EXPECT_TRUE(merge_image(Config(), theirs)->has_health_check());
}

TEST(Merge, TheRequestWins) {
  Config config;
  config.cmd = {"other"};
  config.env = {"A=mine", "C=mine"};
  config.labels = {{"a", "mine"}};
  MountRequest bind;
  bind.source = "/x";
  bind.target = "/data/";
  config.mounts = {bind};
  const auto merged = merge_image(config, image());
  EXPECT_EQ(full_command(*merged), (Words{"/entry", "-x", "other"}));
  EXPECT_EQ(merged->env, (Words{"A=mine", "C=mine", "PATH=/opt/bin", "B=image"}));
  EXPECT_EQ(merged->labels, (std::map<std::string, std::string>{{"a", "mine"}, {"b", "image"}}));
  EXPECT_EQ(merged->mounts.size(), 2U);
}

TEST(Merge, AnEntryPointDropsTheImagesCommand) {
  Config config;
  config.entrypoint = Words{"/mine"};
  EXPECT_EQ(full_command(*merge_image(config, image())), Words{"/mine"});
  config.entrypoint = Words{""};
  config.cmd = {"sh"};
  EXPECT_EQ(full_command(*merge_image(config, image())), Words{"sh"});
  config.cmd.clear();
  EXPECT_NE(merge_image(config, image()).error().message().find("no command specified"), std::string::npos);
}

TEST(Environment, IsDockersOrder) {
  Config config;
  config.tty = true;
  config.env = {"A=1", "PATH=/p", "TERM", "A=2"};
  EXPECT_EQ(process_environment(config, "box", "/root"), (Words{"PATH=/p", "HOSTNAME=box", "A=2", "HOME=/root"}));
  config.env = {"HOME=/elsewhere"};
  config.tty = false;
  EXPECT_EQ(process_environment(config, "", "/root"), (Words{std::string(kDefaultPath), "HOME=/elsewhere"}));
}

}  // namespace
}  // namespace hull::engine
