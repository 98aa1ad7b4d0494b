#include "store/layer/directory_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/log.h"
#include "sys/file.h"

namespace hull::store {

Result<std::unique_ptr<DirectoryWriter>> DirectoryWriter::create(int parent_fd, const std::string& name,
                                                                 bool userxattr) {
  const std::string content = name + ".content";
  for (const std::string& folder : {name, content}) {
    if (::mkdirat(parent_fd, folder.c_str(), 0700) != 0) return errnof("make the layer folder {}", folder);
  }
  TRY_ASSIGN(UniqueFd root, sys::open_at(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  TRY_ASSIGN(UniqueFd content_fd, sys::open_at(parent_fd, content, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  return std::unique_ptr<DirectoryWriter>(
      new DirectoryWriter(parent_fd, name, userxattr, sys::Root::adopt(std::move(root)), std::move(content_fd)));
}

Result<void> DirectoryWriter::begin_file(LayerTree& tree, InodeId inode, const TarEntry& entry) {
  tree.inode(inode).data = ++files_;
  TRY_ASSIGN(file_, sys::open_at(content_.get(), std::to_string(files_), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  offset_ = 0;
  extents_ = entry.extents;
  extent_ = 0;
  content_bytes_ += entry.stored_size;
  if (entry.sparse && ::ftruncate(file_.get(), static_cast<off_t>(entry.size)) != 0) {
    return errnof("make a sparse file of {} bytes", entry.size);
  }
  return {};
}

Result<void> DirectoryWriter::write(std::span<const std::byte> data) {
  while (!data.empty()) {
    size_t count = data.size();
    if (extent_ < extents_.size()) {
      count = static_cast<size_t>(std::min<uint64_t>(count, extents_[extent_].length));
      offset_ = extents_[extent_].offset;
    }
    const ssize_t put = ::pwrite(file_.get(), data.data(), count, static_cast<off_t>(offset_));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("write a file of the layer");
    offset_ += static_cast<uint64_t>(put);
    data = data.subspan(static_cast<size_t>(put));
    if (extent_ < extents_.size()) {
      extents_[extent_].offset = offset_;
      extents_[extent_].length -= static_cast<uint64_t>(put);
      if (extents_[extent_].length == 0) ++extent_;
    }
  }
  return {};
}

Result<void> DirectoryWriter::end_file() {
  file_.reset();
  return {};
}

Result<void> DirectoryWriter::flush() { return {}; }

Result<void> DirectoryWriter::read_back(const LayerTree& tree, InodeId inode, uint64_t offset,
                                        std::span<std::byte> into) {
  TRY_ASSIGN(const UniqueFd file, sys::open_at(content_.get(), std::to_string(tree.inode(inode).data), O_RDONLY));
  while (!into.empty()) {
    const ssize_t got = ::pread(file.get(), into.data(), into.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("read a file of the layer back");
    if (got == 0) return errorf(ErrorKind::kInternal, "a file of the layer is shorter than what was written to it");
    offset += static_cast<uint64_t>(got);
    into = into.subspan(static_cast<size_t>(got));
  }
  return {};
}

Result<void> DirectoryWriter::set_xattr(int folder_fd, const std::string& name, const TreeInode& inode,
                                        const Xattr& xattr) {
  // No setxattrat before Linux 6.13. The folder is ours alone, and its entry is not followed.
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder_fd, name);
  if (::lsetxattr(path.c_str(), xattr.name.c_str(), xattr.value.data(), xattr.value.size(), 0) == 0) return {};
  // The kernel keeps user.* only on files and folders, and the rest from who is not really root.
  const bool user = xattr.name.starts_with("user.");
  if (errno == EPERM && user && !S_ISREG(inode.mode) && !S_ISDIR(inode.mode)) return {};
  if ((errno == EPERM || errno == ENOTSUP) && userxattr_ && !user) return {};
  return errnof("set extended attribute {} of {}", xattr.name, name);
}

Result<void> DirectoryWriter::set_attributes(const LayerTree& tree, int folder_fd, const std::string& name,
                                             const TreeInode& inode) {
  if (::fchownat(folder_fd, name.c_str(), inode.uid, inode.gid, AT_SYMLINK_NOFOLLOW) != 0) {
    return errnof("give {} to user {} and group {}", name, inode.uid, inode.gid);
  }
  // After the owner: changing that clears setuid and capabilities. A symlink has no mode, and fchmodat would follow it.
  if (!S_ISLNK(inode.mode) && ::fchmodat(folder_fd, name.c_str(), inode.mode & 07777, 0) != 0) {
    return errnof("set the mode of {}", name);
  }
  if (inode.xattrs != kNone) {
    for (const Xattr& xattr : tree.xattrs(inode.xattrs)) TRY(set_xattr(folder_fd, name, inode, xattr));
  }
  if (inode.opaque) {
    const char* key = userxattr_ ? "user.overlay.opaque" : "trusted.overlay.opaque";
    TRY(set_xattr(folder_fd, name, inode, Xattr{key, "y"}));
  }
  const timespec times[2] = {{0, UTIME_OMIT}, {inode.mtime, static_cast<long>(inode.mtime_ns)}};
  if (::utimensat(folder_fd, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0) {
    return errnof("set the modification time of {}", name);
  }
  return {};
}

Result<void> DirectoryWriter::make_node(const LayerTree& tree, int folder_fd, NodeId node) {
  const InodeId id = tree.inode_of(node);
  const TreeInode& inode = tree.inode(id);
  const std::string name(tree.name(node));
  if (S_ISDIR(inode.mode)) {
    if (::mkdirat(folder_fd, name.c_str(), 0700) != 0) return errnof("make folder {}", name);
    return {};  // its attributes follow when all in it is made
  }
  if (inode.nlink > 1) {
    const auto [first, fresh] = made_.try_emplace(id, node);
    if (!fresh) {
      const std::string path = tree.path(first->second);
      if (::linkat(root_.fd(), path.c_str(), folder_fd, name.c_str(), 0) != 0)
        return errnof("link {} to {}", name, path);
      return {};
    }
  }
  int made = 0;
  if (S_ISLNK(inode.mode)) {
    made = ::symlinkat(std::string(tree.symlink_target(inode)).c_str(), folder_fd, name.c_str());
  } else if (S_ISREG(inode.mode) && inode.data != 0) {
    made = ::renameat(content_.get(), std::to_string(inode.data).c_str(), folder_fd, name.c_str());
  } else {
    const dev_t device = inode.whiteout ? 0 : makedev(inode.rdev_major, inode.rdev_minor);
    made = ::mknodat(folder_fd, name.c_str(), (inode.mode & S_IFMT) | 0600, device);
    if (made != 0 && errno == EPERM && userxattr_ && (S_ISCHR(inode.mode) || S_ISBLK(inode.mode))) {
      log_debug("layer: device node {} left out: only root can make it", name);
      made_.erase(id);
      return {};
    }
  }
  if (made != 0) return errnof("make {}", name);
  return inode.whiteout ? Result<void>() : set_attributes(tree, folder_fd, name, inode);
}

Result<uint64_t> DirectoryWriter::finish(const LayerTree& tree, const Digest& /*diff_id*/) {
  std::vector<NodeId> folders{0}, children;
  for (size_t i = 0; i < folders.size(); ++i) {
    const std::string path = tree.path(folders[i]);
    TRY_ASSIGN(const UniqueFd folder, root_.open_in(path, O_PATH | O_DIRECTORY | O_NOFOLLOW));
    tree.sorted_children(folders[i], children);
    for (const NodeId child : children) {
      auto made = make_node(tree, folder.get(), child);
      if (!made.ok()) return std::move(made.error()).context("unpack a layer into " + (path.empty() ? "/" : path));
      if (S_ISDIR(tree.inode(tree.inode_of(child)).mode)) folders.push_back(child);
    }
  }
  // From the leaves up: making entries in a folder changes its time.
  for (size_t i = folders.size(); i-- > 0;) {
    const TreeInode& inode = tree.inode(tree.inode_of(folders[i]));
    TRY_ASSIGN(const UniqueFd folder, root_.open_in(tree.path(folders[i]), O_PATH | O_DIRECTORY | O_NOFOLLOW));
    TRY(set_attributes(tree, folder.get(), ".", inode));
  }
  TRY(sys::remove_tree_at(parent_fd_, name_ + ".content"));
  return content_bytes_;
}

}  // namespace hull::store
