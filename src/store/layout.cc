#include "store/layout.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <memory>

#include "base/error_format.h"

namespace hull::store {

std::string boot_id() {
  auto text = sys::read_file("/proc/sys/kernel/random/boot_id", 64);
  return text.ok() ? std::move(text).value().substr(0, 36) : std::string();
}

Result<std::vector<std::string>> folder_entries(const std::string& path) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(path.c_str()), ::closedir);
  if (stream == nullptr) {
    if (errno == ENOENT) return names;
    return errnof("read folder {}", path);
  }
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

Result<LiveLeases> live_leases(const Layout& layout) {
  LiveLeases live;
  TRY_ASSIGN(const std::vector<std::string> names, folder_entries(layout.leases()));
  for (const std::string& name : names) {
    const std::string path = layout.leases() + "/" + name;
    auto fd = sys::open(path, O_RDONLY | O_NOFOLLOW);
    if (!fd.ok()) continue;
    if (::flock(fd->get(), LOCK_SH | LOCK_NB) == 0) {
      // Nobody holds it: its process has ended, by whatever way.
      ::unlink(path.c_str());
      continue;
    }
    live.names.insert(name);
    TRY_ASSIGN(const std::string text, sys::read_all(fd->get()));
    size_t begin = 0;
    while (begin < text.size()) {
      size_t end = text.find('\n', begin);
      if (end == std::string::npos) end = text.size();
      live.digests.insert(text.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  return live;
}

namespace {

constexpr const char* kFileForms[] = {".erofs", ".tarsplit"};

uint64_t tree_size(int dir_fd, const std::string& name, int depth) {
  struct stat info{};
  if (::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return 0;
  uint64_t total = static_cast<uint64_t>(info.st_blocks) * 512;
  if (!S_ISDIR(info.st_mode) || depth > 1024) return total;
  auto fd = sys::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd.ok()) return total;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd->get()), ::closedir);
  if (stream == nullptr) return total;
  const int stream_fd = fd->release();
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string child = entry->d_name;
    if (child != "." && child != "..") total += tree_size(stream_fd, child, depth + 1);
  }
  return total;
}

}  // namespace

uint64_t layer_files_size(int layers_fd, const Digest& diff_id) {
  const std::string hex(diff_id.hex());
  uint64_t total = 0;
  for (const char* form : kFileForms) total += tree_size(layers_fd, hex + form, 0);
  return total + tree_size(layers_fd, hex, 0);
}

bool layer_files_exist(int layers_fd, const Digest& diff_id) {
  const std::string hex(diff_id.hex());
  struct stat info{};
  if (::fstatat(layers_fd, (hex + ".erofs").c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
    return S_ISREG(info.st_mode) && info.st_size > 0;
  }
  return ::fstatat(layers_fd, hex.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
}

Result<uint64_t> remove_layer_files(int layers_fd, const Digest& diff_id) {
  const std::string hex(diff_id.hex());
  const uint64_t size = layer_files_size(layers_fd, diff_id);
  for (const char* form : kFileForms) {
    if (::unlinkat(layers_fd, (hex + form).c_str(), 0) != 0 && errno != ENOENT) {
      return errnof("remove layer {}{}", hex.substr(0, 12), form);
    }
  }
  TRY(sys::remove_tree_at(layers_fd, hex).context("remove layer " + hex.substr(0, 12)));
  return size;
}

}  // namespace hull::store
