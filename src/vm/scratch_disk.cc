#include "vm/scratch_disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <vector>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/file.h"
#include "vm/spawn.h"

namespace hull::vm {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;
/// Part of the template's name: another value whenever the options of mke2fs below change.
constexpr int kTemplateVersion = 1;

/// Removes a file unless told that it shall stay.
class Unfinished {
 public:
  explicit Unfinished(std::string path) : path_(std::move(path)) {}
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;
  ~Unfinished() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  void keep() { path_.clear(); }

 private:
  std::string path_;
};

std::string find_mke2fs() {
  for (const char* path : {"/usr/sbin/mke2fs", "/sbin/mke2fs", "/usr/bin/mke2fs", "/usr/local/sbin/mke2fs"}) {
    if (::access(path, X_OK) == 0) return path;
  }
  return {};
}

/// Makes the template under a temporary name and then gives it its own: who comes second replaces it by its like.
Result<void> make_template(const std::string& path, uint64_t bytes, const std::string& folder) {
  const std::string program = find_mke2fs();
  if (program.empty()) {
    return Error(ErrorKind::kUnsupported,
                 "mke2fs is missing, which formats a machine's writable disk: install the package e2fsprogs");
  }
  TRY(sys::make_dirs(folder, 0700));
  std::string temporary = folder + "/.scratch-XXXXXX";
  UniqueFd file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file) return errnof("make {}", temporary);
  Unfinished guard(temporary);
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) return errnof("size {} of {}", bytes, temporary);
  // A small journal is enough for one workload. The file is all zeros, so inode tables and journal need no clearing:
  // neither now nor by the guest's kernel in the background, which would fill the sparse file.
  // Room for a later growth of the file system (resize_inode) would be four mebibytes of zeros to copy.
  const bool journal = bytes >= 64 * kMebibyte;
  std::vector<std::string> arguments = {
      program,
      "-q",
      "-F",
      "-t",
      "ext4",
      "-b",
      "4096",
      "-m",
      "0",
      "-L",
      "scratch",
      "-O",
      journal ? "^resize_inode" : "^resize_inode,^has_journal",
      "-E",
      "nodiscard,lazy_itable_init=0,lazy_journal_init=1,assume_storage_prezeroed=1,root_owner=0:0"};
  if (journal) arguments.insert(arguments.end(), {"-J", bytes >= 1024 * kMebibyte ? "size=16" : "size=4"});
  arguments.push_back(temporary);
  if (auto made = run_program(arguments); !made.ok()) {
    const bool full = made.error().message().find("No space left") != std::string::npos;
    return full ? std::move(made.error()).as(ErrorKind::kNoSpace) : std::move(made.error());
  }
  if (::fsync(file.get()) != 0) return errnof("write {}", temporary);
  if (::rename(temporary.c_str(), path.c_str()) != 0) return errnof("rename {} to {}", temporary, path);
  guard.keep();
  return {};
}

Result<void> copy_range(int from, int to, off_t begin, off_t end) {
  std::array<char, 64 << 10> buffer;
  off_t in = begin;
  off_t out = begin;
  while (in < end) {
    const ssize_t moved = ::copy_file_range(from, &in, to, &out, static_cast<size_t>(end - in), 0);
    if (moved > 0) continue;
    if (moved < 0 && errno == EINTR) continue;
    // Not between these file systems: by hand.
    const auto want = static_cast<size_t>(std::min<off_t>(end - in, buffer.size()));
    const ssize_t got = ::pread(from, buffer.data(), want, in);
    if (got <= 0) return errnof("read the disk's template");
    for (ssize_t done = 0; done < got;) {
      const ssize_t put = ::pwrite(to, buffer.data() + done, static_cast<size_t>(got - done), out + done);
      if (put < 0 && errno != EINTR) return errnof("write");
      if (put > 0) done += put;
    }
    in += got;
    out += got;
  }
  return {};
}

/// The template's data extents into the empty file `to`.
Result<void> copy_sparse(int from, int to) {
  struct stat info{};
  if (::fstat(from, &info) != 0) return errnof("stat the disk's template");
  if (::ioctl(to, FICLONE, from) == 0) return {};
  if (::ftruncate(to, info.st_size) != 0) return errnof("size {}", info.st_size);
  for (off_t at = 0; at < info.st_size;) {
    const off_t begin = ::lseek(from, at, SEEK_DATA);
    if (begin < 0) break;  // ENXIO: no more data
    off_t end = ::lseek(from, begin, SEEK_HOLE);
    if (end < 0) end = info.st_size;
    TRY(copy_range(from, to, begin, end));
    at = end;
  }
  return {};
}

}  // namespace

Result<void> make_scratch_disk(const std::string& path, uint64_t bytes, const std::string& cache_folder) {
  if (bytes < kLeastScratchBytes || bytes > kMostScratchBytes) {
    return errorf(ErrorKind::kInvalid, "a writable disk of {}: expected {} to {}", format_size_binary(bytes),
                  format_size_binary(kLeastScratchBytes), format_size_binary(kMostScratchBytes));
  }
  bytes = (bytes + kMebibyte - 1) / kMebibyte * kMebibyte;
  const std::string original = fmt::format("{}/scratch-{}-{}m.ext4", cache_folder, kTemplateVersion, bytes / kMebibyte);
  UniqueFd from(::open(original.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!from) {
    if (errno != ENOENT) return errnof("open {}", original);
    TRY(make_template(original, bytes, cache_folder).context("make the template of a writable disk"));
    TRY_ASSIGN(from, sys::open(original, O_RDONLY | O_NOFOLLOW));
  }
  TRY_ASSIGN(const UniqueFd to, sys::open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  Unfinished guard(path);
  TRY(copy_sparse(from.get(), to.get()).context("write the writable disk " + path));
  guard.keep();
  return {};
}

}  // namespace hull::vm
