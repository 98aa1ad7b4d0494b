// The agent with real containers, on this machine instead of in a virtual one: it listens on unix sockets and its
// Machine does nothing.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "base/error_format.h"
#include "guest/agent.h"
#include "guest/agent_client.h"
#include "sys/fd_passing.h"
#include "sys/file.h"

namespace hull::guest {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class NoMachine : public Machine {
 public:
  explicit NoMachine(EventLoop& loop) : loop_(loop) {}
  Result<void> configure(const proto::ConfigureRequest&) override { return {}; }
  Result<void> set_time(int64_t) override { return {}; }
  void prepare_power_off() override {}
  void power_off() override { loop_.stop(); }

 private:
  EventLoop& loop_;
};

UniqueFd listen_at(const std::string& path) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  EXPECT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << path;
  EXPECT_EQ(::listen(listener.get(), 64), 0);
  return listener;
}

int serve(const std::string& folder, UniqueFd calls, UniqueFd streams) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return 2;
  auto loop = EventLoop::make();
  if (!loop.ok()) return 3;
  NoMachine machine(**loop);
  auto log = sys::open(folder + "/log", O_WRONLY | O_CREAT | O_APPEND, 0600);
  Agent agent(**loop, machine, {.run_dir = folder + "/run", .log_fd = log->get()});
  const auto accept = [](int listener) { return UniqueFd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)); };
  ignore_result((*loop)->watch(calls.get(), EPOLLIN, [&](uint32_t) { agent.serve_calls(accept(calls.get())); }));
  ignore_result((*loop)->watch(streams.get(), EPOLLIN, [&](uint32_t) { agent.serve_stream(accept(streams.get())); }));
  return (*loop)->run().ok() ? 0 : 4;
}

Deadline soon() { return after(seconds(60)); }

/// Everything that a stream gives until its end.
std::string read_to_end(int fd) {
  std::string all;
  char buffer[65536];
  pollfd ready{fd, POLLIN, 0};
  while (::poll(&ready, 1, 60000) > 0) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) return all;
    all.append(buffer, static_cast<size_t>(got));
  }
  ADD_FAILURE() << "the stream does not end; so far: " << all;
  return all;
}

/// Reads until `text` has been seen.
std::string read_until(int fd, const std::string& text) {
  std::string all;
  char buffer[4096];
  pollfd ready{fd, POLLIN, 0};
  while (all.find(text) == std::string::npos) {
    if (::poll(&ready, 1, 60000) <= 0) break;
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got <= 0) break;
    all.append(buffer, static_cast<size_t>(got));
  }
  EXPECT_NE(all.find(text), std::string::npos) << all;
  return all;
}

class AgentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!sys::exists("/bin/busybox")) GTEST_SKIP() << "needs Debian's busybox-static";
    char folder[] = "/tmp/hull-guest-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    ASSERT_TRUE(sys::make_dirs(folder_ + "/run").ok());
    make_root();
    UniqueFd calls = listen_at(folder_ + "/calls"), streams = listen_at(folder_ + "/streams");
    agent_ = ::fork();
    ASSERT_GE(agent_, 0);
    if (agent_ == 0) ::_exit(serve(folder_, std::move(calls), std::move(streams)));
  }

  void TearDown() override {
    if (agent_ <= 0) return;
    auto asked = connect();
    ignore_result(asked.shutdown(after(seconds(5))));
    ::kill(agent_, SIGKILL);
    ::waitpid(agent_, nullptr, 0);
    runtime::Runtime runtime({.root = folder_ + "/run/oci", .rootless = false});
    ignore_result(runtime.remove("w", true));
    const auto log = sys::read_file(folder_ + "/log");
    if (HasFailure() && log.ok()) ::fprintf(stderr, "agent: %s\n", log->c_str());
    EXPECT_TRUE(sys::remove_tree(folder_).ok());
  }

  void make_root() {
    for (const char* name : {"bin", "etc", "proc", "tmp", "dev", "data"}) {
      ASSERT_TRUE(sys::make_dirs(folder_ + "/root/" + name, 0755).ok());
    }
    ASSERT_EQ(::chmod((folder_ + "/root").c_str(), 0755), 0);
    ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
    write("bin/busybox", sys::read_file("/bin/busybox").value_or(""), 0755);
    for (const char* name : {"sh", "cat", "sleep", "id", "ls", "stty", "echo", "true", "seq", "head", "kill", "dd"}) {
      ASSERT_EQ(::symlink("busybox", (folder_ + "/root/bin/" + name).c_str()), 0);
    }
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/home/web:/bin/sh\n", 0644);
    write("etc/group", "root:x:0:\nwebs:x:1001:\naudio:x:29:web\n", 0644);
    write("data/plain", "no program", 0644);
    write("data/broken", "no program", 0755);
  }

  void write(const std::string& name, const std::string& text, mode_t mode) {
    ASSERT_TRUE(sys::replace_file(folder_ + "/root/" + name, text, mode, false).ok());
    ASSERT_EQ(::chmod((folder_ + "/root/" + name).c_str(), mode), 0);
  }

  AgentClient connect() {
    auto fd = sys::connect_unix(folder_ + "/calls");
    EXPECT_TRUE(fd.ok());
    return AgentClient(std::move(*fd));
  }

  UniqueFd stream(const std::string& token, int number) {
    auto fd = sys::connect_unix(folder_ + "/streams");
    EXPECT_TRUE(fd.ok());
    auto named = name_stream(fd->get(), token, number, soon());
    EXPECT_TRUE(named.ok()) << named.error().message();
    return std::move(*fd);
  }

  static std::string process_json(const std::vector<std::string>& args, const std::string& more = "") {
    std::string list;
    for (const std::string& arg : args) {
      list += list.empty() ? "\"" : ",\"";
      for (const char c : arg) {
        if (c == '"' || c == '\\') list += '\\';
        list += c;
      }
      list += "\"";
    }
    return R"({"cwd":"/","user":{"uid":0,"gid":0},"env":["PATH=/bin"],"args":[)" + list + "]" + more + "}";
  }

  std::string config(const std::string& process, const std::string& namespaces = "") const {
    return fmt::format(
        R"({{"ociVersion":"1.0.2","root":{{"path":"{0}/root"}},"process":{1},"hostname":"inside","mounts":[
{{"destination":"/proc","type":"proc","source":"proc"}},
{{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["mode=0755"]}},
{{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666","mode=0620"]}}],
"linux":{{"cgroupsPath":"/hull-test{2}","namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"ipc"}},{{"type":"uts"}}{3}]}}}})",
        folder_, process, folder_.substr(folder_.rfind('-')), namespaces);
  }

  static void set_streams(proto::Streams& streams, const std::string& which) {
    streams.set_stdin(which.find('0') != std::string::npos);
    streams.set_stdout(which.find('1') != std::string::npos);
    streams.set_stderr(which.find('2') != std::string::npos);
    streams.set_token(make_stream_token().value_or(""));
  }

  proto::CreateRequest create_request(const std::vector<std::string>& args, const std::string& which) {
    proto::CreateRequest request;
    request.set_id("w");
    request.set_config(config(process_json(args)));
    set_streams(*request.mutable_streams(), which);
    return request;
  }
  proto::ExecRequest exec_request(const std::string& id, const std::vector<std::string>& args,
                                  const std::string& which) {
    proto::ExecRequest request;
    request.set_exec_id(id);
    request.set_process(process_json(args));
    set_streams(*request.mutable_streams(), which);
    return request;
  }

  /// Creates and starts something that stays.
  void start_sleeper(AgentClient& agent) {
    ASSERT_EQ(agent.create(create_request({"sleep", "1000"}, ""), soon()).value_or(0) > 1, true);
    const auto started = agent.start(soon());
    ASSERT_TRUE(started.ok()) << started.error().message();
  }
  /// Runs a shell command inside; standard output, and the exit code behind it.
  std::string run(AgentClient& agent, const std::string& id, const std::string& script) {
    const auto request = exec_request(id, {"sh", "-c", script}, "1");
    const auto pid = agent.exec(request, soon());
    if (!pid.ok()) return "exec failed: " + pid.error().message();
    const UniqueFd out = stream(request.streams().token(), 1);
    const std::string text = read_to_end(out.get());
    const auto ended = agent.wait(id, soon());
    return text + (ended.ok() ? fmt::format("={}", ended->exit_code()) : ended.error().message());
  }

  std::string folder_;
  pid_t agent_ = -1;
};

TEST_F(AgentTest, RunsAWorkloadWithItsStreams) {
  AgentClient agent = connect();
  EXPECT_EQ(agent.state(soon())->status(), "");
  const auto request = create_request({"sh", "-c", "cat; echo wrong >&2; exit 7"}, "012");
  const auto pid = agent.create(request, soon());
  ASSERT_TRUE(pid.ok()) << pid.error().message();
  EXPECT_EQ(agent.state(soon())->status(), "created");
  EXPECT_EQ(agent.state(soon())->pid(), *pid);
  const std::string token = request.streams().token();
  const UniqueFd in = stream(token, 0), out = stream(token, 1), err = stream(token, 2);
  ASSERT_TRUE(agent.start(soon()).ok());
  EXPECT_EQ(agent.state(soon())->status(), "running");

  AgentClient waiter = connect();
  ASSERT_TRUE(waiter.begin_wait("", soon()).ok());
  EXPECT_FALSE(waiter.finish_wait()->has_value());

  const std::string large(1 << 20, 'L');
  std::thread writer([&] {
    EXPECT_TRUE(sys::write_all(in.get(), large).ok());
    ::shutdown(in.get(), SHUT_WR);
  });
  EXPECT_TRUE(read_to_end(out.get()) == large);
  writer.join();
  EXPECT_EQ(read_to_end(err.get()), "wrong\n");
  const auto ended = agent.wait("", soon());
  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(ended->exit_code(), 7);
  EXPECT_EQ(ended->signal(), 0);
  EXPECT_GT(ended->exited_ns(), 0);
  pollfd ready{waiter.fd(), POLLIN, 0};
  ASSERT_EQ(::poll(&ready, 1, 60000), 1);
  const auto also = waiter.finish_wait();
  ASSERT_TRUE(also.ok() && also->has_value());
  EXPECT_EQ((*also)->exit_code(), 7);
  EXPECT_EQ(agent.state(soon())->status(), "stopped");
}

TEST_F(AgentTest, TellsWhyAProgramDoesNotStart) {
  AgentClient agent = connect();
  auto created = agent.create(create_request({"/missing"}, ""), soon());
  auto failed = created.ok() ? agent.start(soon()) : Result<void>(created.error());
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind(), ErrorKind::kNotFound) << failed.error().message();
  EXPECT_NE(failed.error().message().find("/missing"), std::string::npos) << failed.error().message();
}

TEST_F(AgentTest, ExecTellsMissingFromForbidden) {
  AgentClient agent = connect();
  EXPECT_EQ(agent.exec(exec_request("early", {"true"}, ""), soon()).error().kind(), ErrorKind::kConflict);
  start_sleeper(agent);
  const auto kind = [&](const std::string& id, const std::string& program) {
    const auto done = agent.exec(exec_request(id, {program}, "1"), soon());
    return done.ok() ? std::string("ran") : done.error().message();
  };
  EXPECT_EQ(kind("a", "nothing"), "exec: \"nothing\": executable file not found in $PATH");
  EXPECT_EQ(kind("b", "/data/plain"), "exec: \"/data/plain\": permission denied");
  EXPECT_EQ(agent.exec(exec_request("c", {"nothing"}, ""), soon()).error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(agent.exec(exec_request("c", {"/data/plain"}, ""), soon()).error().kind(), ErrorKind::kPermission);
  // Nothing of the failed ones is left: the id can be used.
  EXPECT_EQ(run(agent, "a", "echo fine"), "fine\n=0");
}

TEST_F(AgentTest, ManyExecsAtATime) {
  AgentClient agent = connect();
  start_sleeper(agent);
  std::vector<std::thread> threads;
  std::vector<std::string> results(16);
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] {
      AgentClient own = connect();
      results[i] = run(own, fmt::format("e{}", i), fmt::format("seq 1 2000; exit {}", i));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < results.size(); ++i) {
    EXPECT_TRUE(results[i].starts_with("1\n2\n")) << results[i].substr(0, 200);
    EXPECT_TRUE(results[i].ends_with(fmt::format("1999\n2000\n={}", i))) << results[i].substr(0, 200);
  }
}

TEST_F(AgentTest, LooksUsersUpInTheWorkloadsFiles) {
  AgentClient agent = connect();
  start_sleeper(agent);
  const auto as = [&](const std::string& id, const std::string& user, const std::string& script) {
    auto request = exec_request(id, {"sh", "-c", script}, "1");
    request.mutable_user()->set_set(true);
    request.mutable_user()->set_user(user);
    request.mutable_user()->set_set_home(true);
    const auto pid = agent.exec(request, soon());
    if (!pid.ok()) return pid.error().message();
    const UniqueFd out = stream(request.streams().token(), 1);
    return read_to_end(out.get());
  };
  EXPECT_EQ(as("a", "web", "id -u; id -g; id -G; echo $HOME"), "1000\n1001\n1001 29\n/home/web\n");
  EXPECT_EQ(as("b", "4321:audio", "id -u; id -g; echo $HOME"), "4321\n29\n/\n");
  EXPECT_EQ(as("c", "nobody", "id"), "unable to find user nobody: no matching entries in passwd file");
  // A link out of the workload's root stays inside.
  ASSERT_EQ(::unlink((folder_ + "/root/etc/passwd").c_str()), 0);
  ASSERT_EQ(::symlink("/../../../../../../../../etc/passwd", (folder_ + "/root/etc/passwd").c_str()), 0);
  EXPECT_NE(as("d", "daemon", "id"), "");
}

TEST_F(AgentTest, ResolvesTheFirstProcessesUserToo) {
  AgentClient agent = connect();
  auto request = create_request({"sh", "-c", "id -u; echo $HOME"}, "1");
  request.mutable_user()->set_set(true);
  request.mutable_user()->set_user("web");
  request.mutable_user()->set_set_home(true);
  const auto pid = agent.create(request, soon());
  ASSERT_TRUE(pid.ok()) << pid.error().message();
  ASSERT_TRUE(agent.start(soon()).ok());
  const UniqueFd out = stream(request.streams().token(), 1);
  EXPECT_EQ(read_to_end(out.get()), "1000\n/home/web\n");
}

TEST_F(AgentTest, Terminal) {
  AgentClient agent = connect();
  auto request = create_request({"sh", "-c", "stty size; read x; stty size; echo got $x; exit 3"}, "01");
  request.mutable_streams()->set_terminal(true);
  request.mutable_streams()->mutable_size()->set_rows(31);
  request.mutable_streams()->mutable_size()->set_columns(97);
  const auto pid = agent.create(request, soon());
  ASSERT_TRUE(pid.ok()) << pid.error().message();
  const std::string token = request.streams().token();
  const UniqueFd in = stream(token, 0), out = stream(token, 1);
  ASSERT_TRUE(agent.start(soon()).ok());
  read_until(out.get(), "31 97");
  ASSERT_TRUE(agent.resize("", 40, 120, soon()).ok());
  ASSERT_TRUE(sys::write_all(in.get(), "hello\n").ok());
  const std::string rest = read_to_end(out.get());
  EXPECT_NE(rest.find("40 120"), std::string::npos) << rest;
  EXPECT_NE(rest.find("got hello"), std::string::npos) << rest;
  EXPECT_EQ(agent.wait("", soon())->exit_code(), 3);
}

TEST_F(AgentTest, TerminalOfExecTakesControlC) {
  AgentClient agent = connect();
  start_sleeper(agent);
  auto request =
      exec_request("t", {"sh", "-c", "trap 'echo caught; exit 9' INT; echo ready; while :; do read x; done"}, "01");
  request.mutable_streams()->set_terminal(true);
  const auto pid = agent.exec(request, soon());
  ASSERT_TRUE(pid.ok()) << pid.error().message();
  const UniqueFd in = stream(request.streams().token(), 0), out = stream(request.streams().token(), 1);
  read_until(out.get(), "ready");
  ASSERT_TRUE(sys::write_all(in.get(), "\x03").ok());
  read_until(out.get(), "caught");
  EXPECT_EQ(agent.wait("t", soon())->exit_code(), 9);
}

TEST_F(AgentTest, SignalsAndExitCodes) {
  AgentClient agent = connect();
  start_sleeper(agent);
  ASSERT_TRUE(agent.exec(exec_request("s", {"sleep", "1000"}, ""), soon()).ok());
  EXPECT_EQ(agent.signal("nobody", SIGTERM, false, soon()).error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(agent.signal("s", 12345, false, soon()).error().kind(), ErrorKind::kInvalid);
  ASSERT_TRUE(agent.signal("s", SIGTERM, false, soon()).ok());
  const auto ended = agent.wait("s", soon());
  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(ended->exit_code(), 128 + SIGTERM);
  EXPECT_EQ(ended->signal(), SIGTERM);
  EXPECT_EQ(agent.signal("s", SIGTERM, false, soon()).error().kind(), ErrorKind::kConflict);
  ASSERT_TRUE(agent.exec(exec_request("s2", {"sleep", "1000"}, ""), soon()).ok());
  // The end of the first process takes the others with it.
  ASSERT_TRUE(agent.signal("", SIGKILL, false, soon()).ok());
  EXPECT_EQ(agent.wait("", soon())->signal(), SIGKILL);
  EXPECT_EQ(agent.wait("s2", soon())->signal(), SIGKILL);
  EXPECT_EQ(agent.signal("", SIGTERM, false, soon()).error().kind(), ErrorKind::kConflict);
}

TEST_F(AgentTest, StreamsEndWhenDrainedNotWhenTheProcessEnds) {
  AgentClient agent = connect();
  start_sleeper(agent);
  const auto request = exec_request("b", {"sh", "-c", "(sleep 0.3; echo late) & echo first"}, "1");
  ASSERT_TRUE(agent.exec(request, soon()).ok());
  EXPECT_EQ(agent.wait("b", soon())->exit_code(), 0);
  const UniqueFd out = stream(request.streams().token(), 1);
  EXPECT_EQ(read_to_end(out.get()), "first\nlate\n");

  const auto second = exec_request("c", {"sh", "-c", "sleep 1000 & echo first"}, "1");
  ASSERT_TRUE(agent.exec(second, soon()).ok());
  EXPECT_EQ(agent.wait("c", soon())->exit_code(), 0);
  const UniqueFd held = stream(second.streams().token(), 1);
  EXPECT_EQ(read_until(held.get(), "first\n"), "first\n");
  pollfd ready{held.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&ready, 1, 100), 0) << "a background process still has it open";
}

TEST_F(AgentTest, CloseStdinAfterWhatWasWritten) {
  AgentClient agent = connect();
  start_sleeper(agent);
  const auto request = exec_request("c", {"cat"}, "01");
  ASSERT_TRUE(agent.exec(request, soon()).ok());
  const UniqueFd in = stream(request.streams().token(), 0), out = stream(request.streams().token(), 1);
  ASSERT_TRUE(agent.close_stdin("c", 6, soon()).ok());
  ASSERT_TRUE(sys::write_all(in.get(), "six by").ok());
  EXPECT_EQ(read_to_end(out.get()), "six by");
  EXPECT_EQ(agent.wait("c", soon())->exit_code(), 0);
}

TEST_F(AgentTest, ProgramWithoutAReaderGetsSigpipe) {
  AgentClient agent = connect();
  start_sleeper(agent);
  const auto request = exec_request("p", {"sh", "-c", "while echo yes; do :; done 2>/dev/null; exit 5"}, "1");
  ASSERT_TRUE(agent.exec(request, soon()).ok());
  stream(request.streams().token(), 1).reset();
  EXPECT_NE(agent.wait("p", soon())->exit_code(), 0);
}

TEST_F(AgentTest, NothingOfTheAgentsLeaksInside) {
  AgentClient agent = connect();
  start_sleeper(agent);
  EXPECT_EQ(run(agent, "l", "ls /proc/self/fd | while read n; do [ $n -gt 3 ] && echo $n; done; ls /proc/1/fd"),
            "0\n1\n2\n=0");
  EXPECT_EQ(run(agent, "m",
                "cat /proc/self/status | while read a b; do "
                "case $a in SigBlk:|SigIgn:) echo $b;; esac; done"),
            "0000000000000000\n0000000000000000\n=0");
}

TEST_F(AgentTest, ListsProcesses) {
  AgentClient agent = connect();
  start_sleeper(agent);
  auto request = exec_request("p", {"sleep", "2000"}, "");
  request.mutable_user()->set_set(true);
  request.mutable_user()->set_user("web");
  ASSERT_TRUE(agent.exec(request, soon()).ok());
  const auto listed = agent.processes(soon());
  ASSERT_TRUE(listed.ok()) << listed.error().message();
  ASSERT_EQ(listed->processes_size(), 2);
  std::set<std::string> seen;
  for (const auto& process : listed->processes()) {
    ASSERT_EQ(process.arguments_size(), 2);
    seen.insert(process.user() + " " + process.name() + " " + process.arguments(1));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"root sleep 1000", "web sleep 2000"}));
}

TEST_F(AgentTest, PausesMeasuresAndUpdates) {
  AgentClient agent = connect();
  EXPECT_EQ(agent.stats(soon()).error().kind(), ErrorKind::kConflict);
  start_sleeper(agent);
  const auto stats = agent.stats(soon());
  ASSERT_TRUE(stats.ok()) << stats.error().message();
  EXPECT_NE(stats->json().find("\"type\":\"stats\""), std::string::npos) << stats->json();
  EXPECT_GT(stats->memory_total_bytes(), stats->memory_available_bytes());
  EXPECT_GT(stats->memory_free_bytes(), 1u << 20);
  ASSERT_TRUE(agent.pause(soon()).ok());
  EXPECT_EQ(agent.state(soon())->status(), "paused");
  EXPECT_EQ(agent.exec(exec_request("x", {"true"}, ""), soon()).error().kind(), ErrorKind::kConflict);
  ASSERT_TRUE(agent.resume(soon()).ok());
  EXPECT_EQ(agent.state(soon())->status(), "running");
  const auto updated = agent.update(R"({"pids":{"limit":77}})", soon());
  EXPECT_TRUE(updated.ok()) << updated.error().message();
  EXPECT_EQ(agent.update("{", soon()).error().kind(), ErrorKind::kInvalid);
  EXPECT_EQ(agent.ping(soon())->protocol(), kProtocolVersion);
}

TEST_F(AgentTest, RefusesWhatMakesNoSense) {
  AgentClient agent = connect();
  EXPECT_EQ(agent.start(soon()).error().kind(), ErrorKind::kConflict);
  EXPECT_EQ(agent.wait("", soon()).error().kind(), ErrorKind::kConflict);
  auto request = create_request({"true"}, "1");
  request.set_config(config(process_json({"true"}), R"(,{"type":"network"})"));
  EXPECT_EQ(agent.create(request, soon()).error().kind(), ErrorKind::kInvalid);
  request = create_request({"true"}, "1");
  request.mutable_streams()->set_token("short");
  EXPECT_EQ(agent.create(request, soon()).error().kind(), ErrorKind::kInvalid);
  request = create_request({"true"}, "1");
  request.set_id("../x");
  EXPECT_EQ(agent.create(request, soon()).error().kind(), ErrorKind::kInvalid);
  request = create_request({"true"}, "12");
  request.mutable_streams()->set_terminal(true);
  EXPECT_EQ(agent.create(request, soon()).error().kind(), ErrorKind::kInvalid);
  // After all these failures a good one works, once.
  ASSERT_TRUE(agent.configure(proto::ConfigureRequest(), soon()).ok());
  EXPECT_EQ(agent.configure(proto::ConfigureRequest(), soon()).error().kind(), ErrorKind::kConflict);
  start_sleeper(agent);
  EXPECT_EQ(agent.create(create_request({"true"}, ""), soon()).error().kind(), ErrorKind::kConflict);
  EXPECT_EQ(agent.start(soon()).error().kind(), ErrorKind::kConflict);
  ASSERT_TRUE(agent.exec(exec_request("one", {"sleep", "100"}, ""), soon()).ok());
  EXPECT_EQ(agent.exec(exec_request("one", {"true"}, ""), soon()).error().kind(), ErrorKind::kExists);
}

TEST_F(AgentTest, NothingIsLeftOfEndedExecs) {
  AgentClient agent = connect();
  start_sleeper(agent);
  const auto descriptors = [&] {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", agent_))) {
      ++count;
    }
    return count;
  };
  EXPECT_EQ(run(agent, "first", "echo x"), "x\n=0");
  const size_t before = descriptors();
  for (int i = 0; i < 25; ++i) {
    EXPECT_EQ(run(agent, fmt::format("ok{}", i), "echo x"), "x\n=0");
    auto request = exec_request(fmt::format("tty{}", i), {"echo", "shown"}, "01");
    request.mutable_streams()->set_terminal(true);
    ASSERT_TRUE(agent.exec(request, soon()).ok());
    const UniqueFd out = stream(request.streams().token(), 1);
    read_to_end(out.get());
    const UniqueFd in = stream(request.streams().token(), 0);
    read_to_end(in.get());
    EXPECT_TRUE(agent.wait(request.exec_id(), soon()).ok());
    EXPECT_FALSE(agent.exec(exec_request("bad", {"nothing"}, "012"), soon()).ok());
    request = exec_request("badtty", {"nothing"}, "01");
    request.mutable_streams()->set_terminal(true);
    EXPECT_FALSE(agent.exec(request, soon()).ok());
  }
  EXPECT_EQ(descriptors(), before);
  for (const auto& entry : std::filesystem::directory_iterator(folder_ + "/run")) {
    const std::string name = entry.path().filename();
    EXPECT_TRUE(name == "bundle" || name == "oci") << name << " was left";
  }
}

TEST_F(AgentTest, AWorkloadThatRagesHurtsOnlyItself) {
  AgentClient agent = connect();
  start_sleeper(agent);
  EXPECT_EQ(run(agent, "a", "kill -9 -1; echo survived").substr(0, 8), "survived");
  const auto ended = agent.exec(exec_request("b", {"sh", "-c", "kill -9 1; kill -9 0"}, ""), soon());
  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(agent.wait("b", soon())->signal(), SIGKILL);
  EXPECT_EQ(agent.ping(soon())->protocol(), kProtocolVersion);
  EXPECT_EQ(agent.state(soon())->status(), "running");
}

TEST_F(AgentTest, QuickProgramsAreNotMissed) {
  AgentClient agent = connect();
  start_sleeper(agent);
  for (int i = 0; i < 60; ++i) {
    const std::string id = fmt::format("q{}", i);
    ASSERT_TRUE(agent.exec(exec_request(id, {"true"}, ""), soon()).ok());
    const auto ended = agent.wait(id, after(seconds(20)));
    ASSERT_TRUE(ended.ok()) << i << ": " << ended.error().message();
    EXPECT_EQ(ended->exit_code(), 0);
  }
}

}  // namespace
}  // namespace hull::guest
