#include "vm/kernel/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/kernel/bzimage.h"
#include "vm/kernel/elf.h"
#include "vm/kernel/hash.h"
#include "vm/kernel_store.h"

namespace hull::vm {
namespace {

constexpr time_t kInUseSeconds = 3600;
constexpr size_t kNameLength = 64;

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

/// True when the kernel is there; it counts as used now.
bool find(const std::string& path) { return ::utimensat(AT_FDCWD, path.c_str(), nullptr, AT_SYMLINK_NOFOLLOW) == 0; }

/// Those that were not used for the longest time go, until no more than kMostUnpackedKernels are left.
void remove_old(const std::string& folder) {
  const std::unique_ptr<DIR, CloseFolder> stream(::opendir(folder.c_str()));
  if (!stream) return;
  std::vector<std::pair<time_t, std::string>> kernels;
  while (const dirent* entry = ::readdir(stream.get())) {
    struct stat info{};
    const std::string name = entry->d_name;
    if (name.size() != kNameLength || ::fstatat(::dirfd(stream.get()), name.c_str(), &info, 0) != 0) continue;
    kernels.emplace_back(info.st_mtim.tv_sec, name);
  }
  std::sort(kernels.rbegin(), kernels.rend());
  const time_t now = ::time(nullptr);
  for (size_t i = kMostUnpackedKernels; i < kernels.size(); ++i) {
    if (now - kernels[i].first > kInUseSeconds) ::unlinkat(::dirfd(stream.get()), kernels[i].second.c_str(), 0);
  }
}

}  // namespace

Result<std::string> unpacked_kernels_folder(const std::string& data_root) {
  constexpr const char* kFolder = "/unpacked-kernels";
  if (!data_root.empty()) return data_root + kFolder;
  if (std::getenv("HULL_ROOT") != nullptr || ::geteuid() == 0) return default_data_root() + kFolder;
  const auto absolute = [](const char* path) { return path != nullptr && *path == '/'; };
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); absolute(cache)) return std::string(cache) + "/hull" + kFolder;
  if (const char* home = std::getenv("HOME"); absolute(home)) return std::string(home) + "/.cache/hull" + kFolder;
  return Error(ErrorKind::kInvalid, "there is no folder for unpacked kernels: set HULL_ROOT or HOME");
}

Result<std::string> unpack_kernel(int fd, const std::string& folder) {
  TRY_ASSIGN(const std::string file, sys::read_all(fd, kMostBzImageBytes));
  std::string path = folder + "/" + sha256_hex(file);
  if (find(path)) return path;
  TRY(sys::make_dirs(folder));
  // One at a time: unpacking takes hundreds of megabytes.
  TRY_ASSIGN(const auto lock, sys::FileLock::acquire(folder + "/.lock", true, true));
  if (find(path)) return path;
  TRY_ASSIGN(std::string vmlinux, unpack_vmlinux(file));
  TRY_ASSIGN(const VmlinuxInfo info, inspect_vmlinux(vmlinux));
  vmlinux.resize(info.end);
  TRY(sys::replace_file(path, vmlinux));
  remove_old(folder);
  return path;
}

}  // namespace hull::vm
