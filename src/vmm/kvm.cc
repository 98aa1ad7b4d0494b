#include "vmm/kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cstring>

#include "base/error_format.h"
#include "vmm/layout.h"

namespace hull::vmm {

namespace {
constexpr int kApiVersion = 12;
constexpr size_t kMostCpuidEntries = 256;

struct Needed {
  int capability;
  const char* name;
};
constexpr Needed kNeeded[] = {{KVM_CAP_USER_MEMORY, "user memory"},
                              {KVM_CAP_IRQCHIP, "interrupt controllers"},
                              {KVM_CAP_IRQFD, "irqfd"},
                              {KVM_CAP_IOEVENTFD, "ioeventfd"},
                              {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
                              {KVM_CAP_EXT_CPUID, "CPUID"},
                              {KVM_CAP_SET_TSS_ADDR, "TSS address"},
                              {KVM_CAP_IRQ_ROUTING, "interrupt routing"},
                              {KVM_CAP_TSC_DEADLINE_TIMER, "TSC deadline"}};

/// An ioctl whose argument is a pointer or a number; -1 and errno as ioctl(2).
template <typename T>
int control(int fd, unsigned long request, T argument) {
  int done = 0;
  do {
    done = ::ioctl(fd, request, argument);
  } while (done < 0 && errno == EINTR);
  return done;
}

template <typename T>
Result<T> get(int fd, unsigned long request, const char* what) {
  T out{};
  if (control(fd, request, &out) < 0) return errno_error(what);
  return out;
}

template <typename T>
Result<void> set(int fd, unsigned long request, const T& value, const char* what) {
  if (control(fd, request, &value) < 0) return errno_error(what);
  return {};
}

/// KVM's tables: a count, four more bytes, then the entries. Linux's own structs for them (kvm_cpuid2, kvm_msrs,
/// kvm_irq_routing) have another size in C++ than in C, since their flexible array is wrapped in an empty struct; so
/// the ioctl numbers, which hold that size, are made here.
struct TableHeader {
  uint32_t count = 0, flags = 0;
};
constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, TableHeader);
constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6a, TableHeader);
constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, TableHeader);
constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, TableHeader);

template <typename Entry>
class Table {
 public:
  explicit Table(size_t count) : bytes_(sizeof(TableHeader) + count * sizeof(Entry)) {
    const TableHeader header{static_cast<uint32_t>(count), 0};
    std::memcpy(bytes_.data(), &header, sizeof(header));
  }
  explicit Table(const std::vector<Entry>& entries) : Table(entries.size()) {
    if (entries.empty()) return;
    std::memcpy(bytes_.data() + sizeof(TableHeader), entries.data(), entries.size() * sizeof(Entry));
  }
  void* data() { return bytes_.data(); }
  std::vector<Entry> entries() const {
    TableHeader header;
    std::memcpy(&header, bytes_.data(), sizeof(header));
    std::vector<Entry> out(header.count);
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + sizeof(header), out.size() * sizeof(Entry));
    return out;
  }

 private:
  std::vector<std::byte> bytes_;  // from operator new: aligned for any entry
};

/// Every line ends at the IOAPIC's pin of the same number: a guest that never programs the PIC is never disturbed by
/// it.
Result<void> route_lines(int fd) {
  std::vector<kvm_irq_routing_entry> entries;
  for (uint32_t pin = 0; pin < layout::kIoApicPins; ++pin) {
    kvm_irq_routing_entry& entry = entries.emplace_back();
    entry.gsi = pin;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
    entry.u.irqchip.pin = pin;
  }
  Table<kvm_irq_routing_entry> table(entries);
  if (control(fd, kSetGsiRouting, table.data()) < 0) return errno_error("route the machine's interrupt lines");
  return {};
}
}  // namespace

Result<Kvm> Kvm::open() {
  UniqueFd fd(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT || errno == ENXIO || errno == ENODEV) {
      return errorf(ErrorKind::kNotFound,
                    "/dev/kvm is missing: load the module kvm_intel or kvm_amd, switch virtualization on in the "
                    "firmware, or run with --hypervisor qemu");
    }
    if (errno == EACCES || errno == EPERM) {
      return errorf(ErrorKind::kPermission,
                    "/dev/kvm may not be opened: join the group kvm, or run with --hypervisor qemu");
    }
    return errnof("open /dev/kvm");
  }
  if (const int version = control(fd.get(), KVM_GET_API_VERSION, 0); version != kApiVersion) {
    return errorf(ErrorKind::kUnsupported, "/dev/kvm has API version {}, not {}", version, kApiVersion);
  }
  for (const Needed& needed : kNeeded) {
    if (control(fd.get(), KVM_CHECK_EXTENSION, needed.capability) <= 0) {
      return errorf(ErrorKind::kUnsupported, "this kernel's KVM has no {} (capability {})", needed.name,
                    needed.capability);
    }
  }
  const int size = control(fd.get(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (size < static_cast<int>(sizeof(kvm_run))) return errnof("ask KVM for the size of its shared page");
  return Kvm(std::move(fd), static_cast<size_t>(size));
}

int Kvm::has(int capability) const { return control(fd_.get(), KVM_CHECK_EXTENSION, capability); }

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
  Table<kvm_cpuid_entry2> table(kMostCpuidEntries);
  if (control(fd_.get(), kGetSupportedCpuid, table.data()) < 0) return errno_error("ask KVM for CPUID");
  return table.entries();
}

Result<Vm> Vm::create(const Kvm& kvm) {
  int raw = 0;
  do {  // a signal that comes in between makes it fail with EINTR
    raw = ::ioctl(kvm.fd(), KVM_CREATE_VM, 0ul);
  } while (raw < 0 && errno == EINTR);
  if (raw < 0) return errnof("make a virtual machine (KVM_CREATE_VM)");
  UniqueFd fd(raw);
  uint64_t identity_map = layout::kIdentityMap;
  if (control(fd.get(), KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0) return errnof("KVM_SET_IDENTITY_MAP_ADDR");
  if (control(fd.get(), KVM_SET_TSS_ADDR, static_cast<unsigned long>(layout::kTaskState)) < 0) {
    return errnof("KVM_SET_TSS_ADDR");
  }
  if (control(fd.get(), KVM_CREATE_IRQCHIP, 0) < 0)
    return errnof("make the interrupt controllers (KVM_CREATE_IRQCHIP)");
  TRY(route_lines(fd.get()));
  return Vm(std::move(fd));
}

Result<void> Vm::set_memory(uint32_t slot, uint64_t guest_address, void* host, uint64_t size, bool read_only) {
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.flags = read_only ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = guest_address;
  region.memory_size = size;
  region.userspace_addr = reinterpret_cast<uintptr_t>(host);
  if (control(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region) < 0) {
    return errnof("give the guest {} bytes of memory at {:#x}", size, guest_address);
  }
  return {};
}

Result<void> Vm::add_irqfd(uint32_t pin, int event_fd) {
  kvm_irqfd irqfd{};
  irqfd.fd = static_cast<uint32_t>(event_fd);
  irqfd.gsi = pin;
  return set(fd_.get(), KVM_IRQFD, irqfd, "connect an interrupt line (KVM_IRQFD)");
}

Result<void> Vm::add_ioeventfd(uint64_t address, uint32_t value, int event_fd) {
  kvm_ioeventfd event{};
  event.datamatch = value;
  event.addr = address;
  event.len = 4;
  event.fd = event_fd;
  event.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
  return set(fd_.get(), KVM_IOEVENTFD, event, "connect a doorbell (KVM_IOEVENTFD)");
}

Result<Vcpu> Vcpu::create(const Kvm& kvm, const Vm& vm, uint32_t id) {
  const int raw = control(vm.fd(), KVM_CREATE_VCPU, static_cast<unsigned long>(id));
  if (raw < 0) return errnof("make virtual processor {} (KVM_CREATE_VCPU)", id);
  UniqueFd fd(raw);
  void* shared = ::mmap(nullptr, kvm.run_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (shared == MAP_FAILED) return errnof("map virtual processor {}'s shared page", id);
  return Vcpu(std::move(fd), static_cast<kvm_run*>(shared), kvm.run_size(), id);
}

Vcpu::~Vcpu() {
  if (run_ != nullptr) ::munmap(run_, run_size_);
}

int Vcpu::run() { return ::ioctl(fd_.get(), KVM_RUN, 0) < 0 ? errno : 0; }

Result<void> Vcpu::set_cpuid(const std::vector<kvm_cpuid_entry2>& entries) {
  Table<kvm_cpuid_entry2> table(entries);
  if (control(fd_.get(), kSetCpuid2, table.data()) < 0) return errnof("set CPUID of virtual processor {}", id_);
  return {};
}

Result<void> Vcpu::set_msrs(const std::vector<kvm_msr_entry>& entries) {
  Table<kvm_msr_entry> table(entries);
  const int done = control(fd_.get(), kSetMsrs, table.data());
  if (done < 0) return errnof("set registers of virtual processor {}", id_);
  if (static_cast<size_t>(done) != entries.size()) {
    return errorf(ErrorKind::kUnsupported, "KVM refuses model-specific register {:#x}",
                  entries[static_cast<size_t>(done)].index);
  }
  return {};
}

Result<kvm_regs> Vcpu::regs() const { return get<kvm_regs>(fd_.get(), KVM_GET_REGS, "KVM_GET_REGS"); }
Result<void> Vcpu::set_regs(const kvm_regs& regs) { return set(fd_.get(), KVM_SET_REGS, regs, "KVM_SET_REGS"); }
Result<kvm_sregs> Vcpu::sregs() const { return get<kvm_sregs>(fd_.get(), KVM_GET_SREGS, "KVM_GET_SREGS"); }
Result<void> Vcpu::set_sregs(const kvm_sregs& sregs) { return set(fd_.get(), KVM_SET_SREGS, sregs, "KVM_SET_SREGS"); }
Result<kvm_fpu> Vcpu::fpu() const { return get<kvm_fpu>(fd_.get(), KVM_GET_FPU, "KVM_GET_FPU"); }
Result<void> Vcpu::set_fpu(const kvm_fpu& fpu) { return set(fd_.get(), KVM_SET_FPU, fpu, "KVM_SET_FPU"); }

std::optional<uint64_t> Vcpu::translate(uint64_t address) const {
  kvm_translation translation{};
  translation.linear_address = address;
  if (control(fd_.get(), KVM_TRANSLATE, &translation) < 0 || translation.valid == 0) return std::nullopt;
  return translation.physical_address;
}

Result<void> Vcpu::set_guest_debug(const kvm_guest_debug& debug) {
  return set(fd_.get(), KVM_SET_GUEST_DEBUG, debug, "KVM_SET_GUEST_DEBUG");
}

Result<kvm_lapic_state> Vcpu::lapic() const { return get<kvm_lapic_state>(fd_.get(), KVM_GET_LAPIC, "KVM_GET_LAPIC"); }
Result<void> Vcpu::set_lapic(const kvm_lapic_state& state) {
  return set(fd_.get(), KVM_SET_LAPIC, state, "KVM_SET_LAPIC");
}

}  // namespace hull::vmm
