#include "store/database.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::store {
namespace {

Error sqlite_error(sqlite3* db, int code, std::string_view what) {
  const char* message = db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(code);
  switch (code & 0xff) {
    case SQLITE_FULL:
      return errorf(ErrorKind::kNoSpace, "{}: the disk is full", what);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return errorf(ErrorKind::kCorrupt, "{}: {}; run 'hull system check --repair'", what, message);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return errorf(ErrorKind::kConflict, "{}: another program keeps the image index locked", what);
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
      return errorf(ErrorKind::kPermission, "{}: {} (are you root, and is the file system writable?)", what, message);
    case SQLITE_CONSTRAINT:
      return errorf(ErrorKind::kConflict, "{}: {}", what, message);
    default:
      return errorf(ErrorKind::kIo, "{}: {}", what, message);
  }
}

void flock_quietly(int fd, int operation) {
  while (::flock(fd, operation) != 0 && errno == EINTR) {
  }
}

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : db_(other.db_), statement_(std::exchange(other.statement_, nullptr)) {}
Statement::~Statement() { sqlite3_finalize(statement_); }

Statement& Statement::bind(int index, std::string_view text) {
  sqlite3_bind_text(statement_, index, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
  return *this;
}
Statement& Statement::bind(int index, int64_t number) {
  sqlite3_bind_int64(statement_, index, number);
  return *this;
}

Result<bool> Statement::step() {
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return sqlite_error(db_, code, "image index");
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
bool Statement::is_null(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

Result<std::unique_ptr<Database>> Database::open(const std::string& path, const std::string& lock_path) {
  std::unique_ptr<Database> db(new Database());
  db->path_ = path;
  TRY_ASSIGN(db->lock_, sys::open(lock_path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  // One thread uses a connection at a time: no mutexes.
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path.c_str(), &db->db_, flags, nullptr);
  if (code != SQLITE_OK) return sqlite_error(db->db_, code, fmt::format("open image index {}", path));
  sqlite3_busy_handler(db->db_, &Database::on_busy, db.get());
  return db;
}

Database::~Database() { sqlite3_close_v2(db_); }

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

Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v2(db_, sql.data(), static_cast<int>(sql.size()), &statement, nullptr);
  if (code != SQLITE_OK) return sqlite_error(db_, code, "image index");
  return Statement(db_, statement);
}

Result<void> Database::execute(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return sqlite_error(db_, code, "image index");
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
  flock_quietly(db.lock_.get(), LOCK_EX);
  db.writing_ = true;
  auto begun = db.execute("PRAGMA foreign_keys=ON; BEGIN IMMEDIATE");
  if (!begun.ok()) {
    db.writing_ = false;
    flock_quietly(db.lock_.get(), LOCK_UN);
    return std::move(begun).error();
  }
  return WriteTransaction(&db);
}

WriteTransaction::~WriteTransaction() {
  if (db_ == nullptr) return;
  ignore_result(db_->execute("ROLLBACK"));
  db_->writing_ = false;
  flock_quietly(db_->lock_.get(), LOCK_UN);
}

Result<void> WriteTransaction::commit() {
  TRY(db_->execute("COMMIT"));
  db_->writing_ = false;
  flock_quietly(db_->lock_.get(), LOCK_UN);
  db_ = nullptr;
  return {};
}

}  // namespace hull::store
