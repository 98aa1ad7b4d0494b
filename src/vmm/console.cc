#include "vmm/console.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"

namespace hull::vmm {

namespace {
constexpr size_t kLongestLine = 512;  // below PIPE_BUF: a pipe that polls writable takes it whole
}

Result<ConsoleLog> ConsoleLog::open(const std::string& path, uint64_t most_bytes) {
  if (path.empty()) return ConsoleLog(UniqueFd(), false, 0, most_bytes);
  UniqueFd fd(path == "-" ? ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
                          : ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600));
  if (!fd) return errnof("open the console's log {}", path);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errnof("console's log {}", path);
  // Standard output may be a file too; it is the caller's, who may be writing to it: never cut.
  const bool is_file = S_ISREG(info.st_mode) && path != "-";
  return ConsoleLog(std::move(fd), is_file, is_file ? static_cast<uint64_t>(info.st_size) : 0, most_bytes);
}

void ConsoleLog::put(char byte) {
  if (!fd_) return;
  line_.push_back(byte);
  if (byte == '\n' || line_.size() >= kLongestLine) flush();
}

void ConsoleLog::drop_older_half() {
  std::string kept(most_ / 2, '\0');
  const ssize_t got = ::pread(fd_.get(), kept.data(), kept.size(), static_cast<off_t>(size_ - kept.size()));
  kept.resize(got > 0 ? static_cast<size_t>(got) : 0);
  if (::ftruncate(fd_.get(), 0) != 0) return;
  const ssize_t put = ::write(fd_.get(), kept.data(), kept.size());
  size_ = put > 0 ? static_cast<uint64_t>(put) : 0;
}

void ConsoleLog::flush() {
  if (!fd_ || line_.empty()) return;
  if (is_file_) {
    if (size_ + line_.size() > most_) drop_older_half();
  } else {
    pollfd ready{fd_.get(), POLLOUT, 0};
    if (::poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0) return line_.clear();
  }
  const ssize_t done = ::write(fd_.get(), line_.data(), line_.size());
  if (done > 0) size_ += static_cast<uint64_t>(done);
  line_.clear();
}

}  // namespace hull::vmm
