#include "isolation/cgroup_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <limits>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::isolation::cgroup_files {

namespace {
constexpr size_t kMaxFileBytes = 16 << 20;  // cgroup.procs of a group with a million processes

Result<std::string> read_text(const Cgroup::Folder& folder, const std::string& file) {
  TRY_ASSIGN(const int dir, folder.dir_fd());
  return sys::read_file_at(dir, file, kMaxFileBytes);
}
}  // namespace

int try_write(const Cgroup::Folder& folder, const std::string& file, std::string_view value) {
  const Result<int> dir = folder.dir_fd();
  if (!dir.ok()) return dir.error().error_number() != 0 ? dir.error().error_number() : ENOENT;
  const UniqueFd fd(::openat(*dir, file.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_TRUNC));
  if (!fd) return errno;
  ssize_t count = 0;
  do {
    count = ::write(fd.get(), value.data(), value.size());
  } while (count < 0 && errno == EINTR);
  if (count < 0) return errno;
  return std::cmp_equal(count, value.size()) ? 0 : EIO;
}

Result<void> write(const Cgroup::Folder& folder, const std::string& file, std::string_view value,
                   std::string_view member) {
  const int error = try_write(folder, file, value);
  if (error == 0) return {};
  if (error == ENOENT) {
    return errorf(ErrorKind::kUnsupported, "{}: this kernel has no {} (in {}); leave the member out", member, file,
                  folder.full_path());
  }
  return Error::from_errno(error,
                           fmt::format("{}: write \"{}\" to {}/{}", member, trimmed(value), folder.full_path(), file));
}

Result<std::string> read(const Cgroup::Folder& folder, const std::string& file) {
  return read_text(folder, file).context(fmt::format("{}/{}", folder.full_path(), file));
}

std::optional<std::string> read_optional(const Cgroup::Folder& folder, const std::string& file) {
  Result<std::string> text = read_text(folder, file);
  if (!text.ok()) return std::nullopt;
  return std::move(text).value();
}

std::optional<uint64_t> to_number(std::string_view text) {
  text = trimmed(text);
  if (text == "max") return std::numeric_limits<uint64_t>::max();
  uint64_t number = 0;
  const auto [rest, code] = std::from_chars(text.begin(), text.end(), number);
  if (text.empty() || code != std::errc() || rest != text.end()) return std::nullopt;
  return number;
}

std::optional<uint64_t> read_number(const Cgroup::Folder& folder, const std::string& file) {
  const std::optional<std::string> text = read_optional(folder, file);
  return text ? to_number(*text) : std::nullopt;
}

bool has_file(const Cgroup::Folder& folder, const std::string& file) {
  const Result<int> dir = folder.dir_fd();
  return dir.ok() && ::faccessat(*dir, file.c_str(), F_OK, 0) == 0;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n";
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators) {
  std::vector<std::string_view> parts;
  for (size_t at = text.find_first_not_of(separators); at < text.size(); at = text.find_first_not_of(separators, at)) {
    const size_t end = std::min(text.find_first_of(separators, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end;
  }
  return parts;
}

std::vector<std::pair<std::string_view, uint64_t>> key_values(std::string_view text) {
  std::vector<std::pair<std::string_view, uint64_t>> out;
  for (const std::string_view line : split(text, "\n")) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) continue;
    const std::optional<uint64_t> number = to_number(line.substr(space + 1));
    if (number) out.emplace_back(line.substr(0, space), *number);
  }
  return out;
}

std::vector<std::string> sub_folders(int dir_fd) {
  std::vector<std::string> names;
  const int fd = ::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return names;
  DIR* dir = ::fdopendir(fd);
  if (dir == nullptr) {
    ::close(fd);
    return names;
  }
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(dir);
  return names;
}

}  // namespace hull::isolation::cgroup_files
