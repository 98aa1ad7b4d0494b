#pragma once
// The modules of one kernel below a folder (/lib/modules/VERSION, or what was unpacked of a package), and which of them
// a guest needs. Dependencies are read from the modules themselves: Debian's package holds no modules.dep, which depmod
// makes at its installation.

#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "vm/kernel/elf.h"
#include "vm/kernel/initramfs.h"

namespace hull::vm {

/// Names of the lines of modules.builtin ("kernel/fs/ext4/ext4.ko"), with underscores.
std::set<std::string> parse_builtin_list(std::string_view text);
/// "kernel/drivers/block/virtio_blk.ko.xz" gives "virtio_blk"; "" for what is no module's file name.
std::string module_of_path(std::string_view path);

class ModuleTree {
 public:
  /// Walks the folder (links are not followed). kNotFound when it does not exist. A folder without modules and without
  /// modules.builtin is kInvalid.
  static Result<ModuleTree> open(const std::string& folder);

  bool has(std::string_view name) const { return files_.contains(module_name(name)); }
  bool is_builtin(std::string_view name) const { return builtin_.contains(module_name(name)); }
  /// The uncompressed file of one. kNotFound when there is no such module.
  Result<std::string> read(std::string_view name) const;

 private:
  std::map<std::string, std::string> files_;  // name to path
  std::set<std::string> builtin_;
};

/// What a guest needs of its kernel.
struct WantedModule {
  const char* name;
  bool required;
  int device;        ///< the virtio device (its id, virtio 1.2 chapter 5) without which it is not loaded; 0: always
  const char* what;  ///< for the error: what can't be done without it
};
std::span<const WantedModule> wanted_modules();

struct Selection {
  std::vector<GuestModule> modules;  ///< each after what it depends on
  std::vector<std::string> builtin;  ///< of the wanted ones, those that need no module
  std::vector<std::string> missing;  ///< of the optional ones
};
/// The wanted modules with what they depend on, slim. kUnsupported names a required one that is neither a module nor
/// built in; kInvalid a module of another kernel than `version` (when not "").
Result<Selection> select_modules(const ModuleTree& tree, std::span<const WantedModule> wanted, std::string_view version,
                                 bool drop_signatures);

}  // namespace hull::vm
