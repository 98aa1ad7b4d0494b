#include "engine/spec.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/validate.h"
#include "isolation/capabilities.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

Config base() {
  Config config;
  config.image = "busybox";
  config.cmd = {"sh", "-c", "true"};
  config.env = {"PATH=/bin"};
  config.working_dir = "/";
  return config;
}

/// What this process could give at most.
std::vector<std::string> available() {
  Config config;
  config.privileged = true;
  return effective_capabilities(config).value_or({});
}

oci::Spec build(const Config& config, std::vector<MountRequest>* mounts = nullptr) {
  SpecInput in;
  in.vm = config.isolation == Isolation::kVm;
  if (in.vm) in.user_text = config.user;
  in.id = std::string(64, 'a');
  in.config = &config;
  in.lower_dirs = {"/run/hull/layers/two", "/run/hull/layers/one"};
  in.upper_dir = "/data/upper";
  in.work_dir = "/data/work";
  in.rootfs = "/data/rootfs";
  in.hostname = "box";
  in.hosts_file = "/data/hosts";
  in.hostname_file = "/data/hostname";
  in.resolv_conf_file = "/data/resolv.conf";
  in.init_program = "/libexec/hull-monitor";
  if (mounts != nullptr) {
    for (MountRequest& m : *mounts) in.mounts.push_back({&m, m.source});
  }
  auto spec = build_spec(in);
  EXPECT_TRUE(spec.ok()) << (spec.ok() ? "" : spec.error().message());
  return spec.ok() ? *spec : oci::Spec();
}

/// Compared with src/engine/testdata/NAME; HULL_UPDATE_GOLDEN=1 accepts what is.
void expect_golden(const std::string& name, oci::Spec spec) {
  // Not the engine's own words, and long: held by the isolation room's tests.
  if (spec.linux_config) {
    spec.linux_config->seccomp.reset();
    spec.linux_config->resources->devices.clear();
  }
  const std::string text = oci::to_json(spec, 2) + "\n";
  const std::string path = std::string(HULL_SOURCE_DIR) + "/src/engine/testdata/" + name;
  if (std::getenv("HULL_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(sys::make_dirs(path.substr(0, path.rfind('/')), 0755).ok());
    ASSERT_TRUE(sys::replace_file(path, text, 0644).ok());
  }
  EXPECT_EQ(sys::read_file(path).value_or(""), text);
  EXPECT_TRUE(oci::validate(*oci::parse_spec(text)).ok());
}

TEST(Spec, Plain) { expect_golden("plain.json", build(base())); }

TEST(Spec, Everything) {
  Config config = base();
  config.init = config.tty = config.read_only_rootfs = true;
  config.memory = 64 << 20;
  config.nano_cpus = 1'500'000'000;
  config.pids_limit = 100;
  config.ulimits = {{"nofile", 100, 200}, {"core", -1, -1}};
  config.cap_drop = {"ALL"};
  config.cap_add = {"net_admin"};
  config.security_opt = {"no-new-privileges", "systempaths=unconfined", "apparmor=mine"};
  config.sysctls = {{"net.core.somaxconn", "64"}};
  config.annotations = {{"a", "b"}};
  config.oom_score_adj = 5;
  config.cgroup_parent = "/mine/../other";
  config.device_cgroup_rules = {"c 10:* rw"};
  std::vector<MountRequest> mounts(3);
  mounts[0].source = "/host/deep";
  mounts[0].target = "/srv/deep/er";
  mounts[0].propagation = "rslave";
  mounts[1].source = "/host";
  mounts[1].target = "/srv";
  mounts[1].read_only = true;
  mounts[2].type = MountRequest::Type::kTmpfs;
  mounts[2].target = "/dev/shm";
  mounts[2].tmpfs_size = 4096;
  expect_golden("everything.json", build(config, &mounts));
}

TEST(Spec, PrivilegedIsUnconfined) {
  Config config = base();
  config.privileged = true;
  const oci::Spec spec = build(config);
  EXPECT_FALSE(spec.linux_config->seccomp);
  EXPECT_TRUE(spec.linux_config->masked_paths.empty());
  EXPECT_EQ(spec.process->capabilities->bounding, available());
  EXPECT_TRUE(spec.process->capabilities->inheritable.empty());
  ASSERT_EQ(spec.linux_config->resources->devices.size(), 1U);
  EXPECT_TRUE(spec.linux_config->resources->devices[0].allow);
}

TEST(Capabilities, AddAndDrop) {
  const auto names = [](std::vector<std::string> add, std::vector<std::string> drop) {
    Config config;
    config.cap_add = std::move(add);
    config.cap_drop = std::move(drop);
    return effective_capabilities(config).value_or({"error"});
  };
  EXPECT_EQ(names({}, {}).size(), 14U);
  EXPECT_EQ(names({"CHOWN"}, {"all"}), std::vector<std::string>{"CAP_CHOWN"});
  EXPECT_EQ(names({"cap_sys_time"}, {}).size(), 15U);
  EXPECT_EQ(names({"ALL"}, {"CAP_CHOWN"}).size(), available().size() - 1);
  EXPECT_GE(available().size(), 14U);
  EXPECT_EQ(names({"NONSENSE"}, {}), std::vector<std::string>{"error"});
}

TEST(SeccompProfile, ReadsDockersForm) {
  const char* text = R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,
    "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
               {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],
    "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":[],"comment":"","includes":{},"excludes":{}},
      {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
      {"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}],
       "excludes":{"caps":["CAP_SYS_ADMIN"]}},
      {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
      {"names":["future"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}}]})";
  const auto plain = parse_seccomp_profile(text, 0);
  ASSERT_TRUE(plain.ok()) << plain.error().message();
  ASSERT_EQ(plain->syscalls.size(), 3U);
  EXPECT_EQ(plain->syscalls[1].names, std::vector<std::string>{"clone"});
  EXPECT_EQ(plain->architectures.size(), 2U);
  EXPECT_EQ(parse_seccomp_profile(text, 1ULL << 21)->syscalls[1].names, std::vector<std::string>{"mount"});
  EXPECT_FALSE(parse_seccomp_profile("{}", 0).ok());
  EXPECT_FALSE(parse_seccomp_profile("{\"defaultAction\":", 0).ok());
}

TEST(Validate, KnowsDockersWords) {
  const auto says = [](auto&& change) {
    Config config = base();
    change(config);
    const auto checked = validate(config);
    return checked.ok() ? std::string() : checked.error().message();
  };
  EXPECT_EQ(says([](Config&) {}), "");
  EXPECT_EQ(says([](Config& c) { c.name = "-x"; }),
            "Invalid container name (-x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
  EXPECT_EQ(says([](Config& c) { c.memory = 1000; }), "Minimum memory limit allowed is 6MB");
  EXPECT_EQ(says([](Config& c) { c.network = "other"; }), "");
  EXPECT_EQ(says([](Config& c) { c.network = "../other"; }), "invalid network mode or name: ../other");
  EXPECT_NE(says([](Config& c) { c.env = {"=x"}; }).find("invalid environment variable: =x"), std::string::npos);
  EXPECT_NE(says([](Config& c) { c.stop_signal = "SIGNONE"; }), "");
  EXPECT_NE(says([](Config& c) { c.log_driver = "syslog"; }), "");
  EXPECT_NE(says([](Config& c) {
              c.ip = "10.0.0.5";
              c.network = "none";
            }),
            "");
  MountRequest mount;
  mount.source = "/x";
  mount.target = "relative";
  EXPECT_NE(says([&](Config& c) { c.mounts = {mount}; }).find("must be absolute"), std::string::npos);
  mount.target = "/a//b/.";
  EXPECT_NE(says([&](Config& c) {
              c.mounts = {mount, mount};
              c.mounts[1].target = "/a/b";
            }).find("Duplicate mount point"),
            std::string::npos);
  mount.target = "/..";
  EXPECT_NE(says([&](Config& c) { c.mounts = {mount}; }).find("can't be '/'"), std::string::npos);
}

TEST(Spec, OfAMachineHasNothingOfThisHost) {
  Config config = base();
  config.isolation = Isolation::kVm;
  config.user = "alice:video";
  config.privileged = true;
  config.devices = {{"/dev/fuse", "/dev/f", "rw"}};
  config.sysctls = {{"kernel.panic", "5"}};
  config.memory = 64 << 20;
  oci::Spec spec = build(config);
  // Any sysctl is the guest's own; the general check, which knows containers only, would refuse it.
  EXPECT_EQ(spec.linux_config->sysctl.at("kernel.panic"), "5");
  spec.linux_config->sysctl.erase("kernel.panic");
  expect_golden("machine.json", std::move(spec));
  config.devices = {{"/dev/kvm", "", "rw"}};
  oci::Linux out;
  out.resources.emplace();
  EXPECT_FALSE(add_guest_devices(config, &out).ok());
}

TEST(Validate, RefusesWhatAMachineCantMean) {
  const auto says = [](auto&& change) {
    Config config = base();
    config.isolation = Isolation::kVm;
    change(config);
    const auto checked = validate(config);
    return checked.ok() ? std::string() : checked.error().message();
  };
  EXPECT_EQ(says([](Config&) {}), "");
  const auto refused = [&](std::string_view flag, auto&& change) {
    const std::string text = says(change);
    EXPECT_EQ(text.substr(0, flag.size()), flag) << text;
    EXPECT_NE(text.find("can't be had with --vm: "), std::string::npos) << text;
  };
  refused("--network host", [](Config& c) { c.network = "host"; });
  refused("--network container:web", [](Config& c) { c.network = "container:web"; });
  refused("--pid host", [](Config& c) { c.pid_mode = "host"; });
  refused("--pid container:x", [](Config& c) { c.pid_mode = "container:x"; });
  refused("--ipc host", [](Config& c) { c.ipc_mode = "host"; });
  refused("--ipc shareable", [](Config& c) { c.ipc_mode = "shareable"; });
  refused("--uts host", [](Config& c) { c.uts_mode = "host"; });
  refused("--cgroupns host", [](Config& c) { c.cgroupns_mode = "host"; });
  refused("--device /dev/kvm", [](Config& c) { c.devices = {{"/dev/kvm", "", "rwm"}}; });
  refused("--device-read-bps", [](Config& c) { c.device_read_bps = {{"/dev/vda", 1}}; });
  refused("--security-opt apparmor=mine", [](Config& c) { c.security_opt = {"apparmor=mine"}; });
  refused("--cpu-rt-runtime", [](Config& c) { c.cpu_rt_runtime = 1000; });
  refused("--oom-kill-disable", [](Config& c) { c.oom_kill_disable = true; });
  refused("--memory-swappiness", [](Config& c) { c.memory_swappiness = 5; });
  refused("bind-propagation=rshared", [](Config& c) {
    MountRequest mount;
    mount.source = "/x";
    mount.target = "/x";
    mount.propagation = "rshared";
    c.mounts = {mount};
  });
  // What means the same is taken.
  EXPECT_EQ(says([](Config& c) {
              c.privileged = true;
              c.cap_add = {"SYS_RESOURCE", "SYS_MODULE"};
              c.sysctls = {{"kernel.panic", "1"}};
              c.devices = {{"/dev/fuse", "", "rwm"}, {"/dev/null", "/dev/x", "r"}};
              c.security_opt = {"apparmor=unconfined", "no-new-privileges", "label=disable"};
              c.storage_opt = {{"size", "64m"}};
              c.hypervisor = "qemu";
              c.runtime = "hull-oci-vm";
              c.pid_mode = "private";
              c.ipc_mode = "none";
              c.userns_mode = "host";
            }),
            "");
  EXPECT_NE(says([](Config& c) { c.storage_opt = {{"size", "1k"}}; }).find("expected 16MiB to"), std::string::npos);
  EXPECT_NE(says([](Config& c) { c.hypervisor = "xen"; }).find("expected auto, kvm or qemu"), std::string::npos);
  // And of a container what only a machine has.
  Config container = base();
  container.storage_opt = {{"size", "1g"}};
  EXPECT_NE(validate(container).error().message().find("add --vm"), std::string::npos);
  container.storage_opt.clear();
  container.hypervisor = "kvm";
  EXPECT_NE(validate(container).error().message().find("add --vm"), std::string::npos);
}

TEST(Signals, AreReadInEveryForm) {
  EXPECT_EQ(*parse_signal("SIGTERM"), 15);
  EXPECT_EQ(*parse_signal("kill"), 9);
  EXPECT_EQ(*parse_signal("9"), 9);
  EXPECT_EQ(*parse_signal("RTMIN+3"), 37);
  for (const char* bad : {"", "0", "65", "SIG", "RTMIN+99", "-9"}) EXPECT_FALSE(parse_signal(bad).ok()) << bad;
}

TEST(ConfigJson, GoesRoundTrip) {
  Config config = base();
  config.entrypoint = std::vector<std::string>{};
  config.labels = {{"a", "b\n\"c"}};
  config.stop_timeout_s = -1;
  config.ports = {{"127.0.0.1", 8080, 8090, 80, "tcp"}, {"", 0, 0, 53, "udp"}};
  config.devices = {{"/dev/null", "/dev/x", "r"}};
  config.ulimits = {{"nofile", 1, -1}};
  config.exposed_ports = {"80/tcp"};
  config.memory_swappiness = 0;
  config.oom_score_adj = -5;
  config.device_read_bps = {{"/dev/vda", 1000}};
  config.log_options = {{"max-size", "1m"}};
  config.network = "container:abc";
  config.isolation = Isolation::kVm;
  config.hypervisor = "qemu";
  config.storage_opt = {{"size", "2g"}};
  MountRequest mount;
  mount.type = MountRequest::Type::kVolume;
  mount.source = "v";
  mount.target = "/t";
  mount.no_copy = true;
  mount.volume_labels = {{"x", ""}};
  MountRequest tmpfs;
  tmpfs.type = MountRequest::Type::kTmpfs;
  tmpfs.target = "/tmp";
  tmpfs.tmpfs_mode = 01777;
  tmpfs.tmpfs_options = {"exec"};
  config.mounts = {mount, tmpfs};
  const std::string once = to_json(config);
  const auto again = parse_config(once);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(to_json(*again), once);
  EXPECT_EQ(again->mounts[1].tmpfs_mode, 01777U);
  EXPECT_TRUE(again->entrypoint && again->entrypoint->empty());
}

TEST(ConfigJson, RefusesWhatItDoesNotKnow) {
  const auto parsed = parse_config(R"({"Image":"x","HostConfig":{"Nonsense":1}})");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.error().message().find("HostConfig.Nonsense"), std::string::npos);
}

}  // namespace
}  // namespace hull::engine
