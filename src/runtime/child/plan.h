#pragma once
// What the parent prepares for the child: plain data whose pointers all lie in memory that the parent owns and that
// the child sees through its copy of the address space. The child only follows it; every decision was made before.

#include <sys/resource.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

struct sock_filter;

namespace hull::runtime::child {

/// A plain array.
template <typename T>
struct Span {
  T* data = nullptr;
  size_t count = 0;
  T* begin() const { return data; }
  T* end() const { return data + count; }
};

/// Where the child was when something failed; the parent turns it into a sentence.
enum class Step : uint16_t {
  kNone,
  kMaps,
  kBecomeRoot,
  kJoinNamespace,
  kNewNamespaces,
  kTimeOffsets,
  kSession,
  kKeyring,
  kJoinCgroup,
  kCgroupNamespace,
  kLoopback,
  kHostname,
  kDomainname,
  kPropagation,
  kAttachRoot,
  kMountSource,
  kMountNew,
  kMountOption,
  kMountTarget,
  kMountLink,
  kMountAttach,
  kMountAttributes,
  kMountCopyUp,
  kDevFolder,
  kDevice,
  kDevLink,
  kConsole,
  kConsoleSend,
  kMaskSource,
  kMask,
  kReadonlyPath,
  kReadonlyRoot,
  kSysctl,
  kPivot,
  kDetachOldRoot,
  kRootPropagation,
  kWorkingFolder,
  kWorkingFolderOutside,
  kOom,
  kRlimit,
  kScheduler,
  kIoPriority,
  kAffinity,
  kMemoryPolicy,
  kPersonality,
  kLabel,
  kKeyringLabel,
  kNoNewPrivileges,
  kSeccomp,
  kSeccompListener,
  kBoundingSet,
  kKeepCaps,
  kGroups,
  kGroupId,
  kUserId,
  kCapabilities,
  kAmbient,
  kCloseFds,
  kFindProgram,
  kGate,
  kExec,
  kClone,
  kParentGone,
};

enum class Kind : uint16_t {
  kFailed,    ///< step, error, index say what; the child has ended
  kAtSetup,   ///< namespaces exist, the root is not touched yet: the parent runs hooks and answers
  kAtPivot,   ///< mounts are done, the host's tree is still there: the parent runs hooks and answers
  kReady,     ///< everything but the gate is done
  kListener,  ///< index is the number of the seccomp listener in the child: the parent takes it and answers
  kStage,     ///< an intermediate process made the real child; index is its pid
};

struct Report {
  Kind kind = Kind::kFailed;
  Step step = Step::kNone;
  int32_t error = 0;
  uint32_t index = 0;
};

struct FsOption {
  const char* key = nullptr;
  const char* value = nullptr;  ///< nullptr: a flag
};

enum class MountKind : uint8_t {
  kTree,       ///< tree_fd is a detached mount that the parent made
  kNew,        ///< a new mount of `type` made by the child, in its namespaces
  kBindPath,   ///< a bind of the absolute host path `source`, taken by the child (cgroup folders)
  kAttribute,  ///< no mount: attributes of what is mounted at the destination
  kLink,       ///< no mount: a symbolic link to `source` at the destination
};

struct MountStep {
  MountKind kind = MountKind::kNew;
  bool file = false;           ///< the mount point is a file
  bool copy_up = false;        ///< tmpcopyup
  bool no_links = false;       ///< no component of the destination may be a symbolic link (proc, sysfs, /dev)
  bool fallback_bind = false;  ///< sysfs and mqueue in a user namespace: bind `source` when the kernel refuses
  bool optional = false;       ///< a failure leaves it out
  bool recursive = false;      ///< kBindPath: with what is mounted below
  bool keep_mode = false;      ///< a new tmpfs takes the permissions of the folder that it covers
  int idmap_fd = -1;           ///< user namespace that maps the ids of the mount
  bool idmap_recursive = false;
  const char* destination = "";  ///< relative to the root, clean
  const char* type = "";
  const char* source = nullptr;
  Span<const FsOption> options;
  int tree_fd = -1;
  uint64_t attr_set = 0, attr_clear = 0;
  uint64_t attr_set_recursive = 0, attr_clear_recursive = 0;
  uint64_t propagation = 0;  ///< MS_SHARED ..., 0 leaves it
  bool propagation_recursive = false;
  mode_t target_mode = 0755;
  uint32_t index = 0;  ///< of config.json's mounts, for messages
};

struct DeviceStep {
  const char* path = "";  ///< relative to the root, clean
  mode_t mode = 0;        ///< type and permissions
  dev_t device = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  int tree_fd = -1;        ///< bind this instead of mknod (user namespaces)
  bool bind_host = false;  ///< or the host's node of the same path
};

struct LinkStep {
  const char* path = "";
  const char* target = "";
};

struct RlimitStep {
  int resource = 0;
  rlimit limit{};
};

/// A value for a file below /proc: sysctls (sys/net/ipv4/ip_forward), LSM attributes.
struct WriteStep {
  const char* path = "";
  const char* value = "";
  size_t size = 0;
  const char* fallback = nullptr;  ///< tried when `path` does not exist
};

struct IdentityPlan {
  uid_t uid = 0;
  gid_t gid = 0;
  Span<const gid_t> groups;
  bool set_groups = true;  ///< false where the user namespace denies setgroups
  bool has_capabilities = false;
  uint64_t bounding = 0, effective = 0, permitted = 0, inheritable = 0, ambient = 0;
  int last_capability = 40;
  bool no_new_privileges = false;
};

struct SeccompPlan {
  const sock_filter* filter = nullptr;
  uint16_t length = 0;
  unsigned flags = 0;
  bool listener = false;
};

/// The process: the same for a container's first and for a later one.
struct ProcessPlan {
  char* const* args = nullptr;
  char** env = nullptr;                 ///< one slot before the closing nullptr is free for HOME when home_slot is set
  char** home_slot = nullptr;           ///< where "HOME=..." goes; nullptr when the environment has it
  const char* path_variable = nullptr;  ///< value of PATH, nullptr when unset
  const char* cwd = "/";
  IdentityPlan identity;
  mode_t umask = 0022;
  bool set_umask = false;
  Span<const RlimitStep> rlimits;
  const void* scheduler = nullptr;  ///< struct sched_attr
  int io_priority = 0;
  bool set_io_priority = false;
  const unsigned long* affinity = nullptr;
  size_t affinity_bytes = 0;
  unsigned long personality = 0;
  bool set_personality = false;
  int memory_policy_mode = 0;
  bool set_memory_policy = false;
  const unsigned long* memory_nodes = nullptr;
  unsigned long memory_nodes_bits = 0;
  Span<const WriteStep> labels;  ///< AppArmor and SELinux exec attributes, written just before exec
  SeccompPlan seccomp;
  bool terminal = false;
  uint16_t rows = 0, columns = 0;
  int console_socket = -1;
  unsigned preserve_fds = 0;
  const char* keyring = nullptr;        ///< joins a new session keyring of this name
  const char* keyring_label = nullptr;  ///< SELinux label of the keyring
};

struct JoinStep {
  int fd = -1;
  int type = 0;  ///< CLONE_NEW*
};

enum class Gate : uint8_t {
  kSocket,    ///< a byte on the report socket opens it (run, exec)
  kListener,  ///< a connection to gate_fd opens it (create)
};

struct ContainerPlan {
  ProcessPlan process;
  int report_fd = -1;
  int proc_fd = -1;  ///< the host's /proc, verified, opened before anything of the container exists
  int gate_fd = -1;
  Gate gate = Gate::kSocket;

  bool wait_maps = false;  ///< a new user namespace: the parent writes the maps
  bool stage = false;      ///< after the joins, clone the real child with clone_flags, as the parent's child
  uint64_t clone_flags = 0;
  bool become_root = false;  ///< setuid 0 and setgid 0 in it
  bool clear_groups = false;
  Span<const JoinStep> joins;          ///< after the maps; not the pid namespace, which the parent joined
  uint64_t unshare = 0;                ///< CLONE_NEW* to make itself
  const char* time_offsets = nullptr;  ///< for /proc/self/timens_offsets; CLONE_NEWTIME is in unshare then
  bool report_setup = false;
  bool report_pivot = false;

  bool wait_cgroup = false;  ///< the parent sends a byte and the "tasks" files to join, once the cgroup exists
  bool new_cgroup_namespace = false;
  bool loopback = false;
  const char* hostname = nullptr;
  const char* domainname = nullptr;
  Span<const WriteStep> sysctls;

  bool new_mount_namespace = false;
  bool pivot = true;                ///< false: MS_MOVE and chroot
  int root_fd = -1;                 ///< detached tree that becomes /
  const char* root_path = nullptr;  ///< where there is none (no right to mount before): taken by the child
  uint64_t host_propagation = 0;    ///< for the copy of the host's tree
  bool host_propagation_recursive = true;
  uint64_t root_propagation = 0;  ///< for the new root after the pivot, 0 leaves it private
  bool root_propagation_recursive = false;
  bool root_readonly = false;
  Span<const MountStep> mounts;
  bool setup_dev = false;
  Span<const DeviceStep> devices;
  Span<const LinkStep> links;
  Span<const char* const> masked;
  Span<const char* const> readonly;
  const char* mount_label_option = nullptr;  ///< context="..." for the tmpfs of masked folders
  bool make_cwd = true;
};

struct ExecPlan {
  ProcessPlan process;
  int report_fd = -1;
  int proc_fd = -1;
  int init_pidfd = -1;
  int namespaces = 0;        ///< CLONE_NEW* to take from init
  bool become_root = false;  ///< a user namespace is joined
  int root_fd = -1;          ///< to chroot to where init has no mount namespace of its own
  Span<const int> cgroup_fds;
  bool wait_go = false;  ///< rlimits or cgroup are the parent's work: wait for its byte
};

/// Runs in the cloned process, never returns.
[[noreturn]] void run_container(ContainerPlan& plan);
[[noreturn]] void run_exec(const ExecPlan& plan);

}  // namespace hull::runtime::child
