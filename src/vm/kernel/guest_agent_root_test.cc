// hull-guest as PID 1 of real machines (Debian's kernel under QEMU's software emulation): what it mounts and sets up,
// and the agent's calls over vsock.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "base/error_format.h"
#include "guest/agent_client.h"
#include "sys/file.h"
#include "vm/hypervisor.h"
#include "vm/kernel/install.h"
#include "vm/layer_disk.h"
#include "vm/qemu.h"
#include "vm/scratch_disk.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

using guest::after;
using guest::AgentClient;
using std::chrono::seconds;
using testing::HasSubstr;
namespace fs = std::filesystem;
namespace proto = guest::proto;

constexpr const char* kPackage = HULL_SOURCE_DIR "/build/cache/linux-image.deb";
// Generous: several machines may be emulated at the same time.
guest::Deadline soon() { return after(seconds(120)); }

std::string text_of(const Result<void>& result) { return result.ok() ? "" : result.error().message(); }

class GuestAgentTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ::setenv("HULL_LIBEXEC", HULL_BUILD_DIR "/bin", 1);
    std::string name = "/tmp/hull-agent-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root_ = name;
    ASSERT_TRUE(run_program({"/usr/bin/strip", "-o", root_ + "/guest", HULL_BUILD_DIR "/bin/hull-guest"}).ok());
    InstallRequest request;
    request.data_root = root_ + "/data";
    request.source = kPackage;
    request.guest = root_ + "/guest";
    const auto kernel = install_kernel(request);
    ASSERT_TRUE(kernel.ok()) << kernel.error().message();
    kernel_ = *kernel;
    make_base();
  }
  static void TearDownTestSuite() { fs::remove_all(root_); }
  void SetUp() override { ASSERT_FALSE(kernel_.name.empty()) << "the installation failed"; }
  void TearDown() override {
    if (machine_) machine_->kill();
    if (HasFailure()) {
      std::fprintf(stderr, "console:\n%s\n", last_lines(folder_ + "/console", 40).c_str());
      std::fprintf(stderr, "log:\n%s\n", last_lines(folder_ + "/vmm.log", 10).c_str());
    }
  }

  /// A root file system around Debian's static busybox, as the lowest layer.
  static void make_base() {
    const std::string base = root_ + "/base";
    for (const char* name : {"bin", "etc", "proc", "sys", "dev", "tmp", "run", "gone"}) {
      fs::create_directories(base + "/" + name);
    }
    fs::copy_file("/bin/busybox", base + "/bin/busybox");
    for (const char* name :
         {"sh", "cat",      "ls",   "id",    "sleep",  "echo", "true", "dd",  "seq", "stat",   "sync", "ping",
          "ip", "hostname", "date", "mount", "md5sum", "head", "stty", "cut", "wc",  "ulimit", "uname"}) {
      fs::create_symlink("busybox", base + "/bin/" + name);
    }
    std::ofstream(base + "/etc/passwd") << "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/home/web:/bin/sh\n";
    std::ofstream(base + "/etc/group") << "root:x:0:\nwebs:x:1001:\naudio:x:29:web\n";
    std::ofstream(base + "/name") << "base";
    pack("base");
  }
  static void pack(const std::string& name) {
    const auto made = run_program({"/usr/bin/mkfs.erofs", root_ + "/" + name + ".erofs", root_ + "/" + name});
    ASSERT_TRUE(made.ok()) << made.error().message();
  }
  /// A layer that replaces /name and adds /only-<name>.
  static std::string layer(const std::string& name) {
    fs::create_directories(root_ + "/" + name);
    fs::permissions(root_ + "/" + name, fs::perms(0751));
    std::ofstream(root_ + "/" + name + "/name") << name;
    std::ofstream(root_ + "/" + name + "/only-" + name) << name;
    pack(name);
    return root_ + "/" + name + ".erofs";
  }

  vmm::MachineConfig config(const std::vector<std::string>& blobs, const std::string& scratch) {
    vmm::MachineConfig config;
    config.memory_bytes = 192 << 20;
    config.vcpus = 2;
    config.kernel = kernel_.vmlinux;
    config.initramfs = kernel_.initramfs;
    config.console_log = folder_ + "/console";
    config.vsock_socket = folder_ + "/vsock";
    const auto layers = make_layer_disk(blobs, folder_ + "/header");
    EXPECT_TRUE(layers.ok()) << layers.error().message();
    config.disks = {*layers};
    if (!scratch.empty()) {
      vmm::DiskConfig disk;
      disk.extents = {scratch};
      disk.read_only = false;
      disk.serial = "scratch";
      config.disks.push_back(disk);
    }
    return config;
  }

  /// Starts the machine and waits until its guest says that it listens.
  void boot(const vmm::MachineConfig& config) {
    const std::string path = config.vsock_socket + "_1023";
    ::unlink(path.c_str());
    const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX};
    ASSERT_LT(path.size(), sizeof address.sun_path);
    path.copy(address.sun_path, path.size());
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    const Programs programs = find_programs();
    auto started = QemuHypervisor(programs.qemu, programs.vmm, false).start(config, folder_);
    ASSERT_TRUE(started.ok()) << started.error().message();
    machine_ = std::move(*started);
    pollfd waiting[2] = {{listener.get(), POLLIN, 0}, {machine_->vmm().pidfd.get(), POLLIN, 0}};
    ASSERT_EQ(::poll(waiting, 2, 240000), 1);
    ASSERT_EQ(waiting[1].revents, 0) << "the machine has ended";
    const UniqueFd ready(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    socket_ = config.vsock_socket;
  }

  AgentClient connect() {
    auto agent = AgentClient::connect(socket_, soon());
    EXPECT_TRUE(agent.ok()) << agent.error().message();
    return std::move(*agent);
  }
  UniqueFd stream(const std::string& token, int number) {
    auto fd = guest::open_stream(socket_, token, number, soon());
    EXPECT_TRUE(fd.ok()) << fd.error().message();
    return fd.ok() ? std::move(*fd) : UniqueFd();
  }

  static proto::ConfigureRequest configuration(int layers, bool scratch) {
    proto::ConfigureRequest request;
    for (int i = 1; i <= layers; ++i) {
      auto& layer = *request.mutable_root()->add_layers();
      layer.set_serial("layers");
      layer.set_partition(static_cast<uint32_t>(i));
    }
    if (scratch) request.mutable_root()->set_scratch_serial("scratch");
    return request;
  }

  static std::string process_json(const std::string& script) {
    std::string quoted;
    for (const char c : script) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
    return R"({"cwd":"/","user":{"uid":0,"gid":0},"env":["PATH=/bin"],"args":["sh","-c",")" + quoted + R"("],
"capabilities":{"bounding":["CAP_NET_RAW","CAP_KILL"],"effective":["CAP_NET_RAW","CAP_KILL"],
"permitted":["CAP_NET_RAW","CAP_KILL"]}})";
  }
  static void set_streams(proto::Streams& streams, bool in) {
    streams.set_stdin(in);
    streams.set_stdout(true);
    streams.set_stderr(true);
    streams.set_token(guest::make_stream_token().value_or(""));
  }

  /// Creates and starts a workload that stays, with 64 MiB of memory.
  void start_workload(AgentClient& agent) {
    proto::CreateRequest request;
    request.set_id("workload");
    request.set_config(R"({"ociVersion":"1.0.2","root":{"path":"/run/hull/root"},"hostname":"inside","process":)" +
                       process_json("while :; do sleep 1000; done") +
                       R"(,"mounts":[{"destination":"/proc","type":"proc","source":"proc"},
{"destination":"/sys","type":"sysfs","source":"sysfs","options":["ro","nosuid","noexec","nodev"]},
{"destination":"/sys/fs/cgroup","type":"cgroup","source":"cgroup","options":["ro","nosuid","noexec","nodev"]},
{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["mode=0755"]},
{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666","mode=0620"]}],
"linux":{"cgroupsPath":"/workload","resources":{"memory":{"limit":67108864},"pids":{"limit":100},
"devices":[{"allow":false,"access":"rwm"}]},
"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"cgroup"}]}})");
    const auto pid = agent.create(request, soon());
    ASSERT_TRUE(pid.ok()) << pid.error().message();
    ASSERT_EQ(text_of(agent.start(soon())), "");
  }

  struct Ran {
    std::string out, err;
    proto::WaitResponse end;
  };
  Ran run(AgentClient& agent, const std::string& id, const std::string& script, const std::string& input = "") {
    proto::ExecRequest request;
    request.set_exec_id(id);
    request.set_process(process_json(script));
    set_streams(*request.mutable_streams(), !input.empty());
    Ran ran;
    const auto pid = agent.exec(request, soon());
    if (!pid.ok()) {
      ran.err = pid.error().message();
      return ran;
    }
    const std::string& token = request.streams().token();
    UniqueFd in = input.empty() ? UniqueFd() : stream(token, 0);
    const UniqueFd out = stream(token, 1), err = stream(token, 2);
    std::thread writer([&] {
      if (!in) return;
      EXPECT_TRUE(sys::write_all(in.get(), input).ok());
      ::shutdown(in.get(), SHUT_WR);
    });
    ran.out = sys::read_all(out.get(), 64 << 20).value_or("unreadable");
    ran.err = sys::read_all(err.get()).value_or("unreadable");
    writer.join();
    const auto end = agent.wait(id, soon());
    EXPECT_TRUE(end.ok()) << end.error().message();
    if (end.ok()) ran.end = *end;
    return ran;
  }

  /// Orderly shutdown; the machine's wait status.
  int shut_down(AgentClient& agent) {
    EXPECT_EQ(text_of(agent.shutdown(soon())), "");
    pollfd waiting = {machine_->vmm().pidfd.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&waiting, 1, 60000), 1) << "the machine does not switch itself off";
    if (waiting.revents == 0) return -1;
    const int status = wait_process(machine_->vmm().pidfd.get()).value_or(-1);
    machine_->kill();
    machine_.reset();
    return status;
  }

  static inline std::string root_;
  static inline GuestKernel kernel_;
  std::string folder_ = [] {
    std::string name = root_ + "/run-XXXXXX";
    return std::string(::mkdtemp(name.data()));
  }();
  std::optional<Machine> machine_;
  std::string socket_;
};

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

void add_network(proto::ConfigureRequest& request) {
  auto& interface = *request.add_interfaces();
  interface.set_name("eth0");
  interface.set_mac("02:42:0a:4d:00:02");
  interface.set_mtu(1400);
  auto& v4 = *interface.add_addresses();
  v4.set_address(std::string("\x0a\x4d\x00\x02", 4));
  v4.set_prefix(24);
  auto& v6 = *interface.add_addresses();
  v6.set_address(std::string("\xfd\x77\0\0\0\0\0\0\0\0\0\0\0\0\0\x02", 16));
  v6.set_prefix(64);
  auto& route = *interface.add_routes();
  route.set_gateway(std::string("\x0a\x4d\x00\x01", 4));
}

TEST_F(GuestAgentTest, RunsAnImageAndKeepsWhatItWrites) {
  const auto tap = open_tap();
  ASSERT_TRUE(tap.ok()) << tap.error().message();
  ASSERT_TRUE(run_program({"/bin/sh", "-c",
                           "/sbin/ip addr add 10.77.0.1/24 dev tap0; /sbin/ip -6 addr add fd77::1/64 dev tap0 nodad; "
                           "/sbin/ip link set tap0 up"})
                  .ok());
  const std::string scratch = folder_ + "/scratch";
  ASSERT_TRUE(make_scratch_disk(scratch, 256 << 20, root_ + "/cache").ok());
  vmm::MachineConfig machine = config({layer("top"), layer("middle"), root_ + "/base.erofs"}, scratch);
  machine.nets.resize(1);
  machine.nets[0].tap_fd = tap->get();
  machine.nets[0].mac = "02:42:ac:11:00:99";
  ASSERT_NO_FATAL_FAILURE(boot(machine));

  AgentClient agent = connect();
  EXPECT_EQ(agent.ping(soon())->protocol(), guest::kProtocolVersion);
  proto::ConfigureRequest request = configuration(3, true);
  request.set_time_ns(2'000'000'000'000'000'000);  // in 2033
  request.set_hostname("outside");
  add_network(request);
  (*request.mutable_sysctl())["net.ipv4.ip_unprivileged_port_start"] = "77";
  ASSERT_EQ(text_of(agent.configure(request, soon())), "");
  ASSERT_NO_FATAL_FAILURE(start_workload(agent));

  // The root: the layers in their order, the image's mode, and everything may be written.
  EXPECT_EQ(run(agent, "a1", "cat /name; ls -d /only-*; stat -c %a /; echo x > /name && cat /name").out,
            "top/only-middle\n/only-top\n751\nx\n");
  // The machine.
  EXPECT_EQ(run(agent, "b1", "hostname; date -u +%Y; cat /proc/sys/net/ipv4/ip_unprivileged_port_start").out,
            "inside\n2033\n77\n");
  const std::string network = run(agent, "b2", "ip addr show eth0; ip route; ip addr show lo").out;
  EXPECT_THAT(network, HasSubstr("mtu 1400"));
  EXPECT_THAT(network, HasSubstr("02:42:0a:4d:00:02"));
  EXPECT_THAT(network, HasSubstr("inet 10.77.0.2/24 brd 10.77.0.255"));
  EXPECT_THAT(network, HasSubstr("inet6 fd77::2/64"));
  EXPECT_THAT(network, HasSubstr("default via 10.77.0.1"));
  EXPECT_THAT(network, HasSubstr("127.0.0.1"));
  EXPECT_THAT(run(agent, "b3", "ping -c 1 -W 20 10.77.0.1").out, HasSubstr("1 packets received"));
  EXPECT_THAT(run(agent, "b4", "ping -c 1 -W 20 fd77::1").out, HasSubstr("1 packets received"));

  // Streams over vsock, both ways, more than any buffer holds.
  std::string large;
  for (int i = 0; large.size() < (8u << 20); ++i) large += fmt::format("line {}\n", i);
  EXPECT_TRUE(run(agent, "c1", "cat", large).out == large);
  const Ran both = run(agent, "c2", "cat >&2; seq 1 3; exit 9", "input");
  EXPECT_EQ(both.err, "input");
  EXPECT_EQ(both.out, "1\n2\n3\n");
  EXPECT_EQ(both.end.exit_code(), 9);
  std::vector<std::thread> threads;
  std::vector<std::string> results(12);
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] {
      AgentClient own = connect();
      results[i] = run(own, fmt::format("d{}", i), fmt::format("seq 1 500; echo {}", i)).out;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < results.size(); ++i) EXPECT_THAT(results[i], testing::EndsWith(fmt::format("\n500\n{}\n", i)));

  // Limits: control groups of the guest.
  const Ran oom = run(agent, "e1", "dd if=/dev/zero of=/dev/null bs=90M count=1; exit $?");
  EXPECT_TRUE(oom.end.oom_killed() || oom.end.exit_code() == 137) << oom.err;
  const Ran killed = run(agent, "e2", "kill -9 $$");
  EXPECT_EQ(killed.end.signal(), SIGKILL);
  EXPECT_FALSE(killed.end.oom_killed());
  const auto stats = agent.stats(soon());
  ASSERT_TRUE(stats.ok()) << stats.error().message();
  EXPECT_THAT(stats->json(), HasSubstr("67108864"));
  ASSERT_EQ(stats->interfaces_size(), 1);
  EXPECT_GT(stats->interfaces(0).received_packets(), 0u);
  EXPECT_EQ(text_of(agent.update(R"({"memory":{"limit":50331648}})", soon())), "");
  EXPECT_THAT(agent.stats(soon())->json(), HasSubstr("50331648"));
  EXPECT_EQ(text_of(agent.pause(soon())), "");
  EXPECT_EQ(agent.state(soon())->status(), "paused");
  EXPECT_EQ(text_of(agent.resume(soon())), "");
  const auto listed = agent.processes(soon());
  ASSERT_TRUE(listed.ok()) << listed.error().message();
  EXPECT_GE(listed->processes_size(), 2);

  // The end: everything that was written is on the disk, whose file system is clean.
  EXPECT_EQ(run(agent, "z", "echo kept > /kept; echo fine").out, "fine\n");
  EXPECT_EQ(shut_down(agent), 0);
  const auto checked = run_program({"/sbin/e2fsck", "-f", "-n", scratch});
  EXPECT_TRUE(checked.ok()) << checked.error().message();

  // The same disks in another machine.
  ASSERT_NO_FATAL_FAILURE(boot(machine));
  AgentClient second = connect();
  ASSERT_EQ(text_of(second.configure(configuration(3, true), soon())), "");
  ASSERT_NO_FATAL_FAILURE(start_workload(second));
  EXPECT_EQ(run(second, "k", "cat /kept /name /only-middle").out, "kept\nx\nmiddle");
  EXPECT_EQ(shut_down(second), 0);
}

TEST_F(GuestAgentTest, StacksAsManyLayersAsAnImageMayHave) {
  std::vector<std::string> blobs;
  for (size_t i = 0; i + 1 < kMostLayers; ++i) blobs.push_back(layer(fmt::format("l{}", i)));
  blobs.push_back(root_ + "/base.erofs");
  ASSERT_NO_FATAL_FAILURE(boot(config(blobs, "")));
  AgentClient agent = connect();
  ASSERT_EQ(text_of(agent.configure(configuration(kMostLayers, false), soon())), "");
  ASSERT_NO_FATAL_FAILURE(start_workload(agent));
  EXPECT_EQ(run(agent, "a", "cat /name /only-l126 /only-l63; ls / | wc -l; echo > /tmp/in-memory && echo fine").out,
            "l0l126l63136\nfine\n");
  EXPECT_EQ(shut_down(agent), 0);
}

TEST_F(GuestAgentTest, TellsWhatIsMissing) {
  ASSERT_NO_FATAL_FAILURE(boot(config({root_ + "/base.erofs"}, "")));
  AgentClient agent = connect();
  proto::ConfigureRequest request;
  request.add_interfaces()->set_name("eth0");
  EXPECT_THAT(text_of(agent.configure(request, soon())), HasSubstr("0 network devices, 1 are to be set up"));
  request = proto::ConfigureRequest();
  (*request.mutable_sysctl())["net.no.such"] = "1";
  EXPECT_THAT(text_of(agent.configure(request, soon())), HasSubstr("sysctl net.no.such: "));
  request = configuration(2, false);
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_THAT(text_of(agent.configure(request, soon())),
              HasSubstr("partition 2 of the disk 'layers' has not appeared"));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, seconds(60));
  EXPECT_THAT(text_of(agent.start(soon())), HasSubstr("the guest has no container"));
  const auto nobody = guest::connect_vsock(socket_, 4711, soon());
  ASSERT_FALSE(nobody.ok());
  EXPECT_EQ(nobody.error().kind(), ErrorKind::kUnavailable);
  EXPECT_EQ(shut_down(agent), 0);
}

}  // namespace
}  // namespace hull::vm
