#include "sys/root.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::sys {
namespace {

Result<UniqueFd> openat2_in(int dir_fd, std::string_view path, int flags, mode_t mode, uint64_t resolve) {
  if (path.find('\0') != std::string_view::npos) return errorf(ErrorKind::kInvalid, "path with a NUL byte");
  const std::string text = path.empty() ? "." : std::string(path);
  open_how how{};
  how.flags = static_cast<uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC));
  if ((flags & (O_CREAT | __O_TMPFILE)) != 0) how.mode = mode;
  how.resolve = resolve;
  // EAGAIN: a rename or mount elsewhere raced with "..": the kernel asks to try again (openat2(2)).
  for (int attempt = 0; attempt < 128; ++attempt) {
    const long fd = ::syscall(SYS_openat2, dir_fd, text.c_str(), &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EAGAIN && errno != EINTR) break;
  }
  return errnof("open {} inside its root", text);
}

constexpr uint64_t kInRoot = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;

std::vector<std::string> components(std::string_view path) {
  std::vector<std::string> parts;
  size_t at = 0;
  while (at <= path.size()) {
    const size_t slash = std::min(path.find('/', at), path.size());
    const std::string_view part = path.substr(at, slash - at);
    if (!part.empty() && part != ".") parts.emplace_back(part);
    at = slash + 1;
  }
  return parts;
}

}  // namespace

Result<Root> Root::open(const std::string& path) {
  TRY_ASSIGN(UniqueFd fd, sys::open(path, O_PATH | O_DIRECTORY));
  return Root(std::move(fd));
}

Result<UniqueFd> Root::open_in(std::string_view path, int flags, mode_t mode) const {
  return openat2_in(fd_.get(), path, flags, mode, kInRoot);
}

Result<UniqueFd> Root::open_in_same_mount(std::string_view path, int flags, mode_t mode) const {
  return openat2_in(fd_.get(), path, flags, mode, kInRoot | RESOLVE_NO_XDEV);
}

Result<UniqueFd> Root::open_without_links(std::string_view path, int flags, mode_t mode) const {
  return openat2_in(fd_.get(), path, flags, mode, kInRoot | RESOLVE_NO_SYMLINKS);
}

Result<UniqueFd> Root::make_dirs(std::string_view path, mode_t mode) const {
  auto existing = open_in(path, O_PATH | O_DIRECTORY);
  if (existing.ok() || existing.error().error_number() != ENOENT) return existing;
  // The longest prefix is resolved by the kernel each time, so that links on the way stay inside the root; a new
  // folder is made below an already opened parent, where its last component can't be a link.
  std::string prefix;
  for (const std::string& part : components(path)) {
    const std::string next = prefix.empty() ? part : prefix + "/" + part;
    auto opened = open_in(next, O_PATH | O_DIRECTORY);
    if (!opened.ok() && opened.error().error_number() == ENOENT && part != "..") {
      TRY_ASSIGN(const UniqueFd parent, open_in(prefix, O_PATH | O_DIRECTORY));
      if (::mkdirat(parent.get(), part.c_str(), mode) != 0) {
        if (errno != EEXIST) return errnof("make folder {}", next);
        // A link that points nowhere: follow it inside the root and make what it names.
        char target[4096];
        const ssize_t length = ::readlinkat(parent.get(), part.c_str(), target, sizeof target - 1);
        if (length > 0) {
          const std::string_view link(target, static_cast<size_t>(length));
          static thread_local int depth = 0;
          if (depth > 40) return Error::from_errno(ELOOP, "make folder " + next);
          ++depth;
          auto made = make_dirs(link.starts_with('/') ? std::string(link) : prefix + "/" + std::string(link), mode);
          --depth;
          TRY(std::move(made));
        }
      }
      opened = open_in(next, O_PATH | O_DIRECTORY);
    }
    if (!opened.ok()) return opened;
    prefix = next;
  }
  return open_in(prefix, O_PATH | O_DIRECTORY);
}

Result<Root::Parent> Root::open_parent(std::string_view path, bool make_parents) const {
  while (path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  const std::string_view folder = slash == std::string_view::npos ? std::string_view() : path.substr(0, slash);
  if (name.empty() || name == "." || name == "..") {
    return errorf(ErrorKind::kInvalid, "path \"{:.200}\" has no last component", path);
  }
  TRY_ASSIGN(UniqueFd fd, make_parents ? make_dirs(folder) : open_in(folder, O_PATH | O_DIRECTORY));
  return Parent{std::move(fd), std::string(name)};
}

Result<std::string> Root::read_file(std::string_view path, size_t limit) const {
  // O_NONBLOCK: a fifo put there must not hang us; the check after it is on what was opened.
  TRY_ASSIGN(const UniqueFd fd, open_in(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errnof("stat {}", path);
  if (!S_ISREG(info.st_mode)) return errorf(ErrorKind::kInvalid, "{} is not a regular file", path);
  auto data = read_all(fd.get(), limit);
  if (!data.ok()) return std::move(data).context(path);
  return data;
}

std::string clean_path(std::string_view path) {
  std::vector<std::string> kept;
  for (std::string& part : components(path)) {
    if (part == "..") {
      if (!kept.empty()) kept.pop_back();
    } else {
      kept.push_back(std::move(part));
    }
  }
  std::string out;
  for (const std::string& part : kept) {
    if (!out.empty()) out += '/';
    out += part;
  }
  return out;
}

}  // namespace hull::sys
