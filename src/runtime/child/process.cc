// From a prepared tree to the program: limits, identity, filters, exec. Used by a container's first process and by
// every later one.
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/ioprio.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sys/sysmacros.h>

#include "runtime/child/common.h"

namespace hull::runtime::child {

Channel g_channel;

void write_proc(int proc_fd, const WriteStep& step, Step at, uint32_t index) {
  Fd file(raw::openat2(proc_fd, step.path, O_WRONLY, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS));
  if (file.error() == -kEnoent && step.fallback != nullptr) {
    file = Fd(raw::openat2(proc_fd, step.fallback, O_WRONLY, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS));
  }
  if (!file.valid()) fail(at, file.error(), index);
  check(raw::write(file.get(), step.value, step.size), at, index);
}

void join_cgroups(Span<const int> fds) {
  uint32_t index = 0;
  for (const int fd : fds) {
    const long done = raw::write(fd, "0", 1);
    if (done < 0) fail(Step::kJoinCgroup, done, index);
    raw::close(fd);
    ++index;
  }
}

void join_session_keyring(const ProcessPlan& process, int proc_fd) {
  if (process.keyring != nullptr) {
    if (process.keyring_label != nullptr) {
      const WriteStep label{"thread-self/attr/keycreate", process.keyring_label, length(process.keyring_label),
                            nullptr};
      write_proc(proc_fd, label, Step::kKeyringLabel, 0);
    }
    const long ring = raw::keyctl(KEYCTL_JOIN_SESSION_KEYRING, raw::address(process.keyring));
    // Kernels and seccomp filters of nested containers without keyrings: the spec knows none, so this is no failure.
    if (ring < 0 && ring != -kEnosys && ring != -kEperm && ring != -122 /* EDQUOT */) fail(Step::kKeyring, ring);
    if (ring >= 0) {
      // Whoever runs as this uid later may search it (runc: possessor all, user view|read|write|search|link).
      raw::keyctl(KEYCTL_SETPERM, ring, 0x3f1f0000L);
    }
  }
}

namespace {

/// Every limit that does not need privileges kept until the end.
void set_scheduling(const ProcessPlan& process) {
  if (process.scheduler != nullptr) {
    check(raw::call(SYS_sched_setattr, 0, raw::address(process.scheduler), 0), Step::kScheduler);
  }
  if (process.set_io_priority) {
    check(raw::call(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, process.io_priority), Step::kIoPriority);
  }
  if (process.affinity != nullptr) {
    check(
        raw::call(SYS_sched_setaffinity, 0, static_cast<long>(process.affinity_bytes), raw::address(process.affinity)),
        Step::kAffinity);
  }
  if (process.set_memory_policy) {
    check(raw::call(SYS_set_mempolicy, process.memory_policy_mode, raw::address(process.memory_nodes),
                    static_cast<long>(process.memory_nodes_bits)),
          Step::kMemoryPolicy);
  }
  if (process.set_personality) {
    check(raw::call(SYS_personality, static_cast<long>(process.personality)), Step::kPersonality);
  }
  uint32_t index = 0;
  for (const RlimitStep& limit : process.rlimits) {
    check(raw::call(SYS_prlimit64, 0, limit.resource, raw::address(&limit.limit), 0), Step::kRlimit, index++);
  }
}

void install_filter(const SeccompPlan& seccomp) {
  if (seccomp.length == 0) return;
  struct {
    unsigned short length;
    const sock_filter* filter;
  } const program{seccomp.length, seccomp.filter};
  const long result = raw::call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, seccomp.flags, raw::address(&program));
  if (result < 0 || (!seccomp.listener && result > 0)) fail(Step::kSeccomp, result < 0 ? result : -3 /* ESRCH */);
  if (!seccomp.listener) return;
  send(Kind::kListener, Step::kSeccompListener, 0, static_cast<uint32_t>(result));
  wait_for_parent();
  raw::close(static_cast<int>(result));
}

long set_capabilities(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
  const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const auto low = [](uint64_t mask) { return static_cast<uint32_t>(mask); };
  const auto high = [](uint64_t mask) { return static_cast<uint32_t>(mask >> 32U); };
  const __user_cap_data_struct sets[2] = {{low(effective), low(permitted), low(inheritable)},
                                          {high(effective), high(permitted), high(inheritable)}};
  return raw::call(SYS_capset, raw::address(&header), raw::address(sets));
}

uint64_t permitted_now() {
  const __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2] = {};
  check(raw::call(SYS_capget, raw::address(&header), raw::address(sets)), Step::kCapabilities);
  return sets[0].permitted | static_cast<uint64_t>(sets[1].permitted) << 32U;
}

/// A filter without no_new_privs needs CAP_SYS_ADMIN at the very end, so permitted capabilities stay until then.
bool keeps_privilege(const ProcessPlan& process) {
  return process.seccomp.length != 0 && !process.identity.no_new_privileges;
}

void set_ambient(const IdentityPlan& identity) {
  raw::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
  for (int capability = 0; identity.ambient != 0 && capability <= identity.last_capability; ++capability) {
    if ((identity.ambient >> capability & 1U) != 0) {
      check(raw::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability), Step::kAmbient,
            static_cast<uint32_t>(capability));
    }
  }
}

/// The program's user owns its standard streams, so that it can open /dev/stdout again; /dev/null stays root's.
void own_streams(uid_t uid) {
  for (int fd = 0; fd < 3; ++fd) {
    struct stat info{};
    if (raw::fstat(fd, &info) < 0 || info.st_uid == uid) continue;
    if (S_ISCHR(info.st_mode) && info.st_rdev == makedev(1, 3)) continue;
    raw::fchown(fd, uid, static_cast<gid_t>(-1));  // what can't be owned (EPERM, EROFS, EINVAL) stays as it is
  }
}

void set_identity(const ProcessPlan& process) {
  const IdentityPlan& identity = process.identity;
  own_streams(identity.uid);
  if (identity.has_capabilities) {
    for (int capability = 0; capability <= identity.last_capability; ++capability) {
      if ((identity.bounding >> capability & 1U) == 0) {
        const long done = raw::prctl(PR_CAPBSET_DROP, capability);
        if (done < 0 && done != -kEinval) fail(Step::kBoundingSet, done, static_cast<uint32_t>(capability));
      }
    }
  }
  if (identity.has_capabilities || keeps_privilege(process)) check(raw::prctl(PR_SET_KEEPCAPS, 1), Step::kKeepCaps);
  if (identity.set_groups) {
    check(raw::setgroups(identity.groups.count, identity.groups.data), Step::kGroups);
  }
  check(raw::setresgid(identity.gid), Step::kGroupId, identity.gid);
  check(raw::setresuid(identity.uid), Step::kUserId, identity.uid);
  raw::prctl(PR_SET_DUMPABLE, 0);
  if (!identity.has_capabilities) return;
  check(raw::prctl(PR_SET_KEEPCAPS, 0), Step::kKeepCaps);
  if (keeps_privilege(process)) {
    // What is looked up from here on is looked up with the program's own rights.
    const uint64_t permitted = permitted_now();
    check(set_capabilities(identity.effective & permitted, permitted, identity.inheritable), Step::kCapabilities);
    return;
  }
  check(set_capabilities(identity.effective, identity.permitted, identity.inheritable), Step::kCapabilities);
  set_ambient(identity);
}

/// The last steps under the container's rules: a tight filter need allow no more than these and execve.
void drop_the_rest(const ProcessPlan& process) {
  const IdentityPlan& identity = process.identity;
  if (!keeps_privilege(process)) {
    install_filter(process.seccomp);
    return;
  }
  const uint64_t permitted = permitted_now();
  check(set_capabilities(permitted, permitted, identity.has_capabilities ? identity.inheritable : 0),
        Step::kCapabilities);
  install_filter(process.seccomp);
  if (identity.has_capabilities) {
    check(set_capabilities(identity.effective, identity.permitted, identity.inheritable), Step::kCapabilities);
    if (identity.ambient != 0) set_ambient(identity);
  } else if (identity.uid != 0) {
    check(set_capabilities(0, 0, 0), Step::kCapabilities);
  }
}

/// Into the working folder; refuses one that lies outside the root (CVE-2024-21626).
bool enter_cwd(const char* cwd, bool must) {
  const long done = raw::chdir(cwd);
  if (done < 0) {
    if (must) fail(Step::kWorkingFolder, done);
    return false;
  }
  char where[4096];
  const long got = raw::getcwd(where, sizeof where);
  if (got < 0) fail(Step::kWorkingFolderOutside, got);
  if (where[0] != '/') fail(Step::kWorkingFolderOutside, kEnoent);
  return true;
}

/// Decimal digits only, at most 32 bits.
bool parse_id(const char* text, size_t size, uint32_t* out) {
  if (size == 0 || size > 10) return false;
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + static_cast<uint64_t>(text[i] - '0');
  }
  if (value > 0xfffffffeULL) return false;
  *out = static_cast<uint32_t>(value);
  return true;
}

/// name:password:uid:gid:gecos:home:shell -> home, when the uid is the one sought.
bool home_of_line(const char* line, size_t size, uid_t uid, const char** home, size_t* home_size) {
  size_t starts[7] = {0};
  size_t ends[7] = {0};
  size_t field = 0;
  for (size_t i = 0; i <= size; ++i) {
    if (i == size || line[i] == ':') {
      if (field >= 7) return false;
      ends[field++] = i;
      if (field < 7) starts[field] = i + 1;
    }
  }
  uint32_t found = 0;
  if (field < 6 || !parse_id(line + starts[2], ends[2] - starts[2], &found) || found != uid) return false;
  *home = line + starts[5];
  *home_size = ends[5] - starts[5];
  return true;
}

char g_home[4096 + 8] = "HOME=/";

/// HOME from the container's /etc/passwd: a regular file, at most 1 MiB read, lines over 2 KiB passed over.
void set_home(const ProcessPlan& process) {
  if (process.home_slot == nullptr) return;
  *process.home_slot = g_home;
  const Fd file(raw::openat2(AT_FDCWD, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, RESOLVE_NO_MAGICLINKS));
  struct stat info{};
  if (!file.valid() || raw::fstat(file.get(), &info) < 0 || !S_ISREG(info.st_mode)) return;
  char buffer[4096];
  size_t kept = 0;
  bool skip_line = false;
  for (size_t total = 0; total < 1U << 20U;) {
    const long got = raw::read(file.get(), buffer + kept, sizeof buffer - kept);
    if (got < 0) return;
    const size_t size = kept + static_cast<size_t>(got);
    total += static_cast<size_t>(got);
    size_t start = 0;
    for (size_t i = 0; i < size; ++i) {
      if (buffer[i] != '\n') continue;
      const char* home = nullptr;
      size_t home_size = 0;
      if (!skip_line && home_of_line(buffer + start, i - start, process.identity.uid, &home, &home_size)) {
        if (home_size == 0 || home_size >= sizeof g_home - 6) return;
        copy_bytes(g_home + 5, home, home_size);
        g_home[5 + home_size] = '\0';
        return;
      }
      skip_line = false;
      start = i + 1;
    }
    if (got == 0) {
      const char* home = nullptr;
      size_t home_size = 0;
      if (start < size && !skip_line &&
          home_of_line(buffer + start, size - start, process.identity.uid, &home, &home_size) && home_size > 0 &&
          home_size < sizeof g_home - 6) {
        copy_bytes(g_home + 5, home, home_size);
        g_home[5 + home_size] = '\0';
      }
      return;
    }
    kept = size - start;
    if (kept == sizeof buffer) {  // a line that does not fit
      skip_line = true;
      kept = 0;
    } else if (start > 0) {
      copy_bytes(buffer, buffer + start, kept);
    }
  }
}

}  // namespace

void become_user(const ProcessPlan& process, int proc_fd) {
  set_scheduling(process);
  const IdentityPlan& identity = process.identity;
  if (identity.no_new_privileges) check(raw::prctl(PR_SET_NO_NEW_PRIVS, 1), Step::kNoNewPrivileges);
  uint32_t index = 0;
  for (const WriteStep& label : process.labels) write_proc(proc_fd, label, Step::kLabel, index++);
  const bool entered = enter_cwd(process.cwd, false);
  set_home(process);
  set_identity(process);
  // A folder that only the user may enter (NFS with root squash), or a clearer error.
  if (!entered) enter_cwd(process.cwd, true);
  raw::umask(process.set_umask ? process.umask : 0022);
}

const char* find_program(const ProcessPlan& process, char* buffer, size_t size) {
  const char* name = process.args[0];
  const auto usable = [](const char* path) -> long {
    struct stat info{};
    const long done = raw::fstatat(AT_FDCWD, path, &info, 0);
    if (done < 0) return done;
    if (S_ISDIR(info.st_mode)) return -21;  // EISDIR
    const long access = raw::faccessat2(AT_FDCWD, path, 1 /* X_OK */, AT_EACCESS);
    return access == -kEnosys || access == -kEperm ? raw::faccessat(AT_FDCWD, path, 1) : access;
  };
  bool has_slash = false;
  for (const char* at = name; *at != '\0'; ++at) has_slash = has_slash || *at == '/';
  if (*name == '\0') return name;  // created without a process: exec will say so
  if (has_slash) {
    check(usable(name), Step::kFindProgram);
    return name;
  }
  long failure = -kEnoent;
  const size_t name_size = length(name);
  for (const char* at = process.path_variable; at != nullptr && *at != '\0';) {
    size_t end = 0;
    while (at[end] != '\0' && at[end] != ':') ++end;
    if (end + name_size + 2 <= size && end > 0) {
      copy_bytes(buffer, at, end);
      buffer[end] = '/';
      copy_bytes(buffer + end + 1, name, name_size + 1);
      const long found = usable(buffer);
      if (found == 0) return buffer;
      if (found == -kEacces) failure = found;
    }
    at += end + (at[end] == ':' ? 1 : 0);
  }
  fail(Step::kFindProgram, failure);
}

void execute(const ProcessPlan& process, const char* program) {
  // Nothing but what the caller gave stays open: a descriptor of the host, even close-on-exec, could still be named
  // by the program's path (CVE-2024-21626). The channel to the parent is a socket, which leads nowhere.
  const unsigned first = 3 + process.preserve_fds;
  if (static_cast<unsigned>(g_channel.fd) != first) {
    check(raw::dup3(g_channel.fd, static_cast<int>(first), O_CLOEXEC), Step::kCloseFds);
    g_channel.fd = static_cast<int>(first);
  }
  check(raw::close_range(first + 1, ~0U, 0), Step::kCloseFds);
  drop_the_rest(process);
  const long failed = raw::execve(program, process.args, process.env);
  fail(Step::kExec, failed);
}

}  // namespace hull::runtime::child
