// Which hypervisor serves here, and why.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/hypervisor.h"
#include "vm/kvm.h"
#include "vm/qemu.h"

namespace hull::vm {
namespace {

constexpr std::string_view kInstallQemu = "install QEMU (the package qemu-system-x86)";

/// Why KVM can't run a stock guest kernel here; "" when it can.
std::string kvm_obstacle(const HostVirtualization& host) {
  if (!host.kvm_device) {
    return host.processor_helps ? "/dev/kvm is missing (the kernel module for KVM is not loaded)"
                                : "/dev/kvm is missing and this machine's processor offers no virtualization";
  }
  if (!host.kvm_allowed) return fmt::format("/dev/kvm can't be opened ({})", host.kvm_error);
  if (host.kvm_pvm) {
    return "KVM here is kvm_pvm, which works without the processor's help and runs no stock guest kernel";
  }
  return {};
}

bool has_word(std::string_view text, std::string_view word) {
  for (size_t at = text.find(word); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || text[at - 1] == ' ' || text[at - 1] == '\t') &&
        (end == text.size() || text[end] == ' ' || text[end] == '\n')) {
      return true;
    }
  }
  return false;
}

Result<Choice> with_kvm(const Programs& programs) {
  if (::access(programs.vmm.c_str(), X_OK) != 0) {
    return errorf(ErrorKind::kUnsupported, "{} is missing: install Hull again, or set HULL_LIBEXEC", programs.vmm);
  }
  Choice choice;
  choice.hypervisor = std::make_unique<KvmHypervisor>(programs.vmm);
  choice.reason = "KVM is there: using hull-vmm";
  return choice;
}

Choice with_qemu(const Programs& programs, const HostVirtualization& host, std::string reason) {
  Choice choice;
  choice.hypervisor = std::make_unique<QemuHypervisor>(programs.qemu, programs.vmm, host.runs_stock_kernels());
  choice.reason = std::move(reason);
  choice.emulated = !host.runs_stock_kernels();
  return choice;
}

}  // namespace

HostVirtualization probe_host(const std::string& root) {
  HostVirtualization host;
  const std::string device = root + "/dev/kvm";
  host.kvm_device = ::access(device.c_str(), F_OK) == 0;
  if (host.kvm_device) {
    const UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    host.kvm_allowed = fd.valid();
    if (!fd) host.kvm_error = std::strerror(errno);
  }
  // Only the first processor's lines are looked at.
  const UniqueFd file(::open((root + "/proc/cpuinfo").c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(16 << 10, '\0');
  const ssize_t got = file ? ::pread(file.get(), text.data(), text.size(), 0) : 0;
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  const size_t flags = text.find("\nflags");
  if (flags != std::string::npos) {
    const std::string_view line = std::string_view(text).substr(flags + 1, text.find('\n', flags + 1) - flags - 1);
    host.processor_helps = has_word(line, "vmx") || has_word(line, "svm");
  }
  const bool pvm = sys::exists(root + "/sys/module/kvm_pvm");
  const bool real = sys::exists(root + "/sys/module/kvm_intel") || sys::exists(root + "/sys/module/kvm_amd");
  // Modules may be built in; then the processor's flags decide.
  host.kvm_pvm = pvm && !(real && host.processor_helps);
  return host;
}

Result<Choice> choose_hypervisor(std::string_view wanted) {
  return choose_hypervisor(wanted, probe_host(), find_programs());
}

Result<Choice> choose_hypervisor(std::string_view wanted, const HostVirtualization& host, const Programs& programs) {
  const std::string obstacle = kvm_obstacle(host);
  if (wanted == "kvm") {
    if (obstacle.empty()) return with_kvm(programs);
    // kvm_pvm runs guests that know it (or bare-metal ones): whoever names KVM gets it.
    if (host.kvm_allowed) {
      TRY_ASSIGN(Choice choice, with_kvm(programs));
      choice.reason = obstacle + ": a stock guest kernel will not boot";
      return choice;
    }
    return errorf(ErrorKind::kUnsupported,
                  "{}: --hypervisor auto or qemu runs the virtual machine in software emulation", obstacle);
  }
  if (wanted == "qemu") {
    if (programs.qemu.empty()) return errorf(ErrorKind::kUnsupported, "QEMU is not installed: {}", kInstallQemu);
    return with_qemu(programs, host,
                     obstacle.empty() ? std::string("QEMU was asked for, and uses KVM")
                                      : obstacle + ": using QEMU's software emulation, which is slower");
  }
  if (!wanted.empty() && wanted != "auto") {
    return errorf(ErrorKind::kInvalid, "hypervisor \"{:.40}\": expected auto, kvm or qemu", wanted);
  }
  if (obstacle.empty()) return with_kvm(programs);
  if (programs.qemu.empty()) {
    return errorf(ErrorKind::kUnsupported, "no virtual machine can run here: {}, and QEMU is not installed: {}",
                  obstacle, kInstallQemu);
  }
  return with_qemu(programs, host, obstacle + ": using QEMU's software emulation, which is slower");
}

}  // namespace hull::vm
