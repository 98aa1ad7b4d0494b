// The floor: what starting (or entering) a container costs when a program makes only the system calls that the kernel
// needs for a given config.json, with every decision taken beforehand. plan.h, which floor.py writes, holds the
// config's mounts, devices, cgroups, filter and so on as arrays. No checks of hostile paths, no state, no error prose:
// a runtime can come near this, never below it.
//
//   floor run            makes the cgroups, clones, mounts, pivots, restricts, executes, waits, removes the cgroups
//   floor keep           the same with `sleep`; prints the pid and leaves it running
//   floor exec PID       joins the namespaces and cgroups of PID, restricts, executes, waits
//   floor remove         removes the cgroups that `keep` made
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

struct mount_plan {
  const char *source, *target, *type, *data;
  unsigned long flags;
};
struct write_plan {
  const char *path, *text;
};
struct device_plan {
  const char* path;
  mode_t mode;
  unsigned major, minor;
};
struct link_plan {
  const char *target, *path;
};
struct limit_plan {
  int resource;
  struct rlimit limit;
};

#include "plan.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void fail(const char* what) {
  dprintf(2, "floor: %s: %s\n", what, strerror(errno));
  _exit(125);
}

static void write_file(const char* path, const char* text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) fail(path);
  close(fd);
}

static int tasks[COUNT(kCgroups)];

static void make_cgroups(void) {
  for (size_t i = 0; i < COUNT(kCgroups); i++)
    if (mkdir(kCgroups[i], 0755) < 0 && errno != EEXIST) fail(kCgroups[i]);
  for (size_t i = 0; i < COUNT(kCgroupWrites); i++) write_file(kCgroupWrites[i].path, kCgroupWrites[i].text);
}

static void open_tasks(void) {
  for (size_t i = 0; i < COUNT(kTasks); i++)
    if ((tasks[i] = open(kTasks[i], O_WRONLY | O_CLOEXEC)) < 0) fail(kTasks[i]);
}

static void remove_cgroups(void) {
  for (size_t i = 0; i < COUNT(kCgroups); i++)
    if (rmdir(kCgroups[i]) < 0) fail(kCgroups[i]);
}

// A single thread that moves itself ("0" into tasks) needs no system-wide lock, a process that is moved does.
static void enter_cgroups(void) {
  for (size_t i = 0; i < COUNT(kTasks); i++)
    if (write(tasks[i], "0", 1) < 0) fail(kTasks[i]);
}

static void restrict_self(void) {
  for (size_t i = 0; i < COUNT(kLimits); i++)
    if (setrlimit(kLimits[i].resource, &kLimits[i].limit) < 0) fail("setrlimit");
  for (size_t i = 0; i < COUNT(kDroppedCapabilities); i++)
    if (prctl(PR_CAPBSET_DROP, kDroppedCapabilities[i], 0, 0, 0) < 0) fail("PR_CAPBSET_DROP");
  // The filter is loaded while CAP_SYS_ADMIN is still there, since the config does not ask for no_new_privs.
  struct sock_fprog program = {.len = COUNT(kFilter), .filter = (struct sock_filter*)kFilter};
  gid_t group = 0;
  if (setgroups(1, &group) < 0 || setgid(0) < 0 || setuid(0) < 0) fail("setuid");
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) < 0) fail("seccomp");
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct data[2] = {
      {.effective = (uint32_t)kCapabilities, .permitted = (uint32_t)kCapabilities},
      {.effective = (uint32_t)(kCapabilities >> 32), .permitted = (uint32_t)(kCapabilities >> 32)}};
  if (syscall(SYS_capset, &header, data) < 0) fail("capset");
  syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
}

static void enter_root(void) {
  if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) fail("rslave");
  if (mount(kRoot, kRoot, NULL, MS_BIND | MS_REC, NULL) < 0) fail(kRoot);
  if (chdir(kRoot) < 0) fail(kRoot);
  for (size_t i = 0; i < COUNT(kMounts); i++) {
    const struct mount_plan* m = &kMounts[i];
    if (m->flags == ~0UL) {  // all that was mounted below, read-only at once
      struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};
      if (syscall(SYS_mount_setattr, AT_FDCWD, m->target, AT_RECURSIVE, &attributes, sizeof attributes) < 0)
        fail(m->target);
    } else if (m->type && !strcmp(m->type, "mkdir")) {
      if (mkdir(m->target, 0755) < 0 && errno != EEXIST) fail(m->target);
    } else if (mount(m->source, m->target, m->type, m->flags, m->data) < 0) {
      fail(m->target);
    }
  }
  for (size_t i = 0; i < COUNT(kDevices); i++) {
    if (mknod(kDevices[i].path, kDevices[i].mode, makedev(kDevices[i].major, kDevices[i].minor)) < 0)
      fail(kDevices[i].path);
  }
  for (size_t i = 0; i < COUNT(kLinks); i++)
    if (symlink(kLinks[i].target, kLinks[i].path) < 0) fail(kLinks[i].path);
  if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) fail("pivot_root");
  for (size_t i = 0; i < COUNT(kSysctls); i++) write_file(kSysctls[i].path, kSysctls[i].text);
  for (size_t i = 0; i < COUNT(kReadonly); i++) {
    if (mount(kReadonly[i], kReadonly[i], NULL, MS_BIND | MS_REC, NULL) < 0) {
      if (errno == ENOENT) continue;
      fail(kReadonly[i]);
    }
    if (mount(NULL, kReadonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
      fail(kReadonly[i]);
  }
  for (size_t i = 0; i < COUNT(kMasked); i++) {
    if (mount("/dev/null", kMasked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT) continue;
    if (errno != ENOTDIR || mount("tmpfs", kMasked[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1") < 0)
      fail(kMasked[i]);
  }
  if (sethostname(kHostname, strlen(kHostname)) < 0) fail("sethostname");
}

static const char* const kTrue[] = {"/bin/true", NULL};
static const char* const kSleep[] = {"/bin/sleep", "1000", NULL};

static void execute(const char* const* arguments) {
  execve(arguments[0], (char* const*)arguments, (char* const*)kEnvironment);
  fail(arguments[0]);
}

static pid_t clone_vfork(unsigned long flags) {
  return (pid_t)syscall(SYS_clone, flags | CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL);
}

static int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) fail("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(int keep) {
  make_cgroups();
  open_tasks();
  pid_t pid = clone_vfork(kNamespaces);
  if (pid < 0) fail("clone");
  if (pid == 0) {
    enter_cgroups();
    setsid();
    enter_root();
    restrict_self();
    execute(keep ? kSleep : kTrue);
  }
  if (keep) {
    printf("%d\n", pid);
    return 0;
  }
  int status = wait_for(pid);
  remove_cgroups();
  return status;
}

static int exec_in(pid_t target) {
  open_tasks();
  int pidfd = (int)syscall(SYS_pidfd_open, target, 0);
  if (pidfd < 0) fail("pidfd_open");
  // Into the pid namespace comes the child only, so the parent joins and the child inherits.
  if (setns(pidfd, (int)kNamespaces) < 0) fail("setns");
  pid_t pid = clone_vfork(0);
  if (pid < 0) fail("clone");
  if (pid == 0) {
    enter_cgroups();
    setsid();
    if (chdir("/") < 0) fail("chdir");
    restrict_self();
    execute(kTrue);
  }
  return wait_for(pid);
}

int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "run")) return run(0);
  if (argc > 1 && !strcmp(argv[1], "keep")) return run(1);
  if (argc > 2 && !strcmp(argv[1], "exec")) return exec_in(atoi(argv[2]));
  if (argc > 1 && !strcmp(argv[1], "remove")) {
    remove_cgroups();
    return 0;
  }
  return 125;
}
