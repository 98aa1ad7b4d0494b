#include "engine/monitor/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/monitor/spawn.h"
#include "engine/monitor/text.h"

namespace hull::engine::monitor {
namespace {

// What an epoll event is about: a kind, a client and a stream in one word.
enum Kind : uint64_t {
  kListen = 1,
  kSignals,
  kControl,
  kStream,
  kWorkloadInput,
  kClientOutput,
  kClientInput,
  kHealthTimer,
  kHealthOutput,
  kBackOff
};
constexpr uint64_t tag_of(Kind kind, int client = 0, int stream = 0) {
  return static_cast<uint64_t>(kind) << 16 | static_cast<uint64_t>(client) << 4 | static_cast<uint64_t>(stream);
}

/// Left by who stops it for good: then no policy starts it again.
bool stopped_by_user() {
  return ::faccessat(kWorkloadFd, "stopped", F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
         ::faccessat(kRunFd, "stopped", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/// A small file of the run folder, seen whole or not at all.
bool write_file(const char* name, const char* temporary, const char* text, size_t count) {
  const int fd = ::openat(kRunFd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return false;
  const bool whole = ::write(fd, text, count) == static_cast<ssize_t>(count);
  ::close(fd);
  return whole && ::renameat(kRunFd, temporary, kRunFd, name) == 0;
}

}  // namespace

void Loop::watch(int fd, uint32_t events, uint64_t tag) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = tag;
  ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
}

void Loop::change(int fd, uint32_t events, uint64_t tag) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = tag;
  ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

int Loop::set_up(const Options& options, int control, const Stdio& stdio, pid_t init) {
  options_ = &options;
  restart_ = options.restart;
  init_ = init;
  init_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, init, 0));
  if (init_fd_ < 0) return errno;
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) return errno;
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigaddset(&mask, SIGTERM);
  signals_ = ::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signals_ < 0) return errno;
  if (options.oom_file != nullptr) oom_fd_ = ::open(options.oom_file, O_RDONLY | O_CLOEXEC);
  watch(signals_, EPOLLIN, tag_of(kSignals));
  watch(kListenFd, EPOLLIN, tag_of(kListen));
  clients_[0].control = control;
  clients_[0].primary = true;
  watch(control, EPOLLIN | EPOLLRDHUP, tag_of(kControl, 0));
  for (int s = 0; s < 2; ++s) {
    streams_[s].fd = stdio.output[s];
    if (stdio.output[s] < 0) continue;
    watch(stdio.output[s], EPOLLIN, tag_of(kStream, 0, s));
    streams_[s].armed = true;
  }
  if (options.tty) {
    // A slave of our own: without it the master would report a hang-up whenever no process has the terminal open,
    // although the next may open it again. The end is known from the first process.
    ::ioctl(stdio.output[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  }
  input_fd_ = stdio.input;
  if (input_fd_ >= 0) watch(input_fd_, 0, tag_of(kWorkloadInput));
  return health_.set_up(options.health, epoll_, tag_of(kHealthTimer), tag_of(kHealthOutput));
}

Loop::End Loop::serve() {
  Message created;
  created.type = MessageType::kCreated;
  created.a = init_;
  read_control(0);  // what the starter wants attached, before the first byte can come
  if (clients_[0].control >= 0) send(clients_[0].control, created);
  if (clients_[0].control < 0 && !started_) ::syscall(SYS_pidfd_send_signal, init_fd_, SIGKILL, nullptr, 0);
  epoll_event events[32];
  while (!finished()) {
    const int count = ::epoll_wait(epoll_, events, 32, timeout_ms());
    if (count < 0 && errno != EINTR) break;
    for (int i = 0; i < count; ++i) handle(events[i].data.u64, events[i].events);
    drop_slow_clients();
  }
  for (int i = 0; i < kMaxClients; ++i) {
    if (restarting_ || !clients_[i].owns_cleanup) drop(i);
  }
  if (restarting_) return End::kRestart;
  // A client that promised to clean up says when it has; one that goes away without a word leaves it to us.
  for (;;) {
    bool owned = false;
    for (const Client& client : clients_) owned = owned || (client.control >= 0 && client.owns_cleanup);
    if (cleaned_ || !owned) return cleaned_ ? End::kCleaned : End::kHandOver;
    const int count = ::epoll_wait(epoll_, events, 32, -1);
    if (count < 0 && errno != EINTR) return End::kHandOver;
    for (int i = 0; i < count; ++i) handle(events[i].data.u64, events[i].events);
  }
}

Loop::End Loop::back_off() {
  back_off_timer_ = ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  itimerspec when = {};
  when.it_value.tv_sec = delay_ms_ / 1000;
  when.it_value.tv_nsec = delay_ms_ % 1000 * 1'000'000;
  if (back_off_timer_ < 0 || ::timerfd_settime(back_off_timer_, 0, &when, nullptr) != 0) return End::kRestart;
  watch(back_off_timer_, EPOLLIN, tag_of(kBackOff));
  epoll_event events[32];
  while (!aborted_ && !back_off_over_) {
    const int count = ::epoll_wait(epoll_, events, 32, -1);
    if (count < 0 && errno != EINTR) break;
    for (int i = 0; i < count; ++i) handle(events[i].data.u64, events[i].events);
  }
  for (int i = 0; i < kMaxClients; ++i) drop(i);
  if (aborted_) return End::kCleaned;
  return stopped_by_user() ? End::kHandOver : End::kRestart;
}

void Loop::handle(uint64_t tag, uint32_t events) {
  const auto kind = static_cast<Kind>(tag >> 16);
  const int client = static_cast<int>(tag >> 4 & 0xfff);
  const int stream = static_cast<int>(tag & 15);
  switch (kind) {
    case kListen:
      accept_client();
      break;
    case kSignals:
      read_signals();
      break;
    case kControl:
      read_control(client);
      break;
    case kStream:
      pump(stream);
      break;
    case kWorkloadInput:
      if ((events & EPOLLERR) != 0)
        close_input();
      else
        flush_input();
      break;
    case kClientOutput:
      if ((events & EPOLLERR) != 0) close_output(client, stream);
      pump(stream);
      break;
    case kClientInput:
      read_input(client);
      break;
    case kHealthTimer:
      health_.on_timer();
      break;
    case kHealthOutput:
      health_.on_output();
      break;
    case kBackOff:
      back_off_over_ = true;
      break;
  }
}

void Loop::accept_client() {
  const int fd = ::accept4(kListenFd, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return;
  for (int i = 0; i < kMaxClients; ++i) {
    Client& client = clients_[i];
    if (client.control >= 0 || client.output[0] >= 0 || client.output[1] >= 0 || client.input >= 0) continue;
    client = Client();
    client.control = fd;
    watch(fd, EPOLLIN | EPOLLRDHUP, tag_of(kControl, i));
    if (exited_) send(fd, exit_message_);
    return;
  }
  ::close(fd);  // full: the client sees the end of the connection
}

/// What clients have said so far, those too whom nobody has let in yet.
void Loop::hear_clients() {
  pollfd listening = {kListenFd, POLLIN, 0};
  for (int i = 0; i < kMaxClients && ::poll(&listening, 1, 0) > 0; ++i) accept_client();
  for (int i = 0; i < kMaxClients; ++i) {
    if (clients_[i].control >= 0) read_control(i);
  }
}

/// Before the first byte is taken, and before the exit is told: everyone whom the starter let in gets all of it. What
/// they ask for was sent before the program could run, so it is in the sockets.
void Loop::settle() {
  if (settled_) return;
  settled_ = true;
  hear_clients();
}

void Loop::read_control(int index) {
  for (;;) {
    Client& client = clients_[index];
    if (client.control < 0) return;
    Message message;
    int fds[3];
    int count = 0;
    const int got = receive(client.control, &message, fds, &count);
    if (got < 0) return;
    if (got == 0) {
      const bool aborted = index == 0 && !started_ && !exited_;
      drop(index);
      // The starter went away before the program ran: nobody will ever start it.
      if (aborted) ::syscall(SYS_pidfd_send_signal, init_fd_, SIGKILL, nullptr, 0);
      return;
    }
    switch (message.type) {
      case MessageType::kAttach:
        attach(index, message, fds, count);
        continue;
      case MessageType::kResize:
        if (options_->tty && streams_[0].fd >= 0) {
          winsize size = {};
          size.ws_row = static_cast<unsigned short>(message.a);
          size.ws_col = static_cast<unsigned short>(message.b);
          ::ioctl(streams_[0].fd, TIOCSWINSZ, &size);
        }
        break;
      case MessageType::kStarted:
        started_ = true;
        started_ns_ = message.time_ns;
        if (!exited_) health_.begin();
        break;
      case MessageType::kAbort:
        aborted_ = true;
        ::syscall(SYS_pidfd_send_signal, init_fd_, SIGKILL, nullptr, 0);
        break;
      case MessageType::kOwnsCleanup:
        client.owns_cleanup = true;
        break;
      case MessageType::kCleaned:
        cleaned_ = true;
        break;
      case MessageType::kRestartRule:
        restart_.when = static_cast<RestartRule::When>(message.a);
        restart_.most = message.b;
        send(client.control, message);
        break;
      default: {
        Message unknown;
        send(client.control, unknown);
      }
    }
    for (int i = 0; i < count; ++i) ::close(fds[i]);
  }
}

void Loop::attach(int index, const Message& message, const int fds[3], int count) {
  Client& client = clients_[index];
  client.primary = (message.flags & kAttachPrimary) != 0;
  int next = 0;
  const uint32_t wanted[3] = {kAttachOutput, kAttachError, kAttachInput};
  for (int i = 0; i < 3 && next < count; ++i) {
    if ((message.flags & wanted[i]) == 0) continue;
    const int fd = fds[next++];
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
    if (i == 2) {
      if (client.input >= 0 || input_fd_ < 0) {
        ::close(fd);
        continue;
      }
      client.input = fd;
      if (input_used_ == 0) watch(fd, EPOLLIN, tag_of(kClientInput, index));
      continue;
    }
    if (client.output[i] >= 0 || streams_[i].fd < 0) {
      ::close(fd);
      continue;
    }
    client.output[i] = fd;
    client.taken[i] = streams_[i].used;  // begins with the next chunk
    client.waiting[i] = false;
    watch(fd, 0, tag_of(kClientOutput, index, i));  // tells when the reader goes away
  }
  for (; next < count; ++next) ::close(fds[next]);
}

void Loop::close_output(int index, int stream) {
  Client& client = clients_[index];
  if (client.output[stream] < 0) return;
  ::close(client.output[stream]);
  client.output[stream] = -1;
  client.waiting[stream] = false;
}

void Loop::drop(int index) {
  Client& client = clients_[index];
  const bool was_waiting[2] = {client.waiting[0], client.waiting[1]};
  for (int s = 0; s < 2; ++s) close_output(index, s);
  if (client.input >= 0) ::close(client.input);
  if (client.control >= 0) ::close(client.control);
  client = Client();
  for (int s = 0; s < 2; ++s) {
    if (was_waiting[s]) pump(s);
  }
}

bool Loop::deliver(int stream) {
  Stream& source = streams_[stream];
  bool all = true;
  for (int i = 0; i < kMaxClients; ++i) {
    Client& client = clients_[i];
    while (client.output[stream] >= 0 && client.taken[stream] < source.used) {
      const ssize_t put =
          ::write(client.output[stream], source.chunk + client.taken[stream], source.used - client.taken[stream]);
      if (put > 0) {
        client.taken[stream] += static_cast<size_t>(put);
        continue;
      }
      if (put < 0 && errno == EINTR) continue;
      if (put < 0 && errno == EAGAIN) {
        all = false;
        if (!client.waiting[stream]) {
          client.waiting[stream] = true;
          client.waiting_since_ns = now_ns();
          change(client.output[stream], EPOLLOUT, tag_of(kClientOutput, i, stream));
        }
        break;
      }
      close_output(i, stream);
    }
    if (client.output[stream] >= 0 && client.taken[stream] >= source.used && client.waiting[stream]) {
      client.waiting[stream] = false;
      change(client.output[stream], 0, tag_of(kClientOutput, i, stream));
    }
  }
  return all;
}

void Loop::pump(int stream) {
  settle();
  Stream& source = streams_[stream];
  // Bounded, so that one stream never starves the other, the input or the signals; after the end, so that a process
  // that outlives the first one (in the host's pid namespace) can't keep the monitor for ever.
  const int rounds = exited_ ? 4096 : 16;
  for (int round = 0; source.fd >= 0; ++round) {
    if (source.used > 0 && !deliver(stream)) {
      // Removed, not only silenced: a hang-up would be reported whatever the event mask says.
      if (source.armed) ::epoll_ctl(epoll_, EPOLL_CTL_DEL, source.fd, nullptr);
      source.armed = false;
      return;
    }
    source.used = 0;
    for (Client& client : clients_) client.taken[stream] = 0;
    if (round >= rounds) {
      if (exited_) close_stream(stream);
      break;
    }
    const ssize_t got = ::read(source.fd, source.chunk, sizeof source.chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN && !exited_) break;
    if (got <= 0) {
      close_stream(stream);
      return;
    }
    source.used = static_cast<size_t>(got);
    log_.feed(stream + 1, source.chunk, source.used, now_ns());
  }
  if (source.fd >= 0 && !source.armed) {
    watch(source.fd, EPOLLIN, tag_of(kStream, 0, stream));
    source.armed = true;
  }
}

void Loop::close_stream(int stream) {
  Stream& source = streams_[stream];
  log_.finish(stream + 1, now_ns());
  ::close(source.fd);
  source.fd = -1;
  source.used = 0;
  for (int i = 0; i < kMaxClients; ++i) close_output(i, stream);
}

void Loop::read_input(int index) {
  Client& client = clients_[index];
  if (client.input < 0 || input_used_ > 0) return;
  const ssize_t got = ::read(client.input, input_, sizeof input_);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    ::close(client.input);
    client.input = -1;
    if (options_->stdin_once && !options_->tty) close_input();
    return;
  }
  if (input_fd_ < 0) return;
  input_used_ = static_cast<size_t>(got);
  input_at_ = 0;
  flush_input();
}

void Loop::flush_input() {
  while (input_fd_ >= 0 && input_at_ < input_used_) {
    const ssize_t put = ::write(input_fd_, input_ + input_at_, input_used_ - input_at_);
    if (put > 0) {
      input_at_ += static_cast<size_t>(put);
      continue;
    }
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno == EAGAIN) {
      if (!input_armed_) {
        input_armed_ = true;
        change(input_fd_, EPOLLOUT, tag_of(kWorkloadInput));
        arm_inputs();
      }
      return;
    }
    close_input();
    return;
  }
  input_used_ = input_at_ = 0;
  if (input_armed_ && input_fd_ >= 0) {
    input_armed_ = false;
    change(input_fd_, 0, tag_of(kWorkloadInput));
    arm_inputs();
  }
}

void Loop::arm_inputs() {
  for (int i = 0; i < kMaxClients; ++i) {
    if (clients_[i].input < 0) continue;
    if (input_used_ == 0)
      watch(clients_[i].input, EPOLLIN, tag_of(kClientInput, i));
    else
      ::epoll_ctl(epoll_, EPOLL_CTL_DEL, clients_[i].input, nullptr);
  }
}

void Loop::close_input() {
  if (input_fd_ >= 0) ::close(input_fd_);
  input_fd_ = -1;
  input_used_ = input_at_ = 0;
  // The clients' writers see a broken pipe, as they would with the program itself at the other end.
  for (Client& client : clients_) {
    if (client.input >= 0) ::close(client.input);
    client.input = -1;
  }
}

void Loop::read_signals() {
  signalfd_siginfo info;
  while (::read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    if (info.ssi_signo == SIGTERM) ::syscall(SYS_pidfd_send_signal, init_fd_, SIGTERM, nullptr, 0);
  }
  collect_children();
}

void Loop::collect_children() {
  for (;;) {
    int status = 0;
    const pid_t starting = health_.starting();
    pid_t pid = ::waitpid(starting > 0 ? starting : -1, &status, WNOHANG);
    if (pid <= 0 && starting > 0 && !exited_) pid = ::waitpid(init_, &status, WNOHANG);
    if (pid <= 0) return;
    if (pid == init_ && !exited_) {
      record_exit(status);
    } else if (health_.ended(pid, status)) {
      tell_health();
    } else {
      log_.ended(pid);
    }
  }
}

/// By a command of its own, which knows events and what is to be done about an unhealthy workload.
void Loop::tell_health() const {
  if (options_->cleanup_program == nullptr) return;
  const char* const argv[] = {"hull", "internal", "health", options_->id, health_.status_word(), nullptr};
  run_aside(options_->cleanup_program, argv);
}

void Loop::plan_restart() {
  const bool ordered = ::faccessat(kRunFd, "restart-now", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  if (!started_ || aborted_ || options_->cleanup_program == nullptr || stopped_by_user()) return;
  if (!ordered && !starts_again(restart_, exit_message_.a)) return;
  delay_ms_ = next_delay_ms(restart_, exit_message_.time_ns - started_ns_);
  Text<100> text;
  text.add_number(started_ns_).add(" ").add_number(restart_.count + 1).add(" ").add_number(delay_ms_);
  text.add("\n");
  restarting_ = write_file("restart", "restart.tmp", text.c_str(), text.size());
  if (restarting_) exit_message_.flags |= kExitedRestarts;
}

void Loop::record_exit(int status) {
  settle();
  hear_clients();  // an update of the restart policy counts from when its command has ended
  exited_ = true;
  exit_message_.type = MessageType::kExited;
  exit_message_.time_ns = now_ns();
  exit_message_.b = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  exit_message_.a = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (oom_fd_ >= 0) {
    // "oom_kill N" in both memory.events (cgroup v2) and memory.oom_control (v1, Linux 4.13).
    static char text[1024];
    const ssize_t got = ::pread(oom_fd_, text, sizeof text - 1, 0);
    text[got > 0 ? got : 0] = 0;
    const char* found = strstr(text, "oom_kill ");
    if (found != nullptr && strtoul(found + 9, nullptr, 10) > 0) exit_message_.flags = kExitedForMemory;
  }
  const uint32_t for_memory = exit_message_.flags;
  health_.end();
  plan_restart();  // before the record: who sees that one must see what follows
  Text<200> text;
  text.add_number(exit_message_.a).add(" ").add_number(exit_message_.b).add(" ").add_number(for_memory);
  text.add(" ").add_number(exit_message_.time_ns).add(" ").add_number(started_ns_).add("\n");
  write_file("exit", "exit.tmp", text.c_str(), text.size());
  for (int i = 0; i < kMaxClients; ++i) {
    if (clients_[i].control >= 0 && !send(clients_[i].control, exit_message_)) drop(i);
  }
  close_input();
  // With a pid namespace of its own nobody can write any more; take what is still in the pipes.
  for (int s = 0; s < 2; ++s) {
    pump(s);
  }
}

int Loop::timeout_ms() const {
  for (const Client& client : clients_) {
    if (!client.primary && (client.waiting[0] || client.waiting[1])) return 1000;
  }
  return -1;
}

void Loop::drop_slow_clients() {
  for (int i = 0; i < kMaxClients; ++i) {
    Client& client = clients_[i];
    if (client.primary || (!client.waiting[0] && !client.waiting[1])) continue;
    if (now_ns() - client.waiting_since_ns > kSlowClientNs) drop(i);
  }
}

bool Loop::finished() const { return exited_ && streams_[0].fd < 0 && streams_[1].fd < 0; }

}  // namespace hull::engine::monitor
