// Device nodes, the links of /dev, and the console. The /dev of an image is never followed when it is a symbolic link.
#include <linux/magic.h>
#include <sys/sysmacros.h>

#include "runtime/child/common.h"

namespace hull::runtime::child {
namespace {

constexpr unsigned kAttachFlags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;

void make_device(int root_fd, const DeviceStep& device, uint32_t index) {
  const char* name = nullptr;
  const Fd parent(open_parent_in_root(root_fd, device.path, true, &name));
  if (!parent.valid()) fail(Step::kDevice, parent.error(), index);
  int tree_fd = device.tree_fd;
  if (device.bind_host) {
    // Our working folder is the host's "/" until the pivot; the kernel checks nothing here that the parent could have.
    char path[4096] = "/";
    const size_t size = length(device.path);
    if (size + 2 > sizeof path) fail(Step::kDevice, kEnametoolong, index);
    copy_bytes(path + 1, device.path, size + 1);
    tree_fd = static_cast<int>(
        check(raw::open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), Step::kDevice, index));
    struct stat info{};
    check(raw::fstat(tree_fd, &info), Step::kDevice, index);
    if ((info.st_mode & S_IFMT) != (device.mode & S_IFMT) || info.st_rdev != device.device) {
      fail(Step::kDevice, kEnodev, index);
    }
  }
  if (tree_fd < 0) {
    const long made = raw::mknodat(parent.get(), name, device.mode, device.device);
    if (made == 0) {
      check(raw::fchownat(parent.get(), name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW), Step::kDevice, index);
      return;
    }
    if (made != -kEexist) fail(Step::kDevice, made, index);
    // Something is there: only the very same device may stay.
    struct stat info{};
    check(raw::fstatat(parent.get(), name, &info, AT_SYMLINK_NOFOLLOW), Step::kDevice, index);
    if ((info.st_mode & S_IFMT) != (device.mode & S_IFMT) ||
        ((device.mode & S_IFMT) != S_IFIFO && info.st_rdev != device.device)) {
      fail(Step::kDevice, kEexist, index);
    }
    raw::fchmodat(parent.get(), name, device.mode & 07777);
    raw::fchownat(parent.get(), name, device.uid, device.gid, AT_SYMLINK_NOFOLLOW);
    return;
  }
  const long made = raw::openat(parent.get(), name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0666);
  if (made < 0 && made != -kEexist) fail(Step::kDevice, made, index);
  if (made >= 0) raw::close(static_cast<int>(made));
  const Fd target(raw::openat(parent.get(), name, O_PATH | O_NOFOLLOW));
  if (!target.valid()) fail(Step::kDevice, target.error(), index);
  check(raw::move_mount(tree_fd, "", target.get(), "", kAttachFlags), Step::kDevice, index);
}

}  // namespace

void set_up_dev(const ContainerPlan& plan) {
  uint32_t index = 0;
  for (const DeviceStep& device : plan.devices) make_device(plan.root_fd, device, index++);
  index = 0;
  for (const LinkStep& link : plan.links) {
    const char* name = nullptr;
    const Fd parent(open_parent_in_root(plan.root_fd, link.path, true, &name));
    if (!parent.valid()) fail(Step::kDevLink, parent.error(), index);
    long done = raw::symlinkat(link.target, parent.get(), name);
    if (done == -kEexist && starts_with(link.path, "dev/ptmx")) {
      // An image's own ptmx node would open the host's devpts.
      raw::unlinkat(parent.get(), name, 0);
      done = raw::symlinkat(link.target, parent.get(), name);
    }
    if (done < 0 && done != -kEexist) fail(Step::kDevLink, done, index);
    ++index;
  }
}

void set_up_console(const ProcessPlan& process, int root_fd, bool bind_console) {
  // The container's own devpts, checked to be one, and its ptmx, checked to be the device (CVE-2025-52565).
  const Fd ptmx(open_in_root(root_fd, "dev/pts/ptmx", O_RDWR | O_NOCTTY, true));
  if (!ptmx.valid()) fail(Step::kConsole, ptmx.error());
  struct statfs file_system{};
  check(raw::fstatfs(ptmx.get(), &file_system), Step::kConsole);
  struct stat info{};
  check(raw::fstat(ptmx.get(), &info), Step::kConsole);
  if (file_system.f_type != DEVPTS_SUPER_MAGIC || !S_ISCHR(info.st_mode) || info.st_rdev != makedev(5, 2)) {
    fail(Step::kConsole, kEinval);
  }
  int unlock = 0;
  check(raw::ioctl(ptmx.get(), TIOCSPTLCK, raw::address(&unlock)), Step::kConsole);
  // By the master, not by a name that something could take (TIOCGPTPEER, Linux 4.13).
  const Fd slave(raw::ioctl(ptmx.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!slave.valid()) fail(Step::kConsole, slave.error());
  if (process.rows != 0 || process.columns != 0) {
    const winsize size{process.rows, process.columns, 0, 0};
    raw::ioctl(ptmx.get(), TIOCSWINSZ, raw::address(&size));
  }
  raw::fchown(slave.get(), process.identity.uid, static_cast<gid_t>(-1));

  if (bind_console) {
    const Fd target(make_file_in_root(root_fd, "dev/console", true, 0666));
    if (!target.valid()) fail(Step::kConsole, target.error());
    const Fd tree(raw::open_tree(slave.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
    if (!tree.valid()) fail(Step::kConsole, tree.error());
    check(raw::move_mount(tree.get(), "", target.get(), "", kAttachFlags), Step::kConsole);
  }

  // The master leaves through the console socket; its text is the name of the terminal, as runc sends it.
  unsigned number = 0;
  check(raw::ioctl(ptmx.get(), TIOCGPTN, raw::address(&number)), Step::kConsole);
  char name[32] = "/dev/pts/";
  size_t end = 9;
  char digits[12];
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  while (count > 0) name[end++] = digits[--count];
  iovec data{name, end};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  auto* header = reinterpret_cast<cmsghdr*>(control);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int master = ptmx.get();
  copy_bytes(reinterpret_cast<char*>(CMSG_DATA(header)), reinterpret_cast<const char*>(&master), sizeof master);
  check(raw::sendmsg(process.console_socket, &message, MSG_NOSIGNAL), Step::kConsoleSend);
  raw::close(process.console_socket);

  check(raw::ioctl(slave.get(), TIOCSCTTY, 0), Step::kConsole);
  for (int fd = 0; fd < 3; ++fd) check(raw::dup3(slave.get(), fd, 0), Step::kConsole);
}

}  // namespace hull::runtime::child
