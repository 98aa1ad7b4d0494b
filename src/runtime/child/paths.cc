// Paths inside the container's root, without allocation. The same rules as sys::Root: the kernel resolves (openat2),
// nothing is looked up twice, new folders are made below an opened parent.
#include "runtime/child/common.h"

namespace hull::runtime::child {
namespace {

constexpr size_t kPathMax = 4096;

uint64_t resolve_flags(bool no_links) {
  return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (no_links ? RESOLVE_NO_SYMLINKS : 0U);
}

/// The size of `path` up to the end of the component that starts at or after `from`.
size_t component_end(const char* path, size_t from) {
  size_t end = from;
  while (path[end] == '/') ++end;
  while (path[end] != '\0' && path[end] != '/') ++end;
  return end;
}

}  // namespace

long open_in_root(int root_fd, const char* path, int flags, bool no_links, mode_t mode) {
  return raw::openat2(root_fd, *path == '\0' ? "." : path, flags, resolve_flags(no_links), mode);
}

long make_folder_in_root(int root_fd, const char* path, bool no_links, mode_t mode) {
  long fd = open_in_root(root_fd, path, O_PATH | O_DIRECTORY, no_links);
  if (fd != -kEnoent) return fd;
  const size_t size = length(path);
  if (size >= kPathMax) return -kEnametoolong;
  char prefix[kPathMax];
  copy_bytes(prefix, path, size + 1);
  // Mostly only the last component is missing.
  size_t last = size;
  while (last > 0 && prefix[last - 1] != '/') --last;
  if (last < size && prefix[last] != '.') {
    prefix[last > 0 ? last - 1 : 0] = '\0';
    const Fd folder(open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, no_links));
    copy_bytes(prefix, path, size + 1);
    if (folder.valid() && raw::mkdirat(folder.get(), prefix + last, mode) == 0) {
      fd = raw::openat(folder.get(), prefix + last, O_PATH | O_DIRECTORY | O_NOFOLLOW);
      if (fd >= 0) return fd;
    }
  }
  Fd parent(open_in_root(root_fd, "", O_PATH | O_DIRECTORY, no_links));
  if (!parent.valid()) return parent.error();
  for (size_t end = component_end(path, 0), start = 0; start < end; start = end, end = component_end(path, end)) {
    const char kept = prefix[end];
    prefix[end] = '\0';
    fd = open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, no_links);
    if (fd == -kEnoent) {
      while (path[start] == '/') ++start;
      const long made = raw::mkdirat(parent.get(), prefix + start, mode);
      if (made == -kEexist) {
        // Something is there that does not resolve: a link to nowhere. Follow it inside the root, once, when allowed.
        char target[kPathMax];
        const long got = no_links ? -kEloop : raw::readlinkat(parent.get(), prefix + start, target, sizeof target - 1);
        if (got > 0) {
          target[got] = '\0';
          if (target[0] == '/') {
            static_cast<void>(Fd(make_folder_in_root(root_fd, target, true, mode)));
          } else {
            static_cast<void>(Fd(make_folder_in_root(parent.get(), target, true, mode)));
          }
        }
      } else if (made < 0) {
        return made;
      }
      fd = open_in_root(root_fd, prefix, O_PATH | O_DIRECTORY, no_links);
    }
    if (fd < 0) return fd;
    parent = Fd(fd);
    prefix[end] = kept;
  }
  return parent.release();
}

long open_parent_in_root(int root_fd, const char* path, bool no_links, const char** name) {
  size_t slash = 0;
  bool has_folder = false;
  for (size_t i = 0; path[i] != '\0'; ++i) {
    if (path[i] == '/') {
      slash = i;
      has_folder = true;
    }
  }
  *name = has_folder ? path + slash + 1 : path;
  if (!has_folder) return open_in_root(root_fd, "", O_PATH | O_DIRECTORY, no_links);
  char folder[kPathMax];
  if (slash >= sizeof folder) return -kEnametoolong;
  copy_bytes(folder, path, slash);
  folder[slash] = '\0';
  return make_folder_in_root(root_fd, folder, no_links, 0755);
}

long make_file_in_root(int root_fd, const char* path, bool no_links, mode_t mode) {
  long fd = open_in_root(root_fd, path, O_PATH, no_links);
  if (fd != -kEnoent) return fd;
  const char* name = nullptr;
  const Fd parent(open_parent_in_root(root_fd, path, no_links, &name));
  if (!parent.valid()) return parent.error();
  fd = raw::openat(parent.get(), name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, mode);
  if (fd == -kEexist) {
    // A link to nowhere: the kernel makes what it names, inside the root.
    if (no_links) return -kEloop;
    fd = open_in_root(root_fd, path, O_CREAT | O_WRONLY | O_NONBLOCK | O_NOCTTY, false, mode);
  }
  if (fd < 0) return fd;
  raw::close(static_cast<int>(fd));
  return open_in_root(root_fd, path, O_PATH, no_links);
}

namespace {

struct DirEntry {  // struct linux_dirent64
  uint64_t inode;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[1];
};

long copy_file(int from_dir, int to_dir, const char* name, const struct stat& info) {
  const Fd in(raw::openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  if (!in.valid()) return in.error();
  const Fd out(raw::openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  if (!out.valid()) return out.error();
  for (;;) {
    const long sent = raw::sendfile(out.get(), in.get(), 1 << 20);
    if (sent < 0) return sent;
    if (sent == 0) break;
  }
  raw::fchown(out.get(), info.st_uid, info.st_gid);
  return raw::fchmod(out.get(), info.st_mode & 07777);
}

}  // namespace

long copy_tree(int from_fd, int to_fd, int depth) {
  if (depth > 64) return -kEloop;
  alignas(DirEntry) char buffer[4096];
  for (;;) {
    const long got = raw::getdents64(from_fd, buffer, sizeof buffer);
    if (got < 0) return got;
    if (got == 0) break;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const DirEntry*>(buffer + at);
      at += entry->size;
      const char* name = entry->name;
      if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'))) continue;
      struct stat info{};
      long done = raw::fstatat(from_fd, name, &info, AT_SYMLINK_NOFOLLOW);
      if (done < 0) return done;
      if (S_ISDIR(info.st_mode)) {
        done = raw::mkdirat(to_fd, name, 0700);
        if (done < 0 && done != -kEexist) return done;
        const Fd from(raw::openat(from_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        if (!from.valid()) return from.error();
        const Fd to(raw::openat(to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        if (!to.valid()) return to.error();
        done = copy_tree(from.get(), to.get(), depth + 1);
        if (done < 0) return done;
        raw::fchown(to.get(), info.st_uid, info.st_gid);
        raw::fchmod(to.get(), info.st_mode & 07777);
      } else if (S_ISREG(info.st_mode)) {
        done = copy_file(from_fd, to_fd, name, info);
        if (done < 0) return done;
      } else if (S_ISLNK(info.st_mode)) {
        char target[kPathMax];
        done = raw::readlinkat(from_fd, name, target, sizeof target - 1);
        if (done < 0) return done;
        target[done] = '\0';
        done = raw::symlinkat(target, to_fd, name);
        if (done < 0) return done;
        raw::fchownat(to_fd, name, info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW);
      } else {
        done = raw::mknodat(to_fd, name, info.st_mode, info.st_rdev);
        if (done < 0 && done != -kEperm) return done;
        if (done == 0) raw::fchownat(to_fd, name, info.st_uid, info.st_gid, AT_SYMLINK_NOFOLLOW);
      }
      if (!S_ISLNK(info.st_mode)) {
        const timespec times[2] = {info.st_atim, info.st_mtim};
        raw::utimensat(to_fd, name, times, AT_SYMLINK_NOFOLLOW);
      }
    }
  }
  return 0;
}

}  // namespace hull::runtime::child
