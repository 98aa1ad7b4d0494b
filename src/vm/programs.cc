// Where Hull's own programs and those of others are.
#include <unistd.h>

#include <array>
#include <cstdlib>

#include "sys/file.h"
#include "vm/hypervisor.h"

namespace hull::vm {
namespace {

std::string own_folder() {
  std::array<char, 4096> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  const std::string_view whole(path.data(), length > 0 ? static_cast<size_t>(length) : 0);
  const size_t slash = whole.rfind('/');
  return slash == std::string_view::npos ? std::string("/usr/bin") : std::string(whole.substr(0, slash));
}

}  // namespace

Programs find_programs() {
  // Installed: <prefix>/bin and <prefix>/libexec/hull; in the build tree everything is in one folder.
  const char* chosen = std::getenv("HULL_LIBEXEC");
  const std::string here = own_folder();
  std::string folder = here;
  if (chosen != nullptr && *chosen != '\0') {
    folder = chosen;
  } else if (!sys::exists(here + "/hull-vmm")) {
    folder = here + "/../libexec/hull";
  }
  Programs programs;
  programs.vmm = folder + "/hull-vmm";
  programs.guest = folder + "/hull-guest";
  programs.kernel = folder + "/hull-kernel";
  for (const char* path :
       {"/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64", "/usr/libexec/qemu-kvm"}) {
    if (::access(path, X_OK) == 0) {
      programs.qemu = path;
      break;
    }
  }
  return programs;
}

}  // namespace hull::vm
