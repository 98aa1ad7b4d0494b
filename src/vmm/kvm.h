#pragma once
// KVM's ioctls (Linux, Documentation/virt/kvm/api.rst) with names, ownership and errors.

#include <linux/kvm.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::vmm {

/// /dev/kvm.
class Kvm {
 public:
  /// kNotFound without /dev/kvm, kPermission when it may not be opened, kUnsupported when the kernel's KVM lacks what a
  /// machine here needs; each says what to do.
  static Result<Kvm> open();
  int fd() const { return fd_.get(); }
  /// Machines that were made live on; no further one can be made.
  void close() { fd_.reset(); }
  size_t run_size() const { return run_size_; }
  /// KVM_CHECK_EXTENSION.
  int has(int capability) const;
  /// What KVM can give a guest on this host (KVM_GET_SUPPORTED_CPUID).
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;

 private:
  Kvm(UniqueFd fd, size_t run_size) : fd_(std::move(fd)), run_size_(run_size) {}
  UniqueFd fd_;
  size_t run_size_;
};

/// One virtual machine: memory slots and the interrupt controllers inside the kernel (IOAPIC and local APICs; the
/// old PIC is there too, but no line leads to it).
class Vm {
 public:
  static Result<Vm> create(const Kvm& kvm);
  int fd() const { return fd_.get(); }
  Result<void> set_memory(uint32_t slot, uint64_t guest_address, void* host, uint64_t size, bool read_only);
  /// A write to the eventfd is an edge on the IOAPIC's pin.
  Result<void> add_irqfd(uint32_t pin, int event_fd);
  /// A 4-byte write of `value` to the address is counted in the eventfd and never leaves the kernel.
  Result<void> add_ioeventfd(uint64_t address, uint32_t value, int event_fd);

 private:
  explicit Vm(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// One virtual processor and the page that it shares with the kernel.
class Vcpu {
 public:
  static Result<Vcpu> create(const Kvm& kvm, const Vm& vm, uint32_t id);
  Vcpu(Vcpu&& other) noexcept
      : fd_(std::move(other.fd_)),
        run_(std::exchange(other.run_, nullptr)),
        run_size_(other.run_size_),
        id_(other.id_) {}
  Vcpu& operator=(Vcpu&&) = delete;
  ~Vcpu();

  uint32_t id() const { return id_; }
  int fd() const { return fd_.get(); }
  kvm_run& shared() { return *run_; }
  /// KVM_RUN: 0, or an errno (EINTR: a signal or immediate_exit).
  int run();

  Result<void> set_cpuid(const std::vector<kvm_cpuid_entry2>& entries);
  Result<void> set_msrs(const std::vector<kvm_msr_entry>& entries);
  Result<kvm_regs> regs() const;
  Result<void> set_regs(const kvm_regs& regs);
  Result<kvm_sregs> sregs() const;
  Result<void> set_sregs(const kvm_sregs& sregs);
  Result<kvm_fpu> fpu() const;
  Result<void> set_fpu(const kvm_fpu& fpu);
  /// The guest-physical address of a virtual one, by the page tables as they are; nullopt where nothing is mapped.
  std::optional<uint64_t> translate(uint64_t address) const;
  Result<void> set_guest_debug(const kvm_guest_debug& debug);
  Result<kvm_lapic_state> lapic() const;
  Result<void> set_lapic(const kvm_lapic_state& state);

 private:
  Vcpu(UniqueFd fd, kvm_run* run, size_t run_size, uint32_t id)
      : fd_(std::move(fd)), run_(run), run_size_(run_size), id_(id) {}
  UniqueFd fd_;
  kvm_run* run_;
  size_t run_size_;
  uint32_t id_;
};

}  // namespace hull::vmm
