#include "cli/run_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cli/commands.h"

namespace hull::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

Result<RunOptions> parse(std::vector<std::string_view> words) {
  auto parsed = parse_flags(kRun.flags, words, {.stop_at_first_argument = true});
  if (!parsed.ok()) return std::move(parsed).error();
  return parse_run_options(*parsed);
}

/// The request of `run WORDS... image`; ends the test on an error.
engine::Config config(std::vector<std::string_view> words) {
  words.push_back("image");
  auto options = parse(words);
  EXPECT_TRUE(options.ok()) << (options.ok() ? "" : options.error().message());
  return options.ok() ? options->config : engine::Config();
}

std::string problem(std::vector<std::string_view> words) {
  words.push_back("image");
  auto options = parse(words);
  return options.ok() ? "none" : options.error().message();
}

TEST(RunOptions, ImageAndCommand) {
  auto options = parse({"-it", "--name", "shell", "debian:12", "bash", "-c", "echo -n --rm"});
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->config.image, "debian:12");
  EXPECT_THAT(options->config.cmd, ElementsAre("bash", "-c", "echo -n --rm"));
  EXPECT_EQ(options->config.name, "shell");
  EXPECT_TRUE(options->config.tty);
  EXPECT_TRUE(options->config.open_stdin);
  EXPECT_TRUE(options->config.attach_stdin);
  EXPECT_FALSE(options->config.auto_remove);
}

TEST(RunOptions, Streams) {
  const auto plain = config({});
  EXPECT_FALSE(plain.attach_stdin);
  EXPECT_TRUE(plain.attach_stdout);
  EXPECT_TRUE(plain.attach_stderr);
  const auto detached = config({"-d", "-i"});
  EXPECT_TRUE(detached.open_stdin);
  EXPECT_FALSE(detached.attach_stdin || detached.attach_stdout || detached.attach_stderr);
  const auto only_error = config({"-a", "stderr"});
  EXPECT_FALSE(only_error.attach_stdout);
  EXPECT_TRUE(only_error.attach_stderr);
  EXPECT_THAT(problem({"-a", "stdlog"}), HasSubstr("valid streams are"));
  EXPECT_THAT(problem({"-d", "-a", "stdout"}), HasSubstr("cannot specify both --attach and --detach"));
}

TEST(RunOptions, Entrypoint) {
  EXPECT_FALSE(config({}).entrypoint.has_value());
  EXPECT_THAT(*config({"--entrypoint", "/bin/sh"}).entrypoint, ElementsAre("/bin/sh"));
  EXPECT_THAT(*config({"--entrypoint="}).entrypoint, ElementsAre(""));
}

TEST(RunOptions, EnvironmentFilesFirstLaterEntriesWin) {
  const std::string path = ::testing::TempDir() + "hull_env_" + std::to_string(::getpid());
  std::ofstream(path) << "# comment\nA=file\nB=file value\n\n  C=3\n";
  ::setenv("HULL_TEST_PASSED", "on", 1);
  ::unsetenv("HULL_TEST_UNSET");
  const auto made = config({"-e", "A=flag", "--env-file", path, "-e", "HULL_TEST_PASSED", "-e", "HULL_TEST_UNSET"});
  EXPECT_THAT(made.env, ElementsAre("A=flag", "B=file value", "C=3", "HULL_TEST_PASSED=on", "HULL_TEST_UNSET"));
  std::filesystem::remove(path);
  EXPECT_THAT(problem({"--env-file", "/nonexistent/env"}), HasSubstr("--env-file: "));
  EXPECT_THAT(problem({"-e", "=x"}), HasSubstr("invalid environment variable"));
}

TEST(RunOptions, Labels) {
  const std::string path = ::testing::TempDir() + "hull_label_" + std::to_string(::getpid());
  std::ofstream(path) << "a=file\nb=file\n";
  EXPECT_THAT(config({"-l", "a=flag", "-l", "alone", "--label-file", path}).labels,
              UnorderedElementsAre(Pair("a", "flag"), Pair("alone", ""), Pair("b", "file")));
  std::filesystem::remove(path);
  EXPECT_THAT(problem({"-l", "=x"}), HasSubstr("the key is empty"));
}

TEST(RunOptions, Limits) {
  const auto made = config({"-m",
                            "512m",
                            "--memory-swap",
                            "1g",
                            "--cpus",
                            "1.5",
                            "--cpu-shares=512",
                            "--cpuset-cpus",
                            "0-1",
                            "--pids-limit",
                            "100",
                            "--memory-reservation",
                            "256m",
                            "--oom-score-adj",
                            "-500",
                            "--memory-swappiness",
                            "60",
                            "--shm-size",
                            "128m",
                            "--blkio-weight",
                            "300"});
  EXPECT_EQ(made.memory, 512LL << 20);
  EXPECT_EQ(made.memory_swap, 1LL << 30);
  EXPECT_EQ(made.nano_cpus, 1'500'000'000);
  EXPECT_EQ(made.cpu_shares, 512);
  EXPECT_EQ(made.cpuset_cpus, "0-1");
  EXPECT_EQ(made.pids_limit, 100);
  EXPECT_EQ(made.oom_score_adj, -500);
  EXPECT_EQ(made.memory_swappiness, 60);
  EXPECT_EQ(made.shm_size, 128LL << 20);
  EXPECT_EQ(made.blkio_weight, 300);
  EXPECT_EQ(config({"-m", "64m", "--memory-swap", "-1"}).memory_swap, -1);
  EXPECT_EQ(config({"--pids-limit", "-1"}).pids_limit, 0);
  EXPECT_EQ(config({"--memory-swappiness", "-1"}).memory_swappiness, std::nullopt);
}

TEST(RunOptions, LimitsThatMakeNoSense) {
  EXPECT_THAT(problem({"-m", "1m"}), HasSubstr("minimum memory limit allowed is 6MB"));
  EXPECT_THAT(problem({"--memory-swap", "1g"}), HasSubstr("give --memory too"));
  EXPECT_THAT(problem({"-m", "2g", "--memory-swap", "1g"}), HasSubstr("larger than memory limit"));
  EXPECT_THAT(problem({"-m", "64m", "--memory-reservation", "1g"}), HasSubstr("reservation"));
  EXPECT_THAT(problem({"--cpus", "0.0000000001"}), HasSubstr("too precise"));
  EXPECT_THAT(problem({"--cpus", "-1"}), HasSubstr("expected a number"));
  EXPECT_THAT(problem({"--cpus", "1", "--cpu-quota", "1000"}), HasSubstr("--cpus and"));
  EXPECT_THAT(problem({"--oom-score-adj", "2000"}), HasSubstr("from -1000 to 1000"));
  EXPECT_THAT(problem({"--memory-swappiness", "101"}), HasSubstr("from -1 to 100"));
  EXPECT_THAT(problem({"--blkio-weight", "5"}), HasSubstr("10 to 1000"));
  EXPECT_THAT(problem({"--shm-size", "0"}), HasSubstr("SHM size"));
}

TEST(RunOptions, Rights) {
  const auto made = config({"--cap-add",
                            "NET_ADMIN",
                            "--cap-drop=ALL",
                            "--security-opt",
                            "no-new-privileges",
                            "--security-opt",
                            "apparmor:unconfined",
                            "--security-opt",
                            "seccomp=unconfined",
                            "--device",
                            "/dev/null:/dev/nothing:r",
                            "--device",
                            "/dev/zero:rw",
                            "--device-cgroup-rule",
                            "c 1:3 rwm",
                            "--sysctl",
                            "net.ipv4.ip_forward=1",
                            "--ulimit",
                            "nofile=100:200",
                            "--ulimit",
                            "nofile=300",
                            "--group-add",
                            "audio",
                            "-u",
                            "1000:100"});
  EXPECT_THAT(made.cap_add, ElementsAre("NET_ADMIN"));
  EXPECT_THAT(made.cap_drop, ElementsAre("ALL"));
  EXPECT_THAT(made.security_opt, ElementsAre("no-new-privileges=true", "apparmor=unconfined", "seccomp=unconfined"));
  ASSERT_EQ(made.devices.size(), 2U);
  EXPECT_EQ(made.devices[0].container_path, "/dev/nothing");
  EXPECT_EQ(made.devices[0].permissions, "r");
  EXPECT_EQ(made.devices[1].container_path, "/dev/zero");
  EXPECT_EQ(made.devices[1].permissions, "rw");
  EXPECT_THAT(made.sysctls, ElementsAre(Pair("net.ipv4.ip_forward", "1")));
  ASSERT_EQ(made.ulimits.size(), 1U);
  EXPECT_EQ(made.ulimits[0].hard, 300);
  EXPECT_EQ(made.user, "1000:100");
  EXPECT_THAT(problem({"--security-opt", "nonsense=1"}), HasSubstr("known: seccomp"));
  EXPECT_THAT(problem({"--security-opt", "seccomp=/nonexistent.json"}), HasSubstr("opening seccomp profile"));
  EXPECT_THAT(problem({"--sysctl", "net.ipv4.ip_forward"}), HasSubstr("NAME=VALUE"));
}

TEST(RunOptions, Network) {
  const auto made =
      config({"--network", "name=bridge,ip=172.17.0.9", "--dns", "1.1.1.1", "--dns-search", ".", "--add-host",
              "db:10.0.0.1", "--add-host", "six=[::1]", "--add-host", "host.docker.internal:host-gateway", "-h", "box",
              "--domainname", "example.org", "--mac-address", "02:42:ac:11:00:09", "-P"});
  EXPECT_EQ(made.network, "bridge");
  EXPECT_EQ(engine::attachments(made)[0].ipv4, "172.17.0.9");
  EXPECT_THAT(made.extra_hosts, ElementsAre("db:10.0.0.1", "six:::1", "host.docker.internal:host-gateway"));
  EXPECT_EQ(made.hostname, "box");
  EXPECT_TRUE(made.publish_all);
  EXPECT_EQ(config({"--net", "host"}).network, "host");
  EXPECT_EQ(config({"--network", "default"}).network, "bridge");
  EXPECT_THAT(problem({"--dns", "nameserver"}), HasSubstr("not an IP address"));
  EXPECT_THAT(problem({"--mac-address", "02:42"}), HasSubstr("not a valid mac address"));
  EXPECT_THAT(problem({"--ip", "::1"}), HasSubstr("not an IPv4 address"));
  EXPECT_THAT(problem({"--add-host", "db"}), HasSubstr("HOST:IP"));
  EXPECT_THAT(problem({"--network", "container:web", "-h", "x"}), HasSubstr("--hostname"));
  EXPECT_THAT(problem({"--network", "name=mine,colour=x"}), HasSubstr("invalid field key colour"));
}

TEST(RunOptions, Mounts) {
  const auto made =
      config({"-v", "/srv:/data:ro", "-v", "cache:/cache", "-v", "/anonymous", "--tmpfs", "/run:size=64m,mode=1777",
              "--mount", "type=tmpfs,target=/tmp,tmpfs-size=1m", "--volumes-from", "other:ro", "--read-only"});
  ASSERT_EQ(made.mounts.size(), 5U);
  EXPECT_EQ(made.mounts[0].type, engine::MountRequest::Type::kBind);
  EXPECT_TRUE(made.mounts[0].read_only);
  EXPECT_TRUE(made.mounts[0].create_source);
  EXPECT_EQ(made.mounts[1].source, "cache");
  EXPECT_EQ(made.mounts[2].source, "");
  EXPECT_THAT(made.mounts[3].tmpfs_options, ElementsAre("size=64m", "mode=1777"));
  EXPECT_EQ(made.mounts[4].tmpfs_size, 1 << 20);
  EXPECT_THAT(made.volumes_from, ElementsAre("other:ro"));
  EXPECT_TRUE(made.read_only_rootfs);
  EXPECT_THAT(problem({"-v", "/a:/x", "-v", "/b:/x"}), HasSubstr("duplicate mount point: /x"));
}

TEST(RunOptions, Namespaces) {
  const auto made =
      config({"--ipc", "host", "--pid", "container:web", "--uts", "host", "--cgroupns", "private", "--userns", "host"});
  EXPECT_EQ(made.ipc_mode, "host");
  EXPECT_EQ(made.pid_mode, "container:web");
  EXPECT_EQ(made.uts_mode, "host");
  EXPECT_EQ(made.cgroupns_mode, "private");
  EXPECT_THAT(problem({"--pid", "private"}), HasSubstr("unknown mode \"private\" (expected host or container:NAME)"));
  EXPECT_THAT(problem({"--uts", "container:x"}), HasSubstr("unknown mode"));
  EXPECT_THAT(problem({"--uts", "host", "-h", "x"}), HasSubstr("UTS mode host"));
}

TEST(RunOptions, Logs) {
  EXPECT_THAT(config({"--log-opt", "max-size=10m", "--log-opt", "max-file=3"}).log_options,
              ElementsAre(Pair("max-file", "3"), Pair("max-size", "10m")));
  EXPECT_EQ(config({"--log-driver", "none"}).log_driver, "none");
  EXPECT_THAT(problem({"--log-driver", "syslog"}), HasSubstr("no log driver named 'syslog'"));
  EXPECT_THAT(problem({"--log-opt", "speed=x"}), HasSubstr("unknown log opt 'speed' for json-file"));
  EXPECT_THAT(problem({"--log-driver", "local", "--log-opt", "tag=x"}), HasSubstr("unknown log opt 'tag' for local"));
  EXPECT_THAT(problem({"--log-driver", "journald", "--log-opt", "max-size=1m"}), HasSubstr("for journald"));
  EXPECT_THAT(problem({"--log-opt", "tag={{.Moon}}"}), HasSubstr("unknown field {{.Moon}}"));
  EXPECT_THAT(problem({"--log-opt", "env-regex=("}), HasSubstr("invalid regular expression"));
  EXPECT_THAT(problem({"--log-opt", "compress=true"}), HasSubstr("max-file is less than 2"));
  EXPECT_THAT(problem({"--log-opt", "max-buffer-size=1m"}), HasSubstr("mode=non-blocking"));
  EXPECT_EQ(problem({"--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=1m"}), "none");
  EXPECT_THAT(problem({"--log-driver", "none", "--log-opt", "max-size=1m"}), HasSubstr("driver none"));
}

TEST(RunOptions, TheWall) {
  using engine::Isolation;
  EXPECT_EQ(config({}).isolation, Isolation::kContainer);
  EXPECT_EQ(config({"--vm"}).isolation, Isolation::kVm);
  EXPECT_EQ(config({"--isolation", "vm"}).isolation, Isolation::kVm);
  EXPECT_EQ(config({"--isolation=vm", "--vm=false"}).isolation, Isolation::kContainer);
  EXPECT_EQ(config({"--isolation", "default"}).isolation, Isolation::kContainer);
  EXPECT_THAT(problem({"--isolation", "moon"}), HasSubstr("unknown isolation 'moon'"));
  EXPECT_EQ(config({"--vm", "--hypervisor", "qemu"}).hypervisor, "qemu");
  EXPECT_THAT(problem({"--vm", "--hypervisor", "xen"}), HasSubstr("unknown hypervisor 'xen'"));
  EXPECT_THAT(config({"--vm", "--storage-opt", "size=2g"}).storage_opt, ElementsAre(Pair("size", "2g")));
  EXPECT_THAT(problem({"--storage-opt", "size=much"}), HasSubstr("size"));
  EXPECT_THAT(problem({"--storage-opt", "inodes=5"}), HasSubstr("unknown storage option 'inodes'"));
}

TEST(RunOptions, RestartPolicies) {
  EXPECT_EQ(config({}).restart.name, "no");
  EXPECT_EQ(config({"--restart", "always"}).restart.name, "always");
  EXPECT_EQ(config({"--restart", "always", "--restart", ""}).restart.name, "no");
  const auto made = config({"--restart", "on-failure:3"});
  EXPECT_EQ(made.restart.name, "on-failure");
  EXPECT_EQ(made.restart.maximum_retries, 3);
  EXPECT_THAT(problem({"--restart", "sometimes"}), HasSubstr("unknown policy 'sometimes'"));
  EXPECT_THAT(problem({"--restart", "always:3"}), HasSubstr("cannot be used with restart policy 'always'"));
  EXPECT_THAT(problem({"--restart", "on-failure:-1"}), HasSubstr("on-failure:-1"));
  EXPECT_THAT(problem({"--restart", "always", "--rm"}), HasSubstr("cannot specify both --restart and --rm"));
}

TEST(RunOptions, HealthChecks) {
  const auto made = config({"--health-cmd", "curl -f http://localhost", "--health-interval", "1m30s",
                            "--health-timeout", "300ms", "--health-retries", "5", "--health-start-period", "10s",
                            "--health-start-interval", "1s", "--health-on-failure", "restart"});
  ASSERT_TRUE(made.healthcheck.has_value());
  EXPECT_THAT(made.healthcheck->test, ElementsAre("CMD-SHELL", "curl -f http://localhost"));
  EXPECT_EQ(made.healthcheck->interval_ns, 90'000'000'000);
  EXPECT_EQ(made.healthcheck->timeout_ns, 300'000'000);
  EXPECT_EQ(made.healthcheck->start_period_ns, 10'000'000'000);
  EXPECT_EQ(made.healthcheck->start_interval_ns, 1'000'000'000);
  EXPECT_EQ(made.healthcheck->retries, 5);
  EXPECT_EQ(made.health_on_failure, "restart");
  EXPECT_THAT(config({"--no-healthcheck"}).healthcheck->test, ElementsAre("NONE"));
  EXPECT_FALSE(config({"--no-healthcheck"}).has_health_check());
  EXPECT_THAT(problem({"--no-healthcheck", "--health-cmd", "true"}), HasSubstr("conflicts with --health-*"));
  EXPECT_THAT(problem({"--health-interval", "soon"}), HasSubstr("health-interval"));
  EXPECT_THAT(problem({"--health-on-failure", "panic"}), HasSubstr("unknown action 'panic'"));
}

TEST(RunOptions, WhatComesLaterIsRefused) {
  EXPECT_THAT(problem({"--gpus", "all"}), HasSubstr("later version"));
  EXPECT_THAT(problem({"--kernel-memory", "1g"}), HasSubstr("no such limit"));
  EXPECT_THAT(problem({"--link-local-ip", "169.254.1.1"}), HasSubstr("follows from the MAC"));
  EXPECT_THAT(problem({"--cpu-count", "1"}), HasSubstr("Windows"));
}

TEST(RunOptions, TheCommandItself) {
  auto options = parse({"-d", "--pull", "always", "--cidfile", "/tmp/x", "--detach-keys", "ctrl-x,q", "--quiet",
                        "--sig-proxy=false", "--timings", "image"});
  ASSERT_TRUE(options.ok());
  EXPECT_TRUE(options->detach);
  EXPECT_EQ(options->pull, engine::PullPolicy::kAlways);
  EXPECT_EQ(options->detach_keys, "ctrl-x,q");
  EXPECT_FALSE(options->sig_proxy);
  EXPECT_TRUE(options->quiet && options->timings);
  EXPECT_THAT(problem({"--pull", "often"}), HasSubstr("\"always\""));
  EXPECT_THAT(problem({"--detach-keys", "ctrl-1"}), HasSubstr("invalid detach keys"));
  EXPECT_THAT(problem({"--name", "-x"}), HasSubstr("invalid container name"));
  EXPECT_THAT(problem({"--name", "a b"}), HasSubstr("invalid container name"));
  EXPECT_THAT(problem({"-w", "relative"}), HasSubstr("absolute path"));
  EXPECT_THAT(problem({"--platform", "linux/"}), HasSubstr("--platform"));
}

TEST(RunOptions, EveryFlagActsOrIsRefused) {
  for (const auto table : kRun.flags) {
    for (const Flag& flag : table) EXPECT_NE(flag.set, nullptr) << flag.name;
  }
}

TEST(RunOptions, TheTableIsWellFormed) {
  std::map<std::string_view, int> names;
  std::map<char, int> letters;
  for (const auto table : kRun.flags) {
    for (const Flag& flag : table) {
      EXPECT_EQ(++names[flag.name], 1) << flag.name;
      EXPECT_TRUE(flag.short_name == 0 || ++letters[flag.short_name] == 1) << flag.short_name;
      EXPECT_EQ(flag.metavar.empty(), flag.kind == ValueKind::kBool) << flag.name;
      EXPECT_TRUE(flag.hidden || !flag.help.empty()) << flag.name;
      EXPECT_FALSE(flag.help.ends_with('.')) << flag.name;
    }
  }
}

}  // namespace
}  // namespace hull::cli
