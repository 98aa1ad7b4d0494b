#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>

#include "engine/test_instance.h"

namespace hull::engine {
namespace {

using testing::Instance;
class RunRoot : public Instance {};

TEST_F(RunRoot, GivesOutputAndExitCode) {
  const Outcome outcome = sh("echo out; echo err >&2; exit 7");
  EXPECT_EQ(outcome.failure, "");
  EXPECT_EQ(outcome.code, 7);
  EXPECT_EQ(outcome.output, "out\n");
  EXPECT_EQ(outcome.error, "err\n");
}

TEST_F(RunRoot, TellsTheSignalThatKilled) {
  Config config = config_of({"sh", "-c", "kill -9 $$"});
  config.init = true;  // PID 1 can't kill itself
  EXPECT_EQ(run(config).code, 137);
}

TEST_F(RunRoot, PassesInputAndItsEnd) {
  Config config = config_of({"cat"});
  config.open_stdin = config.attach_stdin = true;
  const std::string text(300'000, 'x');
  const Outcome outcome = run(config, text);
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.output.size(), text.size());
}

TEST_F(RunRoot, LosesNothingOfMuchOutput) {
  const Outcome outcome = sh("i=0; while [ $i -lt 20000 ]; do echo \"line $i of many\"; i=$((i+1)); done");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 20000);
  EXPECT_TRUE(outcome.output.ends_with("line 19999 of many\n"));
}

TEST_F(RunRoot, SetsUserEnvironmentAndFolder) {
  Config config = config_of({"sh", "-c", "id -u; id -g; id -G; echo $HOME $COLOR $X $HOSTNAME; pwd"});
  config.user = "web";
  config.env = {"X=1"};
  config.working_dir = "/new/folder";
  config.hostname = "ship";
  config.groups_add = {"77"};
  const Outcome outcome = run(config);
  EXPECT_EQ(outcome.failure, "");
  EXPECT_EQ(outcome.output, "1000\n1000\n1000 29 77\n/home/web blue 1 ship\n/new/folder\n");
}

TEST_F(RunRoot, SaysWhatCanNotBeExecuted) {
  EXPECT_EQ(run(config_of({"/no/such/program"})).failure_number, ENOENT);
  EXPECT_EQ(run(config_of({"/etc/passwd"})).failure_number, EACCES);
  EXPECT_NE(run(config_of({"true"})).code, -1);
}

TEST_F(RunRoot, RefusesAnUnknownUser) {
  Config config = config_of({"true"});
  config.user = "nobody-here";
  EXPECT_NE(run(config).failure.find("unable to find user nobody-here"), std::string::npos);
}

TEST_F(RunRoot, RemovesItselfAfterwards) {
  Config config = config_of({"true"});
  config.auto_remove = true;
  EXPECT_EQ(run(config).code, 0);
  EXPECT_FALSE(engine_->inspect(last_id_).ok());
  EXPECT_FALSE(sys::exists(settings_.data_root + "/workloads/" + last_id_));
  EXPECT_FALSE(sys::exists(settings_.run_root + "/workloads/" + last_id_));
  EXPECT_TRUE(changes_on_record(Paths{settings_.data_root, settings_.run_root}).empty());
}

TEST_F(RunRoot, KeepsFilesForTheNextStart) {
  Config config = config_of({"sh", "-c", "cat /root/count; echo again >> /root/count"});
  config.name = "keeper";
  EXPECT_EQ(run(config).code, 0);
  auto started = engine_->start("keeper", true, false);
  ASSERT_TRUE(started.ok()) << started.error().message();
  Outcome second;
  drain(**started, &second);
  EXPECT_EQ(engine_->wait(last_id_, "").value().code, 0);
  EXPECT_EQ(second.output, "again\n");
}

TEST_F(RunRoot, NamesAreUnique) {
  Config config = config_of({"true"});
  config.name = "twice";
  ASSERT_TRUE(engine_->create(config, PullPolicy::kNever).ok());
  const auto second = engine_->create(config, PullPolicy::kNever);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::kConflict);
  EXPECT_NE(second.error().message().find("is already in use by container"), std::string::npos);
}

TEST_F(RunRoot, ATerminalIsOne) {
  Config config = config_of({"sh", "-c", "tty; stty size"});
  config.tty = true;
  config.console_size = oci::Box{33, 99};
  const Outcome outcome = run(config);
  EXPECT_EQ(outcome.code, 0) << outcome.failure;
  EXPECT_NE(outcome.output.find("/dev/"), std::string::npos) << outcome.output;
  EXPECT_NE(outcome.output.find("33 99"), std::string::npos) << outcome.output;
}

TEST_F(RunRoot, InitReapsAndPassesSignals) {
  Config config = config_of({"sh", "-c", "cat /proc/1/comm; exit 3"});
  config.init = true;
  const Outcome outcome = run(config);
  EXPECT_EQ(outcome.code, 3) << outcome.failure;
  EXPECT_EQ(outcome.output, "docker-init\n");
}

TEST_F(RunRoot, StopsWithTheSignalThenTheKill) {
  Config config = config_of({"sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.05; done"});
  auto created = engine_->create(config, PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  // The trap is set once "up" is in the log.
  LogOptions follow;
  follow.follow = true;
  const auto seen = engine_->logs(created->id, follow, [](int, TimePoint, std::string_view) -> Result<void> {
    return Error(ErrorKind::kConflict, "enough");
  });
  EXPECT_FALSE(seen.ok());
  const auto stopped = engine_->stop(created->id, 10, "");
  ASSERT_TRUE(stopped.ok()) << stopped.error().message();
  const auto details = engine_->inspect(created->id);
  ASSERT_TRUE(details.ok());
  EXPECT_EQ(details->summary.status, Status::kExited);
  EXPECT_EQ(details->summary.exit_code, 5);
  std::string text;
  ASSERT_TRUE(engine_
                  ->logs(created->id, {},
                         [&](int, TimePoint, std::string_view line) -> Result<void> {
                           text += line;
                           return {};
                         })
                  .ok());
  EXPECT_EQ(text, "up\nbye\n");
}

TEST_F(RunRoot, PausesAndGoesOn) {
  auto created = engine_->create(config_of({"sleep", "1000"}), PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  ASSERT_TRUE(engine_->pause(created->id).ok());
  EXPECT_EQ(engine_->inspect(created->id)->summary.status, Status::kPaused);
  ExecConfig exec;
  exec.cmd = {"true"};
  EXPECT_EQ(engine_->exec(created->id, exec, {}).error().kind(), ErrorKind::kConflict);
  ASSERT_TRUE(engine_->unpause(created->id).ok());
  EXPECT_EQ(engine_->inspect(created->id)->summary.status, Status::kRunning);
  const auto top = engine_->top(created->id, {});
  ASSERT_TRUE(top.ok()) << top.error().message();
  EXPECT_EQ(top->size(), 2U);
  const auto stats = engine_->stats(created->id);
  ASSERT_TRUE(stats.ok()) << stats.error().message();
  EXPECT_EQ(stats->pids, 1U);
  EXPECT_TRUE(engine_->kill(created->id, "KILL").ok());
  EXPECT_EQ(engine_->wait(created->id, "")->code, 137);
}

TEST_F(RunRoot, ExecutesBeside) {
  auto created = engine_->create(config_of({"sleep", "1000"}), PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  ExecConfig exec;
  exec.cmd = {"sh", "-c", "cat; id -u; echo $Y $HOME; exit 9"};
  exec.user = "web";
  exec.env = {"Y=2"};
  exec.open_stdin = true;
  auto handle = engine_->exec(created->id, exec, {});
  ASSERT_TRUE(handle.ok()) << handle.error().message();
  ASSERT_TRUE(sys::write_all(handle->streams.input.get(), "typed\n").ok());
  handle->streams.input.reset();
  Outcome outcome;
  drain(handle->streams, &outcome);
  EXPECT_EQ(outcome.output, "typed\n1000\n2 /home/web\n");
  EXPECT_EQ(engine_->wait_exec(*handle)->code, 9);
  exec.cmd = {"/no/such"};
  EXPECT_EQ(engine_->exec(created->id, exec, {}).error().error_number(), ENOENT);
  // A terminal
  exec = ExecConfig();
  exec.cmd = {"sh", "-c", "stty size; tty"};
  exec.tty = true;
  handle = engine_->exec(created->id, exec, oci::Box{20, 70});
  ASSERT_TRUE(handle.ok()) << handle.error().message();
  Outcome terminal;
  drain(handle->streams, &terminal);
  EXPECT_NE(terminal.output.find("20 70"), std::string::npos) << terminal.output;
  EXPECT_EQ(engine_->wait_exec(*handle)->code, 0);
}

TEST_F(RunRoot, AttachesSeveral) {
  auto created =
      engine_->create(config_of({"sh", "-c", "read x; echo got $x; read y; echo then $y"}), PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  Config config = config_of({"sh", "-c", "read x; echo got $x; read y; echo then $y"});
  config.open_stdin = true;
  created = engine_->create(config, PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  auto first = engine_->attach(created->id, true);
  auto second = engine_->attach(created->id, false);
  ASSERT_TRUE(first.ok() && second.ok());
  ASSERT_TRUE(sys::write_all(first->input.get(), "one\ntwo\n").ok());
  Outcome a, b;
  drain(*first, &a);
  drain(*second, &b);
  EXPECT_EQ(a.output, "got one\nthen two\n");
  EXPECT_EQ(b.output, a.output);
  EXPECT_EQ(engine_->wait(created->id, "")->code, 0);
}

TEST_F(RunRoot, VolumesAreFilledFromTheImageOnce) {
  Config config =
      config_of({"sh", "-c", "cat /data/link; ls -ln /data | grep hello | cut -c1-32; echo more > /data/new"});
  MountRequest mount;
  mount.type = MountRequest::Type::kVolume;
  mount.source = "stuff";
  mount.target = "/data";
  config.mounts = {mount};
  const Outcome first = run(config);
  EXPECT_TRUE(first.output.starts_with("hi\n")) << first.failure << first.error;
  config.cmd = {"sh", "-c", "cat /data/new; stat -c %a:%u /data /data/hello"};
  config.mounts[0].read_only = true;
  const Outcome second = run(config);
  EXPECT_EQ(second.output, "more\n750:0\n644:1000\n") << second.failure;
  EXPECT_EQ(engine_->volume_remove("stuff", false).error().kind(), ErrorKind::kConflict);
  EXPECT_EQ(engine_->volume_inspect("stuff")->references, 2);
}

TEST_F(RunRoot, VolumesTakeTheLocalDriversOptions) {
  ASSERT_TRUE(sys::make_dirs(root_ + "/host").ok());
  ASSERT_TRUE(sys::replace_file(root_ + "/host/file", "bound\n").ok());
  ASSERT_TRUE(
      engine_->volume_create("bound", "local", {{"type", "none"}, {"o", "bind,ro"}, {"device", root_ + "/host"}}, {})
          .ok());
  ASSERT_TRUE(engine_->volume_create("ram", "", {{"type", "tmpfs"}, {"o", "size=2m"}, {"device", "tmpfs"}}, {}).ok());
  EXPECT_FALSE(engine_->volume_create("nfs", "", {{"type", "nfs"}, {"o", "addr=1.2.3.4"}, {"device", ":/x"}}, {}).ok());
  EXPECT_FALSE(engine_->volume_create("plugin", "other", {}, {}).ok());
  EXPECT_FALSE(engine_->volume_create("../up", "", {}, {}).ok());
  Config config =
      config_of({"sh", "-c", "cat /b/file; touch /b/x 2>&1; echo kept > /r/y; grep -c 'size=2048k' /proc/mounts"});
  config.mounts.resize(2);
  config.mounts[0].type = config.mounts[1].type = MountRequest::Type::kVolume;
  config.mounts[0].source = "bound";
  config.mounts[0].target = "/b";
  config.mounts[1].source = "ram";
  config.mounts[1].target = "/r";
  const Outcome outcome = run(config);
  EXPECT_TRUE(outcome.output.starts_with("bound\n")) << outcome.failure << outcome.error;
  EXPECT_NE(outcome.output.find("Read-only file system"), std::string::npos);
  EXPECT_TRUE(outcome.output.ends_with("1\n")) << outcome.output;
  config.cmd = {"cat", "/r/y"};
  EXPECT_EQ(run(config).output, "kept\n");
  EXPECT_TRUE(engine_->prune({}).ok());
  EXPECT_TRUE(engine_->volume_remove("ram", false).ok());
  EXPECT_EQ(engine_->volume_prune(true, {})->deleted, std::vector<std::string>{"bound"});
  EXPECT_TRUE(sys::exists(root_ + "/host/file"));
}

TEST_F(RunRoot, AnonymousVolumesGoWithTheirWorkload) {
  Config config = config_of({"true"});
  MountRequest mount;
  mount.type = MountRequest::Type::kVolume;
  mount.target = "/anon";
  config.mounts = {mount};
  config.auto_remove = true;
  EXPECT_EQ(run(config).code, 0);
  EXPECT_TRUE(engine_->volume_list({})->empty());
}

TEST_F(RunRoot, BindsAndTmpfs) {
  ASSERT_TRUE(sys::make_dirs(root_ + "/host").ok());
  ASSERT_TRUE(sys::replace_file(root_ + "/host/file", "from the host\n").ok());
  Config config = config_of({"sh", "-c", "cat /mnt/a/file; touch /mnt/a/x 2>&1; mount | grep /scratch"});
  MountRequest bind;
  bind.source = root_ + "/host";
  bind.target = "/mnt/a";
  bind.read_only = true;
  MountRequest scratch;
  scratch.type = MountRequest::Type::kTmpfs;
  scratch.target = "/scratch";
  scratch.tmpfs_options = {"size=1m", "exec"};
  config.mounts = {bind, scratch};
  const Outcome outcome = run(config);
  EXPECT_NE(outcome.output.find("from the host"), std::string::npos) << outcome.failure << outcome.error;
  EXPECT_NE(outcome.output.find("Read-only file system"), std::string::npos);
  EXPECT_NE(outcome.output.find("size=1024k"), std::string::npos);
  config.mounts[0].source = root_ + "/absent";
  EXPECT_NE(run(config).failure.find("bind source path does not exist"), std::string::npos);
}

TEST_F(RunRoot, LimitsHold) {
  Config config = config_of({"sh", "-c",
                             "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max "
                             "/sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; "
                             "ulimit -n"});
  config.memory = 64 << 20;
  config.pids_limit = 40;
  config.ulimits = {{"nofile", 512, 1024}};
  const Outcome outcome = run(config);
  EXPECT_EQ(outcome.output, "67108864\n40\n512\n") << outcome.failure << outcome.error;
}

TEST_F(RunRoot, SharesNamespaces) {
  Config donor = config_of({"sh", "-c", "echo shared > /dev/shm/x; sleep 1000"});
  donor.ipc_mode = "shareable";
  auto created = engine_->create(donor, PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  ASSERT_TRUE(engine_->start(created->id, false, false).ok());
  Config config =
      config_of({"sh", "-c", "ps | grep -c 'sleep 1000'; while ! cat /dev/shm/x; do sleep 0.05; done 2>/dev/null"});
  config.network = config.pid_mode = config.ipc_mode = "container:" + created->id;
  const Outcome outcome = run(config);
  EXPECT_TRUE(outcome.output.ends_with("shared\n")) << outcome.failure << outcome.output;
}

TEST_F(RunRoot, ListsByStateAndLabel) {
  Config config = config_of({"sleep", "1000"});
  config.labels = {{"tier", "web"}};
  config.name = "lister";
  auto created = engine_->create(config, PullPolicy::kNever);
  ASSERT_TRUE(created.ok());
  EXPECT_TRUE(engine_->list({})->empty());
  ListFilter filter;
  filter.all = true;
  filter.filters = {{"label", "tier=web"}, {"status", "created"}};
  ASSERT_EQ(engine_->list(filter)->size(), 1U);
  ASSERT_TRUE(engine_->start("lister", false, false).ok());
  ASSERT_EQ(engine_->list({})->size(), 1U);
  EXPECT_TRUE(engine_->list({})->front().status_text.starts_with("Up "));
  EXPECT_TRUE(engine_->list(filter)->empty());
  filter.filters = {{"nonsense", "x"}};
  EXPECT_FALSE(engine_->list(filter).ok());
  const auto details = engine_->inspect(created->id.substr(0, 10));
  ASSERT_TRUE(details.ok());
  EXPECT_NE(details->json.find("\"HostConfig\""), std::string::npos);
  EXPECT_EQ(engine_->remove("lister", false, false).error().kind(), ErrorKind::kConflict);
  EXPECT_TRUE(engine_->remove("lister", true, false).ok());
}

}  // namespace
}  // namespace hull::engine
