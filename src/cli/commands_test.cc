#include "cli/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/complete.h"
#include "cli/fake_engine.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using testing::FakeEngine;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::Session;
using ::testing::StartsWith;

engine::WorkloadSummary workload(std::string id, std::string name) {
  engine::WorkloadSummary one;
  one.id = std::move(id);
  one.name = std::move(name);
  one.image = "busybox";
  one.command = "sh -c 'while true; do date; done'";
  one.status = engine::Status::kRunning;
  one.status_text = "Up 3 minutes";
  one.network = "bridge";
  one.created = engine::TimePoint::clock::now() - std::chrono::minutes(3);
  one.ports = {{"0.0.0.0", 8080, 80, "tcp"}};
  one.labels = {{"app", "web"}};
  return one;
}

void two_workloads(FakeEngine& engine) {
  engine.workloads = {workload("0123456789abcdef", "web"), workload("fedcba9876543210", "db")};
  engine.documents["web"] = R"({"Id":"0123456789abcdef","Name":"/web","State":{"Pid":42}})";
}

TEST(Commands, VersionOpensNoEngine) {
  Session session({"version"});
  EXPECT_EQ(session.code, 0);
  EXPECT_THAT(session.out, HasSubstr(HULL_VERSION));
  EXPECT_FALSE(session.opened);
  EXPECT_EQ(Session({"version", "-f", "{{.Server.Version}}"}).out, HULL_VERSION "\n");
  EXPECT_THAT(Session({"--version"}).out, StartsWith("Hull version "));
  EXPECT_THAT(Session({"-v"}).out, StartsWith("Hull version "));
}

TEST(Commands, HelpOfEverything) {
  EXPECT_THAT(Session({}).out, HasSubstr("Usage:  hull [OPTIONS] COMMAND"));
  EXPECT_THAT(Session({"help"}).out, HasSubstr("Common Commands"));
  for (const Command* command : all_commands()) {
    for_each_path(*command, [&](std::string_view path) {
      const auto words = split(path, ' ');
      const std::vector<std::string_view> all(words);
      ASSERT_LE(all.size(), 3U);
      Session session = all.size() == 1   ? Session({all[0], "--help"})
                        : all.size() == 2 ? Session({all[0], all[1], "--help"})
                                          : Session({all[0], all[1], all[2], "--help"});
      EXPECT_EQ(session.code, 0) << path;
      EXPECT_THAT(session.out, HasSubstr(command->summary)) << path;
      EXPECT_FALSE(session.opened) << path;
      for (const std::string_view line : split(session.out, '\n')) {
        EXPECT_TRUE(line.starts_with("  hull ") || display_width(line) <= 100) << path << ": " << line;
      }
    });
  }
  EXPECT_THAT(Session({"help", "volume", "create"}).out, HasSubstr("hull volume create"));
  EXPECT_THAT(Session({"volume"}).out, HasSubstr("Commands:"));
  EXPECT_EQ(Session({"help", "nothing"}).code, 1);
  EXPECT_THAT(Session({"vm"}).out, HasSubstr("  kernel   Manage the guest kernels"));
  EXPECT_THAT(Session({"vm", "kernel"}).out, HasSubstr("  use "));
  EXPECT_THAT(Session({"help", "vm", "kernel"}).out, HasSubstr("Usage:  hull vm kernel COMMAND"));
  EXPECT_THAT(Session({"help", "vm", "kernel", "use"}).out, HasSubstr("Usage:  hull vm kernel use KERNEL"));
  EXPECT_THAT(Session({"vm", "kernl"}).err, HasSubstr("did you mean 'hull vm kernel'"));
  EXPECT_THAT(Session({"vm", "kernel", "uses"}).err, HasSubstr("did you mean 'hull vm kernel use'"));
}

TEST(Commands, TablesAreWellFormed) {
  std::set<std::string> paths;
  for (const Command* command : all_commands()) {
    for_each_path(*command,
                  [&](std::string_view path) { EXPECT_TRUE(paths.insert(std::string(path)).second) << path; });
    EXPECT_FALSE(command->summary.empty() || command->summary.ends_with('.')) << command->path;
    std::set<std::string_view> names;
    std::set<char> letters;
    for (const auto table : command->flags) {
      for (const Flag& flag : table) {
        EXPECT_TRUE(names.insert(flag.name).second) << command->path << " " << flag.name;
        EXPECT_TRUE(flag.short_name == 0 || letters.insert(flag.short_name).second) << command->path << flag.name;
        EXPECT_EQ(flag.metavar.empty(), flag.kind == ValueKind::kBool) << command->path << " " << flag.name;
      }
    }
  }
}

TEST(Commands, WrongCommandLines) {
  Session flag({"ps", "--al"});
  EXPECT_EQ(flag.code, 125);
  EXPECT_EQ(flag.err, "hull: ps: unknown flag: --al (did you mean --all?)\nSee 'hull ps --help'.\n");
  EXPECT_EQ(Session({"run", "--foo"}).code, 125);
  EXPECT_EQ(Session({"--foo"}).code, 125);
  Session unknown({"strat", "web"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_EQ(unknown.err, "hull: unknown command: hull strat (did you mean 'hull start'?)\nSee 'hull --help'.\n");
  EXPECT_THAT(Session({"volume", "lst"}).err, HasSubstr("did you mean 'hull volume ls'"));
  EXPECT_THAT(Session({"build", "."}).err, HasSubstr("'build' is not in this version of Hull"));
  EXPECT_THAT(Session({"evil\x1b[2J"}).err, HasSubstr("evil\\x1b[2J"));
  Session count({"rm"});
  EXPECT_EQ(count.code, 1);
  EXPECT_THAT(count.err, HasSubstr("'hull rm' requires at least 1 argument\n\nUsage:  hull rm [OPTIONS] WORKLOAD"));
  EXPECT_THAT(Session({"tag", "a"}).err, HasSubstr("requires 2 arguments"));
  EXPECT_THAT(Session({"ps", "x"}).err, HasSubstr("accepts no arguments"));
  EXPECT_THAT(Session({"port", "a", "b", "c"}).err, HasSubstr("requires at most 2 arguments"));
  EXPECT_FALSE(count.opened);
}

TEST(Commands, RunDetached) {
  Session session({"run", "-d", "--name", "web", "-p", "8080:80", "busybox", "httpd", "-f"});
  EXPECT_EQ(session.code, 0);
  EXPECT_EQ(session.out, "0123456789abcdef\n");
  EXPECT_THAT(session.engine->calls, ElementsAre("create", "start 0123456789abcdef false false"));
  EXPECT_THAT(session.engine->created.cmd, ElementsAre("httpd", "-f"));
  ASSERT_EQ(session.engine->created.ports.size(), 1U);
  EXPECT_EQ(session.engine->created.ports[0].host_port, 8080);
}

TEST(Commands, RunRefusesBadValuesWith125) {
  Session session({"run", "-p", "99999:80", "busybox"});
  EXPECT_EQ(session.code, 125);
  EXPECT_THAT(session.err, StartsWith("hull: run: invalid argument \"99999:80\" for \"--publish\" flag: "));
  EXPECT_THAT(session.err, HasSubstr("See 'hull run --help'."));
  EXPECT_FALSE(session.opened);
}

TEST(Commands, RunTellsWhyTheProgramDidNotStart) {
  const auto code_of = [](Error error) {
    return Session({"run", "--rm", "-d", "busybox", "x"},
                   [&](FakeEngine& engine) { engine.start_failure = std::move(error); })
        .code;
  };
  EXPECT_EQ(code_of(Error::from_errno(ENOENT, "exec x")), 127);
  EXPECT_EQ(code_of(Error::from_errno(EACCES, "exec x")), 126);
  EXPECT_EQ(code_of(Error(ErrorKind::kConflict, "port is in use")), 125);
  Session session({"run", "--rm", "-d", "busybox", "x"},
                  [](FakeEngine& engine) { engine.start_failure = Error(ErrorKind::kConflict, "port is in use"); });
  EXPECT_THAT(session.engine->calls, Contains("remove 0123456789abcdef true true"));
}

TEST(Commands, RunInTheForegroundGivesTheProgramsCode) {
  Session session({"run", "--rm", "busybox", "false"}, [](FakeEngine& engine) { engine.exit_code = 3; });
  EXPECT_EQ(session.code, 3);
  EXPECT_THAT(session.engine->calls,
              ElementsAre("create", "start 0123456789abcdef true false", "wait 0123456789abcdef removed"));
}

TEST(Commands, RunWithATerminalNeedsOne) {
  Session session({"run", "-it", "busybox"});
  EXPECT_EQ(session.code, 1);
  EXPECT_THAT(session.err, HasSubstr("the input device is not a TTY"));
}

TEST(Commands, EachArgumentOnItsOwn) {
  Session session({"stop", "-t", "5", "web", "missing", "db"});
  EXPECT_EQ(session.code, 1);
  EXPECT_EQ(session.out, "web\ndb\n");
  EXPECT_EQ(session.err, "hull: stop: no such container: missing\n");
  EXPECT_THAT(session.engine->calls, ElementsAre("stop web 5 ", "stop missing 5 ", "stop db 5 "));
  EXPECT_THAT(Session({"kill", "-s", "HUP", "web"}).engine->calls, ElementsAre("kill web HUP"));
  EXPECT_THAT(Session({"container", "restart", "web"}).engine->calls, ElementsAre("restart web - "));
  EXPECT_THAT(Session({"rm", "-fv", "web"}).engine->calls, ElementsAre("remove web true true"));
  EXPECT_EQ(Session({"rm", "-f", "missing"}).code, 0);
  EXPECT_EQ(Session({"rm", "missing"}).code, 1);
  EXPECT_EQ(Session({"wait", "a", "b"}).out, "0\n0\n");
}

TEST(Commands, PsTable) {
  Session session({"ps"}, two_workloads);
  EXPECT_EQ(session.out,
            "CONTAINER ID   IMAGE     COMMAND                  CREATED         STATUS         PORTS                  "
            "NAMES\n"
            "0123456789ab   busybox   \"sh -c 'while true; …\"   3 minutes ago   Up 3 minutes   0.0.0.0:8080->80/tcp   "
            "web\n"
            "fedcba987654   busybox   \"sh -c 'while true; …\"   3 minutes ago   Up 3 minutes   0.0.0.0:8080->80/tcp   "
            "db\n");
  EXPECT_THAT(session.engine->calls, ElementsAre("list all=false last=0 filters=0"));
  EXPECT_EQ(Session({"ps", "-q"}, two_workloads).out, "0123456789ab\nfedcba987654\n");
  EXPECT_EQ(Session({"ps", "-q", "--no-trunc"}, two_workloads).out, "0123456789abcdef\nfedcba9876543210\n");
  EXPECT_EQ(Session({"ps", "--format", "{{.Names}}: {{.Label \"app\"}}"}, two_workloads).out, "web: web\ndb: web\n");
  EXPECT_THAT(Session({"ps", "-l"}).engine->calls, ElementsAre("list all=true last=1 filters=0"));
  EXPECT_THAT(Session({"ps", "-an", "3", "-f", "status=exited", "-f", "name=x"}).engine->calls,
              ElementsAre("list all=true last=3 filters=2"));
  EXPECT_THAT(Session({"ps", "-f", "colour=red"}).err, HasSubstr("invalid filter 'colour'"));
  EXPECT_THAT(Session({"ps", "--format", "{{.Nope}}"}, two_workloads).err, HasSubstr("there is no field .Nope"));
}

TEST(Commands, Inspect) {
  Session session({"inspect", "web"}, two_workloads);
  EXPECT_EQ(session.out,
            "[\n    {\n        \"Id\": \"0123456789abcdef\",\n        \"Name\": \"/web\",\n        \"State\": {\n"
            "            \"Pid\": 42\n        }\n    }\n]\n");
  EXPECT_EQ(Session({"inspect", "-f", "{{.State.Pid}}", "web"}, two_workloads).out, "42\n");
  Session missing({"inspect", "nothing", "web"}, two_workloads);
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.out, HasSubstr("0123456789abcdef"));
  EXPECT_EQ(missing.err, "hull: inspect: no such object: nothing\n");
  EXPECT_EQ(Session({"inspect", "--type", "volume", "web"}, two_workloads).code, 1);
  EXPECT_THAT(Session({"inspect", "bridge"}).out, HasSubstr("\"Name\": \"bridge\""));
}

TEST(Commands, Logs) {
  const auto set_up = [](FakeEngine& engine) {
    const auto when = engine::TimePoint(std::chrono::seconds(1795442400));
    engine.log = {{1, when, "one\n"}, {2, when, "oops\n"}, {1, when, "two "}, {1, when, "halves\n"}};
  };
  Session session({"logs", "web"}, set_up);
  EXPECT_EQ(session.out, "one\ntwo halves\n");
  EXPECT_EQ(session.err, "oops\n");
  EXPECT_EQ(Session({"logs", "-t", "web"}, set_up).out,
            "2026-11-23T14:00:00.000000000Z one\n2026-11-23T14:00:00.000000000Z two halves\n");
  EXPECT_EQ(Session({"logs", "-n", "5", "-f", "web"}).engine->log_options.tail, 5);
  EXPECT_EQ(Session({"logs", "--tail", "all", "web"}).engine->log_options.tail, -1);
  EXPECT_THAT(Session({"logs", "--tail", "x", "web"}).err, HasSubstr("invalid value for \"--tail\""));
  EXPECT_THAT(Session({"logs", "--since", "x", "web"}).err, HasSubstr("--since: time \"x\""));
}

TEST(Commands, Exec) {
  Session session({"exec", "-u", "1", "-e", "A=1", "-w", "/tmp", "web", "ls", "-l"},
                  [](FakeEngine& engine) { engine.exit_code = 2; });
  EXPECT_EQ(session.code, 2);
  EXPECT_THAT(session.engine->executed.cmd, ElementsAre("ls", "-l"));
  EXPECT_THAT(session.engine->executed.env, ElementsAre("A=1"));
  EXPECT_EQ(session.engine->executed.user, "1");
  EXPECT_EQ(Session({"exec", "web", "x"},
                    [](FakeEngine& engine) { engine.start_failure = Error::from_errno(ENOENT, "exec x"); })
                .code,
            127);
  EXPECT_EQ(Session({"exec", "web", "x"},
                    [](FakeEngine& engine) {
                      engine.start_failure = Error(ErrorKind::kConflict, "container web is not running");
                    })
                .code,
            1);
  EXPECT_THAT(Session({"exec", "web"}).err, HasSubstr("requires at least 2 arguments"));
}

TEST(Commands, Images) {
  const auto set_up = [](FakeEngine& engine) {
    store::Image image;
    image.id = *Digest::parse("sha256:" + std::string(64, 'a'));
    image.tags = {"busybox:latest", "localhost:5000/team/app:1.2"};
    image.digests = {"busybox@sha256:" + std::string(64, 'b')};
    image.size = 4'300'000;
    image.config_json = R"({"config":{"Cmd":["sh"]},"os":"linux"})";
    image.config.platform.architecture = "amd64";
    image.config.history = {{"2026-01-01T00:00:00Z", "ADD rootfs", "", "", false},
                            {"2026-01-02T00:00:00Z", "CMD [\"sh\"]", "", "", true}};
    image.layer_sizes = {4'300'000};
    engine.images().images = {image};
  };
  EXPECT_EQ(Session({"images", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.Size}}"}, set_up).out,
            "busybox latest aaaaaaaaaaaa 4.3MB\nlocalhost:5000/team/app 1.2 aaaaaaaaaaaa 4.3MB\n");
  EXPECT_EQ(Session({"images", "-q", "busybox"}, set_up).out, "aaaaaaaaaaaa\n");
  EXPECT_EQ(Session({"images", "-q", "localhost:5000/*/app"}, set_up).out, "aaaaaaaaaaaa\n");
  EXPECT_EQ(Session({"images", "-q", "nothing"}, set_up).out, "");
  EXPECT_EQ(Session({"image", "ls", "--filter", "dangling=true", "-q"}, set_up).out, "");
  EXPECT_THAT(Session({"images", "--digests"}, set_up).out, HasSubstr("sha256:bbbb"));
  EXPECT_THAT(Session({"image", "inspect", "busybox"}, set_up).out, HasSubstr("\"Architecture\": \"amd64\""));
  EXPECT_EQ(Session({"inspect", "-f", "{{index .Config.Cmd 0}}", "busybox"}, set_up).out, "sh\n");
  const std::string history = Session({"history", "busybox"}, set_up).out;
  EXPECT_THAT(history, HasSubstr("aaaaaaaaaaaa"));
  EXPECT_THAT(history, HasSubstr("<missing>"));
  EXPECT_THAT(history, HasSubstr("4.3MB"));
  EXPECT_THAT(Session({"rmi", "busybox"}, set_up).out, StartsWith("Untagged: busybox:latest\n"));
  EXPECT_EQ(Session({"rmi", "nothing"}, set_up).code, 1);
  EXPECT_EQ(Session({"rmi", "-f", "nothing"}, set_up).code, 0);
  EXPECT_THAT(Session({"tag", "a", "b:1"}).engine->images().calls, ElementsAre("tag a b:1"));
}

TEST(Commands, PruneAsksOrNeedsForce) {
  Session asked({"container", "prune"});
  EXPECT_EQ(asked.code, 1);
  EXPECT_THAT(asked.err, HasSubstr("add --force"));
  EXPECT_FALSE(asked.opened);
  Session session({"system", "prune", "-f", "--volumes"});
  EXPECT_THAT(session.engine->calls, ElementsAre("prune", "network_prune", "volume_prune false"));
  EXPECT_THAT(session.engine->images().calls, ElementsAre("prune false "));
  EXPECT_THAT(session.out, HasSubstr("Total reclaimed space: 3.5kB"));
}

TEST(Commands, VolumesAndNetworks) {
  const auto set_up = [](FakeEngine& engine) {
    engine::Volume volume;
    volume.name = "data";
    volume.labels = {{"a", "b"}};
    engine.volumes = {volume};
  };
  EXPECT_EQ(Session({"volume", "create", "data"}).out, "data\n");
  EXPECT_EQ(Session({"volume", "ls"}, set_up).out, "DRIVER    VOLUME NAME\nlocal     data\n");
  EXPECT_THAT(Session({"volume", "inspect", "data"}, set_up).out, HasSubstr("\"Name\": \"data\""));
  EXPECT_EQ(Session({"volume", "rm", "data"}).out, "data\n");
  EXPECT_EQ(Session({"network", "ls", "--format", "{{.Name}} {{.Driver}}"}).out,
            "bridge bridge\nhost host\nnone null\n");
  EXPECT_EQ(Session({"network", "inspect", "mine"}).code, 1);
}

TEST(Commands, DoctorsCode) {
  using Verdict = engine::Check::Verdict;
  const auto with = [](Verdict verdict) {
    return [verdict](FakeEngine& engine) {
      engine.checks = {{Verdict::kGood, "kernel", "Linux 6.1", ""},
                       {verdict, "cgroups", "hybrid layout", "boot with systemd.unified_cgroup_hierarchy=1"}};
    };
  };
  EXPECT_EQ(Session({"doctor"}, with(Verdict::kGood)).code, 0);
  EXPECT_EQ(Session({"doctor"}, with(Verdict::kNote)).code, 0);
  Session bad({"doctor"}, with(Verdict::kBad));
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.out, HasSubstr("> boot with systemd.unified_cgroup_hierarchy=1"));
  EXPECT_THAT(bad.out, HasSubstr("1 of 2 checks are bad"));
  EXPECT_THAT(Session({"doctor", "--format", "{{.Subject}}={{.Verdict}}"}, with(Verdict::kBad)).out,
              HasSubstr("cgroups=bad"));
}

TEST(Commands, InfoAndDf) {
  EXPECT_THAT(Session({"info"}).out, HasSubstr(" Mem Total: 2GiB"));
  EXPECT_EQ(Session({"info", "-f", "{{.Plugins.Log}}"}).out, "[json-file]\n");
  EXPECT_THAT(Session({"system", "df"}).out, HasSubstr("Local Volumes   0"));
}

TEST(Commands, StatsOnce) {
  Session session({"stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}} {{.MemPerc}} {{.CPUPerc}}", "web"});
  EXPECT_EQ(session.out, "web 1MiB / 4MiB 25.00% 0.00%\n");
}

TEST(Completion, Lines) {
  const auto complete_line = [](std::initializer_list<std::string_view> words) {
    std::vector<std::string_view> all = {"internal", "complete", "--"};
    all.insert(all.end(), words.begin(), words.end());
    auto made = std::make_unique<FakeEngine>();
    two_workloads(*made);
    Context context(-1, -1, [&]() -> Result<std::unique_ptr<engine::Engine>> { return std::move(made); });
    hull_main(context, all);
    std::vector<std::string> lines;
    for (const std::string_view line : split(context.out.buffer(), '\n')) {
      if (!line.empty()) lines.emplace_back(line.substr(0, line.find('\t')));
    }
    return lines;
  };
  EXPECT_THAT(complete_line({"ru"}), ElementsAre("run"));
  EXPECT_THAT(complete_line({"volume", "in"}), ElementsAre("inspect"));
  EXPECT_THAT(complete_line({"stop", ""}), ElementsAre("db", "web"));
  EXPECT_THAT(complete_line({"stop", "w"}), ElementsAre("web"));
  EXPECT_THAT(complete_line({"run", "--netw"}), ElementsAre("--network", "--network-alias"));
  EXPECT_THAT(complete_line({"run", "--network", ""}), ElementsAre("bridge", "host", "none"));
  EXPECT_THAT(complete_line({"run", "--network=h"}), ElementsAre("--network=host"));
  EXPECT_THAT(complete_line({"run", "-it", "--cap-add", "NET_ADM"}), IsEmpty());
  EXPECT_THAT(complete_line({"run", "--pull", "a"}), ElementsAre("always"));
  EXPECT_THAT(complete_line({"run", "--env-file", ""}), ElementsAre(":file"));
  EXPECT_THAT(complete_line({"exec", "-it", "web", ""}), ElementsAre(":file"));
  EXPECT_THAT(complete_line({"exec", "-u", "1", "d"}), ElementsAre("db"));
  EXPECT_THAT(complete_line({"kill", "-s", "SIGHU"}), ElementsAre("SIGHUP"));
  EXPECT_THAT(complete_line({"--log-level", "de"}), ElementsAre("debug"));
  EXPECT_THAT(complete_line({"--root", "/x", "sto"}), ElementsAre("stop"));
  EXPECT_THAT(complete_line({"ps", "--nothing="}), IsEmpty());
  EXPECT_THAT(complete_line({"run", "--gpu"}), Not(Contains("--gpus")));
}

}  // namespace
}  // namespace hull::cli
