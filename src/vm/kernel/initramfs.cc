#include "vm/kernel/initramfs.h"

#include "base/error_format.h"

namespace hull::vm {

void CpioWriter::add(std::string_view name, uint32_t mode, std::string_view content, uint32_t major, uint32_t minor) {
  // magic, ino, mode, uid, gid, nlink, mtime, filesize, maj, min, rmaj, rmin, namesize with NUL, check.
  fmt::format_to(std::back_inserter(out_),
                 "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", next_inode_++,
                 mode, 0, 0, 1, 0, content.size(), 0, 0, major, minor, name.size() + 1, 0);
  out_ += name;
  out_ += '\0';
  out_.resize((out_.size() + 3) / 4 * 4, '\0');
  out_ += content;
  out_.resize((out_.size() + 3) / 4 * 4, '\0');
}

std::string CpioWriter::finish() && {
  add("TRAILER!!!", 0, {}, 0, 0);
  out_.resize((out_.size() + 511) / 512 * 512, '\0');
  return std::move(out_);
}

std::string make_initramfs(std::string_view guest, const std::vector<GuestModule>& modules) {
  CpioWriter archive;
  for (const char* folder : {"dev", "proc", "sys", "run", "modules"}) archive.add_folder(folder, 0755);
  archive.add_character_device("dev/console", 0600, 5, 1);
  std::string order;
  for (const GuestModule& module : modules) {
    order += module.name + ".ko" + (module.devices.empty() ? "" : " " + module.devices) + "\n";
  }
  archive.add_file("modules/order", 0444, order);
  for (const GuestModule& module : modules) archive.add_file("modules/" + module.name + ".ko", 0444, module.content);
  archive.add_file("init", 0755, guest);
  return std::move(archive).finish();
}

}  // namespace hull::vm
