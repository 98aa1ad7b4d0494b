#pragma once
// A config.json that uses every member, for tests and as a seed for the fuzz target.

namespace hull::oci {

inline constexpr const char* kRichConfig = R"json({
  "ociVersion": "1.3.0",
  "process": {
    "terminal": true,
    "consoleSize": {"height": 25, "width": 80},
    "user": {"uid": 1, "gid": 1, "umask": 63, "additionalGids": [5, 4294967294], "username": "u"},
    "args": ["sh", "-c", "echo \"hi\" \u00e4\t\ud83d\udea2"],
    "env": ["PATH=/usr/bin:/bin", "EMPTY=", "TERM=xterm"],
    "cwd": "/",
    "capabilities": {
      "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
      "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]
    },
    "rlimits": [
      {"type": "RLIMIT_CORE", "hard": 1024, "soft": 1024},
      {"type": "RLIMIT_NOFILE", "hard": 18446744073709551615, "soft": 0}
    ],
    "noNewPrivileges": true,
    "apparmorProfile": "acme_secure_profile",
    "oomScoreAdj": -500,
    "scheduler": {
      "policy": "SCHED_DEADLINE", "nice": -5, "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"],
      "runtime": 1000000, "deadline": 2000000, "period": 3000000
    },
    "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0:c124,c675",
    "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
    "execCPUAffinity": {"initial": "7", "final": "0-3,7"}
  },
  "root": {"path": "rootfs", "readonly": true},
  "hostname": "slartibartfast",
  "domainname": "foobarbaz.test",
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
      "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"],
      "uidMappings": [{"containerID": 0, "hostID": 7, "size": 1}],
      "gidMappings": [{"containerID": 0, "hostID": 8, "size": 1}]
    }
  ],
  "hooks": {
    "prestart": [{"path": "/usr/bin/fix-mounts", "args": ["fix-mounts", "arg1"], "env": ["key1=value1"]}],
    "createRuntime": [{"path": "/a"}],
    "createContainer": [{"path": "/b", "timeout": 3}],
    "startContainer": [{"path": "/c"}],
    "poststart": [{"path": "/d"}],
    "poststop": [{"path": "/e"}]
  },
  "annotations": {"com.example.key1": "value1", "com.example.key2": "", "a": "b"},
  "linux": {
    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
    "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 32000}],
    "sysctl": {"kernel.domainname": "x", "net.ipv4.ip_forward": "1", "net.core.somaxconn": "256"},
    "resources": {
      "devices": [
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "r"}
      ],
      "memory": {
        "limit": 536870912, "reservation": 536870912, "swap": -1, "kernel": -1, "kernelTCP": -1, "swappiness": 0,
        "disableOOMKiller": false, "useHierarchy": true, "checkBeforeUpdate": true
      },
      "cpu": {
        "shares": 1024, "quota": 1000000, "burst": 1000000, "period": 500000, "realtimeRuntime": 950000,
        "realtimePeriod": 1000000, "cpus": "2-3", "mems": "0-7", "idle": 0
      },
      "pids": {"limit": 32771},
      "blockIO": {
        "weight": 10, "leafWeight": 10,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}, {"major": 8, "minor": 16}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 1, "rate": 601}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 2, "rate": 602}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 300}]
      },
      "hugepageLimits": [{"pageSize": "2MB", "limit": 9223372036854772000}],
      "network": {
        "classID": 1048577,
        "priorities": [{"name": "eth0", "priority": 500}, {"name": "eth1", "priority": 1000}]
      },
      "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {}},
      "unified": {"hugetlb.1GB.max": "1073741824", "memory.high": "max"}
    },
    "cgroupsPath": "/myRuntime/myContainer",
    "namespaces": [
      {"type": "pid"}, {"type": "network", "path": "/proc/1/ns/net"}, {"type": "ipc"}, {"type": "uts"},
      {"type": "mount"}, {"type": "user"}, {"type": "cgroup"}, {"type": "time"}
    ],
    "devices": [
      {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
      {"path": "/dev/pipe", "type": "p", "major": 0, "minor": 0}
    ],
    "netDevices": {"eth0": {"name": "container_eth0"}, "ens4": {}},
    "seccomp": {
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
      "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
      "flags": ["SECCOMP_FILTER_FLAG_LOG"],
      "listenerPath": "/run/agent.sock", "listenerMetadata": "m",
      "syscalls": [
        {"names": ["getcwd", "chmod"], "action": "SCMP_ACT_ALLOW"},
        {
          "names": ["clone"], "action": "SCMP_ACT_NOTIFY",
          "args": [{"index": 0, "value": 2114060288, "valueTwo": 5, "op": "SCMP_CMP_MASKED_EQ"}]
        },
        {"names": ["mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}
      ]
    },
    "rootfsPropagation": "slave",
    "maskedPaths": ["/proc/kcore"],
    "readonlyPaths": ["/proc/sys"],
    "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811",
    "intelRdt": {
      "closID": "guaranteed_group", "schemata": ["L3:0=7f0;1=1f"], "l3CacheSchema": "L3:0=7f0;1=1f",
      "memBwSchema": "MB:0=20;1=70", "enableMonitoring": true
    },
    "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "2-3", "flags": ["MPOL_F_STATIC_NODES"]},
    "personality": {"domain": "LINUX32", "flags": ["x"]},
    "timeOffsets": {"boottime": {"secs": -50, "nanosecs": 5}, "monotonic": {"secs": 172800}}
  },
  "vm": {
    "hypervisor": {"path": "/path/to/vmm", "parameters": ["opts1=foo", "opts2=bar"]},
    "kernel": {"path": "/path/to/vmlinuz", "parameters": ["foo=bar"], "initrd": "/path/to/initrd.img"},
    "image": {"path": "/path/to/vm/rootfs.img", "format": "raw"}
  }
})json";

}  // namespace hull::oci
