#pragma once
// Control groups: v1, v2 and hybrid behind one class. Every file is reached through the descriptor of its folder.
//
// The way of a container's start:
//   CgroupHost::detect() -> Cgroup::create(host, request) -> cgroup.apply(resources) -> cgroup.prepare_join()
//   -> clone3 with CLONE_INTO_CGROUP where join.v2_dir_fd is valid; the child, first thing, writes "0" to each of
//      join.task_fds -> (child) unshare(CLONE_NEWCGROUP), which must come after joining, so that the container sees
//      its own group as "/".
// Resources are set before anybody is inside, so limits hold from the first instruction.

#include <sys/types.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "oci/runtime_spec.h"

namespace hull::isolation {

enum class CgroupLayout {
  kUnified,  ///< pure v2
  kHybrid,   ///< v1 hierarchies and a v2 one beside them
  kLegacy,   ///< pure v1
};

/// Where one hierarchy is mounted.
struct CgroupMount {
  int version = 2;                       // 1 or 2
  std::vector<std::string> controllers;  // v1: "cpu", "cpuacct"; a named hierarchy has "name=systemd"; v2: what
                                         // cgroup.controllers of its top folder lists
  std::string path;                      // /sys/fs/cgroup/memory
  std::string root;                      // the mount's root within the hierarchy, "/" but for bind mounts; "" when it
                                         // was not looked up
  bool has(std::string_view controller) const;
};

/// The control group hierarchies of this host, found once.
class CgroupHost {
 public:
  /// Where everybody mounts them (/sys/fs/cgroup), checked by file system type; from /proc/self/mountinfo where that
  /// fails. So its cost does not grow with the host's mounts. kUnsupported when there is no cgroup file system.
  static Result<CgroupHost> detect();
  /// From given mounts; for tests on fixture trees.
  static CgroupHost from_mounts(std::vector<CgroupMount> mounts, bool fixture);

  CgroupLayout layout() const;
  const std::vector<CgroupMount>& mounts() const { return mounts_; }
  /// The mount that has the controller, or nullptr.
  const CgroupMount* find(std::string_view controller) const;
  const CgroupMount* unified() const;
  /// The tree is made of plain files (tests): no BPF programs, no join.
  bool fixture() const { return fixture_; }

 private:
  std::vector<CgroupMount> mounts_;
  bool fixture_ = false;
};

/// What the child does to be in the group. Plain data; the descriptors belong to the Cgroup.
struct CgroupJoin {
  static constexpr int kMaxHierarchies = 24;
  /// For clone_args.cgroup with CLONE_INTO_CGROUP (Linux 5.7), or -1.
  int v2_dir_fd = -1;
  /// cgroup.procs of the v2 group, for kernels or callers that can't use CLONE_INTO_CGROUP: write "0". -1 unless
  /// Cgroup::open_v2_procs() was called.
  int v2_procs_fd = -1;
  /// The v1 groups' `tasks` files, open for writing. The child, still single-threaded, writes "0" to each. (`tasks`
  /// with "0", not cgroup.procs with a pid: this way the kernel need not take its global thread-group lock, which
  /// costs an RCU grace period for each hierarchy; kernel/cgroup/cgroup.c, cgroup_procs_write_start.)
  std::array<int, kMaxHierarchies> task_fds = {};
  int task_count = 0;
};

struct CgroupRequest {
  std::string container_id;
  /// linux.cgroupsPath. Absolute: from the top of each hierarchy. Relative: below the caller's own group (v1), or
  /// beside it (v2, where a group with processes can't have children with controllers). Empty: hull-<id> as a relative
  /// path. With systemd: "slice:prefix:name", or empty for system.slice:hull:<id>.
  std::string cgroups_path;
  /// --systemd-cgroup
  bool systemd = false;
  /// --rootless or no privilege: hierarchies in which this user can't make the group are skipped unless something is
  /// asked of them, and rules on devices are left out where they are forbidden.
  bool tolerate_permission = false;
};

/// What happened to ask for and to report; see stats_json().
struct CgroupStats {
  struct Memory {
    uint64_t usage = 0, max_usage = 0, limit = 0, failcnt = 0;
  };
  struct BlkioEntry {
    uint64_t major = 0, minor = 0, value = 0;
    std::string op;
  };
  struct Hugetlb {
    uint64_t usage = 0, max = 0, failcnt = 0;
  };
  struct Rdma {
    std::string device;
    uint32_t hca_handles = 0, hca_objects = 0;
  };
  struct Pressure {  // v2 PSI; avg in percent, total in microseconds
    double some_avg10 = 0, some_avg60 = 0, some_avg300 = 0, full_avg10 = 0, full_avg60 = 0, full_avg300 = 0;
    uint64_t some_total = 0, full_total = 0;
  };
  // cpu, nanoseconds
  uint64_t cpu_total_ns = 0, cpu_user_ns = 0, cpu_kernel_ns = 0;
  std::vector<uint64_t> cpu_percpu_ns;  // v1 only
  uint64_t cpu_periods = 0, cpu_throttled_periods = 0, cpu_throttled_ns = 0;
  std::string cpuset_cpus, cpuset_mems;  // effective lists
  // memory, bytes
  Memory memory, memory_swap, memory_kernel, memory_kernel_tcp;
  uint64_t memory_cache = 0;
  std::map<std::string, uint64_t> memory_raw;  // memory.stat
  uint64_t oom_kills = 0;
  uint64_t pids_current = 0, pids_limit = 0;             // limit 0: none
  std::map<std::string, std::vector<BlkioEntry>> blkio;  // runc's names: ioServiceBytesRecursive ...
  std::map<std::string, Hugetlb> hugetlb;                // "2MB" ...
  std::vector<Rdma> rdma_current, rdma_limit;
  std::optional<Pressure> cpu_pressure, memory_pressure, io_pressure;
};

/// The control groups of one container: one folder in each hierarchy.
class Cgroup {
 public:
  /// Makes the folders (ancestors too) and opens them. A group that exists and is empty is taken over; one with
  /// processes in it is kConflict. On failure nothing that was made here stays. With request.systemd it starts
  /// hull_systemd_cgroup, which needs `pid` (a process to put into the scope; the scope can't be empty): the caller
  /// clones first and passes the child; kUnsupported where systemd is not running.
  static Result<Cgroup> create(const CgroupHost& host, const CgroupRequest& request,
                               const oci::Resources* systemd_resources = nullptr, pid_t pid = 0);
  /// create() in two steps, for callers that keep record() before anything is made, and that start the container's
  /// process between the v2 folder and the v1 folders: the paths alone, nothing made yet (cgroupfs only).
  static Result<Cgroup> plan(const CgroupHost& host, const CgroupRequest& request);
  /// Makes the folders of a plan: of version 1 or 2 only, or all (0). On failure nothing that was made here stays.
  Result<void> make(int version = 0);
  /// The group of a container whose record() was kept. Opens nothing yet; kCorrupt for a text that is no record.
  static Result<Cgroup> open(std::string_view record);
  /// One line of text for the state file.
  std::string record() const;
  /// Absolute folders by controller as runc's state.json has them ("" key: v2); for tools and for mounting cgroup
  /// into the container.
  std::map<std::string, std::string> paths() const;
  /// No folder of it is left.
  bool is_gone() const;
  bool systemd() const { return !systemd_unit_.empty(); }

  /// Opens what the child needs. `sub_path` (exec --cgroup) is a folder below; "controller:path" entries name v1 ones.
  Result<CgroupJoin> prepare_join(const std::vector<std::string>& sub_paths = {});
  /// Also opens join.v2_procs_fd, for callers that can't use CLONE_INTO_CGROUP.
  Result<void> open_v2_procs(CgroupJoin& join);
  /// Moves a process from outside (systemd, or a caller without a child of its own making).
  Result<void> add_process(pid_t pid);

  /// v2 only: gives the folder and the files of /sys/kernel/cgroup/delegate to a user, so that a container with its own
  /// cgroup namespace and a writable cgroup mount can make groups below (config-linux.md, "Cgroup ownership").
  Result<void> delegate(uid_t uid);

  /// For a new group: apply(), and the device rules as the document has them (none: deny all) followed by
  /// required_device_rules(). `resources` may be null. Call it before anybody joins.
  Result<void> apply_initial(const oci::Resources* resources);
  /// Writes what is given, in the order the kernel needs (`update`). What this kernel or host lacks is kUnsupported,
  /// naming the member, when it was asked for. An empty list of device rules leaves devices alone.
  Result<void> apply(const oci::Resources& resources);
  /// Freezes every process inside and waits until all are (v1 freezer.state, v2 cgroup.events); kTimeout after
  /// `limit`, thawed again then.
  Result<void> freeze(std::chrono::milliseconds limit = std::chrono::seconds(10));
  Result<void> thaw(std::chrono::milliseconds limit = std::chrono::seconds(10));
  Result<bool> frozen() const;

  /// Every process in the group and below, ascending, without doubles.
  Result<std::vector<pid_t>> processes() const;
  /// Sends a signal to all. SIGKILL uses cgroup.kill (v2, Linux 5.14), else freezes, signals and thaws, so that a fork
  /// bomb can't outrun it. No process left is success.
  Result<void> kill_all(int signal) const;

  Result<CgroupStats> stats() const;
  /// Processes killed by the OOM killer in this group so far.
  Result<uint64_t> oom_kill_count() const;

  /// Removes the folders and what is below them, deepest first. Waits up to `limit` for dying processes to leave
  /// (polling cgroup.events where there is one). kConflict when processes remain. Absent is success. Stops the unit
  /// in systemd mode.
  Result<void> remove(std::chrono::milliseconds limit = std::chrono::seconds(5));

  Cgroup(Cgroup&&) = default;
  Cgroup& operator=(Cgroup&&) = default;

  /// One hierarchy's folder of this container.
  struct Folder {
    Folder() = default;
    Folder(Folder&&) = default;
    Folder& operator=(Folder&&) = default;
    int version = 2;
    std::vector<std::string> controllers;
    std::string mount_path;  // /sys/fs/cgroup/memory
    std::string path;        // within the mount, no leading "/": "docker/abc"
    UniqueFd join_fd;        // tasks or cgroup.procs, while needed
    /// mount_path/path
    std::string full_path() const;
    /// The folder, opened at first use (O_PATH); stays owned by this. kNotFound when it is gone.
    Result<int> dir_fd() const;
    bool has(std::string_view controller) const;

   private:
    mutable UniqueFd dir_;
  };
  const std::vector<Folder>& folders() const { return folders_; }
  /// The folder where the controller is, or nullptr.
  const Folder* find(std::string_view controller) const;
  const Folder* unified() const;

 private:
  Cgroup() = default;
  Result<void> apply_limits(const oci::Resources& resources);
  std::vector<Folder> folders_;
  std::string systemd_unit_;
  UniqueFd v2_procs_;
  bool fixture_ = false;
  bool hand_down_ = false;
  bool tolerate_permission_ = false;
};

/// The huge page sizes of this host as the hugetlb controller names them: "2MB", "1GB".
Result<std::vector<std::string>> huge_page_sizes();

/// The data object of runc's `events` lines of type stats ({"cpu":{...},"memory":{...},...}), one line.
std::string stats_json(const CgroupStats& stats);

// Conversions, shown for tests and for the engine's `inspect` and `update`.

/// cpu.shares (2..262144) -> cpu.weight (1..10000), as runc and crun convert; 0 stays 0 (unset).
uint64_t cpu_weight_of_shares(uint64_t shares);
/// blkio.weight (10..1000) -> io.weight (1..10000).
uint64_t io_weight_of_blkio(uint64_t weight);
/// v1's memory+swap total -> v2's memory.swap.max; -1 is no limit. kInvalid when the total is below the memory limit.
Result<int64_t> swap_max_of_memsw(int64_t memsw, int64_t memory);

}  // namespace hull::isolation
