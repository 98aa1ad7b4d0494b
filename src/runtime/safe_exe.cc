#include "runtime/safe_exe.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/error_format.h"
#include "sys/file.h"
#include "sys/mount_api.h"

namespace hull::runtime {
namespace {

constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

Result<UniqueFd> read_only_copy(int exe) {
  TRY_ASSIGN(UniqueFd tree, sys::clone_mount(exe, "", false));
  TRY(sys::set_mount_attributes(tree.get(), MOUNT_ATTR_RDONLY, 0, MS_PRIVATE, false));
  return tree;
}

Result<UniqueFd> sealed_copy(int exe) {
  UniqueFd copy(::memfd_create("hull-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!copy) return errno_error("copy the program");
  struct stat info{};
  if (::fstat(exe, &info) != 0) return errno_error("copy the program");
  for (off_t left = info.st_size; left > 0;) {
    const ssize_t sent = ::sendfile(copy.get(), exe, nullptr, static_cast<size_t>(left));
    if (sent <= 0) return errno_error("copy the program");
    left -= sent;
  }
  if (::fcntl(copy.get(), F_ADD_SEALS, kSeals) != 0) return errno_error("seal the program");
  return copy;
}

}  // namespace

Result<void> ensure_safe_exe(char** argv) {
  TRY_ASSIGN(const UniqueFd exe, sys::open("/proc/self/exe", O_RDONLY));
  struct statfs file_system{};
  if (::fstatfs(exe.get(), &file_system) == 0 && (static_cast<unsigned long>(file_system.f_flags) & ST_RDONLY) != 0) {
    return {};
  }
  if (::fcntl(exe.get(), F_GET_SEALS) == kSeals) return {};
  auto safe = read_only_copy(exe.get());
  if (!safe.ok()) safe = sealed_copy(exe.get());
  if (!safe.ok()) return std::move(safe).error();
  ::syscall(SYS_execveat, safe->get(), "", argv, environ, AT_EMPTY_PATH);
  return errno_error("run from a protected copy of the program");
}

}  // namespace hull::runtime
