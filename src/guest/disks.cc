#include "guest/disks.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::guest {
namespace {

constexpr int kMaxLayers = 128;

/// The kernel's news of devices.
Result<UniqueFd> listen_to_uevents() {
  UniqueFd socket(::socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!socket) return errno_error("open a socket for uevents");
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1;
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_error("listen to uevents");
  }
  return socket;
}

std::optional<std::string> disk_with(const std::string& serial) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/sys/block"), ::closedir);
  if (!folder) return std::nullopt;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] == '.') continue;
    auto text = sys::read_file(fmt::format("/sys/block/{}/serial", entry->d_name), 256);
    if (!text.ok()) continue;
    while (text->ends_with('\n')) text->pop_back();
    if (*text == serial) return std::string(entry->d_name);
  }
  return std::nullopt;
}

/// "vda3", "nvme0n1p3": a partition of a disk whose name ends with a digit has a p between.
std::string device_path(const std::string& disk, uint32_t partition) {
  if (partition == 0) return "/dev/" + disk;
  const bool digit = disk.back() >= '0' && disk.back() <= '9';
  return fmt::format("/dev/{}{}{}", disk, digit ? "p" : "", partition);
}

bool is_block_device(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
}

Result<void> await_uevent(int socket, const std::string& what, ttrpc::Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  pollfd watched{socket, POLLIN, 0};
  const int ready = ::poll(&watched, 1, static_cast<int>(std::clamp<int64_t>(left.count(), 0, 1 << 30)));
  if (ready == 0) return errorf(ErrorKind::kTimeout, "{} has not appeared", what);
  char buffer[8192];
  while (::recv(socket, buffer, sizeof buffer, MSG_DONTWAIT) > 0) {
  }
  return {};
}

/// The root folder of what is written gets owner and mode of the image's own: overlayfs shows the upper one's.
Result<void> make_upper(const std::string& top_layer, const std::string& upper) {
  if (::mkdir(upper.c_str(), 0755) != 0) {
    if (errno == EEXIST) return {};
    return errnof("make {}", upper);
  }
  struct stat info{};
  if (::stat(top_layer.c_str(), &info) != 0) return errnof("look at {}", top_layer);
  if (::chown(upper.c_str(), info.st_uid, info.st_gid) != 0 || ::chmod(upper.c_str(), info.st_mode & 07777) != 0) {
    return errnof("set the owner of {}", upper);
  }
  return {};
}

Result<void> mount_scratch(const proto::OverlayRoot& wanted, const std::string& folder, ttrpc::Deadline deadline) {
  if (wanted.scratch_serial().empty()) return mount_at("tmpfs", folder, "tmpfs", MS_NODEV | MS_NOSUID, "mode=0700");
  TRY_ASSIGN(const std::string disk, find_disk(wanted.scratch_serial(), 0, deadline));
  return mount_at(disk, folder, "ext4", MS_NODEV | MS_NOSUID | MS_RELATIME);
}

}  // namespace

Result<std::string> find_disk(const std::string& serial, uint32_t partition, ttrpc::Deadline deadline) {
  // Listening begins before the first look, so that nothing is missed in between.
  TRY_ASSIGN(const UniqueFd uevents, listen_to_uevents());
  while (true) {
    const std::optional<std::string> disk = disk_with(serial);
    if (disk) {
      std::string path = device_path(*disk, partition);
      if (is_block_device(path)) return path;
    }
    TRY(await_uevent(uevents.get(),
                     partition == 0 ? fmt::format("the disk '{}'", serial)
                                    : fmt::format("partition {} of the disk '{}'", partition, serial),
                     deadline));
  }
}

Result<void> mount_at(const std::string& source, const std::string& target, const char* type, unsigned long flags,
                      const std::string& options) {
  TRY(sys::make_dirs(target, 0755));
  if (::mount(source.c_str(), target.c_str(), type, flags, options.c_str()) != 0) {
    return errnof("mount {} of {} at {}", type, source, target);
  }
  return {};
}

Result<void> mount_overlay_root(const proto::OverlayRoot& wanted, const std::string& run_dir,
                                ttrpc::Deadline deadline) {
  if (wanted.layers().empty()) return errorf(ErrorKind::kInvalid, "the image has no layers");
  if (wanted.layers_size() > kMaxLayers) {
    return errorf(ErrorKind::kInvalid, "the image has {} layers, {} can be stacked", wanted.layers_size(), kMaxLayers);
  }
  const std::string layers = run_dir + "/layers", scratch = run_dir + "/scratch", root = run_dir + "/root";
  // Relative names: the options of mount(2) must fit a page.
  std::string lower;
  for (int i = 0; i < wanted.layers_size(); ++i) {
    const proto::Layer& layer = wanted.layers(i);
    TRY_ASSIGN(const std::string device, find_disk(layer.serial(), layer.partition(), deadline));
    TRY(mount_at(device, fmt::format("{}/{}", layers, i), "erofs", MS_RDONLY | MS_NODEV | MS_NOSUID));
    lower += fmt::format("{}{}", lower.empty() ? "" : ":", i);
  }
  TRY(mount_scratch(wanted, scratch, deadline));
  TRY(make_upper(layers + "/0", scratch + "/upper"));
  TRY(sys::make_dirs(scratch + "/work", 0700));
  TRY(sys::make_dirs(root, 0755));
  TRY_ASSIGN(const UniqueFd here, sys::open(".", O_PATH | O_DIRECTORY));
  if (::chdir(layers.c_str()) != 0) return errnof("enter {}", layers);
  const std::string options = "lowerdir=" + lower + ",upperdir=../scratch/upper,workdir=../scratch/work";
  Result<void> mounted;
  if (::mount("overlay", root.c_str(), "overlay", 0, options.c_str()) != 0) {
    mounted = errnof("stack the image's {} layers", wanted.layers_size());
  }
  if (::fchdir(here.get()) != 0 && mounted.ok()) return errno_error("return to the working folder");
  return mounted;
}

}  // namespace hull::guest
