#pragma once
// A whole machine: memory, processors, the small devices, the virtio devices, from a MachineConfig to its end.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "vmm/bus.h"
#include "vmm/cmos.h"
#include "vmm/kvm.h"
#include "vmm/launcher.h"
#include "vmm/machine_config.h"
#include "vmm/machine_memory.h"
#include "vmm/power.h"
#include "vmm/serial.h"
#include "vmm/stop.h"
#include "vmm/vcpu_thread.h"
#include "vmm/virtio/device.h"
#include "vmm/virtio/mmio.h"
#include "vmm/virtio/pmem.h"

namespace hull::vmm {

/// What each thread of a machine calls first, before it touches anything of the guest.
struct ThreadHooks {
  std::function<void()> vcpu, launcher;
};

struct MachineStats {
  uint64_t memory_bytes = 0;
  uint64_t port_exits = 0, memory_exits = 0;
  uint32_t vcpus = 0;
  bool paused = false;
};

class Machine {
 public:
  /// Opens and makes everything; nothing of the guest runs yet. Errors say what the user can do.
  static Result<std::unique_ptr<Machine>> create(const MachineConfig& config, Kvm kvm);
  /// In the order in which the guest is to find them. Before start().
  Result<void> add_device(std::unique_ptr<VirtioDevice> device);
  /// Announces slots for devices that may come while the machine runs, as many as there are interrupt lines left, at
  /// most layout::kMostSlots. Before start().
  Result<void> offer_slots();
  /// A device for the running machine, made in a thread that may do so: in the place of one that was removed and that
  /// accepts what is behind it, else in the next slot. Its index among all devices; kNoSpace when every slot has been
  /// used: the guest keeps its side of a device.
  Result<size_t> plug(const std::function<Result<std::unique_ptr<VirtioDevice>>()>& make);
  /// Takes away what is behind a disk or card and closes it, whatever the guest does with it: it finds a disk without
  /// sectors or a card without link. kNotFound; kUnsupported for other devices; kConflict when it was done before.
  Result<void> unplug(size_t index);
  /// Persistent memory: the device's file becomes read-only memory of the guest. Before start().
  Result<void> add_persistent_memory(std::unique_ptr<PmemDevice> device);
  /// Gives KVM the memory and puts kernel and initramfs into it, in a thread of its own; end_loading() waits for it.
  /// start() does all that when it was not done before. All devices have been added.
  void begin_loading();
  Result<void> end_loading();
  /// Starts the processors' threads, paused: resume() lets the guest run.
  Result<void> start(ThreadHooks hooks = {});
  /// A descriptor that becomes readable when the machine has come to its end.
  int stop_fd() const { return stop_.fd(); }
  StopControl& stop_control() { return stop_; }
  /// Joins all threads; when it returns nothing of the guest runs. The machine has been stopped, or is now.
  void finish();

  /// Returns when no processor runs any more.
  void pause();
  void resume();
  /// Presses the power button: an ACPI event that the guest may act on or not.
  void press_power_button();
  MachineStats stats() const;
  uint32_t processors() const { return static_cast<uint32_t>(processors_.size()); }
  VcpuThread& processor(uint32_t id) { return *processors_[id]; }
  /// Debug exits pause the machine and are told through what is returned, which the machine owns. Before start().
  Result<DebugStops*> enable_debugging();
  const MachineMemory& memory() const { return memory_; }
  const std::vector<std::unique_ptr<VirtioDevice>>& devices() const { return devices_; }
  /// Whether a driver of the guest uses the device.
  bool driven(size_t index) const { return transports_[index]->active(); }
  ~Machine();

 private:
  Machine(const MachineConfig& config, Kvm kvm, Vm vm, MachineMemory memory, StopControl stop);
  Result<void> open_files(const MachineConfig& config);
  Result<void> add_legacy_devices(ConsoleLog log);
  Result<void> make_processors();
  Result<uint32_t> load();
  size_t slots_count() const;
  Result<size_t> fill_slot(std::unique_ptr<VirtioDevice> device);
  Result<void> write_tables();
  Result<UniqueFd> make_line(uint32_t irq);

  MachineConfig config_;
  Kvm kvm_;
  Vm vm_;
  MachineMemory memory_;
  uint64_t persistent_end_ = 0;
  size_t first_slot_ = 0;
  bool slots_ = false, loaded_slots_ = false;
  int slot_line_ = -1;
  StopControl stop_;
  PauseControl pause_;
  Launcher launcher_;
  Bus ports_, addresses_;
  UniqueFd kernel_, initramfs_;
  std::vector<UniqueFd> lines_;
  int power_button_line_ = -1;
  std::unique_ptr<Serial> serial_;
  PowerRegisters power_{&stop_};
  KeyboardController keyboard_{&stop_};
  CmosClock clock_;
  std::vector<std::unique_ptr<VirtioDevice>> devices_;
  std::vector<std::unique_ptr<MmioTransport>> transports_;
  std::vector<std::unique_ptr<VcpuThread>> processors_;
  std::optional<Result<uint32_t>> loaded_;  // the kernel's entry
  pthread_t loader_{};
  std::unique_ptr<DebugStops> debug_stops_;
  bool loading_ = false, finished_ = false;
};

/// The command line that the kernel gets: the user's, and what this machine needs.
std::string full_command_line(const MachineConfig& config);

}  // namespace hull::vmm
