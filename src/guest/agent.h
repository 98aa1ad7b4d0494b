#pragma once
// The agent: answers the calls of agent.proto for one workload. It owns what is the workload's (its processes and their
// streams); what is the machine's (disks, network, clock, power) it leaves to Machine.

#include <guest/agent.pb.h>

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "guest/child_command.h"
#include "guest/event_loop.h"
#include "guest/streams.h"
#include "guest/ttrpc.h"
#include "oci/runtime_spec.h"
#include "runtime/runtime.h"

namespace hull::guest {

/// The machine around the workload. Tests have one that is none.
class Machine {
 public:
  virtual ~Machine() = default;
  virtual Result<void> configure(const proto::ConfigureRequest& request) = 0;
  virtual Result<void> set_time(int64_t time_ns) = 0;
  /// Ends every process but this one and puts the disks in order. What follows is power_off.
  virtual void prepare_power_off() = 0;
  virtual void power_off() = 0;
};

class Agent {
 public:
  struct Options {
    std::string run_dir = "/run/hull";  ///< exists; bundle, records and sockets go there
    int log_fd = 2;                     ///< warnings of the runtime
  };
  static constexpr size_t kMaxConnections = 64;
  static constexpr size_t kMaxExecs = 1024;
  static constexpr size_t kMaxFilesJobs = 16;

  Agent(EventLoop& loop, Machine& machine, Options options);
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Connections that were accepted: one of calls, one of a stream.
  void serve_calls(UniqueFd connection);
  void serve_stream(UniqueFd connection) { streams_.accept(std::move(connection)); }

 private:
  using Reply = ttrpc::Reply;
  /// A process of the workload, the first one or one of exec.
  struct Member {
    std::string exec_id;
    pid_t pid = 0;  // 0 until it exists
    bool exited = false;
    int wait_status = 0;
    int64_t exited_ns = 0;
    bool oom_killed = false;
    uint64_t oom_before = 0;
    std::string token;
    UniqueFd terminal;  // the master, for resize
    UniqueFd console;   // where the master arrives
    std::vector<Reply> waiters;
    uint64_t order = 0;
  };
  /// Somebody works on the workload's files, in a process of its own.
  struct FilesJob {
    pid_t pid = 0;
    std::optional<Result<std::string>> outcome;
    std::vector<Reply> waiters;  // at most one
    uint64_t order = 0;
  };
  /// The process's ends of its streams; closed when it has them.
  struct ChildStdio {
    UniqueFd ends[3];
    std::array<int, 3> numbers() const { return {ends[0].get(), ends[1].get(), ends[2].get()}; }
  };

  void handle(ttrpc::Call call, Reply reply);
  void update_connection(int fd);
  void close_connection(int fd);

  void configure(const proto::ConfigureRequest& request, Reply reply);
  void create(const proto::CreateRequest& request, Reply reply);
  void start(const proto::StartRequest& request, Reply reply);
  void exec(const proto::ExecRequest& request, Reply reply);
  void signal(const proto::SignalRequest& request, Reply reply);
  void wait(const proto::WaitRequest& request, Reply reply);
  void resize(const proto::ResizeRequest& request, Reply reply);
  void close_stdin(const proto::CloseStdinRequest& request, Reply reply);
  void processes(const proto::ProcessesRequest& request, Reply reply);
  void stats(const proto::StatsRequest& request, Reply reply);
  void update(const proto::UpdateRequest& request, Reply reply);
  void pause(const proto::PauseRequest& request, Reply reply);
  void resume(const proto::ResumeRequest& request, Reply reply);
  void state(const proto::StateRequest& request, Reply reply);
  void file_stat(const proto::FileStatRequest& request, Reply reply);
  void begin_files(const proto::BeginFilesRequest& request, Reply reply);
  void end_files(const proto::EndFilesRequest& request, Reply reply);
  void ping(const proto::PingRequest& request, Reply reply);
  void set_time(const proto::SetTimeRequest& request, Reply reply);
  void shutdown(const proto::ShutdownRequest& request, Reply reply);

  template <typename Request>
  void dispatch(void (Agent::*method)(const Request&, Reply), const ttrpc::Call& call, Reply reply);

  Result<oci::Spec> prepare_spec(const proto::CreateRequest& request) const;
  /// Runs `body` in a process of its own; its text is the answer.
  void answer_from_child(const CommandBody& body, Reply reply);
  void run_child(const CommandBody& body, Reply reply);
  Result<void> start_files(const proto::BeginFilesRequest& request);
  void on_files_end(const std::string& token, Result<std::string> outcome);
  /// Where the workload's files are, or why there are none.
  Result<std::string> files_root() const;
  Result<void> begin_create(const proto::CreateRequest& request, const Reply& reply);
  Result<void> begin_exec(const proto::ExecRequest& request, const Reply& reply);
  /// Makes pipes and makes them known to streams_, or listens for the terminal.
  Result<ChildStdio> make_stdio(const proto::Streams& wanted, Member& member, std::string& console_socket);
  std::string console_path(const Member& member) const;
  void abandon(Member& member);
  Result<void> take_terminal(const proto::Streams& wanted, Member& member);
  /// The process of `member` runs now.
  Result<void> adopt(Member& member, const proto::Streams& wanted, uint32_t pid);
  void on_member_exit(const std::string& exec_id, pid_t pid, int wait_status);
  void forget_old_execs();
  Result<Member*> find(const std::string& exec_id);
  Result<void> require_created() const;
  uint64_t oom_kills() const;

  EventLoop& loop_;
  Machine& machine_;
  Options options_;
  runtime::Runtime runtime_;
  StreamHub streams_;
  std::map<int, std::unique_ptr<ttrpc::ServerConnection>> connections_;
  bool configured_ = false;
  std::string id_;                         // of the container; empty before Create
  bool created_ = false;                   // Create has succeeded
  std::string root_path_;                  // its root, as the agent sees it
  std::string memory_cgroup_;              // its folder
  std::map<std::string, Member> members_;  // by exec id
  std::map<std::string, FilesJob> files_;  // by token
  uint64_t next_order_ = 1;
};

}  // namespace hull::guest
