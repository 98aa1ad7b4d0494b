#pragma once
// The monitor's event loop: streams, clients, the first process.

#include <sys/types.h>

#include <cstdint>

#include "engine/monitor/clients.h"
#include "engine/monitor/health.h"
#include "engine/monitor/log_writer.h"
#include "engine/monitor/monitor.h"
#include "engine/monitor/start.h"

namespace hull::engine::monitor {

class Loop {
 public:
  /// 0 or an errno. Takes over the descriptors.
  int set_up(const Options& options, int control, const Stdio& stdio, pid_t init);
  LogWriter& log() { return log_; }
  /// Tells the first client that the workload is made, and serves until the workload has ended and everything that it
  /// wrote was taken.
  enum class End { kCleaned, kHandOver, kRestart };
  End serve();
  /// After kRestart: waits until the workload may start again. kCleaned: a command took over.
  End back_off();
  int64_t started_ns() const { return started_ns_; }

 private:
  struct Stream {
    int fd = -1;
    bool armed = false;
    size_t used = 0;
    char chunk[32 * 1024];
  };

  void watch(int fd, uint32_t events, uint64_t tag);
  void change(int fd, uint32_t events, uint64_t tag);
  void handle(uint64_t tag, uint32_t events);
  void accept_client();
  void hear_clients();
  void settle();
  void read_control(int index);
  void attach(int index, const Message& message, const int fds[3], int count);
  void drop(int index);
  void close_output(int index, int stream);
  void pump(int stream);
  bool deliver(int stream);
  void close_stream(int stream);
  void read_input(int index);
  void flush_input();
  void close_input();
  void arm_inputs();
  void read_signals();
  void record_exit(int status);
  /// Decides whether it starts again, and leaves word of it.
  void plan_restart();
  void collect_children();
  void tell_health() const;
  void drop_slow_clients();
  int timeout_ms() const;
  bool finished() const;

  const Options* options_ = nullptr;
  int epoll_ = -1;
  int signals_ = -1;
  int oom_fd_ = -1;
  pid_t init_ = -1;
  int init_fd_ = -1;  // pidfd: a signal never hits a recycled pid
  bool started_ = false;
  bool settled_ = false;
  bool exited_ = false;
  bool cleaned_ = false;
  bool aborted_ = false;
  bool restarting_ = false;
  bool back_off_over_ = false;
  RestartRule restart_;
  int64_t delay_ms_ = 0;
  int back_off_timer_ = -1;
  int64_t started_ns_ = 0;
  Message exit_message_;
  Client clients_[kMaxClients];
  Stream streams_[2];
  int input_fd_ = -1;
  bool input_armed_ = false;
  bool input_closing_ = false;
  size_t input_used_ = 0, input_at_ = 0;
  char input_[16 * 1024];
  LogWriter log_;
  Health health_;
};

}  // namespace hull::engine::monitor
