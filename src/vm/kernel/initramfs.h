#pragma once
// The guest's initramfs: a cpio archive in the form "newc"
// (Documentation/driver-api/early-userspace/buffer-format.rst), the same bytes for the same content.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::vm {

/// Writes entries one after the other. Owner root, time 0, inode numbers in order.
class CpioWriter {
 public:
  /// `mode` holds the permissions only; names have no leading slash.
  void add_folder(std::string_view name, uint32_t mode) { add(name, 0040000 | mode, {}, 0, 0); }
  void add_file(std::string_view name, uint32_t mode, std::string_view content) {
    add(name, 0100000 | mode, content, 0, 0);
  }
  void add_character_device(std::string_view name, uint32_t mode, uint32_t major, uint32_t minor) {
    add(name, 0020000 | mode, {}, major, minor);
  }
  /// With the closing entry, padded to 512 bytes.
  std::string finish() &&;

 private:
  void add(std::string_view name, uint32_t mode, std::string_view content, uint32_t major, uint32_t minor);

  std::string out_;
  uint32_t next_inode_ = 1;
};

/// One module as the guest loads it.
struct GuestModule {
  std::string name;
  std::string content;
  /// Only with one of these virtio devices (their ids, in decimal, separated by blanks); "" is always.
  std::string devices = {};
};
/// `guest` is hull-guest's file. /init, /modules/<name>.ko, /modules/order with a line "<name>.ko" or
/// "<name>.ko ID..." for each in the given order, /dev/console (the kernel opens it for init before anything is
/// mounted), and folders to mount on.
std::string make_initramfs(std::string_view guest, const std::vector<GuestModule>& modules);

}  // namespace hull::vm
