#include "vm/kernel/source.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <memory>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/kernel/package.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

constexpr std::string_view kMetaPackage = "linux-image-cloud-amd64";
constexpr std::array<const char*, 2> kPackageFolders = {"/usr/share/hull", "/var/cache/apt/archives"};

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

bool is_kernel_package(std::string_view name) {
  return name.starts_with("linux-image-") && name.find("-cloud-amd64_") != std::string_view::npos &&
         name.ends_with("_amd64.deb") && name.size() > 12 && name[12] >= '0' && name[12] <= '9';
}

std::string base_name(std::string_view path) { return std::string(path.substr(path.rfind('/') + 1)); }

Result<KernelSource> from_package(const std::string& deb, const std::string& scratch) {
  const std::string folder = scratch + "/package";
  TRY(sys::make_dirs(folder));
  TRY_ASSIGN(KernelPackage package, unpack_kernel_package(deb, folder));
  return KernelSource{std::move(package.version), std::move(package.kernel), std::move(package.modules),
                      std::move(package.config), base_name(deb)};
}

Result<KernelSource> from_host() {
  utsname name{};
  ::uname(&name);
  const std::string version = name.release;
  KernelSource source{version, {}, "/lib/modules/" + version, "/boot/config-" + version, "host"};
  for (const std::string& path :
       {"/boot/vmlinuz-" + version, source.modules + "/vmlinuz", "/boot/vmlinux-" + version}) {
    if (::access(path.c_str(), R_OK) == 0) {
      source.kernel = path;
      break;
    }
  }
  if (source.kernel.empty() || !sys::exists(source.modules)) {
    return errorf(
        ErrorKind::kNotFound,
        "this machine's own kernel {} can't be a guest kernel: {} is missing. 'hull vm kernel install' without "
        "\"host\" gets Debian's",
        version, source.kernel.empty() ? "/boot/vmlinuz-" + version : source.modules);
  }
  if (!sys::exists(source.config)) source.config.clear();
  return source;
}

Result<KernelSource> downloaded(const std::string& scratch, const std::function<void(std::string_view)>& tell) {
  const bool apt = ::access("/usr/bin/apt-get", X_OK) == 0 && ::access("/usr/bin/apt-cache", X_OK) == 0;
  const auto advice =
      "give 'hull vm kernel install' the path of a package linux-image-VERSION-cloud-amd64 of Debian, or of a kernel "
      "with --modules FOLDER, or \"host\" for this machine's own kernel";
  if (!apt) {
    return errorf(ErrorKind::kUnavailable, "there is no kernel package in {} or {}, and no apt-get to download one: {}",
                  kPackageFolders[0], kPackageFolders[1], advice);
  }
  TRY_ASSIGN(const std::string depends, run_program({"/usr/bin/apt-cache", "depends", std::string(kMetaPackage)}));
  const std::string package = kernel_package_of(depends);
  if (package.empty()) {
    return errorf(ErrorKind::kUnavailable, "apt knows no package {} ('apt-get update' may help): {}", kMetaPackage,
                  advice);
  }
  if (tell)
    tell(fmt::format("downloading Debian's package {} with apt-get (it is not installed on this machine)", package));
  const std::string folder = scratch + "/download";
  TRY(sys::make_dirs(folder));
  // apt-get puts what it downloads into the working folder.
  const auto done =
      run_program({"/bin/sh", "-c", "cd \"$1\" && exec apt-get -q -o APT::Sandbox::User=root download \"$2\"", "sh",
                   folder, package});
  const std::string deb = newest_kernel_package(folder);
  if (!done.ok() || deb.empty()) {
    return errorf(ErrorKind::kUnavailable, "download {}: {}; {}", package, done.ok() ? *done : done.error().message(),
                  advice);
  }
  return from_package(deb, scratch);
}

}  // namespace

std::string newest_kernel_package(const std::string& folder) {
  const std::unique_ptr<DIR, CloseFolder> stream(::opendir(folder.c_str()));
  if (!stream) return {};
  std::string newest;
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string name = entry->d_name;
    if (is_kernel_package(name) && ::strverscmp(name.c_str(), newest.c_str()) > 0) newest = name;
  }
  return newest.empty() ? std::string() : folder + "/" + newest;
}

std::string kernel_package_of(std::string_view depends) {
  constexpr std::string_view kDepends = "Depends: ";
  for (size_t at = depends.find(kDepends); at != std::string_view::npos; at = depends.find(kDepends, at + 1)) {
    const std::string_view rest = depends.substr(at + kDepends.size());
    const std::string_view name = rest.substr(0, std::min(rest.find_first_of(" \n"), rest.size()));
    if (is_kernel_package(fmt::format("{}_0_amd64.deb", name)) && is_kernel_version(name)) return std::string(name);
  }
  return {};
}

Result<KernelSource> find_kernel_source(const std::string& source, const std::string& modules,
                                        const std::string& scratch, const std::function<void(std::string_view)>& tell) {
  if (source == "host") return from_host();
  if (source.empty()) {
    if (!modules.empty()) return Error(ErrorKind::kInvalid, "--modules goes with the path of a kernel");
    for (const char* folder : kPackageFolders) {
      const std::string deb = newest_kernel_package(folder);
      if (deb.empty()) continue;
      if (tell) tell("taking the package " + deb);
      return from_package(deb, scratch);
    }
    return downloaded(scratch, tell);
  }
  struct stat info{};
  if (::stat(source.c_str(), &info) != 0) return errnof("the kernel or package {}", source);
  if (!S_ISREG(info.st_mode)) {
    return errorf(ErrorKind::kInvalid, "{} is not a file: expected a kernel package (.deb) or a kernel", source);
  }
  TRY_ASSIGN(const UniqueFd file, sys::open(source, O_RDONLY));
  std::array<char, 8> magic{};
  const ssize_t got = ::pread(file.get(), magic.data(), magic.size(), 0);
  if (std::string_view(magic.data(), got > 0 ? static_cast<size_t>(got) : 0) == "!<arch>\n") {
    if (!modules.empty())
      return Error(ErrorKind::kInvalid, "--modules goes with a kernel; a package has its own modules");
    return from_package(source, scratch);
  }
  if (modules.empty()) {
    return errorf(ErrorKind::kInvalid,
                  "{} is a kernel without its modules: name their folder with --modules (/lib/modules/VERSION; for a "
                  "kernel that has everything built in, a folder with its modules.builtin)",
                  source);
  }
  return KernelSource{{}, source, modules, {}, source};
}

}  // namespace hull::vm
