#pragma once
// The virtual machine from the inside: what PID 1 does to it.

#include <string>

#include "guest/agent.h"

namespace hull::guest {

/// File systems of the kernel, modules, limits, loopback. Called once, first of all. A part that fails is told to the
/// console and left out: what needs it will say so again.
void boot_machine();

/// vsock listeners, bound to any address of the guest. kUnsupported without a vsock device.
Result<UniqueFd> listen_vsock(uint32_t port);
/// Accepts one connection of the host; other peers (the workload itself, over a loopback transport) are turned away
/// with an empty descriptor.
Result<UniqueFd> accept_from_host(int listener);
/// Tells the host, port kReadyPort, that the guest listens.
Result<void> announce_ready();

class LinuxMachine : public Machine {
 public:
  explicit LinuxMachine(std::string run_dir) : run_dir_(std::move(run_dir)) {}
  Result<void> configure(const proto::ConfigureRequest& request) override;
  Result<void> set_time(int64_t time_ns) override;
  void prepare_power_off() override;
  void power_off() override;

 private:
  Result<void> mount_share(const std::string& tag, const std::string& name);
  std::string run_dir_;
};

}  // namespace hull::guest
