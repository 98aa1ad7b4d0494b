// Another process in a running container.
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error_format.h"
#include "isolation/process_attributes.h"
#include "runtime/console.h"
#include "runtime/launch.h"
#include "runtime/launch_parts.h"
#include "runtime/process_plan.h"
#include "sys/fd_passing.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime {
namespace {

class Exec {
 public:
  Exec(const Options& options, const std::string& id, const ExecOptions& exec)
      : options_(options), id_(id), exec_(exec) {}
  ~Exec() {
    if (pid_ <= 0 || released_) return;
    ignore_result(sys::pidfd_signal(pidfd_.get(), SIGKILL));
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  Exec(const Exec&) = delete;
  Exec& operator=(const Exec&) = delete;

  Result<void> find() {
    TRY_ASSIGN(folder_, open_container(options_.root, id_));
    TRY_ASSIGN(record_, read_record(folder_.get(), id_, &filter_));
    if (status_of(folder_.get(), record_) == Status::kStopped) {
      return errorf(ErrorKind::kConflict, "cannot exec in a stopped container");
    }
    TRY_ASSIGN(init_, sys::pidfd_open(record_.pid));
    if (!sys::is_alive(record_.pid, record_.start_time)) {
      return errorf(ErrorKind::kConflict, "cannot exec in a stopped container");
    }
    return {};
  }
  bool is_vm() const { return record_.vm.has_value(); }
  Result<int> run() {
    TRY(join_cgroup());
    TRY(plan());
    TRY(clone_child());
    TRY(set_from_outside());
    return follow();
  }

 private:
  Result<void> join_cgroup() {
    if (record_.cgroup.empty()) return {};
    TRY_ASSIGN(isolation::Cgroup cgroup, isolation::Cgroup::open(record_.cgroup));
    if (!exec_.ignore_paused && cgroup.frozen().value_or(false)) {
      return errorf(ErrorKind::kConflict, "cannot exec in a paused container (use --ignore-paused to override)");
    }
    cgroup_ = std::move(cgroup);
    TRY_ASSIGN(const isolation::CgroupJoin join, cgroup_->prepare_join(exec_.cgroups));
    cgroup_fd_ = join.v2_dir_fd;
    plan_.cgroup_fds = arena_.copy(std::vector<int>(join.task_fds.begin(), join.task_fds.begin() + join.task_count));
    return {};
  }

  Result<void> plan() {
    TRY_ASSIGN(channel_, Channel::make(child_end_));
    plan_.report_fd = child_end_.get();
    TRY_ASSIGN(proc_, open_proc());
    plan_.proc_fd = proc_.get();
    plan_.init_pidfd = init_.get();
    plan_.namespaces = static_cast<int>(record_.namespaces & ~static_cast<uint64_t>(CLONE_NEWPID));
    plan_.become_root = (record_.namespaces & CLONE_NEWUSER) != 0;
    if ((record_.namespaces & CLONE_NEWNS) == 0) {
      TRY_ASSIGN(root_, sys::open(fmt::format("/proc/{}/root", record_.pid), O_PATH | O_DIRECTORY));
      plan_.root_fd = root_.get();
    }
    if (exec_.process.terminal) {
      if (!exec_.console_socket.empty()) {
        auto connected = sys::connect_unix(exec_.console_socket);
        if (!connected.ok()) return std::move(connected).error().context("console socket");
        console_ = std::move(*connected);
      } else if (exec_.detach) {
        return errorf(ErrorKind::kInvalid, "cannot allocate tty if runtime will detach without setting console socket");
      } else {
        TRY_ASSIGN(ConsolePair pair, make_console_pair());
        console_ = std::move(pair.childs);
        console_ours_ = std::move(pair.ours);
      }
    } else if (!exec_.console_socket.empty()) {
      return errorf(ErrorKind::kInvalid, "cannot use console socket if runtime will not allocate a tty");
    }
    ProcessContext context;
    context.container_id = id_;
    context.own_user_namespace = plan_.become_root;
    context.deny_setgroups = plan_.become_root && setgroups_denied();
    context.preserve_fds = static_cast<unsigned>(exec_.preserve_fds);
    context.console_socket = console_.get();
    context.filter = &filter_;
    TRY(plan_process(exec_.process, context, arena_, plan_.process));
    if (exec_.process.exec_cpu_affinity) {
      const oci::CpuAffinity& affinity = *exec_.process.exec_cpu_affinity;
      if (!affinity.initial.empty()) {
        TRY_ASSIGN(initial_, isolation::parse_cpu_list(affinity.initial, "process.execCPUAffinity.initial"));
        has_initial_ = true;
      }
      if (!affinity.final.empty()) {
        TRY_ASSIGN(final_, isolation::parse_cpu_list(affinity.final, "process.execCPUAffinity.final"));
        plan_.process.affinity = final_.bits.data();
        plan_.process.affinity_bytes = sizeof final_.bits;
      }
    }
    plan_.wait_go = plan_.become_root && !exec_.process.rlimits.empty();
    return {};
  }

  bool setgroups_denied() const {
    auto text = sys::read_file(fmt::format("/proc/{}/setgroups", record_.pid), 64);
    return text.ok() && text->starts_with("deny");
  }

  Result<void> clone_child() {
    if (can_mount()) ::prctl(PR_SET_DUMPABLE, 0);
    // Our own children are born in the container's pid namespace from here on; we stay where we are. Without
    // privilege its user namespace comes first.
    int first = (record_.namespaces & CLONE_NEWPID) != 0 ? CLONE_NEWPID : 0;
    if (!can_mount() && plan_.become_root) {
      first |= CLONE_NEWUSER;
      plan_.namespaces &= ~CLONE_NEWUSER;
    }
    if (first != 0 && ::setns(init_.get(), first) != 0) return errno_error("join the container's pid namespace");
    if (has_initial_ &&
        ::sched_setaffinity(0, sizeof initial_.bits, reinterpret_cast<const cpu_set_t*>(initial_.bits.data())) != 0) {
      return errno_error("process.execCPUAffinity.initial");
    }
    clone_args arguments{};
    int pidfd = -1;
    arguments.flags = CLONE_PIDFD;
    arguments.exit_signal = SIGCHLD;
    arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    if (cgroup_fd_ >= 0) {
      arguments.flags |= CLONE_INTO_CGROUP;
      arguments.cgroup = static_cast<uint64_t>(cgroup_fd_);
    }
    const long pid = ::syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid < 0 && errno == EACCES && cgroup_fd_ >= 0) {
      return errno_error(
          "start a process in the container's control group, which this user may not enter from here: run the command "
          "from where the container was started");
    }
    if (pid < 0) return errno_error("clone a process into the container");
    if (pid == 0) child::run_exec(plan_);
    pid_ = static_cast<pid_t>(pid);
    pidfd_.reset(pidfd);
    child_end_.reset();
    console_.reset();
    return {};
  }

  Result<void> set_from_outside() {
    if (exec_.process.oom_score_adj) {
      TRY(set_oom_score(pid_, *exec_.process.oom_score_adj, record_.rootless));
    }
    if (plan_.wait_go) {
      TRY(apply_rlimits(exec_.process.rlimits, pid_));
      TRY(channel_.answer());
    }
    if (!exec_.pidfd_socket.empty()) {
      TRY_ASSIGN(const UniqueFd socket, sys::connect_unix(exec_.pidfd_socket));
      TRY(sys::send_fds(socket.get(), "pidfd", {pidfd_.get()}));
    }
    return {};
  }

  Result<int> follow() {
    UniqueFd master;
    if (!exec_.detach && !exec_.process.terminal && !filter_.needs_listener && exec_.pid_file.empty()) {
      // Nobody has to be told before it ends: one wait less.
      released_ = true;
      TRY_ASSIGN(const int code, wait_in_foreground(pid_, pidfd_.get(), -1, false));
      auto failed = follow_exec(channel_, pidfd_.get(), {}, {nullptr, &exec_.process, nullptr});
      if (!failed.ok()) return std::move(failed).error();
      return code;
    }
    const ListenerTarget target{record_.listener_path, record_.listener_metadata, state_document(record_, "running"),
                                pid_};
    auto followed = follow_exec(channel_, pidfd_.get(), target, {nullptr, &exec_.process, nullptr});
    if (!followed.ok()) return std::move(followed).error();
    if (console_ours_) {
      TRY_ASSIGN(master, receive_console(console_ours_.get()));
    }
    if (!exec_.pid_file.empty()) TRY(write_pid_file(exec_.pid_file, pid_));
    released_ = true;
    if (exec_.detach) return 0;
    return wait_in_foreground(pid_, pidfd_.get(), master.get(), false);
  }

  const Options& options_;
  const std::string& id_;
  const ExecOptions& exec_;
  UniqueFd folder_, init_, proc_, root_, child_end_, console_, console_ours_, pidfd_;
  Record record_;
  Arena arena_;
  child::ExecPlan plan_;
  isolation::SeccompFilter filter_;
  std::optional<isolation::Cgroup> cgroup_;
  int cgroup_fd_ = -1;
  isolation::CpuMask initial_, final_;
  bool has_initial_ = false;
  Channel channel_;
  pid_t pid_ = 0;
  bool released_ = false;
};

}  // namespace

Result<int> Runtime::exec(const std::string& id, const ExecOptions& options) {
  Exec exec(options_, id, options);
  TRY(exec.find());
  TRY(require_container(exec.is_vm(), id));
  return exec.run();
}

}  // namespace hull::runtime
