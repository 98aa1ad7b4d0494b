#include "vmm/cpuid.h"

#include <algorithm>
#include <bit>

namespace hull::vmm {

namespace {
constexpr uint32_t bit(unsigned number) { return 1u << number; }

// Leaf 1.
constexpr uint32_t kMonitor = bit(3), kDtes64 = bit(2), kDsCpl = bit(4), kVmx = bit(5), kSmx = bit(6), kEist = bit(7),
                   kTm2 = bit(8), kSdbg = bit(11), kPdcm = bit(15), kTscDeadline = bit(24), kHypervisor = bit(31);
constexpr uint32_t kDebugStore = bit(21), kAcpiThermal = bit(22), kHtt = bit(28), kTm = bit(29), kPbe = bit(31);
// Leaf 7: transactional memory is a side channel; SGX, memory protection extensions, cache monitoring and processor
// trace belong to the host.
constexpr uint32_t kSgx = bit(2), kHle = bit(4), kRtm = bit(11), kRdtM = bit(12), kMpx = bit(14), kRdtA = bit(15),
                   kProcessorTrace = bit(25);
constexpr uint32_t kWaitPkg = bit(5), kKeyLocker = bit(23), kSgxLaunch = bit(30);
constexpr uint32_t kHybrid = bit(15), kTsxForceAbort = bit(13), kPconfig = bit(18), kArchLbr = bit(19);
// Leaf 0x80000001 (AMD): nested virtualization, and instruction-based sampling and other counters of the host.
constexpr uint32_t kCmpLegacy = bit(1), kSvm = bit(2), kIbs = bit(10), kSkinit = bit(12), kWdt = bit(13),
                   kLwp = bit(15), kPerfCore = bit(23), kPerfNb = bit(24), kPerfTsc = bit(27), kPerfLlc = bit(28),
                   kMwaitX = bit(29);

/// Bits that a number below `count` needs.
uint32_t id_bits(uint32_t count) { return static_cast<uint32_t>(std::bit_width(count - 1)); }

void zero(kvm_cpuid_entry2& entry) { entry.eax = entry.ebx = entry.ecx = entry.edx = 0; }

void fix_basic(kvm_cpuid_entry2& entry, uint32_t apic_id, uint32_t vcpus) {
  entry.ecx &= ~(kMonitor | kDtes64 | kDsCpl | kVmx | kSmx | kEist | kTm2 | kSdbg | kPdcm);
  entry.ecx |= kTscDeadline | kHypervisor;
  entry.edx &= ~(kDebugStore | kAcpiThermal | kHtt | kTm | kPbe);
  if (vcpus > 1) entry.edx |= kHtt;
  const uint32_t flush_size = entry.ebx & 0xff00;
  entry.ebx = (entry.ebx & 0xff) | flush_size | (std::bit_ceil(vcpus) << 16) | (apic_id << 24);
}

/// Leaf 4 (Intel) and 0x8000001D (AMD) have one form: bits 25:14 count the threads that share a cache.
void fix_cache(kvm_cpuid_entry2& entry, uint32_t vcpus, bool intel) {
  if ((entry.eax & 0x1f) == 0) return zero(entry);
  const uint32_t level = (entry.eax >> 5) & 7;
  const uint32_t sharing = level >= 3 ? std::bit_ceil(vcpus) - 1 : 0;
  entry.eax &= 0x3fff;
  entry.eax |= sharing << 14;
  if (intel) entry.eax |= (std::bit_ceil(vcpus) - 1) << 26;
}

void fix_features(kvm_cpuid_entry2& entry) {
  if (entry.index != 0) return;
  entry.ebx &= ~(kSgx | kHle | kRtm | kRdtM | kMpx | kRdtA | kProcessorTrace);
  entry.ecx &= ~(kWaitPkg | kKeyLocker | kSgxLaunch);
  entry.edx &= ~(kHybrid | kTsxForceAbort | kPconfig | kArchLbr);
}

/// Leaves 0xB and 0x1F: threads, then cores, then the end.
void add_topology(std::vector<kvm_cpuid_entry2>& out, uint32_t leaf, uint32_t apic_id, uint32_t vcpus) {
  for (uint32_t level = 0; level < 3; ++level) {
    kvm_cpuid_entry2 entry{};
    entry.function = leaf;
    entry.index = level;
    entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
    entry.edx = apic_id;
    entry.ecx = level;
    if (level == 0) {
      entry.ebx = 1;
      entry.ecx |= 1 << 8;  // a thread
    } else if (level == 1) {
      entry.eax = id_bits(vcpus);
      entry.ebx = vcpus;
      entry.ecx |= 2 << 8;  // a core
    }
    out.push_back(entry);
  }
}

/// False for a leaf that a guest does not get at all (it then reads as zeroes).
bool is_kept(uint32_t leaf) {
  switch (leaf) {
    case 0x3:         // serial number
    case 0x5:         // monitor/mwait
    case 0x9:         // direct cache access
    case 0xa:         // performance counters
    case 0xb:         // made anew
    case 0xf:         // cache monitoring
    case 0x10:        // cache allocation
    case 0x12:        // SGX
    case 0x14:        // processor trace
    case 0x19:        // key locker
    case 0x1a:        // hybrid
    case 0x1b:        // PCONFIG
    case 0x1c:        // branch records
    case 0x1f:        // made anew
    case 0x8000000a:  // nested virtualization
    case 0x8000001b:  // instruction-based sampling
    case 0x8000001c:  // lightweight profiling
    case 0x8000001f:  // memory encryption
    case 0x80000020:  // quality of service
    case 0x80000022:  // performance counters
      return false;
    default:
      return true;
  }
}

void fix_extended(kvm_cpuid_entry2& entry, uint32_t apic_id, uint32_t vcpus) {
  switch (entry.function) {
    case 0x80000001:
      entry.ecx &=
          ~(kCmpLegacy | kSvm | kIbs | kSkinit | kWdt | kLwp | kPerfCore | kPerfNb | kPerfTsc | kPerfLlc | kMwaitX);
      break;
    case 0x80000008:
      entry.ecx = (vcpus - 1) | (id_bits(vcpus) << 12);
      break;
    case 0x8000001d:
      fix_cache(entry, vcpus, false);
      break;
    case 0x8000001e:
      entry.eax = apic_id;
      entry.ebx = apic_id;  // core id; one thread a core
      entry.ecx = 0;        // one node
      entry.edx = 0;
      break;
    default:
      break;
  }
}
}  // namespace

std::vector<kvm_cpuid_entry2> guest_cpuid(const std::vector<kvm_cpuid_entry2>& supported, uint32_t apic_id,
                                          uint32_t vcpus) {
  std::vector<kvm_cpuid_entry2> out;
  out.reserve(supported.size() + 8);
  uint32_t highest = 0;
  bool amd = false;
  for (kvm_cpuid_entry2 entry : supported) {
    if (!is_kept(entry.function)) continue;
    if (entry.function == 0) {
      highest = entry.eax;
      amd = entry.ecx == 0x444d4163;  // "cAMD", the end of AuthenticAMD
      // The topology leaf is there also where the host's processor has none: without it a guest takes the count of
      // leaf 1, which is rounded up, for the number of its processors.
      highest = std::max(highest, 0xbu);
      entry.eax = highest;
    }
    if (entry.function == 1) fix_basic(entry, apic_id, vcpus);
    if (entry.function == 4) fix_cache(entry, vcpus, true);
    if (entry.function == 6) {
      entry.eax &= bit(2);  // the APIC timer does not stop
      entry.ebx = entry.ecx = entry.edx = 0;
    }
    if (entry.function == 7) fix_features(entry);
    fix_extended(entry, apic_id, vcpus);
    if (entry.function == 0x80000001 && amd && vcpus > 1) entry.ecx |= kCmpLegacy;
    out.push_back(entry);
  }
  add_topology(out, 0xb, apic_id, vcpus);
  if (highest >= 0x1f) add_topology(out, 0x1f, apic_id, vcpus);
  return out;
}

}  // namespace hull::vmm
