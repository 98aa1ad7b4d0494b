// Installs Debian's kernel package into a store of its own and boots it under QEMU's software emulation, down to the
// first line of a PID 1 of ours, with the layers' disk and the writable disk.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/hypervisor.h"
#include "vm/kernel/install.h"
#include "vm/layer_disk.h"
#include "vm/qemu.h"
#include "vm/scratch_disk.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

constexpr const char* kPackage = HULL_SOURCE_DIR "/build/cache/linux-image.deb";
constexpr const char* kGuest = HULL_BUILD_DIR "/src/vm/test_guest/hull-test-guest";

/// One installation for all tests: unpacking takes seconds.
class GuestKernelTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ::setenv("HULL_LIBEXEC", HULL_BUILD_DIR "/bin", 1);
    std::string name = testing::TempDir() + "guest-kernel-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    fs::copy_file(kGuest, root_ + "/guest");
    ASSERT_EQ(::system(("strip " + root_ + "/guest").c_str()), 0);
    InstallRequest request;
    request.data_root = root_ + "/data";
    request.source = kPackage;
    request.guest = root_ + "/guest";
    const auto kernel = install_kernel(request);
    ASSERT_TRUE(kernel.ok()) << kernel.error().message();
    kernel_ = *kernel;
  }
  static void TearDownTestSuite() { fs::remove_all(root_); }
  void SetUp() override { ASSERT_FALSE(kernel_.name.empty()) << "the installation failed"; }

  vmm::MachineConfig machine() const {
    vmm::MachineConfig config;
    config.memory_bytes = 128 << 20;
    config.vcpus = 2;
    config.kernel = kernel_.vmlinux;
    config.initramfs = kernel_.initramfs;
    config.console_log = folder_ + "/console";
    return config;
  }
  /// Starts under emulation; the caller waits.
  Result<Machine> start(const vmm::MachineConfig& config) const {
    const Programs programs = find_programs();
    return QemuHypervisor(programs.qemu, programs.vmm, false).start(config, folder_);
  }
  /// Boots to the end; what the console said.
  std::string boot(const vmm::MachineConfig& config, int* status = nullptr) const {
    auto started = start(config);
    EXPECT_TRUE(started.ok()) << started.error().message();
    if (!started.ok()) return {};
    pollfd waiting = {started->vmm().pidfd.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&waiting, 1, 240000), 1) << "the machine does not end";
    if (waiting.revents == 0)
      started->kill();
    else {
      const auto ended = wait_process(started->vmm().pidfd.get());
      EXPECT_TRUE(ended.ok());
      if (status != nullptr) *status = *ended;
      // The others end by themselves with it.
      for (size_t i = 1; i < started->processes.size(); ++i) {
        const auto& other = started->processes[i];
        pollfd ending = {other.pidfd.get(), POLLIN, 0};
        EXPECT_EQ(::poll(&ending, 1, 10000), 1) << other.name << " outlives the machine";
        ignore_result(wait_process(other.pidfd.get()));
      }
    }
    return sys::read_file(config.console_log).value_or("") + last_lines(folder_ + "/vmm.log", 5);
  }
  /// An EROFS file that holds the file "name" with the name.
  std::string layer(const std::string& name) const {
    fs::create_directories(folder_ + "/" + name);
    std::ofstream(folder_ + "/" + name + "/name") << name;
    const auto made = run_program({"/usr/bin/mkfs.erofs", folder_ + "/" + name + ".erofs", folder_ + "/" + name});
    EXPECT_TRUE(made.ok()) << made.error().message();
    return folder_ + "/" + name + ".erofs";
  }

  static inline std::string root_;
  static inline GuestKernel kernel_;
  std::string folder_ = [] {
    std::string name = root_ + "/run-XXXXXX";
    return std::string(::mkdtemp(name.data()));
  }();
};

TEST_F(GuestKernelTest, IsInstalledWholeAndPrivately) {
  EXPECT_TRUE(kernel_.is_default);
  EXPECT_THAT(kernel_.name, HasSubstr("-cloud-amd64"));
  EXPECT_THAT(kernel_.modules, testing::IsSupersetOf({"virtio_mmio", "virtio_blk", "virtio_net", "erofs", "overlay",
                                                      "virtiofs", "vmw_vsock_virtio_transport"}));
  struct stat info{};
  ASSERT_EQ(::stat(kernel_.folder.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  for (const auto& entry : fs::directory_iterator(root_ + "/data/vm/kernels")) {
    const std::string name = entry.path().filename();
    EXPECT_TRUE(name == kernel_.name || name == "default" || name == ".lock") << name << " was left";
  }
  EXPECT_LT(kernel_.initramfs_compressed_bytes, 4U << 20);
}

TEST_F(GuestKernelTest, BootsWithLayersAndAWritableDisk) {
  vmm::MachineConfig config = machine();
  const auto layers = make_layer_disk({layer("top"), layer("middle"), layer("bottom")}, folder_ + "/header");
  ASSERT_TRUE(layers.ok()) << layers.error().message();
  ASSERT_TRUE(make_scratch_disk(folder_ + "/scratch", 1 << 30, root_ + "/cache").ok());
  vmm::DiskConfig scratch;
  scratch.extents = {folder_ + "/scratch"};
  scratch.read_only = false;
  scratch.serial = "scratch";
  config.disks = {*layers, scratch};
  config.command_line = "show_disk=layers:3 show_disk=scratch";
  int status = -1;
  const std::string said = boot(config, &status);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(said, HasSubstr("test-guest: PID 1"));
  EXPECT_THAT(said, testing::Not(HasSubstr("test-guest: module ")));
  EXPECT_THAT(said, HasSubstr("disk layers is vd"));
  EXPECT_THAT(said, HasSubstr("read-only 1"));
  EXPECT_THAT(said, testing::ContainsRegex("partition 1 of [0-9]+ sectors, mounted: top"));
  EXPECT_THAT(said, testing::ContainsRegex("partition 2 of [0-9]+ sectors, mounted: middle"));
  EXPECT_THAT(said, testing::ContainsRegex("partition 3 of [0-9]+ sectors, mounted: bottom"));
  EXPECT_THAT(said, HasSubstr("of 2097152 sectors, read-only 0"));
  EXPECT_THAT(said, HasSubstr("ext4 mounted and written"));
  EXPECT_THAT(said, HasSubstr("2 processors, done"));
  const auto checked = run_program({"/sbin/e2fsck", "-f", "-n", folder_ + "/scratch"});
  EXPECT_TRUE(checked.ok()) << checked.error().message();
  const auto written = run_program({"/sbin/debugfs", "-R", "cat written", folder_ + "/scratch"});
  EXPECT_THAT(*written, HasSubstr("by the guest"));
}

/// A tap in a network namespace that only this process is in from now on.
Result<UniqueFd> open_tap() {
  if (::unshare(CLONE_NEWNET) != 0) return errno_error("unshare");
  TRY_ASSIGN(UniqueFd tap, sys::open("/dev/net/tun", O_RDWR));
  ifreq request{};
  std::strcpy(request.ifr_name, "tap0");
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (::ioctl(tap.get(), TUNSETIFF, &request) != 0) return errno_error("TUNSETIFF");
  return tap;
}

TEST_F(GuestKernelTest, HasANetworkDeviceAndSpeaksToTheHost) {
  vmm::MachineConfig config = machine();
  const auto tap = open_tap();
  ASSERT_TRUE(tap.ok()) << tap.error().message();
  config.nets.resize(1);
  config.nets[0].tap_fd = tap->get();
  config.nets[0].mac = "02:42:ac:11:00:02";
  config.vsock_socket = folder_ + "/vsock";
  config.command_line = "say_hello";
  const std::string path = config.vsock_socket + "_1023";
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{.sun_family = AF_UNIX};
  ASSERT_LT(path.size(), sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  const std::string said = boot(config);
  EXPECT_THAT(said, HasSubstr("said hello"));
  pollfd waiting = {listener.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&waiting, 1, 0), 1) << "nobody called";
  const UniqueFd guest(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  EXPECT_EQ(*sys::read_all(guest.get()), "hello from 02:42:ac:11:00:02\n");
}

TEST_F(GuestKernelTest, APanicEndsTheMachineAndIsTold) {
  vmm::MachineConfig config = machine();
  config.command_line = "panic_now";
  boot(config);
  Machine ended;
  ended.log = folder_ + "/vmm.log";
  EXPECT_THAT(machine_failure(ended, 0, config.console_log).message(), HasSubstr("Kernel panic - not syncing: sysrq"));
}

TEST_F(GuestKernelTest, DiesWithTheProcessThatStartedIt) {
  sys::Pipe pipe = *sys::make_pipe();
  const pid_t parent = ::fork();
  if (parent == 0) {
    vmm::MachineConfig config = machine();
    const auto started = start(config);
    const pid_t pid = started.ok() ? started->vmm().pid : -1;
    static_cast<void>(!::write(pipe.write_end.get(), &pid, sizeof pid));
    ::pause();
    ::_exit(0);
  }
  pid_t machine_pid = -1;
  ASSERT_EQ(::read(pipe.read_end.get(), &machine_pid, sizeof machine_pid), static_cast<ssize_t>(sizeof machine_pid));
  ASSERT_GT(machine_pid, 0);
  const auto pidfd = UniqueFd(static_cast<int>(::syscall(434 /* pidfd_open */, machine_pid, 0)));
  ASSERT_TRUE(pidfd.valid());
  ASSERT_EQ(::kill(parent, SIGKILL), 0);
  ASSERT_EQ(::waitpid(parent, nullptr, 0), parent);
  pollfd waiting = {pidfd.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&waiting, 1, 30000), 1) << "the machine outlived its parent";
}

TEST_F(GuestKernelTest, ANewGuestProgramMakesANewInitramfs) {
  const KernelStore store(root_ + "/data");
  const std::string before = store.find("")->initramfs;
  EXPECT_FALSE(*refresh_kernel(root_ + "/data", kernel_.name, root_ + "/guest"));
  fs::copy_file(root_ + "/guest", root_ + "/guest2");
  std::ofstream(root_ + "/guest2", std::ios::app) << "another";
  const auto made = refresh_kernel(root_ + "/data", kernel_.name, root_ + "/guest2");
  ASSERT_TRUE(made.ok()) << made.error().message();
  EXPECT_TRUE(*made);
  const auto after = store.find("");
  ASSERT_TRUE(after.ok());
  EXPECT_NE(after->initramfs, before);
  EXPECT_TRUE(fs::exists(before)) << "a machine may be about to open it";
  ASSERT_TRUE(refresh_kernel(root_ + "/data", kernel_.name, root_ + "/guest").ok());
  EXPECT_EQ(store.find("")->initramfs, before);
  // The same program with another time is not packed again.
  fs::last_write_time(root_ + "/guest", fs::file_time_type::clock::now());
  EXPECT_FALSE(*refresh_kernel(root_ + "/data", kernel_.name, root_ + "/guest"));
}

TEST_F(GuestKernelTest, AnInstallationCutOffIsSweptByTheNextOne) {
  const std::string store = root_ + "/again/vm/kernels";
  fs::create_directories(store + "/.new-abc/modules");
  fs::create_directories(store + "/.old-6.1");
  InstallRequest request;
  request.data_root = root_ + "/again";
  request.source = kernel_.vmlinux;
  request.modules = kernel_.folder + "/modules";
  request.guest = root_ + "/guest";
  // The stored modules are those of the kernel; ext4 is built in, which only the package's list says.
  const auto refused = install_kernel(request);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("no module ext4"));
  EXPECT_FALSE(fs::exists(store + "/.new-abc"));
  EXPECT_FALSE(fs::exists(store + "/.old-6.1"));
  EXPECT_FALSE(fs::exists(store + "/default"));
  fs::create_directories(root_ + "/modules");
  fs::copy(kernel_.folder + "/modules", root_ + "/modules", fs::copy_options::recursive);
  std::ofstream(root_ + "/modules/modules.builtin") << "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c_generic.ko\n";
  request.modules = root_ + "/modules";
  // Twice: the second replaces the first.
  for (int i = 0; i < 2; ++i) {
    const auto kernel = install_kernel(request);
    ASSERT_TRUE(kernel.ok()) << kernel.error().message();
    EXPECT_EQ(kernel->name, kernel_.name);
    EXPECT_EQ(kernel->modules, kernel_.modules);
  }
}

}  // namespace
}  // namespace hull::vm
