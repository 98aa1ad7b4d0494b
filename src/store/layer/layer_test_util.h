#pragma once
// A private store for tests of layers, and what a mounted layer looks like as lines of text.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "base/error_format.h"
#include "store/layer/hasher.h"
#include "store/layer/layer.h"
#include "store/layer/tar_rebuild.h"
#include "store/layer_mount.h"
#include "sys/file.h"

namespace hull::store::test {

/// A folder of its own under /tmp with <data>/layers and <run>/layers; unmounts and removes all at the end.
class ScratchStore {
 public:
  ScratchStore() {
    char name[] = "/tmp/hull-layer-test-XXXXXX";
    top = ::mkdtemp(name);
    places = {top + "/data", top + "/run"};
    ::mkdir(places.layers.c_str(), 0700);
    layers_fd = sys::open(places.layers, O_RDONLY | O_DIRECTORY).value_or(UniqueFd());
  }
  ~ScratchStore() {
    ignore_result(unmount_unused(places, {}));
    ignore_result(sys::remove_tree(top));
  }
  ScratchStore(const ScratchStore&) = delete;
  ScratchStore& operator=(const ScratchStore&) = delete;

  Result<LayerInfo> convert(std::string_view blob, const LayerOptions& options) const {
    MemorySource source(blob);
    TRY_ASSIGN(auto staged, convert_layer(source, layers_fd.get(), "staged", options));
    TRY(staged.commit());
    return staged.info();
  }
  Result<std::string> mounted(const Digest& diff_id) const {
    TRY_ASSIGN(const auto paths, ensure_mounted(places, std::span(&diff_id, 1)));
    return paths.at(0);
  }
  /// The tar stream of a layer as rebuilt from what the store has.
  Result<std::string> rebuilt(const Digest& diff_id) const {
    TRY_ASSIGN(const std::string path, mounted(diff_id));
    TRY_ASSIGN(auto root, sys::Root::open(path));
    TRY_ASSIGN(const auto source, open_layer_tar(layers_fd.get(), diff_id, std::move(root)));
    std::string out, piece(70'001, '\0');
    for (;;) {
      TRY_ASSIGN(const size_t got, source->read(std::as_writable_bytes(std::span(piece))));
      if (got == 0) return out;
      out.append(piece, 0, got);
    }
  }
  size_t file_count() const {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(places.layers)) ++count;
    return count;
  }

  std::string top;
  LayerPlaces places;
  UniqueFd layers_fd;
};

inline std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

inline std::string hash_of_file(const std::string& path) {
  auto hasher = Hasher::create();
  auto fd = sys::open(path, O_RDONLY);
  if (!fd.ok()) return "unreadable";
  static std::vector<std::byte> piece(1 << 20);
  FdSource source(fd->get());
  for (;;) {
    auto got = source.read(piece);
    if (!got.ok()) return "unreadable";
    if (*got == 0) return std::string(hasher->finish().short_hex());
    hasher->update(std::span(piece).first(*got));
  }
}

inline std::string xattrs_of(const std::string& path) {
  char names[4096];
  const ssize_t length = ::llistxattr(path.c_str(), names, sizeof names);
  std::map<std::string, std::string> found;
  for (ssize_t at = 0; at < length;) {
    const std::string name = names + at;
    at += static_cast<ssize_t>(name.size()) + 1;
    unsigned char value[4096];
    const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value, sizeof value);
    found[name] = to_hex(value, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  }
  std::string out;
  for (const auto& [name, value] : found) out += " " + name + "=" + value;
  return out;
}

/// One line per file below `top`: type, mode, owner, links, size, time, device, link target, attributes, content.
/// Folders have no size and count of links (file systems differ); `with_times` false leaves times out.
inline std::vector<std::string> describe_tree(const std::string& top, bool with_times = true) {
  std::vector<std::string> lines;
  std::map<uint64_t, std::string> first_name;
  std::vector<std::string> paths{""};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(top)) {
    paths.push_back(entry.path().string().substr(top.size()));
  }
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    const std::string full = top + path;
    struct stat info{};
    if (::lstat(full.c_str(), &info) != 0) {
      lines.push_back(path + " can't be read");
      continue;
    }
    std::string line = fmt::format("{} {:o} {}:{}", path, info.st_mode, info.st_uid, info.st_gid);
    if (!S_ISDIR(info.st_mode)) line += fmt::format(" links {} size {}", info.st_nlink, info.st_size);
    if (with_times) line += fmt::format(" time {}.{:09}", info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
    if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) {
      line += fmt::format(" dev {}:{}", major(info.st_rdev), minor(info.st_rdev));
    }
    if (S_ISLNK(info.st_mode)) {
      std::string target(4096, '\0');
      const ssize_t length = ::readlink(full.c_str(), target.data(), target.size());
      line += " -> " + target.substr(0, length < 0 ? 0 : static_cast<size_t>(length));
    }
    line += xattrs_of(full);
    if (!S_ISDIR(info.st_mode) && info.st_nlink > 1) {
      const auto [first, fresh] = first_name.try_emplace(info.st_ino, path);
      if (!fresh) line += " same as " + first->second;
    }
    if (S_ISREG(info.st_mode)) line += " " + hash_of_file(full);
    lines.push_back(std::move(line));
  }
  return lines;
}

/// Fails with the first lines that differ.
inline void expect_same_tree(const std::vector<std::string>& got, const std::vector<std::string>& want) {
  size_t shown = 0;
  for (size_t i = 0; i < std::max(got.size(), want.size()) && shown < 5; ++i) {
    const std::string a = i < got.size() ? got[i] : "(nothing)", b = i < want.size() ? want[i] : "(nothing)";
    if (a == b) continue;
    ADD_FAILURE() << "got:  " << a << "\nwant: " << b;
    ++shown;
  }
}

inline int shell(const std::string& command) { return std::system(command.c_str()); }

}  // namespace hull::store::test
