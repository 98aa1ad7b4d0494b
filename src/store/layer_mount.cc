#include "store/layer_mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/error_format.h"
#include "store/erofs_format.h"
#include "sys/file.h"

// <sys/mount.h> and <linux/mount.h> of Debian 12 can't be included together.
extern "C" int umount2(const char* target, int flags);

namespace hull::store {

namespace {

constexpr int kDetach = 2, kNoFollow = 8;  // MNT_DETACH, UMOUNT_NOFOLLOW
constexpr int kLoopAttempts = 64;

bool is_mounted(const std::string& path) {
  struct statx info{};
  if (::statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &info) != 0)
    return false;
  return (info.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;  // Linux 5.8
}

int fsopen(const char* type) { return static_cast<int>(::syscall(SYS_fsopen, type, FSOPEN_CLOEXEC)); }
int fsconfig(int fd, unsigned command, const char* key, const char* value) {
  return static_cast<int>(::syscall(SYS_fsconfig, fd, command, key, value, 0));
}

/// The kernel must not parse an image that others could have written: it is ours by owner and mode, whole by its size,
/// and of this layer by its identifier.
Result<void> check_image(int fd, const std::string& path, const Digest& diff_id) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return errnof("stat {}", path);
  const auto broken = [&](std::string_view what) {
    return errorf(ErrorKind::kCorrupt, "layer {}: {} {}; remove the image and pull it again", diff_id.str(), path,
                  what);
  };
  if (!S_ISREG(info.st_mode)) return broken("is not a regular file");
  if (info.st_uid != ::geteuid() || (info.st_mode & 022) != 0) {
    return broken("belongs to or can be written by somebody else");
  }
  erofs::SuperBlock super{};
  if (::pread(fd, &super, sizeof super, erofs::kSuperOffset) != static_cast<ssize_t>(sizeof super)) {
    return broken("is too short");
  }
  if (super.magic != erofs::kMagic || super.blkszbits != erofs::kBlockBits || super.extra_devices != 0 ||
      (super.feature_incompat & ~erofs::kIncompatChunkedFile) != 0) {
    return broken("is not a layer image of Hull");
  }
  if (super.blocks * static_cast<uint64_t>(erofs::kBlockSize) != static_cast<uint64_t>(info.st_size)) {
    return broken("is cut off");
  }
  if (!diff_id.hex().starts_with(to_hex(super.uuid, sizeof super.uuid))) return broken("belongs to another layer");
  return {};
}

/// The context's own words, when the kernel left some ("e ..." lines).
std::string kernel_says(int context) {
  char line[256];
  const ssize_t got = ::read(context, line, sizeof line);
  return got > 2 ? fmt::format(" (kernel: {})", std::string_view(line + 2, static_cast<size_t>(got) - 2))
                 : std::string();
}

/// A detached mount of an EROFS image that `source` names. nodev and nosuid say nothing about the container: overlayfs
/// clones its lower mounts and goes by its own flags. They keep the image harmless under its own path.
Result<UniqueFd> mount_detached(const std::string& source) {
  const UniqueFd context(fsopen("erofs"));
  if (!context) return errno_error("the kernel has no EROFS");
  if (fsconfig(context.get(), FSCONFIG_SET_STRING, "source", source.c_str()) != 0 ||
      fsconfig(context.get(), FSCONFIG_SET_FLAG, "ro", nullptr) != 0 ||
      fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr) != 0) {
    const int saved = errno;
    return Error::from_errno(saved, fmt::format("mount the image {}{}", source, kernel_says(context.get())));
  }
  constexpr unsigned kAttributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME;
  UniqueFd mount(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, kAttributes)));
  if (!mount) return errnof("mount the image {}", source);
  return mount;
}

/// Binds the image to a free loop device, which lets go by itself when it is unmounted (LO_FLAGS_AUTOCLEAR).
Result<UniqueFd> mount_by_loop(int image, const std::string& path) {
  TRY_ASSIGN(const UniqueFd control, sys::open("/dev/loop-control", O_RDWR));
  for (int attempt = 0; attempt < kLoopAttempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return errno_error("find a free loop device");
    const std::string device = fmt::format("/dev/loop{}", number);
    TRY_ASSIGN(const UniqueFd loop, sys::open(device, O_RDONLY));
    loop_config config{};
    config.fd = static_cast<uint32_t>(image);
    config.block_size = 512;
    config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR;
    const std::string shown = path.substr(path.size() - std::min(path.size(), sizeof config.info.lo_file_name - 1));
    std::memcpy(config.info.lo_file_name, shown.data(), shown.size());
    if (::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) return mount_detached(device);  // Linux 5.8
    if (errno != EBUSY) return errnof("bind {} to {}", path, device);  // busy: somebody took it in between
  }
  return errorf(ErrorKind::kConflict, "no loop device could be had in {} attempts", kLoopAttempts);
}

Result<UniqueFd> mount_image(int image, const std::string& path, bool through_loop) {
  if (through_loop) return mount_by_loop(image, path);
  auto direct = mount_detached(path);  // Linux 6.12, CONFIG_EROFS_FS_BACKED_BY_FILE
  if (direct.ok() || direct.error().error_number() != ENOTBLK) return direct;
  return mount_by_loop(image, path);
}

Result<void> attach(int mount, const std::string& target) {
  if (::syscall(SYS_move_mount, mount, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return errnof("mount a layer at {}", target);
  }
  return {};
}

Result<sys::FileLock> lock_layer(const LayerPlaces& places, std::string_view hex) {
  return sys::FileLock::acquire(fmt::format("{}/.{}.lock", places.mounts, hex), true, true);
}

/// The slow way, once per boot and layer.
Result<void> mount_layer(const LayerPlaces& places, const Digest& diff_id, const std::string& image_path,
                         const std::string& target) {
  TRY(sys::make_dirs(places.mounts, 0700));
  TRY_ASSIGN(const auto lock, lock_layer(places, diff_id.hex()));
  if (is_mounted(target)) return {};
  TRY_ASSIGN(const UniqueFd image, sys::open(image_path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  TRY(check_image(image.get(), image_path, diff_id));
  TRY_ASSIGN(const UniqueFd mount, mount_image(image.get(), image_path, places.through_loop));
  if (::mkdir(target.c_str(), 0700) != 0 && errno != EEXIST) return errnof("make the mount point {}", target);
  return attach(mount.get(), target);
}

Result<std::string> ensure_one(const LayerPlaces& places, const Digest& diff_id) {
  std::string target = places.mounts;
  target.append("/").append(diff_id.hex());
  if (is_mounted(target)) return target;
  std::string folder = places.layers;
  folder.append("/").append(diff_id.hex());
  const std::string image = folder + ".erofs";
  if (sys::exists(image)) {
    TRY(mount_layer(places, diff_id, image, target));
    return target;
  }
  struct stat info{};
  if (::lstat(folder.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return folder;
  return errorf(ErrorKind::kNotFound, "layer {} is not in the store ({}); pull the image again", diff_id.str(),
                places.layers);
}

}  // namespace

Result<std::vector<std::string>> ensure_mounted(const LayerPlaces& places, std::span<const Digest> diff_ids) {
  std::vector<std::string> paths;
  paths.reserve(diff_ids.size());
  for (const Digest& diff_id : diff_ids) {
    TRY_ASSIGN(std::string path, ensure_one(places, diff_id));
    paths.push_back(std::move(path));
  }
  return paths;
}

Result<void> unmount_layer(const LayerPlaces& places, const Digest& diff_id) {
  std::string target = places.mounts;
  target.append("/").append(diff_id.hex());
  if (!sys::exists(target)) return {};
  TRY_ASSIGN(const auto lock, lock_layer(places, diff_id.hex()));
  // An overlay holds a clone of the mount, so the path can go at once; whoever stands in it (a shell) keeps it too.
  while (is_mounted(target)) {
    if (::umount2(target.c_str(), kDetach | kNoFollow) != 0) return errnof("unmount {}", target);
  }
  if (::rmdir(target.c_str()) != 0 && errno != ENOENT) return errnof("remove the mount point {}", target);
  return {};
}

Result<size_t> unmount_unused(const LayerPlaces& places, std::span<const Digest> keep) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(places.mounts.c_str()), ::closedir);
  if (folder == nullptr) {
    if (errno == ENOENT) return size_t{0};
    return errnof("read {}", places.mounts);
  }
  size_t count = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    auto diff_id = Digest::parse(std::string("sha256:") + entry->d_name);
    if (!diff_id.ok()) diff_id = Digest::parse(std::string("sha512:") + entry->d_name);
    if (!diff_id.ok() || std::find(keep.begin(), keep.end(), *diff_id) != keep.end()) continue;
    TRY(unmount_layer(places, *diff_id));
    ++count;
  }
  return count;
}

bool can_mount_erofs(const std::string& layers) {
  // The smallest image: a superblock and an empty root folder behind it.
  std::byte block[erofs::kBlockSize]{};
  erofs::SuperBlock super{};
  super.magic = erofs::kMagic;
  super.feature_compat = erofs::kCompatSuperChecksum;
  super.blkszbits = erofs::kBlockBits;
  super.blocks = 1;
  super.inos = 1;
  constexpr size_t kRootAt = erofs::kSuperOffset + sizeof(erofs::SuperBlock);
  super.root_nid = kRootAt / erofs::kSlotSize;
  erofs::ExtendedInode root{};
  root.i_format = erofs::inode_format(erofs::kFlatInline);
  root.i_mode = S_IFDIR | 0700;
  root.i_nlink = 2;
  constexpr std::string_view kNames = "...";
  const erofs::Dirent dirents[2] = {{super.root_nid, sizeof dirents, 2, 0}, {super.root_nid, sizeof dirents + 1, 2, 0}};
  root.i_size = sizeof dirents + kNames.size();
  std::memcpy(block + kRootAt, &root, sizeof root);
  std::memcpy(block + kRootAt + sizeof root, dirents, sizeof dirents);
  std::memcpy(block + kRootAt + sizeof root + sizeof dirents, kNames.data(), kNames.size());
  std::memcpy(block + erofs::kSuperOffset, &super, sizeof super);
  super.checksum = erofs::super_checksum(block + erofs::kSuperOffset, sizeof block - erofs::kSuperOffset);
  std::memcpy(block + erofs::kSuperOffset, &super, sizeof super);

  const std::string path = fmt::format("{}/.probe-{}", layers, ::getpid());
  const std::string_view data(reinterpret_cast<const char*>(block), sizeof block);
  if (!sys::replace_file(path, data, 0600, false).ok()) return false;
  const auto image = sys::open(path, O_RDONLY | O_NOFOLLOW);
  const bool works = image.ok() && mount_image(image->get(), path, false).ok();
  ::unlink(path.c_str());
  return works;
}

}  // namespace hull::store
