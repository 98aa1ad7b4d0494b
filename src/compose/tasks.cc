#include "compose/tasks.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "base/error_format.h"
#include "base/unique_fd.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

/// Waiting ones take a process each.
constexpr size_t kMostProcesses = 256;

enum class State : uint8_t { kOpen, kRuns, kDone, kFailed };

struct Running {
  size_t task = 0;
  pid_t pid = -1;
  UniqueFd answer;
  std::string text;
};

class Runner {
 public:
  Runner(const std::vector<Task>& tasks, int parallel, bool keep_going)
      : tasks_(tasks), parallel_(static_cast<size_t>(std::max(parallel, 1))), keep_going_(keep_going) {
    states_.assign(tasks.size(), State::kOpen);
  }

  Result<void> run() {
    for (;;) {
      begin_what_is_ready();
      if (running_.empty() && !begin_of_a_circle()) break;
      collect();
    }
    if (failure_) return std::move(*failure_);
    return {};
  }

 private:
  bool is_ready(const Task& task) const {
    return std::all_of(task.after.begin(), task.after.end(), [&](size_t before) {
      return states_[before] == State::kDone || (keep_going_ && states_[before] == State::kFailed);
    });
  }

  /// Tasks that wait for each other, as labels of a stranger's containers may have it, are begun all the same.
  bool begin_of_a_circle() {
    if (failure_ && !keep_going_) return false;
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (states_[i] != State::kOpen) continue;
      const bool blocked = std::any_of(tasks_[i].after.begin(), tasks_[i].after.end(),
                                       [&](size_t before) { return states_[before] == State::kFailed; });
      if (blocked && !keep_going_) continue;
      if (auto begun = begin(i); begun.ok()) return true;
      fail(i, errorf(ErrorKind::kInternal, "{}: no process can be started", tasks_[i].name));
    }
    return false;
  }

  size_t at_work() const {
    return static_cast<size_t>(std::count_if(running_.begin(), running_.end(),
                                             [&](const Running& one) { return !tasks_[one.task].only_waits; }));
  }

  void begin_what_is_ready() {
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (failure_ && !keep_going_) return;
      if (states_[i] != State::kOpen || !is_ready(tasks_[i])) continue;
      if (running_.size() >= kMostProcesses || (!tasks_[i].only_waits && at_work() >= parallel_)) continue;
      if (auto begun = begin(i); !begun.ok()) fail(i, std::move(begun).error());
    }
  }

  Result<void> begin(size_t index) {
    TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return errnof("start a process for {}", tasks_[index].name);
    if (pid == 0) {
      // Whoever ends the command ends its work: the next command carries on from where it stopped.
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      pipe.read_end.reset();
      answer(pipe.write_end.get(), tasks_[index].work());
    }
    states_[index] = State::kRuns;
    running_.push_back({index, pid, std::move(pipe.read_end), {}});
    return {};
  }

  /// First a byte: 0 for success, else the kind of the error and one; then the text.
  [[noreturn]] static void answer(int fd, Result<std::string> result) {
    std::string text;
    text += result.ok() ? '\0' : static_cast<char>(static_cast<int>(result.error().kind()) + 1);
    text += result.ok() ? *result : result.error().message();
    ignore_result(sys::write_all(fd, text));
    ::_exit(0);
  }

  void collect() {
    std::vector<pollfd> waits;
    for (const Running& one : running_) waits.push_back({one.answer.get(), POLLIN, 0});
    if (::poll(waits.data(), waits.size(), -1) < 0) return;  // EINTR
    for (size_t i = waits.size(); i-- > 0;) {
      if (waits[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = ::read(running_[i].answer.get(), buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got > 0) {
        running_[i].text.append(buffer, static_cast<size_t>(got));
        continue;
      }
      end(i);
    }
  }

  void end(size_t at) {
    const Running one = std::move(running_[at]);
    running_.erase(running_.begin() + static_cast<ptrdiff_t>(at));
    int status = 0;
    while (::waitpid(one.pid, &status, 0) < 0 && errno == EINTR) {
    }
    const Task& task = tasks_[one.task];
    if (one.text.empty()) {
      fail(one.task,
           errorf(ErrorKind::kInternal, "{}: the process that worked on it ended without an answer (status {})",
                  task.name, status));
    } else if (one.text[0] == '\0') {
      states_[one.task] = State::kDone;
      if (task.done) task.done(one.text.substr(1));
    } else {
      fail(one.task,
           Error(static_cast<ErrorKind>(one.text[0] - 1), fmt::format("{}: {}", task.name, one.text.substr(1))));
    }
  }

  void fail(size_t index, Error error) {
    states_[index] = State::kFailed;
    if (!failure_) failure_ = std::move(error);
  }

  const std::vector<Task>& tasks_;
  size_t parallel_;
  bool keep_going_;
  std::vector<State> states_;
  std::vector<Running> running_;
  std::optional<Error> failure_;
};

}  // namespace

Result<void> run_tasks(const std::vector<Task>& tasks, int parallel, bool keep_going) {
  return Runner(tasks, parallel, keep_going).run();
}

}  // namespace hull::compose
