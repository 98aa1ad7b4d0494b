#include "vm/remote_process.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/log.h"
#include "vm/terminal.h"

namespace hull::vm {
namespace {

using namespace std::chrono_literals;

/// A wait has no end of its own; the connection breaks when the machine does.
constexpr auto kForEver = std::chrono::hours(24 * 365 * 10);

}  // namespace

Patience patience_of(bool emulated) {
  if (!emulated) return {};
  return {.call = 15s, .boot = 90s, .hung = 90s, .shutdown = 30s, .idle = 3s};
}

int exit_code_of(const guest::proto::WaitResponse& response) {
  constexpr int kSignalBase = 128;
  const int code = response.signal() > 0 ? kSignalBase + response.signal() : response.exit_code();
  return code & 0xff;
}

void set_size(guest::proto::Streams& streams, const std::optional<oci::Box>& size) {
  if (!size) return;
  streams.mutable_size()->set_rows(size->height);
  streams.mutable_size()->set_columns(size->width);
}

Result<void> RemoteProcess::open_streams(const std::string& token, const Relay::Ends& ends) {
  if (ends.terminal) terminal_ = ends.in >= 0 ? ends.in : ends.out;
  TRY_ASSIGN(relay_, Relay::open(vsock_, token, ends, guest::after(patience_.call)));
  return {};
}

Result<void> RemoteProcess::watch(guest::AgentClient control) {
  control_.emplace(std::move(control));
  TRY_ASSIGN(guest::AgentClient wait, guest::AgentClient::connect(vsock_, guest::after(patience_.call)));
  wait_.emplace(std::move(wait));
  return wait_->begin_wait(exec_id_, guest::after(kForEver));
}

void RemoteProcess::send_size() {
  if (terminal_ < 0 || !control_) return;
  const auto size = terminal_size(terminal_);
  if (!size) return;
  auto sent = control_->resize(exec_id_, size->height, size->width, guest::after(patience_.call));
  if (!sent.ok()) log_debug("resize: {}", sent.error().message());
}

void RemoteProcess::on_signals() {
  signalfd_siginfo info{};
  while (::read(signals_, &info, sizeof info) == sizeof info) {
    const auto signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGWINCH) send_size();
    if (!is_for_the_guest(signal) || !control_) continue;
    auto sent = control_->signal(exec_id_, signal, false, guest::after(patience_.call));
    if (!sent.ok()) log_debug("signal {}: {}", signal, sent.error().message());
  }
}

void RemoteProcess::on_wait() {
  auto finished = wait_->finish_wait();
  if (!finished.ok()) {
    ended_.emplace(std::move(finished).error());
  } else if (*finished) {
    ended_.emplace(std::move(**finished));
  }
}

void RemoteProcess::collect(PollSet& set) {
  relay_.collect(set);
  set.add(signals_, POLLIN, [this](short) { on_signals(); });
  if (wait_ && !ended_) set.add(wait_->fd(), POLLIN, [this](short) { on_wait(); });
}

}  // namespace hull::vm
