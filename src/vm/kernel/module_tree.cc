#include "vm/kernel/module_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <span>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/kernel/decompress.h"

namespace hull::vm {
namespace {

constexpr size_t kMostModules = 100000;
constexpr int kMostDepth = 16;

// virtio 1.2, chapter 5.
constexpr int kNet = 1, kBlock = 2, kEntropy = 4, kBalloon = 5, kSocket = 19, kFileSystem = 26, kPmem = 27;

constexpr WantedModule kWanted[] = {
    {"virtio", true, 0, "virtual devices"},
    {"virtio_mmio", true, 0, "virtual devices"},
    {"virtio_blk", true, kBlock, "disks, which hold the image"},
    {"virtio_net", true, kNet, "the network"},
    {"vmw_vsock_virtio_transport", true, kSocket, "the connection to the host"},
    {"erofs", true, kBlock, "the image's layers"},
    {"overlay", true, kBlock, "a writable root over the image's layers"},
    {"ext4", true, kBlock, "the writable disk"},
    {"fuse", true, kFileSystem, "volumes"},
    {"virtiofs", true, kFileSystem, "volumes"},
    {"virtio_balloon", false, kBalloon, "giving memory back to the host"},
    {"virtio_rng", false, kEntropy, "random numbers from the host"},
    {"virtio_pmem", false, kPmem, "disks mapped as memory"},
    {"nd_pmem", false, kPmem, "disks mapped as memory"},
};

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

/// The bytes of a folder's entries, deepest last; links are left alone, so a walk ends.
Result<void> walk(const std::string& folder, int depth, std::map<std::string, std::string>* files) {
  if (depth > kMostDepth) return errorf(ErrorKind::kInvalid, "{} is nested too deeply", folder);
  TRY_ASSIGN(UniqueFd fd, sys::open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const std::unique_ptr<DIR, CloseFolder> stream(::fdopendir(fd.get()));
  if (!stream) return errnof("read {}", folder);
  static_cast<void>(fd.release());
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    std::string path = fmt::format("{}/{}", folder, name);
    struct stat info{};
    if (::fstatat(::dirfd(stream.get()), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) return errnof("{}", path);
    if (S_ISDIR(info.st_mode)) {
      TRY(walk(path, depth + 1, files));
    } else if (S_ISREG(info.st_mode)) {
      std::string module = module_of_path(name);
      if (module.empty()) continue;
      if (files->size() >= kMostModules) return errorf(ErrorKind::kInvalid, "too many modules below {}", folder);
      files->emplace(std::move(module), std::move(path));
    }
  }
  return {};
}

/// Depth first, so that what a module depends on comes before it.
class Selector {
 public:
  Selector(const ModuleTree& tree, std::string_view version, bool drop_signatures)
      : tree_(tree), version_(version), drop_signatures_(drop_signatures) {}

  /// `for_whom` is what asked for it, for the error.
  Result<void> add(const std::string& name, std::string_view for_whom, int device) {
    if (tree_.is_builtin(name)) return {};
    if (done_.contains(name)) return also_for(name, device);
    if (!open_.insert(name).second) {
      return errorf(ErrorKind::kInvalid, "the modules depend on each other in a circle through {}", name);
    }
    if (!tree_.has(name)) {
      return errorf(ErrorKind::kUnsupported, "module {}, which {} needs, is neither there nor built in", name,
                    for_whom);
    }
    TRY_ASSIGN(const std::string file, tree_.read(name));
    auto info = inspect_module(file);
    if (!info.ok()) return std::move(info.error()).context("module " + name);
    if (!version_.empty() && !std::string_view(info->vermagic).starts_with(fmt::format("{} ", version_))) {
      return errorf(ErrorKind::kInvalid, "module {} is of another kernel: \"{:.80}\", and the kernel is {}", name,
                    info->vermagic, version_);
    }
    for (const std::string& needed : info->depends) TRY(add(needed, name, device));
    for (const std::string& wished : info->soft) {
      if (tree_.has(wished) && !open_.contains(wished)) TRY(add(wished, name, device));
    }
    auto slim = slim_module(file, drop_signatures_);
    if (!slim.ok()) return std::move(slim.error()).context("module " + name);
    open_.erase(name);
    done_.emplace(name, modules_.size());
    modules_.push_back({name, *std::move(slim)});
    devices_.push_back({device});
    depends_.push_back(std::move(info->depends));
    return {};
  }

  std::vector<GuestModule> take() {
    for (size_t i = 0; i < modules_.size(); ++i) {
      if (!devices_[i].contains(0)) modules_[i].devices = fmt::format("{}", fmt::join(devices_[i], " "));
    }
    return std::move(modules_);
  }

 private:
  /// Another device needs it, and so what it depends on.
  Result<void> also_for(const std::string& name, int device) {
    const auto found = done_.find(name);
    if (found == done_.end() || !devices_[found->second].insert(device).second) return {};
    for (const std::string& needed : depends_[found->second]) TRY(also_for(needed, device));
    return {};
  }

  const ModuleTree& tree_;
  std::string_view version_;
  bool drop_signatures_;
  std::map<std::string, size_t> done_;  // to its place below
  std::set<std::string> open_;
  std::vector<GuestModule> modules_;
  std::vector<std::set<int>> devices_;
  std::vector<std::vector<std::string>> depends_;
};

}  // namespace

std::string module_of_path(std::string_view path) {
  const size_t slash = path.rfind('/');
  std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  for (const std::string_view ending : {".xz", ".gz", ".zst"}) {
    if (name.ends_with(ending)) name.remove_suffix(ending.size());
  }
  if (!name.ends_with(".ko")) return {};
  name.remove_suffix(3);
  const bool plain = !name.empty() && name.size() <= 64 &&
                     name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+") ==
                         std::string_view::npos;
  return plain ? module_name(name) : std::string();
}

std::set<std::string> parse_builtin_list(std::string_view text) {
  std::set<std::string> names;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string name = module_of_path(text.substr(0, end));
    if (!name.empty()) names.insert(std::move(name));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return names;
}

Result<ModuleTree> ModuleTree::open(const std::string& folder) {
  ModuleTree tree;
  if (auto walked = walk(folder, 0, &tree.files_); !walked.ok()) {
    return std::move(walked.error()).context("modules of the kernel");
  }
  const auto list = sys::read_file(folder + "/modules.builtin", 4 << 20);
  if (list.ok()) tree.builtin_ = parse_builtin_list(*list);
  if (tree.files_.empty() && tree.builtin_.empty()) {
    return errorf(ErrorKind::kInvalid, "{} holds neither modules (*.ko) nor a list of those built in (modules.builtin)",
                  folder);
  }
  return tree;
}

Result<std::string> ModuleTree::read(std::string_view name) const {
  const auto found = files_.find(module_name(name));
  if (found == files_.end()) return errorf(ErrorKind::kNotFound, "there is no module {}", name);
  TRY_ASSIGN(std::string file, sys::read_file(found->second, kMostModuleBytes));
  const Compression compression = compression_of(file);
  if (compression == Compression::kNone) return file;
  auto unpacked = decompress(compression, file, kMostModuleBytes);
  if (!unpacked.ok()) return std::move(unpacked.error()).context(found->second);
  return unpacked;
}

std::span<const WantedModule> wanted_modules() { return kWanted; }

Result<Selection> select_modules(const ModuleTree& tree, std::span<const WantedModule> wanted, std::string_view version,
                                 bool drop_signatures) {
  Selection selection;
  Selector selector(tree, version, drop_signatures);
  for (const WantedModule& one : wanted) {
    const std::string name = module_name(one.name);
    if (tree.is_builtin(name)) {
      selection.builtin.push_back(name);
    } else if (!tree.has(name)) {
      if (one.required) {
        return errorf(ErrorKind::kUnsupported,
                      "this kernel has no module {}, neither as a file nor built in: a virtual machine needs it for {}",
                      name, one.what);
      }
      selection.missing.push_back(name);
    } else {
      TRY(selector.add(name, "a virtual machine", one.device));
    }
  }
  selection.modules = selector.take();
  return selection;
}

}  // namespace hull::vm
