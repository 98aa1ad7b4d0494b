// hull-guest: the first process of a virtual machine. It prepares the machine, runs one workload in it and does what
// the host says; it never ends.
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "guest/agent.h"
#include "guest/agent_client.h"
#include "guest/linux_machine.h"
#include "sys/file.h"

namespace {

using namespace hull;

constexpr const char* kRunDir = "/run/hull";

Result<void> serve() {
  TRY(sys::make_dirs(kRunDir, 0700));
  TRY_ASSIGN(const std::unique_ptr<guest::EventLoop> loop, guest::EventLoop::make());
  guest::LinuxMachine machine(kRunDir);
  guest::Agent agent(*loop, machine, {.run_dir = kRunDir, .log_fd = STDERR_FILENO});
  TRY_ASSIGN(const UniqueFd calls, guest::listen_vsock(guest::kAgentPort));
  TRY_ASSIGN(const UniqueFd streams, guest::listen_vsock(guest::kStreamPort));
  const auto accept = [](const UniqueFd& listener, auto&& take) {
    auto connection = guest::accept_from_host(listener.get());
    if (connection.ok() && connection->valid()) take(std::move(*connection));
  };
  TRY(loop->watch(calls.get(), EPOLLIN, [&](uint32_t) {
    accept(calls, [&](UniqueFd connection) { agent.serve_calls(std::move(connection)); });
  }));
  TRY(loop->watch(streams.get(), EPOLLIN, [&](uint32_t) {
    accept(streams, [&](UniqueFd connection) { agent.serve_stream(std::move(connection)); });
  }));
  auto told = guest::announce_ready();
  if (!told.ok()) log_warning("{}", told.error().message());
  return loop->run();
}

}  // namespace

int main() {
  if (::getpid() != 1) {
    ::fputs("hull-guest is the first process of a virtual machine; it does nothing elsewhere\n", stderr);
    return 1;
  }
  guest::boot_machine();
  const Result<void> ended = serve();
  if (!ended.ok()) log_error("hull-guest: {}", ended.error().message());
  guest::LinuxMachine machine(kRunDir);
  machine.prepare_power_off();
  machine.power_off();
  return 1;
}
