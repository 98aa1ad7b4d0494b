// The flags of run and create: one row each, with the function that takes its value into the request.
#include "cli/commands.h"
#include "cli/run_setters.h"

namespace hull::cli {
namespace {

using namespace setters;  // NOLINT(google-build-using-namespace): the two files are one

constexpr int64_t kMost = int64_t{1} << 62;

using enum Group;

/// The rarer members of a flag.
struct More {
  ValueKind kind = ValueKind::kText;
  bool repeatable = false, hidden = false;
  Complete complete = Complete::kNothing;
  View words, fallback;
};

/// A switch has no metavar.
consteval Flag row(Group group, View name, char short_name, View metavar, View help, RunSetter set, More more = {}) {
  return {.name = name,
          .short_name = short_name,
          .kind = metavar.empty() ? ValueKind::kBool : more.kind,
          .metavar = metavar,
          .help = help,
          .group = group,
          .repeatable = more.repeatable,
          .hidden = more.hidden,
          .complete = more.complete,
          .words = more.words,
          .fallback = more.fallback,
          .set = set};
}

constexpr Flag kTable[] = {
    row(kGeneral, "cidfile", 0, "FILE", "Write the workload's id to this file; it must not exist",
        own_text<&RunOptions::cidfile>, {.complete = Complete::kFile}),
    row(kGeneral, "name", 0, "NAME", "Name of the workload; one is made up otherwise", set_name),
    row(kGeneral, "platform", 0, "OS/ARCH[/VARIANT]", "Take this platform from a multi-platform image", set_platform,
        {.complete = Complete::kWords, .words = "linux/amd64 linux/arm64 linux/arm/v7"}),
    row(kGeneral, "pull", 0, "WHEN", "Pull the image before running", set_pull,
        {.complete = Complete::kWords, .words = "always missing never", .fallback = "missing"}),
    row(kGeneral, "quiet", 'q', "", "No progress while pulling", own_on_off<&RunOptions::quiet>),
    row(kGeneral, "rm", 0, "", "Remove the workload and its anonymous volumes when it exits",
        on_off<&Config::auto_remove>),
    row(kGeneral, "label", 'l', "KEY=VALUE", "Attach a label", set_label, {.repeatable = true}),
    row(kGeneral, "label-file", 0, "FILE", "Attach the labels of a file, KEY=VALUE a line",
        own_list<&RunOptions::label_files>, {.repeatable = true, .complete = Complete::kFile}),
    row(kGeneral, "annotation", 0, "KEY=VALUE", "Add an annotation to the OCI runtime configuration",
        pairs<&Config::annotations>, {.repeatable = true}),
    row(kGeneral, "isolation", 0, "KIND", "Behind which wall it runs: container or vm", set_isolation,
        {.complete = Complete::kWords, .words = "container vm", .fallback = "container"}),
    row(kGeneral, "vm", 0, "", "Run it as a virtual machine with a kernel of its own; --isolation vm", set_vm),
    row(kGeneral, "hypervisor", 0, "NAME", "What runs the virtual machine: kvm, qemu, or auto to choose by this host",
        set_hypervisor, {.complete = Complete::kWords, .words = "auto kvm qemu", .fallback = "hull.toml's, or auto"}),
    row(kGeneral, "runtime", 0, "PROGRAM", "OCI runtime: hull-oci, or hull-oci-vm for --vm", text<&Config::runtime>,
        {.complete = Complete::kFile}),
    row(kProcess, "attach", 'a', "STREAM", "Attach only to these streams", set_attach,
        {.repeatable = true, .complete = Complete::kWords, .words = "stdin stdout stderr"}),
    row(kProcess, "detach-keys", 0, "KEYS", "Keys that leave the workload running", set_detach_keys,
        {.fallback = "ctrl-p,ctrl-q"}),
    row(kProcess, "entrypoint", 0, "PROGRAM", "Run this instead of the image's entry point; empty clears it",
        set_entrypoint),
    row(kProcess, "env", 'e', "NAME[=VALUE]", "Set an environment variable, or pass the caller's on", set_env,
        {.repeatable = true}),
    row(kProcess, "env-file", 0, "FILE", "Set the variables of a file, NAME=VALUE a line",
        own_list<&RunOptions::env_files>, {.repeatable = true, .complete = Complete::kFile}),
    row(kProcess, "init", 0, "", "Run a small init that forwards signals and reaps processes", on_off<&Config::init>),
    row(kProcess, "interactive", 'i', "", "Keep standard input open", set_interactive),
    row(kProcess, "stop-signal", 0, "SIGNAL", "Signal that stops it", text<&Config::stop_signal>,
        {.complete = Complete::kSignal, .fallback = "the image's, or SIGTERM"}),
    row(kProcess, "stop-timeout", 0, "SECONDS", "How long a stop waits before it kills; -1 for ever",
        optional_number<&Config::stop_timeout_s, -1, 1 << 30, int>, {.kind = ValueKind::kInt, .fallback = "10"}),
    row(kProcess, "tty", 't', "", "Allocate a pseudo-terminal", on_off<&Config::tty>),
    row(kProcess, "user", 'u', "USER[:GROUP]", "User name or uid, and group name or gid", text<&Config::user>),
    row(kProcess, "group-add", 0, "GROUP", "Join this group too", list<&Config::groups_add>, {.repeatable = true}),
    row(kProcess, "workdir", 'w', "FOLDER", "Working folder in the container", set_workdir),
    row(kFiles, "mount", 0, "KEY=VALUE,...",
        "Mount a folder, a volume or a tmpfs: type=bind|volume|tmpfs, source=, target=, readonly and more", set_mount,
        {.repeatable = true}),
    row(kFiles, "read-only", 0, "", "Mount the root file system read-only", on_off<&Config::read_only_rootfs>),
    row(kFiles, "shm-size", 0, "SIZE", "Size of /dev/shm", set_shm_size, {.kind = ValueKind::kSize, .fallback = "64m"}),
    row(kFiles, "storage-opt", 0, "size=SIZE", "Size of the disk that a virtual machine writes to", set_storage_option,
        {.repeatable = true, .complete = Complete::kWords, .words = "size=", .fallback = "size=10g"}),
    row(kFiles, "tmpfs", 0, "FOLDER[:OPTIONS]", "Mount a tmpfs", set_tmpfs, {.repeatable = true}),
    row(kFiles, "volume", 'v', "[SOURCE:]TARGET[:OPTIONS]", "Mount a folder of this machine or a named volume",
        set_volume, {.repeatable = true, .complete = Complete::kVolume}),
    row(kFiles, "volume-driver", 0, "NAME", "Driver of the volumes that are made", set_volume_driver,
        {.complete = Complete::kWords, .words = "local", .fallback = "local"}),
    row(kFiles, "volumes-from", 0, "WORKLOAD[:ro|rw]", "Mount the volumes of another workload",
        list<&Config::volumes_from>, {.repeatable = true, .complete = Complete::kWorkload}),
    row(kNetwork, "add-host", 0, "HOST:IP", "Add a line to /etc/hosts; the IP may be host-gateway", set_add_host,
        {.repeatable = true}),
    row(kNetwork, "dns", 0, "IP", "Name server", set_dns, {.repeatable = true}),
    row(kNetwork, "dns-opt", 0, "OPTION", "Resolver option", list<&Config::dns_options>,
        {.repeatable = true, .hidden = true}),
    row(kNetwork, "dns-option", 0, "OPTION", "Resolver option", list<&Config::dns_options>, {.repeatable = true}),
    row(kNetwork, "dns-search", 0, "DOMAIN", "Search domain; . for none", list<&Config::dns_search>,
        {.repeatable = true}),
    row(kNetwork, "domainname", 0, "NAME", "NIS domain name", text<&Config::domainname>),
    row(kNetwork, "expose", 0, "PORT[-PORT][/PROTOCOL]", "Note that it listens here, for --publish-all", set_expose,
        {.repeatable = true}),
    row(kNetwork, "hostname", 'h', "NAME", "Host name", set_hostname),
    row(kNetwork, "ip", 0, "IP", "IPv4 address in the network", set_ip),
    row(kNetwork, "ip6", 0, "IP", "IPv6 address in the network", set_ip6),
    row(kNetwork, "mac-address", 0, "MAC", "Link-layer address", set_mac),
    row(kNetwork, "link", 0, "WORKLOAD[:ALIAS]", "Know another workload by a name", set_link,
        {.repeatable = true, .complete = Complete::kWorkload}),
    row(kNetwork, "net", 0, "NETWORK", "Network to join", set_network,
        {.repeatable = true, .hidden = true, .complete = Complete::kNetwork}),
    row(kNetwork, "net-alias", 0, "NAME", "Name on its network", list<&Config::network_aliases>,
        {.repeatable = true, .hidden = true}),
    row(kNetwork, "network", 0, "NETWORK",
        "bridge, none, host, container:NAME, or a network of yours; also name=NETWORK, alias=, ip=, ip6=, "
        "mac-address=, "
        "driver-opt=, gw-priority=",
        set_network, {.repeatable = true, .complete = Complete::kNetwork, .fallback = "bridge"}),
    row(kNetwork, "network-alias", 0, "NAME", "Name on its network, for the others on it",
        list<&Config::network_aliases>, {.repeatable = true}),
    row(kNetwork, "publish", 'p', "[[IP:]HOST:]PORT[/PROTOCOL]", "Publish a port or a range of ports on the host",
        set_publish, {.repeatable = true}),
    row(kNetwork, "publish-all", 'P', "", "Publish every exposed port on a free port of the host",
        on_off<&Config::publish_all>),
    row(kLimits, "blkio-weight", 0, "WEIGHT", "Share of block I/O, 10 to 1000; 0 for none", set_blkio_weight,
        {.kind = ValueKind::kInt}),
    row(kLimits, "blkio-weight-device", 0, "DEVICE:WEIGHT", "Share of block I/O on one device", set_blkio_weight_device,
        {.repeatable = true}),
    row(kLimits, "cpu-period", 0, "MICROSECONDS", "Period of the CPU quota", number<&Config::cpu_period, 0, kMost>,
        {.kind = ValueKind::kInt}),
    row(kLimits, "cpu-quota", 0, "MICROSECONDS", "CPU time in each period", number<&Config::cpu_quota, -1, kMost>,
        {.kind = ValueKind::kInt}),
    row(kLimits, "cpu-rt-period", 0, "MICROSECONDS", "Period of real-time CPU time",
        number<&Config::cpu_rt_period, 0, kMost>, {.kind = ValueKind::kInt}),
    row(kLimits, "cpu-rt-runtime", 0, "MICROSECONDS", "Real-time CPU time in each period",
        number<&Config::cpu_rt_runtime, 0, kMost>, {.kind = ValueKind::kInt}),
    row(kLimits, "cpu-shares", 'c', "SHARES", "Relative weight of CPU time", number<&Config::cpu_shares, 0, 262144>,
        {.kind = ValueKind::kInt}),
    row(kLimits, "cpus", 0, "NUMBER", "How many CPUs it may use, such as 1.5", set_cpus),
    row(kLimits, "cpuset-cpus", 0, "LIST", "CPUs it runs on, such as 0-3,5", text<&Config::cpuset_cpus>),
    row(kLimits, "cpuset-mems", 0, "LIST", "Memory nodes it uses", text<&Config::cpuset_mems>),
    row(kLimits, "device-read-bps", 0, "DEVICE:SIZE", "Bytes a second read from a device",
        device_rate<&Config::device_read_bps, true>, {.repeatable = true}),
    row(kLimits, "device-read-iops", 0, "DEVICE:NUMBER", "Reads a second from a device",
        device_rate<&Config::device_read_iops, false>, {.repeatable = true}),
    row(kLimits, "device-write-bps", 0, "DEVICE:SIZE", "Bytes a second written to a device",
        device_rate<&Config::device_write_bps, true>, {.repeatable = true}),
    row(kLimits, "device-write-iops", 0, "DEVICE:NUMBER", "Writes a second to a device",
        device_rate<&Config::device_write_iops, false>, {.repeatable = true}),
    row(kLimits, "memory", 'm', "SIZE", "Limit of memory", size<&Config::memory>, {.kind = ValueKind::kSize}),
    row(kLimits, "memory-reservation", 0, "SIZE", "Memory it should get back to when memory is short",
        size<&Config::memory_reservation>, {.kind = ValueKind::kSize}),
    row(kLimits, "memory-swap", 0, "SIZE", "Limit of memory and swap together; -1 for unlimited swap", set_memory_swap,
        {.kind = ValueKind::kSize}),
    row(kLimits, "memory-swappiness", 0, "NUMBER", "How eagerly it is swapped out, 0 to 100", set_swappiness,
        {.kind = ValueKind::kInt, .fallback = "-1"}),
    row(kLimits, "oom-kill-disable", 0, "", "Let it hang instead of killing it when memory is out",
        on_off<&Config::oom_kill_disable>),
    row(kLimits, "oom-score-adj", 0, "NUMBER", "How likely it is killed when memory is out, -1000 to 1000",
        optional_number<&Config::oom_score_adj, -1000, 1000, int>, {.kind = ValueKind::kInt}),
    row(kLimits, "pids-limit", 0, "NUMBER", "Most processes and threads; -1 for any number", set_pids_limit,
        {.kind = ValueKind::kInt}),
    row(kLimits, "ulimit", 0, "NAME=SOFT[:HARD]", "Resource limit of its processes", set_ulimit,
        {.repeatable = true,
         .complete = Complete::kWords,
         .words = "core= cpu= data= fsize= memlock= nofile= nproc= stack="}),
    row(kRights, "cap-add", 0, "CAPABILITY", "Add a capability, or ALL", list<&Config::cap_add>,
        {.repeatable = true, .complete = Complete::kCapability}),
    row(kRights, "cap-drop", 0, "CAPABILITY", "Drop a capability, or ALL", list<&Config::cap_drop>,
        {.repeatable = true, .complete = Complete::kCapability}),
    row(kRights, "device", 0, "HOST[:CONTAINER][:rwm]", "Add a device of the host", set_device,
        {.repeatable = true, .complete = Complete::kFile}),
    row(kRights, "device-cgroup-rule", 0, "RULE", "Allow devices, such as 'c 1:3 rwm'", set_device_rule,
        {.repeatable = true}),
    row(kRights, "privileged", 0, "", "All capabilities, all devices, no seccomp profile, nothing masked",
        on_off<&Config::privileged>),
    row(kRights, "security-opt", 0, "KEY=VALUE",
        "seccomp=FILE|unconfined, apparmor=, label=, no-new-privileges, systempaths=unconfined", set_security,
        {.repeatable = true,
         .complete = Complete::kWords,
         .words = "no-new-privileges seccomp=unconfined apparmor=unconfined label=disable systempaths=unconfined"}),
    row(kNamespaces, "cgroup-parent", 0, "CGROUP", "Control group above its own", text<&Config::cgroup_parent>),
    row(kNamespaces, "cgroupns", 0, "MODE", "Cgroup namespace", set_cgroupns,
        {.complete = Complete::kWords, .words = "host private"}),
    row(kNamespaces, "ipc", 0, "MODE", "IPC namespace: none, private, shareable, host or container:NAME", set_ipc,
        {.complete = Complete::kWords, .words = "none private shareable host"}),
    row(kNamespaces, "pid", 0, "MODE", "PID namespace: host or container:NAME", set_pid,
        {.complete = Complete::kWords, .words = "host"}),
    row(kNamespaces, "sysctl", 0, "NAME=VALUE", "Kernel parameter of its namespaces", set_sysctl, {.repeatable = true}),
    row(kNamespaces, "userns", 0, "MODE", "User namespace", set_userns,
        {.complete = Complete::kWords, .words = "host"}),
    row(kNamespaces, "uts", 0, "MODE", "UTS namespace", set_uts, {.complete = Complete::kWords, .words = "host"}),
    row(kLogs, "log-driver", 0, "DRIVER", "Where its output is kept", set_log_driver,
        {.complete = Complete::kWords,
         .words = "json-file local journald none",
         .fallback = "hull.toml's, or json-file"}),
    row(kLogs, "log-opt", 0, "KEY=VALUE",
        "max-size=SIZE, max-file=NUMBER, compress=BOOL, mode=blocking|non-blocking (journald), max-buffer-size=SIZE, "
        "labels=, "
        "labels-regex=, env=, env-regex=, tag=",
        set_log_option,
        {.repeatable = true,
         .complete = Complete::kWords,
         .words = "max-size= max-file= compress= mode= max-buffer-size= labels= labels-regex= env= env-regex= tag="}),
    row(kHealth, "health-cmd", 0, "COMMAND", "Shell command that tells whether the workload is well", set_health_cmd),
    row(kHealth, "health-interval", 0, "DURATION", "Time between two checks",
        health_duration<&oci::HealthConfig::interval_ns>, {.fallback = "the image's, or 30s"}),
    row(kHealth, "health-on-failure", 0, "ACTION", "What an unhealthy workload gets: none, kill, restart or stop",
        set_health_on_failure, {.complete = Complete::kWords, .words = "none kill restart stop", .fallback = "none"}),
    row(kHealth, "health-retries", 0, "NUMBER", "Failures in a row that make it unhealthy", set_health_retries,
        {.kind = ValueKind::kInt, .fallback = "the image's, or 3"}),
    row(kHealth, "health-start-interval", 0, "DURATION", "Time between two checks during the start period",
        health_duration<&oci::HealthConfig::start_interval_ns>, {.fallback = "the image's, or 5s"}),
    row(kHealth, "health-start-period", 0, "DURATION", "Time to start up in, in which failures do not count",
        health_duration<&oci::HealthConfig::start_period_ns>, {.fallback = "the image's, or 0s"}),
    row(kHealth, "health-timeout", 0, "DURATION", "Time after which a check has failed",
        health_duration<&oci::HealthConfig::timeout_ns>, {.fallback = "the image's, or 30s"}),
    row(kHealth, "no-healthcheck", 0, "", "Ignore the image's health check", own_on_off<&RunOptions::no_healthcheck>),
    row(kHealth, "restart", 0, "POLICY",
        "What follows when it ends: no, always, unless-stopped, or on-failure[:MAXIMUM-RETRIES]", set_restart,
        {.complete = Complete::kWords, .words = "no always unless-stopped on-failure", .fallback = "no"}),
    row(kLater, "gpus", 0, "VALUE", "In a later version", refuse_version, {.repeatable = true}),
    row(kLater, "link-local-ip", 0, "VALUE", "Not there", refuse_link_local, {.repeatable = true}),
    row(kLater, "use-api-socket", 0, "", "In a later version", refuse_version),
    row(kGeneral, "kernel-memory", 0, "SIZE", "", refuse_kernel_memory, {.hidden = true}),
    row(kGeneral, "cpu-count", 0, "VALUE", "", refuse_windows, {.hidden = true}),
    row(kGeneral, "cpu-percent", 0, "VALUE", "", refuse_windows, {.hidden = true}),
    row(kGeneral, "io-maxbandwidth", 0, "VALUE", "", refuse_windows, {.hidden = true}),
    row(kGeneral, "io-maxiops", 0, "VALUE", "", refuse_windows, {.hidden = true}),
    row(kGeneral, "disable-content-trust", 0, "", "", set_content_trust, {.hidden = true}),
};

// What only `run` takes: how the command itself behaves.
constexpr Flag kRunOnly[] = {
    {.name = "detach",
     .short_name = 'd',
     .help = "Run in the background and print the id",
     .set = own_on_off<&RunOptions::detach>},
    {.name = "sig-proxy",
     .help = "Pass the signals that this command gets on to the workload",
     .group = Group::kProcess,
     .fallback = "true",
     .set = own_on_off<&RunOptions::sig_proxy>},
    {.name = "timings", .help = "Print to standard error where the time went", .set = own_on_off<&RunOptions::timings>},
};

// What only `compare` takes.
constexpr Flag kCompareOnly[] = {
    {.name = "format",
     .kind = ValueKind::kText,
     .metavar = "FORMAT",
     .help = "How to print the result: table or json",
     .complete = Complete::kWords,
     .words = "table json",
     .fallback = "table"},
    {.name = "instances",
     .kind = ValueKind::kInt,
     .metavar = "NUMBER",
     .help = "How many of it are to run on this host at once, for the recommendation",
     .fallback = "1"},
    {.name = "limit",
     .kind = ValueKind::kInt,
     .metavar = "SECONDS",
     .help = "Stop a run after this time; 0 for no limit",
     .fallback = "60"},
    {.name = "runs",
     .short_name = 'n',
     .kind = ValueKind::kInt,
     .metavar = "NUMBER",
     .help = "Runs behind each wall, in turns",
     .fallback = "3"},
    {.name = "svg",
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Write a picture of the result to this file",
     .complete = Complete::kFile},
    {.name = "untrusted", .help = "The image is not trusted, for the recommendation"},
};

constexpr std::span<const Flag> kCompareTables[] = {kCompareOnly, kTable};
constexpr std::span<const Flag> kRunTables[] = {kRunOnly, kTable};
constexpr std::span<const Flag> kCreateTables[] = {kTable};

}  // namespace

constinit const Command kRun = {
    .path = "run",
    .aliases = "container run",
    .arguments = "IMAGE [COMMAND] [ARG...]",
    .summary = "Create and run a new workload from an image",
    .description =
        "Makes a workload from the image, which is pulled when the store does not have it, and starts it. In the "
        "foreground the caller's standard output and error are the workload's; with -i standard input too; with -t "
        "they are a pseudo-terminal. Signals that the command gets go to the workload (--sig-proxy). The detach keys "
        "(ctrl-p ctrl-q) leave a workload with a terminal running and end the command.\n\n"
        "The exit code is the program's own (128 and the signal's number when a signal ended it); 125 when Hull could "
        "not run it, 126 when the program can't be executed, 127 when it is not there.\n\n"
        "With --vm the same image runs with the same flags inside a virtual machine. Its memory is what --memory says "
        "and what the guest's kernel needs on top ([vm] memory in hull.toml without one, 1 GiB); --cpus is rounded up "
        "to whole processors and is a limit too; what it writes goes to a disk of its own (--storage-opt size=). "
        "Users are looked up, and --privileged, --cap-add, --sysctl, --ulimit, --tmpfs and the like mean what they say "
        "inside its own kernel. Refused, because they can't mean the same there: --network host and container:NAME, "
        "--pid, --ipc, --uts and --cgroupns host (and container:NAME, --ipc shareable), --device other than /dev/null, "
        "zero, full, random, urandom, tty and fuse, limits on devices of this host (--device-read-bps and its "
        "like, --blkio-weight-device), --security-opt apparmor=PROFILE, --cpu-rt-period, --cpu-rt-runtime, "
        "--oom-kill-disable, --memory-swappiness, mounts with shared or slave propagation, and -v of a socket, pipe or "
        "device. A guest kernel has to be there: 'hull vm kernel install'. Where KVM can't serve, QEMU's software "
        "emulation takes its place and one line says so.",
    .examples =
        "hull run --rm -it debian bash\n"
        "hull run -d --name web -p 8080:80 -v site:/usr/share/nginx/html:ro nginx\n"
        "hull run --rm --network none --read-only -m 256m --cpus 1.5 busybox true\n"
        "hull run --rm --vm -m 256m alpine uname -r\n",
    .flags = kRunTables,
    .least = 1,
    .most = -1,
    .stop_at_first_argument = true,
    .complete = Complete::kImage,
    .section = Section::kCommon,
    .run = run_main};

constinit const Command kCompare = {
    .path = "compare",
    .arguments = "IMAGE [COMMAND] [ARG...]",
    .summary = "Run an image as a container and as a virtual machine, and show what each costs",
    .description =
        "Runs the command behind both walls in turns and prints side by side the time to the first line of output, the "
        "run time (medians), the memory that all its processes on the host take (proportional set size), what it wrote "
        "to the disk, processes and threads on the host, the system calls that reached the host's kernel, the exit "
        "codes, and whether the output was the same. Memory, processes and system calls come from one more run of each "
        "that is not timed. System calls are counted in every process that was started for the run; where the kernel "
        "can't count them, the table says so.\n\n"
        "The recommendation follows from rules, the first that speaks decides: works (it runs, or succeeds, behind one "
        "wall only), kernel needs (an option asks for rights over the kernel: vm), trust (--untrusted: vm), density "
        "(--instances do not fit into free memory as machines: container), start-up (the machine adds more than 250 ms "
        "and more than half of what the container takes in all: container), otherwise vm, the stronger wall.\n\n"
        "Every option of 'hull create' is taken, for both walls.",
    .examples =
        "hull compare alpine uname -r\nhull compare -n 10 --svg cost.svg --untrusted python python -c 'print(1)'\n"
        "hull compare --format json --limit 20 nginx\n",
    .flags = kCompareTables,
    .least = 1,
    .most = -1,
    .stop_at_first_argument = true,
    .complete = Complete::kImage,
    .run = compare_main};

constinit const Command kCreate = {
    .path = "create",
    .aliases = "container create",
    .arguments = "IMAGE [COMMAND] [ARG...]",
    .summary = "Create a new workload",
    .description = "Makes a workload as 'hull run' does, prints its id and does not start it.",
    .examples = "id=$(hull create busybox echo hello)\nhull start -a $id\n",
    .flags = kCreateTables,
    .least = 1,
    .most = -1,
    .stop_at_first_argument = true,
    .complete = Complete::kImage,
    .run = create_main};

}  // namespace hull::cli
