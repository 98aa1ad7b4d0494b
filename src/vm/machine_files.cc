#include "vm/machine_files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/file.h"
#include "sys/process.h"
#include "vm/hypervisor.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

constexpr std::string_view kOwnFd = "/proc/self/fd/";
constexpr off_t kMostTail = 16 << 10;

Result<void> check_file(const std::string& path, std::string_view what, bool writable) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return errnof("{} {}", what, path);
  if (!S_ISREG(info.st_mode)) return errorf(ErrorKind::kInvalid, "{} {} is not a regular file", what, path);
  if (info.st_size == 0) return errorf(ErrorKind::kCorrupt, "{} {} is empty", what, path);
  if (::access(path.c_str(), writable ? R_OK | W_OK : R_OK) != 0) return errnof("{} {}", what, path);
  return {};
}

void add_fd(const std::string& path, std::vector<int>* fds) {
  if (!path.starts_with(kOwnFd)) return;
  const auto number = parse_int(std::string_view(path).substr(kOwnFd.size()), 3, 1 << 20);
  if (number.ok()) fds->push_back(static_cast<int>(*number));
}

}  // namespace

Result<void> check_machine(const vmm::MachineConfig& config) {
  const auto pages = static_cast<uint64_t>(std::max(::sysconf(_SC_PHYS_PAGES), 0L));
  const uint64_t host = pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (config.memory_bytes < kLeastMemoryBytes) {
    return errorf(ErrorKind::kInvalid, "{} of memory are too little for a virtual machine: at least {}",
                  format_size_binary(config.memory_bytes), format_size_binary(kLeastMemoryBytes));
  }
  if (config.memory_bytes > host) {
    return errorf(ErrorKind::kInvalid, "{} of memory for a virtual machine are more than this machine has ({})",
                  format_size_binary(config.memory_bytes), format_size_binary(host));
  }
  if (config.vcpus < 1 || config.vcpus > kMostVcpus) {
    return errorf(ErrorKind::kInvalid, "{} virtual processors: expected 1 to {}", config.vcpus, kMostVcpus);
  }
  TRY(check_file(config.kernel, "the guest kernel", false));
  if (!config.initramfs.empty()) TRY(check_file(config.initramfs, "the initramfs", false));
  for (const vmm::DiskConfig& disk : config.disks) {
    if (disk.extents.empty()) return Error(ErrorKind::kInvalid, "a disk without a file");
    for (const std::string& extent : disk.extents) TRY(check_file(extent, "disk", !disk.read_only));
  }
  for (const std::string& path : config.pmem) TRY(check_file(path, "persistent memory", false));
  return {};
}

std::vector<int> inherited_fds(const vmm::MachineConfig& config) {
  std::vector<int> fds;
  for (const vmm::NetConfig& net : config.nets) {
    if (net.tap_fd >= 0) fds.push_back(net.tap_fd);
  }
  for (const vmm::DiskConfig& disk : config.disks) {
    for (const std::string& extent : disk.extents) add_fd(extent, &fds);
  }
  for (const std::string& path : config.pmem) add_fd(path, &fds);
  add_fd(config.kernel, &fds);
  add_fd(config.initramfs, &fds);
  add_fd(config.console_log, &fds);
  std::sort(fds.begin(), fds.end());
  fds.erase(std::unique(fds.begin(), fds.end()), fds.end());
  return fds;
}

std::string last_lines(const std::string& path, int lines) {
  // Opened without waiting: the file may have been replaced by something else.
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info{};
  if (!file || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  std::string text(static_cast<size_t>(std::min(info.st_size, kMostTail)), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), info.st_size - static_cast<off_t>(text.size()));
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  // The guest wrote it: nothing that a terminal acts on.
  std::erase_if(text, [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7F; });
  while (text.ends_with('\n')) text.pop_back();
  size_t at = text.size();
  for (int i = 0; i < lines && at != std::string::npos && at > 0; ++i) at = text.rfind('\n', at - 1);
  if (at != std::string::npos && at > 0) text.erase(0, at + 1);

  return text;
}

Error machine_failure(const Machine& machine, int wait_status, const std::string& console_log) {
  const bool killed = (wait_status & 0x7F) != 0;
  const int number = killed ? wait_status & 0x7F : wait_status >> 8 & 0xFF;
  const std::string name = machine.processes.empty() ? "the virtual machine monitor" : machine.vmm().name;
  // What matters is the line of the panic and what came just before; the registers and the stack follow it.
  const std::string console = last_lines(console_log, 200);
  if (const size_t panic = console.find("Kernel panic"); panic != std::string::npos) {
    size_t begin = panic;
    for (int line = 0; line < 4 && begin != std::string::npos && begin > 0; ++line)
      begin = console.rfind('\n', begin - 1);
    begin = begin == std::string::npos || begin == 0 ? 0 : begin + 1;
    size_t end = panic;
    for (int line = 0; line < 4 && end != std::string::npos; ++line) end = console.find('\n', end + 1);
    return errorf(ErrorKind::kUnavailable, "the guest's kernel panicked; from its console:\n{}",
                  console.substr(begin, end == std::string::npos ? end : end - begin));
  }
  const std::string said = last_lines(machine.log, 6);
  if (killed && number == SIGKILL) {
    return errorf(ErrorKind::kUnavailable, "{} was killed: when nobody did it, the machine was out of memory{}{}", name,
                  said.empty() ? "" : "; it said: ", said);
  }
  return errorf(ErrorKind::kUnavailable, "{} ended with {} {}{}{}", name, killed ? "signal" : "exit code", number,
                said.empty() ? "" : ": ", said);
}

void Machine::kill() {
  for (const MachineProcess& process : processes) ignore_result(sys::pidfd_signal(process.pidfd.get(), SIGKILL));
  for (const MachineProcess& process : processes) ignore_result(wait_process(process.pidfd.get()));
  processes.clear();
}

}  // namespace hull::vm
