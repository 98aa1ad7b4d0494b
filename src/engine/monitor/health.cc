#include "engine/monitor/health.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/monitor/clients.h"
#include "engine/monitor/log_writer.h"
#include "engine/monitor/monitor.h"
#include "engine/monitor/protocol.h"
#include "engine/monitor/text.h"

namespace hull::engine::monitor {
namespace {

int64_t monotonic_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

pid_t read_number(const char* name) {
  char text[32] = {};
  const int fd = ::openat(kRunFd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -1;
  const ssize_t got = ::read(fd, text, sizeof text - 1);
  ::close(fd);
  ::unlinkat(kRunFd, name, 0);
  const long number = got > 0 ? strtol(text, nullptr, 10) : -1;
  return number > 0 ? static_cast<pid_t>(number) : -1;
}

}  // namespace

int Health::set_up(const HealthRule& rule, int epoll, uint64_t timer_tag, uint64_t output_tag) {
  if (rule.exec_argv == nullptr) return 0;
  rule_ = &rule;
  epoll_ = epoll;
  output_tag_ = output_tag;
  timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (timer_ < 0) return errno;
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = timer_tag;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, timer_, &event) != 0) return errno;
  write_record();
  return 0;
}

void Health::arm(int64_t ms) const {
  itimerspec when = {};
  when.it_value.tv_sec = ms / 1000;
  when.it_value.tv_nsec = ms % 1000 * 1'000'000;
  if (ms > 0 && when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0) when.it_value.tv_nsec = 1;
  ::timerfd_settime(timer_, 0, &when, nullptr);
}

int64_t Health::next_ms() const {
  const bool in_start_period = monotonic_ns() - began_ns_ < rule_->start_period_ms * 1'000'000;
  return in_start_period && status_ == HealthStatus::kStarting ? rule_->start_interval_ms : rule_->interval_ms;
}

void Health::begin() {
  if (rule_ == nullptr || running_) return;
  running_ = true;
  began_ns_ = monotonic_ns();
  arm(next_ms());
}

void Health::end() {
  if (rule_ == nullptr) return;
  running_ = false;
  arm(0);
  close_output();
  // The runtime ends by itself; a check whose number is known goes now. It is our child and was not waited for: the
  // number is still its own.
  if (check_ > 0) ::kill(check_, SIGKILL);
  runtime_ = -1;
}

void Health::on_timer() {
  uint64_t times = 0;
  if (::read(timer_, &times, sizeof times) != static_cast<ssize_t>(sizeof times) || !running_) return;
  if (runtime_ < 0 && check_ < 0) {
    start_check();
    return;
  }
  // The time that a check may take is over.
  timed_out_ = true;
  ::kill(check_ > 0 ? check_ : runtime_, SIGKILL);
}

void Health::start_check() {
  if (::faccessat(kRunFd, "paused", F_OK, 0) == 0) {
    arm(next_ms());
    return;
  }
  current_.start_ns = now_ns();
  current_.used = 0;
  timed_out_ = false;
  int pair[2];
  if (::pipe2(pair, O_CLOEXEC) != 0) {
    finish_check(-1);
    return;
  }
  ::fcntl(pair[0], F_SETFL, O_NONBLOCK);
  ::fchmod(pair[1], 0666);  // the check may open /dev/stdout as whoever it is
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pair[1], 1);
  posix_spawn_file_actions_adddup2(&actions, pair[1], 2);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  ::unlinkat(kRunFd, "health.pid", 0);
  pid_t pid = -1;
  const int error = posix_spawn(&pid, rule_->exec_argv[0], &actions, &attributes, rule_->exec_argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  ::close(pair[1]);
  if (error != 0) {
    ::close(pair[0]);
    finish_check(-1);
    return;
  }
  runtime_ = pid;
  output_ = pair[0];
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = output_tag_;
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, output_, &event);
  arm(rule_->timeout_ms);
}

void Health::on_output() {
  // The first 4 KiB are kept; the rest is read so that the check is not held up.
  static char rest[4096];
  for (int round = 0; output_ >= 0 && round < 16; ++round) {
    const bool full = current_.used >= kOutput;
    char* const into = full ? rest : current_.output + current_.used;
    const ssize_t got = ::read(output_, into, full ? sizeof rest : kOutput - current_.used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
      close_output();
      return;
    }
    if (!full) current_.used += static_cast<size_t>(got);
  }
}

void Health::close_output() {
  if (output_ >= 0) ::close(output_);
  output_ = -1;
}

bool Health::ended(pid_t pid, int status) {
  if (pid == check_ && pid > 0) {
    check_ = -1;
    return running_ && finish_check(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
  }
  if (pid != runtime_ || pid < 0) return false;
  runtime_ = -1;
  if (!running_) return false;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return finish_check(-1);  // it said why on the pipe
  check_ = read_number("health.pid");
  if (check_ < 0) return finish_check(-1);
  if (timed_out_) ::kill(check_, SIGKILL);
  return false;
}

bool Health::finish_check(int exit_code) {
  on_output();
  close_output();
  if (timed_out_) {
    exit_code = -1;
    // In front of what the check had said.
    Text<80> text;
    const bool whole_seconds = rule_->timeout_ms % 1000 == 0;
    text.add("Health check exceeded timeout (");
    text.add_number(whole_seconds ? rule_->timeout_ms / 1000 : rule_->timeout_ms).add(whole_seconds ? "s)" : "ms)");
    if (current_.used > 0) text.add(": ");
    const size_t put = text.size();
    const size_t keep = current_.used > kOutput - put ? kOutput - put : current_.used;
    memmove(current_.output + put, current_.output, keep);
    memcpy(current_.output, text.c_str(), put);
    current_.used = keep + put;
  }
  current_.end_ns = now_ns();
  current_.exit_code = exit_code;
  if (kept_ == kKept) {
    memmove(&results_[0], &results_[1], sizeof(Result) * (kKept - 1));
    --kept_;
  }
  results_[kept_++] = current_;
  const bool in_start_period = monotonic_ns() - began_ns_ < rule_->start_period_ms * 1'000'000;
  const HealthStatus before = status_;
  status_ = judge(before, exit_code, in_start_period, rule_->retries, &streak_);
  write_record();
  arm(next_ms());
  return status_ != before;
}

const char* Health::status_word() const {
  switch (status_) {
    case HealthStatus::kStarting:
      return "starting";
    case HealthStatus::kHealthy:
      return "healthy";
    case HealthStatus::kUnhealthy:
      return "unhealthy";
  }
  return "";
}

/// Docker's State.Health, in the run folder.
void Health::write_record() const {
  const int fd = ::openat(kRunFd, "health.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;
  bool whole = true;
  const auto put = [&](const char* data, size_t count) {
    whole = whole && ::write(fd, data, count) == static_cast<ssize_t>(count);
  };
  Text<200> head;
  head.add("{\"Status\":\"").add(status_word()).add("\",\"FailingStreak\":").add_number(streak_).add(",\"Log\":[");
  put(head.c_str(), head.size());
  static char escaped[kOutput * 6];
  for (int i = 0; i < kept_; ++i) {
    const Result& one = results_[i];
    char start[48], end[48];
    format_time(one.start_ns, start);
    format_time(one.end_ns, end);
    Text<300> text;
    text.add(i > 0 ? ",{\"Start\":\"" : "{\"Start\":\"").add(start).add("\",\"End\":\"").add(end);
    text.add("\",\"ExitCode\":").add_number(one.exit_code).add(",\"Output\":\"");
    put(text.c_str(), text.size());
    size_t used = 0;
    const auto* const raw = reinterpret_cast<const unsigned char*>(one.output);
    put(escaped, json_escape(raw, one.used, false, escaped, &used));
    put("\"}", 2);
  }
  put("]}\n", 3);
  ::close(fd);
  if (whole) ::renameat(kRunFd, "health.tmp", kRunFd, "health");
}

}  // namespace hull::engine::monitor
