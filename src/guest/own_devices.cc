#include "guest/own_devices.h"

#include <dirent.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "base/error_format.h"
#include "isolation/defaults.h"

namespace hull::guest {
namespace {

constexpr size_t kMostDevices = 4096;
constexpr int kMostDepth = 8;

bool allows_everything(const oci::Linux& config) {
  if (!config.resources) return false;
  return std::any_of(config.resources->devices.begin(), config.resources->devices.end(),
                     [](const oci::DeviceCgroup& rule) {
                       return rule.allow && (rule.type.empty() || rule.type == "a") && !rule.major && !rule.minor &&
                              (rule.access.empty() || rule.access == "rwm");
                     });
}

bool is_left_out(int depth, std::string_view name) {
  static constexpr std::array<std::string_view, 6> kFolders = {"pts", "shm", "fd", "mqueue", "console", "ptmx"};
  return depth == 0 && std::find(kFolders.begin(), kFolders.end(), name) != kFolders.end();
}

void walk(const std::string& host, const std::string& inside, int depth, std::vector<oci::Device>* out) {
  DIR* stream = depth > kMostDepth ? nullptr : ::opendir(host.c_str());
  if (stream == nullptr) return;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string name = entry->d_name;
    if (name == "." || name == ".." || is_left_out(depth, name) || out->size() >= kMostDevices) continue;
    struct stat info{};
    const std::string path = fmt::format("{}/{}", host, name);
    if (::lstat(path.c_str(), &info) != 0) continue;
    if (S_ISDIR(info.st_mode)) walk(path, fmt::format("{}/{}", inside, name), depth + 1, out);
    if (!S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode)) continue;
    oci::Device device;
    device.path = fmt::format("{}/{}", inside, name);
    device.type.assign(1, S_ISCHR(info.st_mode) ? 'c' : 'b');
    device.major = ::major(info.st_rdev);
    device.minor = ::minor(info.st_rdev);
    device.file_mode = info.st_mode & 07777;
    device.uid = info.st_uid;
    device.gid = info.st_gid;
    out->push_back(std::move(device));
  }
  ::closedir(stream);
}

}  // namespace

void add_own_devices(const std::string& folder, oci::Spec* spec) {
  if (!spec->linux_config || !allows_everything(*spec->linux_config)) return;
  std::vector<oci::Device> found;
  walk(folder, "/dev", 0, &found);
  std::vector<oci::Device>& devices = spec->linux_config->devices;
  for (oci::Device& device : found) {
    const auto same = [&](const auto& other) { return device.path == other.path; };
    if (std::any_of(devices.begin(), devices.end(), same) ||
        std::any_of(isolation::kDefaultDevices.begin(), isolation::kDefaultDevices.end(), same)) {
      continue;
    }
    devices.push_back(std::move(device));
  }
}

}  // namespace hull::guest
