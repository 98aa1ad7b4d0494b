#include "vm/kernel/install.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <memory>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/file.h"
#include "vm/kernel/bzimage.h"
#include "vm/kernel/elf.h"
#include "vm/kernel/hash.h"
#include "vm/kernel/initramfs.h"
#include "vm/kernel/module_tree.h"
#include "vm/kernel/package.h"
#include "vm/kernel/source.h"

namespace hull::vm {
namespace {

constexpr size_t kMostGuest = 64 << 20;
constexpr int kCompressionLevel = 19;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

/// hull-guest with what tells it apart.
struct Guest {
  std::string content, sha256;
  int64_t mtime_ns = 0;
};
Result<Guest> read_guest(const std::string& path) {
  auto file_or = sys::open(path, O_RDONLY);
  if (!file_or.ok()) {
    return errorf(file_or.error().kind(), "{}: install Hull again, or set HULL_LIBEXEC", file_or.error().message());
  }
  const UniqueFd file = *std::move(file_or);
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return errnof("{}", path);
  Guest guest;
  TRY_ASSIGN(guest.content, sys::read_all(file.get(), kMostGuest));
  if (!guest.content.starts_with("\x7f"
                                 "ELF"))
    return errorf(ErrorKind::kCorrupt, "{} is not a program", path);
  guest.sha256 = sha256_hex(guest.content);
  guest.mtime_ns = int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec;
  return guest;
}

/// Writes the initramfs into the kernel's folder and tells the manifest about it. Its name holds the guest's hash, so
/// that the manifest's replacement is what switches from one to the other.
Result<void> write_initramfs(const std::string& folder, const Guest& guest, const std::vector<GuestModule>& modules,
                             GuestKernel* kernel) {
  const std::string archive = make_initramfs(guest.content, modules);
  TRY_ASSIGN(const std::string compressed, compress_zstd(archive, kCompressionLevel));
  const std::string name = "initramfs-" + guest.sha256.substr(0, 16);
  TRY(sys::replace_file(folder + "/" + name, archive));
  kernel->initramfs = folder + "/" + name;
  kernel->initramfs_bytes = archive.size();
  kernel->initramfs_compressed_bytes = compressed.size();
  kernel->guest_sha256 = guest.sha256;
  kernel->guest_bytes = guest.content.size();
  kernel->guest_mtime_ns = guest.mtime_ns;
  return {};
}

/// True when the build's configuration says that the kernel loads no module without a valid signature.
bool wants_signatures(const std::string& config) {
  // Nothing known: signatures stay.
  const auto text = config.empty() ? Result<std::string>(std::string()) : sys::read_file(config, 4 << 20);
  if (!text.ok() || text->empty()) return true;
  return text->find("\nCONFIG_MODULE_SIG_FORCE=y") != std::string::npos;
}

/// Removes a folder unless told that it shall stay.
class TemporaryFolder {
 public:
  static Result<TemporaryFolder> make(const std::string& below) {
    std::string path = below + "/.new-XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return errnof("make a folder in {}", below);
    return TemporaryFolder(std::move(path));
  }
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    if (!path_.empty()) ignore_result(sys::remove_tree(path_));
  }
  const std::string& path() const { return path_; }
  void keep() { path_.clear(); }

 private:
  std::string path_;
};

/// What an installation that was cut off left: the store's lock is held, so nobody is at it.
void sweep(const std::string& folder) {
  const std::unique_ptr<DIR, CloseFolder> stream(::opendir(folder.c_str()));
  if (!stream) return;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name.starts_with(".new-") || name.starts_with(".old-")) {
      ignore_result(sys::remove_tree(fmt::format("{}/{}", folder, name)));
    }
  }
}

Result<void> sync_folder(const std::string& path) {
  TRY_ASSIGN(const UniqueFd fd, sys::open(path, O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0) return errnof("sync {}", path);
  return {};
}

/// The finished folder takes its place in one step; one that was there goes.
Result<void> put_in_place(const std::string& ready, const std::string& place) {
  if (::rename(ready.c_str(), place.c_str()) == 0) return {};
  if (errno != EEXIST && errno != ENOTEMPTY) return errnof("rename {} to {}", ready, place);
  constexpr unsigned kExchange = 2;  // RENAME_EXCHANGE
  if (::syscall(SYS_renameat2, AT_FDCWD, ready.c_str(), AT_FDCWD, place.c_str(), kExchange) != 0) {
    return errnof("put {} into place", place);
  }
  return sys::remove_tree(ready);
}

Result<std::vector<GuestModule>> stored_modules(const GuestKernel& kernel) {
  std::vector<GuestModule> modules;
  for (size_t i = 0; i < kernel.modules.size(); ++i) {
    const std::string& name = kernel.modules[i];
    const std::string& devices = kernel.module_devices[i];
    if (devices.find_first_not_of("0123456789 ") != std::string::npos) {
      return errorf(ErrorKind::kCorrupt, "devices \"{}\" in the manifest", devices);
    }
    if (module_of_path(name + ".ko") != name) return errorf(ErrorKind::kCorrupt, "module \"{}\" in the manifest", name);
    TRY_ASSIGN(std::string content,
               sys::read_file(fmt::format("{}/modules/{}.ko", kernel.folder, name), kMostModuleBytes));
    modules.push_back({name, std::move(content), devices});
  }
  return modules;
}

/// vmlinux and what the kernel says of itself, into `folder`.
Result<VmlinuxInfo> write_vmlinux(const KernelSource& source, const std::string& folder, GuestKernel* kernel) {
  TRY_ASSIGN(const std::string file, sys::read_file(source.kernel, kMostVmlinuxBytes));
  TRY_ASSIGN(std::string vmlinux, unpack_vmlinux(file));
  TRY_ASSIGN(VmlinuxInfo info, inspect_vmlinux(vmlinux));
  vmlinux.resize(info.end);
  TRY(sys::replace_file(folder + "/vmlinux", vmlinux));
  kernel->vmlinux_bytes = vmlinux.size();
  if (info.version.empty() && is_bzimage(file)) {
    TRY_ASSIGN(const BzImage image, parse_bzimage(file));
    info.version = image.version;
  }
  return info;
}

}  // namespace

Result<GuestKernel> install_kernel(const InstallRequest& request) {
  const KernelStore store(request.data_root);
  const std::string folder = store.folder();
  TRY_ASSIGN(const Guest guest, read_guest(request.guest));
  TRY(sys::make_dirs(folder));
  TRY_ASSIGN(const auto lock, sys::FileLock::acquire(folder + "/.lock", true, true));
  sweep(folder);
  TRY_ASSIGN(const TemporaryFolder scratch, TemporaryFolder::make(folder));
  TRY_ASSIGN(TemporaryFolder made, TemporaryFolder::make(folder));
  TRY_ASSIGN(const KernelSource source,
             find_kernel_source(request.source, request.modules, scratch.path(), request.tell));
  GuestKernel kernel;
  auto info = write_vmlinux(source, made.path(), &kernel);
  if (!info.ok()) return std::move(info.error()).context(source.label);
  kernel.name = info->version.empty() ? source.version : info->version;
  if (!is_kernel_version(kernel.name) || kernel.name == "default") {
    return errorf(ErrorKind::kInvalid, "{}: the kernel does not say which version it is", source.label);
  }
  if (!source.version.empty() && source.version != kernel.name) {
    return errorf(ErrorKind::kInvalid, "{}: the kernel says that it is {}, its file's name {}", source.label,
                  kernel.name, source.version);
  }
  TRY_ASSIGN(const ModuleTree tree, ModuleTree::open(source.modules));
  auto selection = select_modules(tree, wanted_modules(), kernel.name, !wants_signatures(source.config));
  if (!selection.ok()) return std::move(selection.error()).context(source.label);
  TRY(sys::make_dirs(made.path() + "/modules"));
  for (const GuestModule& module : selection->modules) {
    TRY(sys::replace_file(fmt::format("{}/modules/{}.ko", made.path(), module.name), module.content, 0600, false));
    kernel.modules.push_back(module.name);
    kernel.module_devices.push_back(module.devices);
  }
  TRY(write_initramfs(made.path(), guest, selection->modules, &kernel));
  kernel.source = source.label;
  kernel.installed = format_rfc3339(std::chrono::system_clock::now());
  TRY(sys::replace_file(made.path() + "/manifest.json", manifest_json(kernel)));
  TRY(sync_folder(made.path() + "/modules"));
  TRY(put_in_place(made.path(), folder + "/" + kernel.name));
  made.keep();
  TRY(sync_folder(folder));
  const bool first = !sys::exists(folder + "/default");
  if (request.make_default || first) TRY(store.use(kernel.name));
  return store.find(kernel.name);
}

Result<bool> refresh_kernel(const std::string& data_root, std::string_view name, const std::string& guest_path) {
  const KernelStore store(data_root);
  TRY_ASSIGN(const Guest guest, read_guest(guest_path));
  TRY_ASSIGN(const auto lock, sys::FileLock::acquire(store.folder() + "/.lock", true, true));
  TRY_ASSIGN(GuestKernel kernel, store.find(name));
  const bool same = kernel.guest_sha256 == guest.sha256;
  if (same && kernel.guest_mtime_ns == guest.mtime_ns) return false;  // another process was quicker
  const std::string before = kernel.initramfs;
  if (same) {
    kernel.guest_mtime_ns = guest.mtime_ns;
  } else {
    TRY_ASSIGN(const auto modules, stored_modules(kernel));
    TRY(write_initramfs(kernel.folder, guest, modules, &kernel));
  }
  TRY(sys::replace_file(kernel.folder + "/manifest.json", manifest_json(kernel)));
  // The one before it stays until the next change: a machine may be about to open it.
  const std::unique_ptr<DIR, CloseFolder> stream(::opendir(kernel.folder.c_str()));
  while (const dirent* entry = stream ? ::readdir(stream.get()) : nullptr) {
    const std::string path = kernel.folder + "/" + entry->d_name;
    if (std::string_view(entry->d_name).starts_with("initramfs-") && path != before && path != kernel.initramfs) {
      ::unlink(path.c_str());
    }
  }
  return !same;
}

}  // namespace hull::vm
