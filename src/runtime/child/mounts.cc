// The container's file system tree: made below the detached root, entered by pivot_root. Every destination is an
// O_PATH descriptor found by the kernel inside the root, and every mount is attached descriptor to descriptor, so that
// nothing in the image or in a volume can turn a mount aside (CVE-2021-30465, CVE-2019-19921).
#include "runtime/child/common.h"

namespace hull::runtime::child {
namespace {

constexpr unsigned kAttachFlags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
constexpr unsigned kCloneFlags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
constexpr unsigned kRecursive = 0x8000;  // AT_RECURSIVE

/// A detached new mount; *step tells what failed.
long new_mount(const MountStep& mount, Step* step) {
  *step = Step::kMountNew;
  const Fd context(raw::fsopen(mount.type, FSOPEN_CLOEXEC));
  if (!context.valid()) return context.error();
  *step = Step::kMountOption;
  if (mount.source != nullptr && *mount.source != '\0') {
    // A pseudo file system may take no source: not worth a failure, the kernel ignores it in mount(2) too.
    const long done = raw::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", mount.source, 0);
    if (done < 0 && done != -kEinval) return done;
  }
  for (const FsOption& option : mount.options) {
    const long done = option.value == nullptr
                          ? raw::fsconfig(context.get(), FSCONFIG_SET_FLAG, option.key, nullptr, 0)
                          : raw::fsconfig(context.get(), FSCONFIG_SET_STRING, option.key, option.value, 0);
    if (done < 0) return done;
  }
  *step = Step::kMountNew;
  const long created = raw::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (created < 0) return created;
  return raw::fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(mount.attr_set));
}

long set_attributes_of(int fd, uint64_t set, uint64_t clear, uint64_t propagation, bool recursive) {
  mount_attr attributes{};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  attributes.propagation = propagation;
  return raw::mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? kRecursive : 0U), &attributes);
}

void make_link(int root_fd, const MountStep& mount) {
  const char* name = nullptr;
  const Fd parent(open_parent_in_root(root_fd, mount.destination, mount.no_links, &name));
  if (!parent.valid()) fail(Step::kMountLink, parent.error(), mount.index);
  const long done = raw::symlinkat(mount.source, parent.get(), name);
  if (done < 0 && done != -kEexist) fail(Step::kMountLink, done, mount.index);
}

void change_attributes(int root_fd, const MountStep& mount) {
  const Fd target(open_in_root(root_fd, mount.destination, O_PATH, false));
  if (!target.valid()) fail(Step::kMountTarget, target.error(), mount.index);
  if ((mount.attr_set | mount.attr_clear) != 0) {
    check(set_attributes_of(target.get(), mount.attr_set, mount.attr_clear, 0, false), Step::kMountAttributes,
          mount.index);
  }
  if ((mount.attr_set_recursive | mount.attr_clear_recursive) != 0) {
    check(set_attributes_of(target.get(), mount.attr_set_recursive, mount.attr_clear_recursive, 0, true),
          Step::kMountAttributes, mount.index);
  }
  if (mount.propagation != 0) {
    check(set_attributes_of(target.get(), 0, 0, mount.propagation, mount.propagation_recursive), Step::kMountAttributes,
          mount.index);
  }
}

void do_mount(int root_fd, const MountStep& mount) {
  if (mount.kind == MountKind::kLink) return make_link(root_fd, mount);
  if (mount.kind == MountKind::kAttribute) return change_attributes(root_fd, mount);

  long fd = mount.tree_fd;
  bool is_new = false;
  if (mount.kind == MountKind::kNew) {
    Step step = Step::kMountNew;
    fd = new_mount(mount, &step);
    is_new = fd >= 0;
    if (fd < 0 && mount.fallback_bind && (fd == -kEperm || fd == -kEbusy || fd == -kEacces)) {
      const char* from = starts_with(mount.type, "sysfs")    ? "/sys"
                         : starts_with(mount.type, "mqueue") ? "/dev/mqueue"
                                                             : "/proc";
      fd = raw::open_tree(AT_FDCWD, from, kCloneFlags | kRecursive);
      step = Step::kMountSource;
    }
    if (fd < 0 && mount.optional) return;
    if (fd < 0) fail(step, fd, mount.index);
  } else if (mount.kind == MountKind::kBindPath) {
    fd = raw::open_tree(AT_FDCWD, mount.source, kCloneFlags | (mount.recursive ? kRecursive : 0U));
    if (fd < 0 && mount.optional) return;
    if (fd < 0) fail(Step::kMountSource, fd, mount.index);
  }
  const Fd tree(fd);

  bool keep_mode = false;
  if (mount.keep_mode) {
    const Fd covered(open_in_root(root_fd, mount.destination, O_PATH | O_DIRECTORY, mount.no_links));
    keep_mode = covered.valid();
  }
  const Fd target(mount.file ? make_file_in_root(root_fd, mount.destination, mount.no_links, 0644)
                             : make_folder_in_root(root_fd, mount.destination, mount.no_links, mount.target_mode));
  if (!target.valid()) {
    if (mount.optional) return;
    fail(Step::kMountTarget, target.error(), mount.index);
  }
  if (keep_mode) {
    struct stat info{};
    const Fd root(raw::openat(tree.get(), ".", O_RDONLY | O_DIRECTORY));
    if (root.valid() && raw::fstat(target.get(), &info) == 0) raw::fchmod(root.get(), info.st_mode & 07777);
  }
  if (mount.idmap_fd >= 0) {
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<uint64_t>(mount.idmap_fd);
    check(raw::mount_setattr(tree.get(), "", AT_EMPTY_PATH | (mount.idmap_recursive ? kRecursive : 0U), &attributes),
          Step::kMountAttributes, mount.index);
  }
  if (mount.copy_up) {
    const Fd from(open_in_root(root_fd, mount.destination, O_RDONLY | O_DIRECTORY, mount.no_links));
    if (!from.valid()) fail(Step::kMountCopyUp, from.error(), mount.index);
    struct stat info{};
    check(raw::fstat(from.get(), &info), Step::kMountCopyUp, mount.index);
    // A detached mount's root can be opened through its own descriptor; read-only comes after the copy.
    if ((mount.attr_set & MOUNT_ATTR_RDONLY) != 0) set_attributes_of(tree.get(), 0, MOUNT_ATTR_RDONLY, 0, false);
    const Fd to(raw::openat(tree.get(), ".", O_RDONLY | O_DIRECTORY));
    if (!to.valid()) fail(Step::kMountCopyUp, to.error(), mount.index);
    check(copy_tree(from.get(), to.get(), 0), Step::kMountCopyUp, mount.index);
    raw::fchown(to.get(), info.st_uid, info.st_gid);
    raw::fchmod(to.get(), info.st_mode & 07777);
    if ((mount.attr_set & MOUNT_ATTR_RDONLY) != 0) set_attributes_of(tree.get(), MOUNT_ATTR_RDONLY, 0, 0, false);
  }
  if (!is_new && mount.kind != MountKind::kTree && (mount.attr_set | mount.attr_clear) != 0) {
    long changed = set_attributes_of(tree.get(), mount.attr_set, mount.attr_clear, 0, false);
    if (changed == -kEperm) {
      // Flags that a parent user namespace has locked stay as they are; what is added must hold.
      changed = set_attributes_of(tree.get(), mount.attr_set, mount.attr_clear & MOUNT_ATTR__ATIME, 0, false);
    }
    check(changed, Step::kMountAttributes, mount.index);
  }
  if ((mount.attr_set_recursive | mount.attr_clear_recursive) != 0) {
    check(set_attributes_of(tree.get(), mount.attr_set_recursive, mount.attr_clear_recursive, 0, true),
          Step::kMountAttributes, mount.index);
  }
  check(raw::move_mount(tree.get(), "", target.get(), "", kAttachFlags), Step::kMountAttach, mount.index);
  // After attaching: a detached tree can't be made shared with a peer group of its own.
  if (mount.propagation != 0) {
    check(set_attributes_of(tree.get(), 0, 0, mount.propagation, mount.propagation_recursive), Step::kMountAttributes,
          mount.index);
  }
}

}  // namespace

void set_up_root(ContainerPlan& plan) {
  const Fd host_root(raw::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
  if (!host_root.valid()) fail(Step::kPropagation, host_root.error());
  check(set_attributes_of(host_root.get(), 0, 0, plan.host_propagation, plan.host_propagation_recursive),
        Step::kPropagation);
  // pivot_root refuses a shared mount that holds the new root.
  if (plan.host_propagation == MS_SHARED) {
    check(set_attributes_of(host_root.get(), 0, 0, MS_PRIVATE, false), Step::kPropagation);
  }
  if (plan.root_fd < 0) {
    plan.root_fd =
        static_cast<int>(check(raw::open_tree(AT_FDCWD, plan.root_path, kCloneFlags | kRecursive), Step::kAttachRoot));
    check(set_attributes_of(plan.root_fd, 0, 0, MS_PRIVATE, false), Step::kAttachRoot);
  }
  // Where root.path says, as hooks expect to find it (trusted: the engine's own path). On top of "/" where that path
  // can't be used: when it is out of reach of the new user namespace, and when its parent mount stays shared, which
  // pivot_root refuses. Absolute paths still lead to the host's tree until the pivot.
  long attached = -kEacces;
  if (plan.host_propagation != MS_SHARED) {
    attached =
        raw::move_mount(plan.root_fd, "", AT_FDCWD, plan.root_path, MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS);
  }
  if (attached == -kEacces) attached = raw::move_mount(plan.root_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH);
  check(attached, Step::kAttachRoot);
  if (plan.make_cwd) {
    const char* cwd = plan.process.cwd;
    while (*cwd == '/') ++cwd;
    if (*cwd != '\0') static_cast<void>(Fd(make_folder_in_root(plan.root_fd, cwd, false, 0755)));
  }
  for (const MountStep& mount : plan.mounts) do_mount(plan.root_fd, mount);
}

void enter_root(const ContainerPlan& plan) {
  if (plan.root_readonly) {
    check(set_attributes_of(plan.root_fd, MOUNT_ATTR_RDONLY, 0, 0, false), Step::kReadonlyRoot);
  }
  check(raw::fchdir(plan.root_fd), Step::kPivot);
  if (plan.pivot) {
    check(raw::pivot_root(".", "."), Step::kPivot);
    // The old root lies on top of the new one now, at ".". A shared one would go on the host, too.
    if (plan.host_propagation == MS_SHARED) {
      const Fd old_root(raw::openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY));
      check(set_attributes_of(old_root.get(), 0, 0, MS_SLAVE, true), Step::kDetachOldRoot);
    }
    check(raw::umount2(".", MNT_DETACH), Step::kDetachOldRoot);
    check(raw::chdir("/"), Step::kPivot);
  } else {
    check(raw::chroot("."), Step::kPivot);
    check(raw::chdir("/"), Step::kPivot);
  }
  if (plan.root_propagation != 0) {
    const Fd root(raw::openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
    check(set_attributes_of(root.get(), 0, 0, plan.root_propagation, plan.root_propagation_recursive),
          Step::kRootPropagation);
  }
}

}  // namespace hull::runtime::child
