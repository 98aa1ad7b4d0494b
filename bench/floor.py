"""Writes plan.h for floor.c from a config.json and builds the floor program for it."""

import ctypes
import ctypes.util
import os
import pathlib
import resource
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
NAMESPACES = {"pid": 0x20000000, "network": 0x40000000, "ipc": 0x08000000, "uts": 0x04000000, "mount": 0x00020000,
              "cgroup": 0x02000000}
MOUNT_FLAGS = {"nosuid": 2, "nodev": 4, "noexec": 8, "ro": 1, "strictatime": 1 << 24, "bind": 4096,
               "rbind": 4096 | 16384, "relatime": 1 << 21}
NO_DATA = {"rprivate", "private", "rslave", "slave", "rw", "exec", "suid", "dev"}
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE").split()
ARCHITECTURES = {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X32": 0x4000003E}
COMPARE = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6,
           "SCMP_CMP_MASKED_EQ": 7}
SCMP_FLTATR_CTL_OPTIMIZE = 8


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def action_of(rule, key="action", errno_key="errnoRet"):
    name = rule[key]
    if name == "SCMP_ACT_ERRNO":
        return 0x00050000 | rule.get(errno_key, 1)
    return {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_KILL": 0, "SCMP_ACT_LOG": 0x7FFC0000}[name]


def compile_filter(seccomp):
    """The config's seccomp filter as BPF bytes, made by libseccomp."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(action_of(seccomp, "defaultAction", "defaultErrnoRet")))
    # A binary tree instead of a list: the kernel walks the filter once for each system call number while it loads it.
    library.seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, ctypes.c_uint32(2))
    for architecture in seccomp.get("architectures", []):
        library.seccomp_arch_add(context, ctypes.c_uint32(ARCHITECTURES[architecture]))
    for rule in seccomp["syscalls"]:
        arguments = rule.get("args") or []
        compares = (Compare * max(1, len(arguments)))(*[
            Compare(one["index"], COMPARE[one["op"]], one["value"], one.get("valueTwo", 0)) for one in arguments])
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:
                library.seccomp_rule_add_array(context, ctypes.c_uint32(action_of(rule)), number, len(arguments),
                                               compares)
    descriptor = os.memfd_create("filter")
    if library.seccomp_export_bpf(context, descriptor) != 0:
        raise RuntimeError("libseccomp could not compile the filter")
    size = os.lseek(descriptor, 0, os.SEEK_END)
    data = os.pread(descriptor, size, 0)
    os.close(descriptor)
    library.seccomp_release(context)
    return data


def quoted(text):
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def cgroup_hierarchies():
    """[(controllers, mount point, this process's path in it)] of the v1 hierarchies that can be seen."""
    own = {}
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if kind == "cgroup":
            options = fields[-1].split(",")
            for controllers, path in own.items():
                if controllers and set(controllers.split(",")) <= set(options):
                    found.append((controllers, fields[4], path))
    return found


def plan(config, bundle, cgroup_name):
    """The text of plan.h."""
    root = str(pathlib.Path(bundle, config["root"]["path"]).resolve())
    linux = config["linux"]
    resources = linux.get("resources", {})
    hierarchies = cgroup_hierarchies()
    cgroups, writes, tasks = [], [], []
    for controllers, point, _ in hierarchies:
        folder = f"{point}/{cgroup_name}"
        cgroups.append(folder)
        tasks.append(f"{folder}/tasks")
        if controllers == "cpuset":
            for name in ("cpuset.cpus", "cpuset.mems"):
                writes.append((f"{folder}/{name}", pathlib.Path(point, name).read_text().strip()))
        if controllers == "devices":
            writes.append((f"{folder}/devices.deny", "a"))
            allowed = ["c *:* m", "b *:* m", "c 136:* rwm", "c 5:2 rwm", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",
                       "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm"]
            for rule in resources.get("devices", []):
                if rule["allow"]:
                    allowed.append(f"{rule.get('type', 'a')} {rule.get('major', '*')}:{rule.get('minor', '*')} "
                                   f"{rule['access']}")
            writes += [(f"{folder}/devices.allow", line) for line in dict.fromkeys(allowed)]
        if controllers == "memory":
            memory = resources.get("memory", {})
            for key, file in (("limit", "memory.limit_in_bytes"), ("reservation", "memory.soft_limit_in_bytes"),
                              ("swap", "memory.memsw.limit_in_bytes")):
                if memory.get(key) and os.path.exists(f"{point}/{file}"):
                    writes.append((f"{folder}/{file}", str(memory[key])))
        if controllers == "cpu":
            cpu = resources.get("cpu", {})
            for key, file in (("shares", "cpu.shares"), ("period", "cpu.cfs_period_us"), ("quota", "cpu.cfs_quota_us")):
                if cpu.get(key):
                    writes.append((f"{folder}/{file}", str(cpu[key])))
        if controllers == "pids" and resources.get("pids", {}).get("limit", 0) > 0:
            writes.append((f"{folder}/pids.max", str(resources["pids"]["limit"])))

    mounts = []
    for mount in config["mounts"]:
        target = root + mount["destination"]
        options = mount.get("options", [])
        flags = 0
        for option in options:
            flags |= MOUNT_FLAGS.get(option, 0)
        data = ",".join(option for option in options if option not in MOUNT_FLAGS and option not in NO_DATA)
        if mount["type"] == "cgroup":
            mounts.append(("tmpfs", target, "tmpfs", "mode=755", MOUNT_FLAGS["nosuid"] | MOUNT_FLAGS["nodev"] | 8))
            for (_, point, _), folder in zip(hierarchies, cgroups):
                inside = f"{target}/{os.path.basename(point)}"
                mounts.append((None, inside, "mkdir", None, 0))
                mounts.append((folder, inside, None, None, MOUNT_FLAGS["rbind"]))
            mounts.append((None, target, None, None, None))
            continue
        if target.startswith(f"{root}/dev/"):
            mounts.append((None, target, "mkdir", None, 0))
        bound = bool(flags & 4096)
        mounts.append((mount["source"], target, None if bound else mount["type"], data or None, flags))

    have = {name[4:] for name in config["process"]["capabilities"]["bounding"]}
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text())
    kept = sum(1 << number for number, name in enumerate(CAPABILITIES) if name in have)
    dropped = [number for number in range(last + 1) if not kept >> number & 1]
    filter_bytes = compile_filter(linux["seccomp"])
    instructions = [filter_bytes[i : i + 8] for i in range(0, len(filter_bytes), 8)]

    def array(kind, name, rows):
        rows = rows or ["{0}"]
        return f"static const {kind} {name}[] = {{\n  " + ",\n  ".join(rows) + "};\n"

    def pairs(rows):
        return [f"{{{quoted(a)}, {quoted(b)}}}" for a, b in rows]

    devices = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    links = [("/proc/self/fd", "fd"), ("/proc/self/fd/0", "stdin"), ("/proc/self/fd/1", "stdout"),
             ("/proc/self/fd/2", "stderr"), ("pts/ptmx", "ptmx")]
    limits = [f"{{{getattr(resource, one['type'])}, {{{one['soft']}UL, {one['hard']}UL}}}}"
              for one in config["process"].get("rlimits", [])]
    namespaces = sum(NAMESPACES[one["type"]] for one in linux["namespaces"])
    return "".join([
        f"static const char* const kRoot = {quoted(root)};\n",
        f"static const char* const kHostname = {quoted(config['hostname'])};\n",
        f"#define kNamespaces {namespaces}UL\n",
        f"#define kCapabilities {kept}ULL\n",
        array("char* const", "kCgroups", [quoted(path) for path in cgroups]),
        array("char* const", "kTasks", [quoted(path) for path in tasks]),
        array("struct write_plan", "kCgroupWrites", pairs(writes)),
        array("struct mount_plan", "kMounts", [
            f"{{{quoted(source)}, {quoted(target)}, {quoted(kind)}, {quoted(data)}, "
            f"{'~0UL' if flags is None else f'{flags}UL'}}}" for source, target, kind, data, flags in mounts]),
        array("struct device_plan", "kDevices",
              [f'{{"{root}/dev/{name}", S_IFCHR | 0666, {major}, {minor}}}' for name, major, minor in devices]),
        array("struct link_plan", "kLinks", [f'{{"{target}", "{root}/dev/{path}"}}' for target, path in links]),
        array("char* const", "kReadonly", [quoted(path) for path in linux.get("readonlyPaths", [])]),
        array("char* const", "kMasked", [quoted(path) for path in linux.get("maskedPaths", [])]),
        array("struct write_plan", "kSysctls",
              pairs([("/proc/sys/" + key.replace(".", "/"), value) for key, value in linux.get("sysctl", {}).items()])),
        "#define kLimits kLimitTable\n" if limits else "",
        array("struct limit_plan", "kLimitTable" if limits else "kLimits", limits or
              [f"{{{resource.RLIMIT_CORE}, {{0, {resource.getrlimit(resource.RLIMIT_CORE)[1] & (1 << 64) - 1}UL}}}}"]),
        array("int", "kDroppedCapabilities", [str(number) for number in dropped]),
        array("struct sock_filter", "kFilter", [
            f"{{{int.from_bytes(i[0:2], 'little')}, {i[2]}, {i[3]}, {int.from_bytes(i[4:8], 'little')}U}}"
            for i in instructions]),
        "static const char* const kEnvironment[] = {",
        ", ".join(quoted(entry) for entry in config["process"]["env"]),
        ", NULL};\n",
    ])


def build(config, bundle, folder, cgroup_name="hull-floor"):
    """Compiles the floor program of a config into folder and returns its path."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.h").write_text(plan(config, bundle, cgroup_name))
    program = folder / "floor"
    subprocess.run(["gcc", "-O2", "-static", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Werror", "-iquote", str(folder), "-o", program,
                    str(HERE / "floor.c")], check=True)
    return program
