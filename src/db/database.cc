#include "db/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::db {
namespace {

void flock_quietly(int fd, int operation) {
  while (::flock(fd, operation) != 0 && errno == EINTR) {
  }
}

bool disk_is_full(int code, int system_errno) {
  if ((code & 0xff) == SQLITE_FULL) return true;
  return (code & 0xff) == SQLITE_IOERR && (system_errno == ENOSPC || system_errno == EDQUOT);
}

ErrorKind kind_of(int code) {
  if (code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY) return ErrorKind::kExists;
  switch (code & 0xff) {
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return ErrorKind::kCorrupt;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CONSTRAINT:
      return ErrorKind::kConflict;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return ErrorKind::kPermission;
    default:
      return ErrorKind::kIo;
  }
}

std::string_view advice_for(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kCorrupt:
      return "; run 'hull system check --repair'";
    case ErrorKind::kPermission:
      return " (are you root, and is the file system writable?)";
    default:
      return "";
  }
}

}  // namespace

Statement::~Statement() { sqlite3_finalize(statement_); }

Statement& Statement::bind(int index, std::string_view text) {
  // A view without data would be bound as NULL.
  sqlite3_bind_text(statement_, index, text.data() == nullptr ? "" : text.data(), static_cast<int>(text.size()),
                    SQLITE_TRANSIENT);
  return *this;
}
Statement& Statement::bind(int index, int64_t number) {
  sqlite3_bind_int64(statement_, index, number);
  return *this;
}
Statement& Statement::bind(int index, std::span<const uint8_t> blob) {
  sqlite3_bind_blob(statement_, index, blob.data(), static_cast<int>(blob.size()), SQLITE_TRANSIENT);
  return *this;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->failure(code);
}

Result<void> Statement::run() {
  auto stepped = step();
  reset();
  if (!stepped.ok()) return std::move(stepped).error();
  return {};
}

void Statement::reset() { sqlite3_reset(statement_); }

std::string Statement::text(int column) const {
  const auto* data = sqlite3_column_text(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return data == nullptr ? std::string() : std::string(reinterpret_cast<const char*>(data), static_cast<size_t>(size));
}
int64_t Statement::number(int column) const { return sqlite3_column_int64(statement_, column); }
std::span<const uint8_t> Statement::blob(int column) const {
  if (sqlite3_column_type(statement_, column) != SQLITE_BLOB) return {};
  const auto* data = static_cast<const uint8_t*>(sqlite3_column_blob(statement_, column));
  return {data, static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}
bool Statement::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

Result<std::unique_ptr<Database>> Database::open(const std::string& path, Options options) {
  std::unique_ptr<Database> db(new Database(std::move(options)));
  if (!db->options_.lock_path.empty()) {
    TRY_ASSIGN(db->lock_, sys::open(db->options_.lock_path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  }
  // One thread uses a connection at a time: no mutexes.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &db->db_, flags, nullptr);
  if (code != SQLITE_OK) {
    if (db->db_ != nullptr && sqlite3_system_errno(db->db_) == ENOENT) return Error::from_errno(ENOENT, "open " + path);
    return db->failure(code).context("open " + path);
  }
  if (db->lock_) {
    sqlite3_busy_handler(db->db_, &Database::on_busy, db.get());
  } else {
    sqlite3_busy_timeout(db->db_, db->options_.busy_ms);
  }
  return db;
}

Database::~Database() { sqlite3_close_v2(db_); }

Error Database::failure(int code) const {
  if (disk_is_full(code, db_ == nullptr ? 0 : sqlite3_system_errno(db_))) {
    return errorf(ErrorKind::kNoSpace,
                  "{}: no space left on the disk: make room ('hull system prune' removes what is not used)",
                  options_.subject);
  }
  const ErrorKind kind = kind_of(code);
  if ((code & 0xff) == SQLITE_BUSY || (code & 0xff) == SQLITE_LOCKED) {
    return errorf(kind, "{}: another program keeps it locked", options_.subject);
  }
  return errorf(kind, "{}: {}{}", options_.subject, db_ != nullptr ? sqlite3_errmsg(db_) : sqlite3_errstr(code),
                advice_for(kind));
}

/// Busy means that another process is inside a commit. Ours hold the writers' lock then, so waiting for that lock is
/// waiting for the commit. A foreign program (the sqlite3 shell) does not hold it; then SQLite's own short waits count.
int Database::on_busy(void* self, int tries) {
  auto* db = static_cast<Database*>(self);
  if (!db->writing_) {
    flock_quietly(db->lock_.get(), LOCK_SH);
    flock_quietly(db->lock_.get(), LOCK_UN);
  }
  if (tries > 3) sqlite3_sleep(tries < 20 ? tries : 50);
  return tries < 200 ? 1 : 0;
}

void Database::lock_writers() {
  if (lock_) flock_quietly(lock_.get(), LOCK_EX);
  writing_ = true;
}

void Database::unlock_writers() {
  writing_ = false;
  if (lock_) flock_quietly(lock_.get(), LOCK_UN);
}

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(db_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return failure(code);
  return Statement(this, statement);
}

Result<void> Database::execute(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return failure(code);
  return {};
}

Result<int64_t> Database::query_number(std::string_view sql) {
  TRY_ASSIGN(Statement statement, prepare(sql));
  TRY_ASSIGN(const bool row, statement.step());
  return row ? statement.number(0) : 0;
}

int64_t Database::rows_changed() const { return sqlite3_changes64(db_); }

Result<ReadTransaction> ReadTransaction::begin(Database& db) {
  TRY(db.execute("BEGIN"));
  return ReadTransaction(&db);
}
ReadTransaction::~ReadTransaction() {
  if (db_ != nullptr) ignore_result(db_->execute("COMMIT"));
}

Result<WriteTransaction> WriteTransaction::begin(Database& db) {
  db.lock_writers();
  auto begun = db.execute(db.options_.foreign_keys ? "PRAGMA foreign_keys=ON; BEGIN IMMEDIATE" : "BEGIN IMMEDIATE");
  if (!begun.ok()) {
    db.unlock_writers();
    return std::move(begun).error();
  }
  return WriteTransaction(&db);
}

WriteTransaction::~WriteTransaction() {
  if (db_ == nullptr) return;
  ignore_result(db_->execute("ROLLBACK"));
  db_->unlock_writers();
}

Result<void> WriteTransaction::commit() {
  TRY(db_->execute("COMMIT"));
  db_->unlock_writers();
  db_ = nullptr;
  return {};
}

}  // namespace hull::db
