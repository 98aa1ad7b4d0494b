// The first moments of PID 1: from an initramfs with nothing mounted to a system in which the runtime library can work.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <optional>
#include <set>

#include "base/error_format.h"
#include "base/log.h"
#include "guest/linux_machine.h"
#include "guest/network.h"
#include "sys/file.h"

namespace hull::guest {
namespace {

void complain(const Result<void>& result) {
  if (!result.ok()) log_error("{}", result.error().message());
}

struct KernelMount {
  const char* type;
  const char* target;
  unsigned long flags;
  const char* options;
};

constexpr unsigned long kPlain = MS_NOSUID | MS_NODEV | MS_NOEXEC;
constexpr KernelMount kMounts[] = {
    {"devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=0755"},
    {"proc", "/proc", kPlain, ""},
    {"sysfs", "/sys", kPlain, ""},
    {"devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=0620,gid=5,ptmxmode=0666"},
    {"tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"},
    {"cgroup2", "/sys/fs/cgroup", kPlain, "nsdelegate,memory_recursiveprot"},
};

Result<void> mount_kernel_file_systems() {
  for (const KernelMount& wanted : kMounts) {
    ::mkdir(wanted.target, 0755);
    if (::mount(wanted.type, wanted.target, wanted.type, wanted.flags, wanted.options) != 0 && errno != EBUSY) {
      return errnof("mount {}", wanted.target);
    }
  }
  return {};
}

/// pivot_root(2) refuses to leave the initramfs, which has no mount below it. So it is mounted a second time on top of
/// itself; nothing is copied.
Result<void> stand_on_a_mount() {
  ::mkdir("/hull-root", 0700);
  if (::mount("/", "/hull-root", nullptr, MS_BIND, nullptr) != 0 || ::chdir("/hull-root") != 0 ||
      ::mount(".", "/", nullptr, MS_MOVE, nullptr) != 0 || ::chroot(".") != 0 || ::chdir("/") != 0) {
    return errno_error("mount the initramfs on itself");
  }
  ::rmdir("/hull-root");
  return {};
}

/// A module that is built in, or not in this kernel, is no reason to stop: what needs it will tell.
Result<void> load_module(const std::string& name) {
  const std::string path = "/modules/" + name + (name.ends_with(".ko") ? "" : ".ko");
  auto fd = sys::open(path, O_RDONLY);
  if (!fd.ok()) return fd.error().error_number() == ENOENT ? Result<void>() : std::move(fd).error();
  const long loaded = ::syscall(SYS_finit_module, fd->get(), "", 0);
  const int error = errno;
  ::unlink(path.c_str());  // its memory is the initramfs's
  if (loaded != 0 && error != EEXIST) return Error::from_errno(error, "load the module " + name);
  return {};
}

/// The ids of the virtio devices that are there ("/sys/bus/virtio/devices/virtio0/device" holds "0x0001").
std::set<std::string> virtio_devices() {
  std::set<std::string> ids;
  for (int number = 0; number < 64; ++number) {
    const auto id = sys::read_file(fmt::format("/sys/bus/virtio/devices/virtio{}/device", number), 64);
    if (id.ok()) ids.insert(std::to_string(std::strtoul(id->c_str(), nullptr, 16)));
  }
  return ids;
}

/// One line of the order: "<name>.ko", or "<name>.ko ID..." for a module that only machines with one of these virtio
/// devices need. Loading costs time and memory.
void load_line(std::string_view line, std::optional<std::set<std::string>>* devices) {
  const std::string_view name = line.substr(0, line.find(' '));
  if (name.empty() || name.find('/') != std::string_view::npos) return;
  bool wanted = name.size() == line.size();
  // The transport, which finds the devices, comes before the first of these lines.
  if (!wanted && !devices->has_value()) *devices = virtio_devices();
  for (std::string_view rest = line.substr(name.size()); !wanted && !rest.empty();) {
    rest.remove_prefix(1);
    const std::string_view id = rest.substr(0, rest.find(' '));
    wanted = (*devices)->contains(std::string(id));
    rest.remove_prefix(id.size());
  }
  if (wanted) {
    complain(load_module(std::string(name)));
  } else {
    ::unlink(fmt::format("/modules/{}", name).c_str());
  }
}

void load_modules() {
  const auto order = sys::read_file("/modules/order", 64 << 10);
  if (!order.ok()) return;
  std::string_view rest = *order;
  std::optional<std::set<std::string>> devices;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    load_line(line, &devices);
  }
}

/// What the kernel gives its first process is meant for small systems and grows with the machine's memory; control
/// groups limit the workload.
void raise_limits() {
  constexpr rlim_t kFiles = 1048576, kUsual = 1024;
  const rlimit files{kUsual, kFiles}, processes{RLIM_INFINITY, RLIM_INFINITY};
  ::setrlimit(RLIMIT_NOFILE, &files);
  ::setrlimit(RLIMIT_NPROC, &processes);
  ::setrlimit(RLIMIT_SIGPENDING, &processes);
}

void open_console() {
  for (int fd = 0; fd < 3; ++fd) {
    struct stat info{};
    if (::fstat(fd, &info) == 0) continue;
    if (::open("/dev/console", O_RDWR) < 0 && ::open("/dev/null", O_RDWR) < 0) return;
  }
}

}  // namespace

void boot_machine() {
  ::umask(022);
  // Before anything is mounted below: a bind mount of the root alone shows none of it.
  const Result<void> stands = stand_on_a_mount();
  const Result<void> mounted = mount_kernel_file_systems();
  open_console();
  complain(stands);
  complain(mounted);
  load_modules();
  raise_limits();
  complain(bring_up_loopback());
}

}  // namespace hull::guest
