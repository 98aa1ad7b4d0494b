// Masked and read-only paths. A file is hidden by the host's /dev/null, a folder by an empty read-only tmpfs; both are
// checked descriptors taken before the container's root is entered (CVE-2025-31133).
#include <linux/magic.h>
#include <sys/sysmacros.h>

#include "runtime/child/common.h"

namespace hull::runtime::child {
namespace {

constexpr unsigned kAttachFlags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
constexpr unsigned kCloneFlags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;

/// /dev/null of the host, which is still "/" here.
Fd open_null() {
  Fd null(raw::openat(AT_FDCWD, "/dev/null", O_PATH | O_NOFOLLOW));
  if (!null.valid()) fail(Step::kMaskSource, null.error());
  struct stat info{};
  check(raw::fstat(null.get(), &info), Step::kMaskSource);
  if (!S_ISCHR(info.st_mode) || info.st_rdev != makedev(1, 3)) fail(Step::kMaskSource, kEinval);
  return null;
}

/// A detached, empty, read-only tmpfs.
Fd make_empty(const char* label) {
  const Fd context(raw::fsopen("tmpfs", FSOPEN_CLOEXEC));
  if (!context.valid()) fail(Step::kMaskSource, context.error());
  raw::fsconfig(context.get(), FSCONFIG_SET_STRING, "nr_blocks", "1", 0);
  raw::fsconfig(context.get(), FSCONFIG_SET_STRING, "nr_inodes", "1", 0);
  if (label != nullptr) raw::fsconfig(context.get(), FSCONFIG_SET_STRING, "context", label, 0);
  check(raw::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), Step::kMaskSource);
  Fd mount(raw::fsmount(context.get(), FSMOUNT_CLOEXEC,
                        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (!mount.valid()) fail(Step::kMaskSource, mount.error());
  return mount;
}

}  // namespace

void hide_paths(const ContainerPlan& plan) {
  Fd null;
  Fd empty;
  uint32_t index = 0;
  for (const char* path : plan.masked) {
    const uint32_t here = index++;
    const Fd target(open_in_root(plan.root_fd, path, O_PATH, false));
    if (!target.valid()) {
      if (target.error() == -kEnoent || target.error() == -kEnotdir) continue;
      fail(Step::kMask, target.error(), here);
    }
    struct stat info{};
    check(raw::fstat(target.get(), &info), Step::kMask, here);
    if (!S_ISDIR(info.st_mode)) {
      if (!null.valid()) null = open_null();
      const Fd tree(raw::open_tree(null.get(), "", kCloneFlags));
      if (!tree.valid()) fail(Step::kMask, tree.error(), here);
      check(raw::move_mount(tree.get(), "", target.get(), "", kAttachFlags), Step::kMask, here);
    } else if (!empty.valid()) {
      // The first folder takes the new tmpfs itself, the others take copies of that mount: one super block for all.
      empty = make_empty(plan.mount_label_option);
      check(raw::move_mount(empty.get(), "", target.get(), "", kAttachFlags), Step::kMask, here);
    } else {
      const Fd tree(raw::open_tree(empty.get(), "", kCloneFlags));
      if (!tree.valid()) fail(Step::kMask, tree.error(), here);
      check(raw::move_mount(tree.get(), "", target.get(), "", kAttachFlags), Step::kMask, here);
    }
  }
  index = 0;
  for (const char* path : plan.readonly) {
    const uint32_t here = index++;
    const Fd target(open_in_root(plan.root_fd, path, O_PATH, false));
    if (!target.valid()) {
      if (target.error() == -kEnoent || target.error() == -kEnotdir) continue;
      fail(Step::kReadonlyPath, target.error(), here);
    }
    const Fd tree(raw::open_tree(target.get(), "", kCloneFlags | 0x8000 /* AT_RECURSIVE */));
    if (!tree.valid()) fail(Step::kReadonlyPath, tree.error(), here);
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_RDONLY;
    check(raw::mount_setattr(tree.get(), "", AT_EMPTY_PATH | 0x8000, &attributes), Step::kReadonlyPath, here);
    check(raw::move_mount(tree.get(), "", target.get(), "", kAttachFlags), Step::kReadonlyPath, here);
  }
}

}  // namespace hull::runtime::child
