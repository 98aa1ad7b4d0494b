#include "engine/index_log.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <map>

#include "db/database.h"

namespace hull::engine {
namespace {

/// SQLite makes the shared part of a write-ahead log by writing one byte into each page of memory. Where blocks are
/// smaller than that (1 KiB on small disks), the rest of a page is only allocated when it is touched, and on a full
/// disk that is a SIGBUS instead of an error. So the blocks are asked for before anybody touches them.
const sqlite3_io_methods* g_plain_methods = nullptr;
std::string g_shared_path;

/// A descriptor of the shared file that is never closed: closing any descriptor of a file drops every lock that the
/// process has on it (fcntl(2)), and SQLite's lock there is what keeps another process from cutting the file short.
int shared_file() {
  static std::map<std::string, int> open_files;
  const auto [it, fresh] = open_files.try_emplace(g_shared_path, -1);
  if (it->second < 0) it->second = ::open(g_shared_path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  return it->second;
}

/// SQLite's lock on a log's index (unix-shm: UNIX_SHM_DMS): while anybody shares it, an opener takes the index as it
/// is.
constexpr off_t kIndexInUseByte = 128;
/// Beyond all that SQLite locks: whose turn it is to share that one.
constexpr off_t kHolderByte = 1 << 30;

bool lock_byte(int fd, short type, off_t byte) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

int map_shared(sqlite3_file* file, int region, int size, int extend, void volatile** out) {
  const int code = g_plain_methods->xShmMap(file, region, size, extend, out);
  if (code != SQLITE_OK || extend == 0 || *out == nullptr) return code;
  const int fd = shared_file();
  if (fd < 0) return code;
  const int failed = ::posix_fallocate(fd, off_t{region} * size, size);
  return failed == ENOSPC || failed == EDQUOT ? SQLITE_FULL : code;
}

void allocate_shared_blocks(sqlite3* db, const std::string& path) {
  sqlite3_file* file = nullptr;
  if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, static_cast<void*>(&file)) != SQLITE_OK ||
      file->pMethods == nullptr)
    return;
  static sqlite3_io_methods methods;
  g_shared_path = path + "-shm";
  if (file->pMethods == &methods || file->pMethods->xShmMap == nullptr) return;
  g_plain_methods = file->pMethods;
  methods = *file->pMethods;
  methods.xShmMap = map_shared;
  file->pMethods = &methods;
}

/// Whoever opens the log first reads it from its start, and with commands that each open, write once and end, that is
/// every command. SQLite's own checkpoint would never start the log anew (what was copied is only remembered in the
/// shared file, which the next command makes afresh), so it is cut to nothing now and then.
constexpr int kLogPages = 64;

int shorten_log(void* database, sqlite3* db, const char* name, int pages) {
  if (pages < kLogPages) return SQLITE_OK;
  sqlite3_busy_timeout(db, 0);  // a reader in the way: the next commit tries again
  sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  sqlite3_busy_timeout(db, static_cast<const db::Database*>(database)->options().busy_ms);
  return SQLITE_OK;
}

}  // namespace

void keep_log_between_commands(db::Database& database, const std::string& path) {
  int ignored = 0;
  sqlite3_db_config(database.raw(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, &ignored);
  int keep = 1;
  sqlite3_file_control(database.raw(), "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
  allocate_shared_blocks(database.raw(), path);
  sqlite3_wal_hook(database.raw(), shorten_log, &database);
}

int hold_log_index() {
  const int fd = shared_file();
  return fd >= 0 && lock_byte(fd, F_WRLCK, kHolderByte) && lock_byte(fd, F_RDLCK, kIndexInUseByte) ? fd : -1;
}

}  // namespace hull::engine
