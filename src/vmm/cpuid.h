#pragma once
// What a guest's processor says of itself (CPUID): the host's features as far as KVM gives them on, less what is unsafe
// or makes no sense in a guest, with this machine's own topology: one package, `vcpus` cores of one thread each.

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

namespace hull::vmm {

/// The table for the processor with this APIC id, made from what KVM supports.
std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported, uint32_t apic_id,
                                          uint32_t vcpus);

}  // namespace hull::vmm
