#include "vmm/machine.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "vmm/acpi.h"
#include "vmm/boot.h"
#include "vmm/compressed_kernel.h"
#include "vmm/cpuid.h"
#include "vmm/layout.h"

namespace hull::vmm {

namespace {
// Model-specific registers as a firmware leaves them.
constexpr uint32_t kMiscEnable = 0x1a0, kMtrrDefaultType = 0x2ff;
constexpr uint64_t kFastStrings = 1;
constexpr uint64_t kMtrrWriteBack = (1 << 11) | 6;  // enabled; all memory is write-back

Result<UniqueFd> open_input(const std::string& path, const char* what) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return errnof("open {} {}", what, path);
  return fd;
}
}  // namespace

std::string full_command_line(const MachineConfig& config) {
  std::string line = config.command_line;
  if (!config.console_log.empty() && line.find("console=") == std::string::npos) {
    line = line.empty() ? "console=ttyS0" : "console=ttyS0 " + line;
  }
  // Linux prefers EFI's reset on a hardware-reduced machine, and there is no EFI.
  if (line.find("reboot=") == std::string::npos) line += line.empty() ? "reboot=acpi" : " reboot=acpi";
  return line;
}

Machine::Machine(const MachineConfig& config, Kvm kvm, Vm vm, MachineMemory memory, StopControl stop)
    : config_(config), kvm_(std::move(kvm)), vm_(std::move(vm)), memory_(std::move(memory)), stop_(std::move(stop)) {}

Result<std::unique_ptr<Machine>> Machine::create(const MachineConfig& config, Kvm kvm) {
  if (const int most = kvm.has(KVM_CAP_MAX_VCPUS); most > 0 && config.vcpus > static_cast<uint32_t>(most)) {
    return errorf(ErrorKind::kUnsupported, "this host's KVM gives at most {} virtual processors to a guest, not {}",
                  most, config.vcpus);
  }
  TRY_ASSIGN(Vm vm, Vm::create(kvm));
  const MemoryOptions options{config.memory_bytes, !config.filesystems.empty(), config.huge_pages};
  TRY_ASSIGN(MachineMemory memory, MachineMemory::create(options));
  TRY_ASSIGN(StopControl stop, StopControl::create());
  std::unique_ptr<Machine> machine(
      new Machine(config, std::move(kvm), std::move(vm), std::move(memory), std::move(stop)));
  TRY(machine->open_files(config));
  return machine;
}

Result<void> Machine::open_files(const MachineConfig& config) {
  TRY_ASSIGN(kernel_, open_input(config.kernel, "kernel"));
  if (is_bzimage(kernel_.get())) {
    TRY_ASSIGN(kernel_, unpack_bzimage(kernel_.get(), config.kernel));
  }
  if (!config.initramfs.empty()) {
    TRY_ASSIGN(initramfs_, open_input(config.initramfs, "initramfs"));
  }
  TRY_ASSIGN(ConsoleLog log, ConsoleLog::open(config.console_log));
  TRY(add_legacy_devices(std::move(log)));
  return make_processors();
}

Result<UniqueFd> Machine::make_line(uint32_t irq) {
  UniqueFd line(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!line) return errno_error("make an interrupt's eventfd");
  TRY(vm_.add_irqfd(irq, line.get()));
  return line;
}

Result<void> Machine::add_legacy_devices(ConsoleLog log) {
  TRY_ASSIGN(UniqueFd serial_line, make_line(layout::kSerialIrq));
  TRY_ASSIGN(UniqueFd button_line, make_line(layout::kPowerButtonIrq));
  power_button_line_ = button_line.get();
  serial_ = std::make_unique<Serial>(std::move(log), serial_line.get());
  lines_.push_back(std::move(serial_line));
  lines_.push_back(std::move(button_line));
  const bool placed = ports_.add(layout::kSerialPort, 8, serial_.get()) && ports_.add(layout::kCmosPort, 2, &clock_) &&
                      ports_.add(layout::kKeyboardPort, 5, &keyboard_) &&
                      ports_.add(layout::kPowerPort, power::kPorts, &power_);
  if (!placed) return errorf(ErrorKind::kInternal, "two devices have the same I/O port");
  return {};
}

Result<void> Machine::make_processors() {
  TRY_ASSIGN(const std::vector<kvm_cpuid_entry2> supported, kvm_.supported_cpuid());
  for (uint32_t id = 0; id < config_.vcpus; ++id) {
    TRY_ASSIGN(Vcpu vcpu, Vcpu::create(kvm_, vm_, id));
    TRY(vcpu.set_cpuid(guest_cpuid(supported, id, config_.vcpus)));
    TRY(vcpu.set_msrs(
        {{.index = kMiscEnable, .data = kFastStrings}, {.index = kMtrrDefaultType, .data = kMtrrWriteBack}}));
    processors_.push_back(std::make_unique<VcpuThread>(std::move(vcpu), &ports_, &addresses_, &stop_, &pause_));
  }
  return {};
}

Result<void> Machine::add_device(std::unique_ptr<VirtioDevice> device) {
  const size_t index = transports_.size();
  if (index >= std::size(layout::kVirtioIrqs)) {
    return errorf(ErrorKind::kInvalid, "the machine has more than {} virtio devices", std::size(layout::kVirtioIrqs));
  }
  const uint64_t window = layout::kVirtioWindows + index * layout::kVirtioWindowSize;
  TRY_ASSIGN(UniqueFd line, make_line(layout::kVirtioIrqs[index]));
  TRY_ASSIGN(auto transport, MmioTransport::create(device.get(), &memory_.guest(), line.get(),
                                                   [this](const std::function<void()>& work) { launcher_.run(work); }));
  const std::vector<int> doorbells = transport->notify_fds();
  for (size_t queue = 0; queue < doorbells.size(); ++queue) {
    TRY(vm_.add_ioeventfd(window + mmio::kQueueNotify, static_cast<uint32_t>(queue), doorbells[queue]));
  }
  if (!addresses_.add(window, layout::kVirtioWindowSize, transport.get())) {
    return errorf(ErrorKind::kInternal, "two devices have the same address");
  }
  lines_.push_back(std::move(line));
  devices_.push_back(std::move(device));
  transports_.push_back(std::move(transport));
  return {};
}

Result<void> Machine::offer_slots() {
  TRY_ASSIGN(UniqueFd line, make_line(layout::kSlotIrq));
  slot_line_ = line.get();
  lines_.push_back(std::move(line));
  slots_ = true;
  return {};
}

Result<size_t> Machine::plug(const std::function<Result<std::unique_ptr<VirtioDevice>>()>& make) {
  if (!slots_ || !loaded_slots_) return Error(ErrorKind::kInternal, "this machine has no slots");
  std::optional<Result<std::unique_ptr<VirtioDevice>>> made;
  launcher_.run([&] { made = make(); });
  TRY_ASSIGN(std::unique_ptr<VirtioDevice> device, std::move(*made));
  for (size_t i = 0; i < devices_.size(); ++i) {
    VirtioDevice& old = *devices_[i];
    if (old.has_backing() || old.id() != device->id() || !old.accepts_backing_of(*device)) continue;
    transports_[i]->change_device([&] { old.take_backing(*device); });
    return i;
  }
  if (devices_.size() >= first_slot_ + slots_count()) {
    return errorf(ErrorKind::kNoSpace,
                  "all {} slots of the machine have been used; one whose device was removed takes only a disk that is "
                  "writable or not as that one was, or a card of the same address and queue pairs",
                  slots_count());
  }
  return fill_slot(std::move(device));
}

Result<size_t> Machine::fill_slot(std::unique_ptr<VirtioDevice> device) {
  const size_t index = devices_.size(), slot = index - first_slot_;
  // The processors look the addresses up without a lock.
  const bool was_paused = pause_.wanted();
  if (!was_paused) pause();
  Result<void> added;
  launcher_.run([&] { added = add_device(std::move(device)); });
  if (added.ok()) {
    memory_.guest().store(layout::kSlotStates + slot, uint8_t{1});
    memory_.guest().store(layout::kSlotStates + slots_count() + slot, uint8_t{1});
  }
  if (!was_paused) resume();
  TRY(added);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t told = ::write(slot_line_, &one, sizeof(one));
  return index;
}

size_t Machine::slots_count() const {
  return slots_ ? std::min(layout::kMostSlots, std::size(layout::kVirtioIrqs) - first_slot_) : 0;
}

Result<void> Machine::unplug(size_t index) {
  if (index >= devices_.size()) {
    return errorf(ErrorKind::kNotFound, "the machine has no device {}: GET /devices lists those that it has", index);
  }
  VirtioDevice& device = *devices_[index];
  if (!device.replaceable()) {
    return errorf(ErrorKind::kUnsupported, "device {} is neither disk nor network card: it can't be removed", index);
  }
  if (!device.has_backing()) return errorf(ErrorKind::kConflict, "device {} has been removed before", index);
  transports_[index]->change_device([&] { device.remove_backing(); });
  return {};
}

Result<void> Machine::add_persistent_memory(std::unique_ptr<PmemDevice> device) {
  if (kvm_.has(KVM_CAP_READONLY_MEM) <= 0) {
    return errorf(ErrorKind::kUnsupported, "this kernel's KVM can't give a guest read-only memory: use a disk");
  }
  const uint64_t after = std::max({memory_.end(), layout::kHoleEnd, persistent_end_});
  const uint64_t address = (after + layout::kPersistentAlignment - 1) & ~(layout::kPersistentAlignment - 1);
  const std::span<const std::byte> bytes = device->mapping();
  persistent_end_ = address + bytes.size();
  memory_.add_read_only(address, bytes);
  device->set_guest_address(address);
  return add_device(std::move(device));
}

Result<void> Machine::write_tables() {
  AcpiMachine acpi;
  acpi.vcpus = config_.vcpus;
  for (size_t i = 0; i < transports_.size(); ++i) {
    acpi.virtio.push_back({layout::kVirtioWindows + i * layout::kVirtioWindowSize, layout::kVirtioIrqs[i]});
  }
  first_slot_ = transports_.size();
  for (size_t i = first_slot_; i < first_slot_ + slots_count(); ++i) {
    acpi.slots.push_back({layout::kVirtioWindows + i * layout::kVirtioWindowSize, layout::kVirtioIrqs[i]});
  }
  loaded_slots_ = true;
  TRY_ASSIGN(const std::vector<std::byte> tables,
             make_acpi_tables(acpi, layout::kAcpi, layout::kAcpiEnd - layout::kAcpi));
  if (!memory_.guest().write(layout::kAcpi, tables)) {
    return errorf(ErrorKind::kInternal, "the ACPI tables lie outside the guest's memory");
  }
  return {};
}

Result<uint32_t> Machine::load() {
  uint32_t slot = 0;
  for (const MemoryRegion& region : memory_.guest().regions()) {
    TRY(vm_.set_memory(slot++, region.guest_address, region.host, region.size, region.read_only));
  }
  BootFiles files;
  files.kernel_fd = kernel_.get();
  files.initramfs_fd = initramfs_ ? initramfs_.get() : -1;
  files.kernel_name = config_.kernel;
  files.initramfs_name = config_.initramfs;
  files.command_line = full_command_line(config_);
  TRY_ASSIGN(const uint32_t entry, load_boot(memory_, files));
  TRY(write_tables());
  return entry;
}

void Machine::begin_loading() {
  const auto work = [](void* self) -> void* {
    auto* machine = static_cast<Machine*>(self);
    machine->loaded_ = machine->load();
    return nullptr;
  };
  loading_ = ::pthread_create(&loader_, nullptr, work, this) == 0;
  if (!loading_) work(this);
}

Result<void> Machine::end_loading() {
  if (loading_) ::pthread_join(loader_, nullptr);
  loading_ = false;
  if (!loaded_) loaded_ = load();
  if (!loaded_->ok()) return loaded_->error();
  return {};
}

Result<void> Machine::start(ThreadHooks hooks) {
  TRY(end_loading());
  TRY(set_boot_registers(processors_.front()->vcpu(), loaded_->value()));
  kernel_.reset();
  initramfs_.reset();
  kvm_.close();
  TRY(install_kick_handler());
  pause_.set(true);
  TRY(launcher_.start(std::move(hooks.launcher)));
  for (const auto& processor : processors_) TRY(processor->start(hooks.vcpu));
  return {};
}

void Machine::finish() {
  if (finished_) return;
  if (loading_) ignore_result(end_loading());
  finished_ = true;
  stop_.stop(StopReason::kRequest);
  pause_.wake();
  for (const auto& processor : processors_) processor->kick();
  for (const auto& processor : processors_) processor->join();
  for (const auto& transport : transports_) transport->reset();
  launcher_.stop();
  serial_->flush();
}

Machine::~Machine() {
  if (serial_) finish();
}

void Machine::pause() {
  pause_.set(true);
  for (const auto& processor : processors_) processor->kick();
  pause_.wait_for(static_cast<uint32_t>(processors_.size()), stop_);
}

Result<DebugStops*> Machine::enable_debugging() {
  TRY_ASSIGN(debug_stops_, DebugStops::create());
  for (const auto& processor : processors_) processor->debug_with(debug_stops_.get());
  return debug_stops_.get();
}

void Machine::resume() { pause_.set(false); }

void Machine::press_power_button() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t done = ::write(power_button_line_, &one, sizeof(one));
}

MachineStats Machine::stats() const {
  MachineStats stats;
  stats.memory_bytes = memory_.bytes();
  stats.vcpus = config_.vcpus;
  stats.paused = pause_.wanted();
  for (const auto& processor : processors_) {
    stats.port_exits += processor->exits().port.load(std::memory_order_relaxed);
    stats.memory_exits += processor->exits().memory.load(std::memory_order_relaxed);
  }
  return stats;
}

}  // namespace hull::vmm
