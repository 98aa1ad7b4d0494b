#include "engine/change.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::engine {

bool is_workload_id(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<Change> Change::begin(const Paths& paths, std::string_view id, bool wait) {
  const std::string path = paths.change(id);
  for (;;) {
    auto opened = sys::open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (!opened.ok() && opened.error().error_number() == ENOENT) {
      TRY(sys::make_dirs(paths.changes()));
      opened = sys::open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    }
    if (!opened.ok()) return std::move(opened).error();
    int failed = 0;
    do {
      failed = ::flock(opened->get(), LOCK_EX | (wait ? 0 : LOCK_NB));
    } while (failed != 0 && errno == EINTR);
    if (failed != 0) {
      if (errno == EWOULDBLOCK) return errorf(ErrorKind::kConflict, "another command is changing container {}", id);
      return errnof("lock {}", path);
    }
    // Whoever held it before has removed the file: what we locked is no longer what others will find.
    struct stat mine{}, named{};
    if (::fstat(opened->get(), &mine) == 0 && ::stat(path.c_str(), &named) == 0 && mine.st_ino == named.st_ino &&
        mine.st_dev == named.st_dev) {
      return Change(path, std::string(id), std::move(*opened));
    }
  }
}

Change::~Change() {
  if (fd_) ::unlink(path_.c_str());
}

Result<void> Change::note(std::string_view word) const {
  if (::lseek(fd_.get(), 0, SEEK_END) < 0) return errno_error("note a change");
  return sys::write_all(fd_.get(), std::string(word) + "\n");
}

std::vector<std::string> Change::notes() const {
  std::vector<std::string> words;
  if (::lseek(fd_.get(), 0, SEEK_SET) != 0) return words;
  const auto text = sys::read_all(fd_.get(), 1 << 20);
  if (!text.ok()) return words;
  for (size_t at = 0, end = 0; (end = text->find('\n', at)) != std::string::npos; at = end + 1) {
    words.push_back(text->substr(at, end - at));
  }
  return words;
}

std::vector<std::string> changes_on_record(const Paths& paths) {
  std::vector<std::string> ids;
  DIR* stream = ::opendir(paths.changes().c_str());
  if (stream == nullptr) return ids;
  while (const dirent* entry = ::readdir(stream)) {
    if (is_workload_id(entry->d_name)) ids.emplace_back(entry->d_name);
  }
  ::closedir(stream);
  return ids;
}

}  // namespace hull::engine
