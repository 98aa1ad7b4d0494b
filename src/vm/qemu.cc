#include "vm/qemu.h"

#include <cpuid.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/layer_disk.h"
#include "vm/machine_files.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

constexpr size_t kMostDevices = 24;  // virtio-mmio transports of microvm with its second I/O APIC

/// What the machine needs of the kernel, for which FACTS of boot time are the reason: no probing of what is not there,
/// no self tests, and a reset on panic, at which -no-reboot ends QEMU.
constexpr std::string_view kCommandLine =
    "console=ttyS0 reboot=t panic=-1 quiet no_timer_check i8042.noaux i8042.nomux i8042.dumbkbd i8042.nopnp "
    "8250.nr_uarts=1 cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on";

/// Collects the arguments; each device takes one transport.
class Arguments {
 public:
  Arguments(const vmm::MachineConfig& config, const QemuPlan& plan) : config_(config), plan_(plan) {}

  Result<std::vector<std::string>> build() {
    TRY(refuse());
    machine();
    kernel();
    console();
    for (size_t i = 0; i < config_.disks.size(); ++i) TRY(disk(i));
    for (size_t i = 0; i < config_.nets.size(); ++i) TRY(net(i));
    for (size_t i = 0; i < config_.filesystems.size(); ++i) filesystem(i);
    if (plan_.vsock_fd >= 0) vsock();
    if (config_.rng) {
      add("-object", "rng-random,id=rng,filename=/dev/urandom");
      device("virtio-rng-device,rng=rng");
    }
    if (config_.balloon) device("virtio-balloon-device,free-page-reporting=on,deflate-on-oom=on");
    if (devices_ > kMostDevices) {
      return errorf(ErrorKind::kUnsupported, "{} devices: a virtual machine under QEMU has at most {}", devices_,
                    kMostDevices);
    }
    return std::move(out_);
  }

 private:
  void add(std::string option, std::string value) {
    out_.push_back(std::move(option));
    out_.push_back(std::move(value));
  }
  void device(std::string value) {
    add("-device", std::move(value));
    ++devices_;
  }

  Result<void> refuse() const {
    if (!config_.pmem.empty()) {
      return Error(ErrorKind::kUnsupported, "QEMU's microvm has no persistent memory: use a disk");
    }
    if (config_.virtio_console) {
      return Error(ErrorKind::kUnsupported, "the virtio console is hull-vmm's; QEMU's machine has the serial one");
    }
    if (!config_.api_socket.empty()) {
      return Error(ErrorKind::kUnsupported, "the control API is hull-vmm's; QEMU has none of it");
    }
    return {};
  }

  void machine() {
    out_.insert(out_.end(), {"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"});
    // acpi announces the devices to kernels without virtio_mmio.device=; pit and pic are what the kernel calibrates its
    // local timer with. A real-time clock would save the second that the kernel waits for one to answer, but with it
    // some boots stop for ever after the PCI probe.
    add("-M", "microvm,acpi=on,pit=on,pic=on,rtc=off,isa-serial=on,pcie=off,usb=off,memory-backend=memory");
    if (plan_.use_kvm) {
      add("-accel", "kvm");
      add("-cpu", "host");
    } else {
      // Translated code is memory of the host beside the guest's; without a limit it grows to a gigabyte.
      add("-accel", "tcg,thread=multi,tb-size=192");
      add("-cpu", "max");
    }
    add("-smp", fmt::format("{}", config_.vcpus));
    const uint64_t kibibytes = config_.memory_bytes / 4096 * 4;
    add("-m", fmt::format("{}K", kibibytes));
    // Shared memory, which vhost-user back ends map.
    add("-object", fmt::format("memory-backend-memfd,id=memory,size={}K,share=on{}", kibibytes,
                               config_.huge_pages ? ",hugetlb=on" : ""));
    add("-global", "virtio-mmio.force-legacy=false");
    add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
  }

  void kernel() {
    add("-kernel", config_.kernel);
    if (!config_.initramfs.empty()) add("-initrd", config_.initramfs);
    std::string line(kCommandLine);
    if (!plan_.use_kvm) {
      // The counter is the host's, unscaled, so its speed is known better than the kernel's calibration under emulation
      // can find out; that one fails now and then, and the kernel hangs.
      line += " tsc=reliable mitigations=off";
      if (plan_.tsc_khz != 0) line += fmt::format(" tsc_early_khz={}", plan_.tsc_khz);
    }
    if (!config_.command_line.empty()) line += " " + config_.command_line;
    add("-append", line);
  }

  void console() {
    std::string chardev = "null,id=console";
    if (config_.console_log == "-")
      chardev = "file,id=console,path=/dev/stdout,append=on";
    else if (!config_.console_log.empty())
      chardev = fmt::format("file,id=console,path={},append=on", qemu_escape(config_.console_log));
    add("-chardev", std::move(chardev));
    add("-serial", "chardev:console");
    if (config_.gdb.starts_with("unix:")) {
      add("-gdb", qemu_escape(config_.gdb) + ",server=on,wait=off");
    } else if (!config_.gdb.empty()) {
      add("-gdb", config_.gdb);
    }
  }

  Result<void> disk(size_t index) {
    const vmm::DiskConfig& one = config_.disks[index];
    std::string path = one.extents.front();
    std::string_view format = "raw";
    if (one.extents.size() > 1) {
      std::vector<FlatExtent> extents;
      for (const std::string& extent : one.extents) {
        struct stat info{};
        if (::stat(extent.c_str(), &info) != 0) return errnof("disk {}", extent);
        extents.push_back({extent, static_cast<uint64_t>(info.st_size)});
      }
      TRY_ASSIGN(const std::string descriptor, vmdk_descriptor(extents));
      path = fmt::format("{}/disk{}.vmdk", plan_.run_folder, index);
      TRY(sys::replace_file(path, descriptor, 0600, false));
      format = "vmdk";
    }
    std::string node = fmt::format("disk{}", index);
    add("-blockdev", fmt::format("driver={},node-name={},read-only={},discard=unmap,file.driver=file,file.filename={}",
                                 format, node, one.read_only ? "on" : "off", qemu_escape(path)));
    if (one.limit.bytes_per_second != 0 || one.limit.operations_per_second != 0) {
      std::string group = fmt::format("throttle-group,id=limit{}", index);
      if (one.limit.bytes_per_second != 0) group += fmt::format(",x-bps-total={}", one.limit.bytes_per_second);
      if (one.limit.operations_per_second != 0)
        group += fmt::format(",x-iops-total={}", one.limit.operations_per_second);
      add("-object", std::move(group));
      add("-blockdev",
          fmt::format("driver=throttle,node-name=limited{0},throttle-group=limit{0},file={1}", index, node));
      node = fmt::format("limited{}", index);
    }
    // A disk of the host's that is full is an error for the guest; by default QEMU would stop the machine for ever.
    device(fmt::format("virtio-blk-device,drive={},werror=report,rerror=report{}", node,
                       one.serial.empty() ? std::string() : ",serial=" + qemu_escape(one.serial)));
    return {};
  }

  Result<void> net(size_t index) {
    const vmm::NetConfig& one = config_.nets[index];
    if (one.limit.bytes_per_second != 0 || one.limit.operations_per_second != 0) {
      return Error(ErrorKind::kUnsupported, "QEMU limits no network device");
    }
    add("-netdev", fmt::format("tap,id=net{},fd={},vhost=off", index, one.tap_fd));
    device(fmt::format("virtio-net-device,netdev=net{}{}", index,
                       one.mac.empty() ? std::string() : ",mac=" + qemu_escape(one.mac)));
    return {};
  }

  void filesystem(size_t index) {
    const vmm::FsConfig& one = config_.filesystems[index];
    add("-chardev", fmt::format("socket,id=fs{},path={}", index, qemu_escape(one.socket)));
    device(fmt::format("vhost-user-fs-device,chardev=fs{},tag={}", index, qemu_escape(one.tag)));
  }

  void vsock() {
    add("-chardev", fmt::format("socket,id=vsock,fd={}", plan_.vsock_fd));
    device("vhost-user-vsock-device,chardev=vsock");
  }

  const vmm::MachineConfig& config_;
  const QemuPlan& plan_;
  std::vector<std::string> out_;
  size_t devices_ = 0;
};

int64_t raw_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

/// One reading of both clocks, the tightest of a few: an interruption between them spoils a pair.
struct Reading {
  int64_t ns = 0;
  uint64_t ticks = 0;
};
Reading read_clocks() {
  Reading best;
  int64_t tightest = INT64_MAX;
  for (int i = 0; i < 8; ++i) {
    const int64_t before = raw_ns();
    const uint64_t ticks = __rdtsc();
    const int64_t after = raw_ns();
    if (after - before >= tightest) continue;
    tightest = after - before;
    best = {before + (after - before) / 2, ticks};
  }
  return best;
}

/// The two ends of a vhost-user connection, connected before either process starts: nobody waits for a socket to
/// appear, and the end of one side tells the other.
struct VhostPair {
  UniqueFd front;     ///< for QEMU
  UniqueFd listener;  ///< for the back end, whose first connection is waiting
};
Result<VhostPair> make_vhost_pair(const std::string& folder) {
  TRY_ASSIGN(const UniqueFd directory, sys::open(folder, O_PATH | O_DIRECTORY));
  // Through the descriptor, because a socket's path has room for 107 bytes only.
  const std::string path = fmt::format("/proc/self/fd/{}/vsock.vhost", directory.get());
  sockaddr_un address{.sun_family = AF_UNIX};
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  VhostPair pair;
  pair.front.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  pair.listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!pair.front || !pair.listener || ::bind(pair.listener.get(), where, sizeof address) != 0 ||
      ::listen(pair.listener.get(), 1) != 0 || ::connect(pair.front.get(), where, sizeof address) != 0) {
    return errnof("connect the virtual machine's vsock in {}", folder);
  }
  ::unlink(path.c_str());
  return pair;
}

}  // namespace

std::string qemu_escape(std::string_view value) {
  std::string out;
  for (const char c : value) {
    out += c;
    if (c == ',') out += c;
  }
  return out;
}

uint32_t measure_tsc_khz() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  // "Invariant TSC", AMD APM volume 3, E.4.7.
  if (::__get_cpuid(0x80000007, &a, &b, &c, &d) == 0 || (d & 1U << 8) == 0) return 0;
  const Reading begin = read_clocks();
  Reading end = begin;
  while (end.ns - begin.ns < 1000000) end = read_clocks();
  const double khz = static_cast<double>(end.ticks - begin.ticks) * 1e6 / static_cast<double>(end.ns - begin.ns);
  return khz > 1e5 && khz < 1e8 ? static_cast<uint32_t>(khz + 0.5) : 0;
}

Result<std::vector<std::string>> qemu_arguments(const vmm::MachineConfig& config, const QemuPlan& plan) {
  return Arguments(config, plan).build();
}

Result<Machine> QemuHypervisor::start(const vmm::MachineConfig& config, const std::string& run_folder) {
  TRY(check_machine(config));
  Machine machine;
  machine.log = run_folder + "/vmm.log";
  TRY_ASSIGN(const UniqueFd log, sys::open(machine.log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  QemuPlan plan;
  plan.use_kvm = use_kvm_;
  plan.run_folder = run_folder;
  if (!use_kvm_) plan.tsc_khz = measure_tsc_khz();
  VhostPair pair;
  if (!config.vsock_socket.empty()) {
    TRY_ASSIGN(pair, make_vhost_pair(run_folder));
    plan.vsock_fd = pair.front.get();
  }
  ProcessRequest request;
  TRY_ASSIGN(request.argv, qemu_arguments(config, plan));
  request.argv.insert(request.argv.begin(), program_);
  request.keep_fds = inherited_fds(config);
  if (pair.front) request.keep_fds.push_back(pair.front.get());
  request.stderr_fd = log.get();
  request.stdout_fd = config.console_log == "-" ? 1 : log.get();
  auto started = start_process(request);
  if (!started.ok()) return std::move(started.error()).context("virtual machine");
  machine.processes.push_back({"qemu", started->pid, std::move(started->pidfd)});
  if (pair.listener) {
    ProcessRequest vsock;
    vsock.argv = {vmm_,
                  "--vhost-user",
                  "vsock",
                  "--listen-fd",
                  fmt::format("{}", pair.listener.get()),
                  "--vsock-socket",
                  config.vsock_socket,
                  "--cid",
                  fmt::format("{}", config.vsock_cid)};
    vsock.keep_fds = {pair.listener.get()};
    vsock.stdout_fd = vsock.stderr_fd = log.get();
    auto second = start_process(vsock);
    if (!second.ok()) {
      machine.kill();
      return std::move(second.error()).context("virtual machine's vsock");
    }
    machine.processes.push_back({"vsock", second->pid, std::move(second->pidfd)});
  }
  return machine;
}

}  // namespace hull::vm
