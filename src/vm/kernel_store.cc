#include "vm/kernel_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"
#include "sys/file.h"
#include "vm/hypervisor.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

constexpr size_t kMostManifest = 256 << 10;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

/// Names of the folders, without those that begin with a dot (temporary ones).
std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, CloseFolder> stream(::opendir(folder.c_str()));
  if (!stream) return names;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    struct stat info{};
    if (name.starts_with('.') || ::fstatat(::dirfd(stream.get()), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
      continue;
    }
    if (S_ISDIR(info.st_mode)) names.push_back(name);
  }
  // 6.1.0-9 is older than 6.1.0-56.
  std::sort(names.begin(), names.end(),
            [](const std::string& a, const std::string& b) { return ::strverscmp(a.c_str(), b.c_str()) < 0; });
  return names;
}

std::string link_target(const std::string& path) {
  std::array<char, 256> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return {target.data(), length > 0 ? static_cast<size_t>(length) : 0};
}

Error nothing_installed() {
  return Error(ErrorKind::kNotFound,
               "no guest kernel is installed, and a virtual machine needs one: 'hull vm kernel install' gets Debian's "
               "(or takes a package or kernel that you name)");
}

Error damaged(const std::string& name, std::string_view what) {
  return errorf(ErrorKind::kCorrupt,
                "the guest kernel {} is damaged ({}): 'hull vm kernel rm {}' and 'hull vm kernel install' make it anew",
                name, what, name);
}

/// The size of a regular file, or -1.
int64_t file_size(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) ? info.st_size : -1;
}

Result<void> set_default(const std::string& folder, const std::string& name) {
  const std::string temporary = folder + "/.default." + std::to_string(::getpid());
  ::unlink(temporary.c_str());
  if (::symlink(name.c_str(), temporary.c_str()) != 0) return errnof("make {}", temporary);
  if (::rename(temporary.c_str(), (folder + "/default").c_str()) != 0) return errnof("make {}/default", folder);
  return {};
}

}  // namespace

std::string default_data_root() {
  const char* chosen = std::getenv("HULL_ROOT");
  return chosen != nullptr && *chosen != '\0' ? chosen : "/var/lib/hull";
}

std::string manifest_json(const GuestKernel& kernel) {
  JsonWriter w(1);
  w.object([&] {
    w.member("source", kernel.source);
    w.member("installed", kernel.installed);
    w.member("vmlinux_bytes", kernel.vmlinux_bytes);
    w.member("initramfs", kernel.initramfs.substr(kernel.initramfs.rfind('/') + 1));
    w.member("initramfs_bytes", kernel.initramfs_bytes);
    w.member("initramfs_compressed_bytes", kernel.initramfs_compressed_bytes);
    w.member("guest_sha256", kernel.guest_sha256);
    w.member("guest_bytes", kernel.guest_bytes);
    w.member("guest_mtime_ns", kernel.guest_mtime_ns);
    w.member("modules", kernel.modules);
    w.member("module_devices", kernel.module_devices);
  });
  return std::move(w).take() + "\n";
}

Result<GuestKernel> parse_manifest(std::string_view text, const std::string& folder, const std::string& name) {
  GuestKernel kernel;
  std::string initramfs;
  JsonReader r(text);
  r.object([&](std::string_view key) {
    if (key == "source") return r.value(kernel.source);
    if (key == "installed") return r.value(kernel.installed);
    if (key == "vmlinux_bytes") return r.value(kernel.vmlinux_bytes);
    if (key == "initramfs") return r.value(initramfs);
    if (key == "initramfs_bytes") return r.value(kernel.initramfs_bytes);
    if (key == "initramfs_compressed_bytes") return r.value(kernel.initramfs_compressed_bytes);
    if (key == "guest_sha256") return r.value(kernel.guest_sha256);
    if (key == "guest_bytes") return r.value(kernel.guest_bytes);
    if (key == "guest_mtime_ns") return r.value(kernel.guest_mtime_ns);
    if (key == "modules") return r.value(kernel.modules);
    if (key == "module_devices") return r.value(kernel.module_devices);
    return false;
  });
  TRY(r.finish());
  if (initramfs.empty() || initramfs.find('/') != std::string::npos || initramfs.starts_with('.')) {
    return Error(ErrorKind::kCorrupt, "initramfs: expected a file name");
  }
  kernel.module_devices.resize(kernel.modules.size());
  kernel.name = name;
  kernel.folder = folder + "/" + name;
  kernel.vmlinux = kernel.folder + "/vmlinux";
  kernel.initramfs = kernel.folder + "/" + initramfs;
  return kernel;
}

Result<GuestKernel> KernelStore::read(const std::string& name, const std::string& default_name) const {
  const auto text = sys::read_file(fmt::format("{}/{}/manifest.json", folder(), name), kMostManifest);
  if (!text.ok()) return damaged(name, text.error().message());
  auto kernel = parse_manifest(*text, folder(), name);
  if (!kernel.ok()) return damaged(name, "manifest.json: " + kernel.error().message());
  if (file_size(kernel->vmlinux) != static_cast<int64_t>(kernel->vmlinux_bytes)) {
    return damaged(name, "vmlinux has another size");
  }
  if (file_size(kernel->initramfs) != static_cast<int64_t>(kernel->initramfs_bytes)) {
    return damaged(name, "the initramfs has another size");
  }
  kernel->is_default = name == default_name;
  return kernel;
}

Result<std::vector<GuestKernel>> KernelStore::list(std::vector<std::string>* damaged_ones) const {
  std::vector<GuestKernel> kernels;
  const std::string default_name = link_target(folder() + "/default");
  for (const std::string& name : names_in(folder())) {
    auto kernel = read(name, default_name);
    if (kernel.ok()) {
      kernels.push_back(*std::move(kernel));
    } else if (damaged_ones != nullptr) {
      damaged_ones->push_back(name);
    }
  }
  std::stable_sort(kernels.begin(), kernels.end(),
                   [](const GuestKernel& a, const GuestKernel& b) { return a.is_default && !b.is_default; });
  return kernels;
}

Result<GuestKernel> KernelStore::find(std::string_view name) const {
  const std::string default_name = link_target(folder() + "/default");
  std::string wanted(name.empty() || name == "default" ? std::string_view(default_name) : name);
  const bool plain = !wanted.empty() && !wanted.starts_with('.') && wanted.find('/') == std::string::npos;
  if (plain && sys::exists(folder() + "/" + wanted)) return read(wanted, default_name);
  const std::vector<std::string> known = names_in(folder());
  if (known.empty()) return nothing_installed();
  if (name.empty() || name == "default") {
    return errorf(ErrorKind::kNotFound,
                  "no guest kernel is the default one: 'hull vm kernel use NAME' chooses it (installed: {})",
                  fmt::join(known, ", "));
  }
  return errorf(ErrorKind::kNotFound,
                "there is no guest kernel \"{}\" (installed: {}): 'hull vm kernel install' adds one", name,
                fmt::join(known, ", "));
}

Result<GuestKernel> KernelStore::ready(std::string_view name) const {
  TRY_ASSIGN(GuestKernel kernel, find(name));
  const Programs programs = find_programs();
  struct stat info{};
  if (::stat(programs.guest.c_str(), &info) != 0) {
    return errnof("{} is missing: install Hull again, or set HULL_LIBEXEC", programs.guest);
  }
  const int64_t mtime_ns = int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec;
  if (static_cast<uint64_t>(info.st_size) == kernel.guest_bytes && mtime_ns == kernel.guest_mtime_ns) return kernel;
  const auto done = run_program({programs.kernel, "refresh", "--root", data_root_, kernel.name});
  if (!done.ok()) return Error(done.error()).context("make the initramfs with the new hull-guest");
  return find(kernel.name);
}

Result<void> KernelStore::use(std::string_view name) const {
  TRY_ASSIGN(const GuestKernel kernel, find(name));
  return set_default(folder(), kernel.name);
}

Result<void> KernelStore::remove(std::string_view name) const {
  const std::string default_name = link_target(folder() + "/default");
  const std::string wanted(name == "default" ? std::string_view(default_name) : name);
  std::vector<std::string> known = names_in(folder());
  if (std::find(known.begin(), known.end(), wanted) == known.end()) {
    // A damaged one can be removed too, so this does not go through find().
    if (known.empty()) return nothing_installed();
    return errorf(ErrorKind::kNotFound, "there is no guest kernel \"{}\" (installed: {})", name,
                  fmt::join(known, ", "));
  }
  // Out of sight in one step; what a crash leaves after it is a temporary folder, which the next installation removes.
  const std::string gone = fmt::format("{}/.old-{}", folder(), wanted);
  TRY(sys::remove_tree(gone));
  if (::rename(fmt::format("{}/{}", folder(), wanted).c_str(), gone.c_str()) != 0) return errnof("remove {}", wanted);
  if (wanted == default_name) {
    known = names_in(folder());
    if (known.empty()) {
      ::unlink((folder() + "/default").c_str());
    } else {
      TRY(set_default(folder(), known.back()));
    }
  }
  return sys::remove_tree(gone);
}

}  // namespace hull::vm
