#include "engine/index.h"

#include <fcntl.h>

#include <map>

#include "base/error_format.h"

namespace hull::engine {
namespace {

constexpr int kSchemaVersion = 2;
constexpr int kBusyMs = 30'000;
constexpr const char* kSchema = R"sql(
CREATE TABLE workloads(
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created INTEGER NOT NULL,           -- ns since 1970
  image TEXT NOT NULL,                -- as the user wrote it
  image_id TEXT NOT NULL,
  command TEXT NOT NULL,
  network TEXT NOT NULL,
  labels TEXT NOT NULL,
  mounts TEXT NOT NULL,
  ports TEXT NOT NULL,
  auto_remove INTEGER NOT NULL,
  removing INTEGER NOT NULL,
  isolation INTEGER NOT NULL DEFAULT 0  -- 0 container, 1 virtual machine; since version 2
);
CREATE INDEX workloads_created ON workloads(created);
CREATE TABLE configs(id TEXT PRIMARY KEY, config TEXT NOT NULL);
CREATE TABLE volumes(
  name TEXT PRIMARY KEY,
  driver TEXT NOT NULL,
  created INTEGER NOT NULL,
  options TEXT NOT NULL,
  labels TEXT NOT NULL,
  anonymous INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE volume_uses(
  volume TEXT NOT NULL,
  workload TEXT NOT NULL,
  PRIMARY KEY(volume, workload)
) WITHOUT ROWID;
CREATE INDEX volume_uses_workload ON volume_uses(workload);
PRAGMA user_version=2;
)sql";

constexpr const char* kFromVersion1 = R"sql(
ALTER TABLE workloads ADD COLUMN isolation INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version=2;
)sql";

constexpr const char* kColumns =
    "id, name, created, image, image_id, command, network, labels, mounts, ports, auto_remove, removing, "
    "isolation";

/// What the last call on the connection ran into.
Error failure_of(sqlite3* db) {
  const int extended = sqlite3_extended_errcode(db);
  const int code = extended & 0xff;
  if (code == SQLITE_FULL || code == SQLITE_IOERR) {
    const int number = code == SQLITE_FULL ? ENOSPC : sqlite3_system_errno(db);
    if (number == ENOSPC || number == EDQUOT) {
      return errorf(ErrorKind::kNoSpace,
                    "index of workloads: no space left on the disk: make room ('hull system prune' removes what is not "
                    "used)");
    }
  }
  const ErrorKind kind = extended == SQLITE_CONSTRAINT_UNIQUE || extended == SQLITE_CONSTRAINT_PRIMARYKEY
                             ? ErrorKind::kExists
                         : code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? ErrorKind::kCorrupt
                         : code == SQLITE_BUSY                             ? ErrorKind::kTimeout
                                                                           : ErrorKind::kIo;
  return errorf(kind, "index of workloads: {}", sqlite3_errmsg(db));
}

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

int shorten_log(void*, sqlite3* db, const char* name, int pages) {
  if (pages < kLogPages) return SQLITE_OK;
  sqlite3_busy_timeout(db, 0);  // a reader in the way: the next commit tries again
  sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr);
  sqlite3_busy_timeout(db, kBusyMs);
  return SQLITE_OK;
}

}  // namespace

/// One prepared statement, finalized with its scope.
class Index::Query {
 public:
  Query(sqlite3* db, const std::string& sql) : db_(db) {
    if (sqlite3_prepare_v2(db, sql.c_str(), static_cast<int>(sql.size()), &statement_, nullptr) != SQLITE_OK) {
      statement_ = nullptr;
    }
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  ~Query() { sqlite3_finalize(statement_); }

  Query& bind(std::string_view text) {
    sqlite3_bind_text(statement_, ++bound_, text.data() == nullptr ? "" : text.data(), static_cast<int>(text.size()),
                      SQLITE_TRANSIENT);
    return *this;
  }
  Query& bind(int64_t number) {
    sqlite3_bind_int64(statement_, ++bound_, number);
    return *this;
  }
  Result<bool> step() {
    const int code = statement_ == nullptr ? sqlite3_errcode(db_) : sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return failure_of(db_);
  }
  Result<void> run() {
    TRY(step());
    return {};
  }
  std::string text(int column) const {
    const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return data == nullptr ? std::string()
                           : std::string(data, static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
  }
  int64_t number(int column) const { return sqlite3_column_int64(statement_, column); }

  WorkloadRow workload() const {
    WorkloadRow row;
    row.id = text(0);
    row.name = text(1);
    row.created_ns = number(2);
    row.image = text(3);
    row.image_id = text(4);
    row.command = text(5);
    row.network = text(6);
    row.labels = text(7);
    row.mounts = text(8);
    row.ports = text(9);
    row.auto_remove = number(10) != 0;
    row.removing = number(11) != 0;
    row.isolation = number(12) == 1 ? Isolation::kVm : Isolation::kContainer;
    return row;
  }

 private:
  sqlite3* db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

Result<void> Index::execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return failure_of(db_);
}

Result<std::unique_ptr<Index>> Index::open(const std::string& path) {
  std::unique_ptr<Index> index(new Index());
  const int code =
      sqlite3_open_v2(path.c_str(), &index->db_,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW, nullptr);
  if (code != SQLITE_OK) {
    return errorf(code == SQLITE_CANTOPEN ? ErrorKind::kNotFound : ErrorKind::kIo, "open the index {}: {}", path,
                  sqlite3_errstr(code));
  }
  sqlite3_busy_timeout(index->db_, kBusyMs);
  // Write-ahead log with one sync per checkpoint: a commit costs no fsync, and a power cut can take back the last
  // commits but never half of one. A workload that is not in the index after a power cut is an unused folder that
  // `system check` removes. The log stays when the last command ends: checkpointing then would cost each command.
  int ignored = 0;
  sqlite3_db_config(index->db_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, &ignored);
  int keep = 1;
  sqlite3_file_control(index->db_, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
  allocate_shared_blocks(index->db_, path);
  sqlite3_wal_hook(index->db_, shorten_log, nullptr);
  int64_t version = 0;
  {
    Query query(index->db_, "PRAGMA user_version");
    TRY_ASSIGN(const bool row, query.step());
    if (row) version = query.number(0);
  }
  if (version > kSchemaVersion) {
    return errorf(ErrorKind::kUnsupported, "{}: version {}, this Hull knows up to {}; use a newer Hull", path, version,
                  kSchemaVersion);
  }
  TRY(index->execute("PRAGMA synchronous=NORMAL"));
  if (version < kSchemaVersion) {
    if (version == 0) TRY(index->execute("PRAGMA journal_mode=WAL"));
    TRY(index->execute("BEGIN IMMEDIATE"));
    {
      Query query(index->db_, "PRAGMA user_version");
      TRY_ASSIGN(const bool row, query.step());
      if (row) version = query.number(0);  // another process may have been first
    }
    if (version == 0) TRY(index->execute(kSchema));
    if (version == 1) TRY(index->execute(kFromVersion1));
    TRY(index->execute("COMMIT"));
  }
  return index;
}

Index::~Index() { sqlite3_close(db_); }

Result<void> Index::add(const WorkloadRow& row, std::string_view config_json, const std::vector<std::string>& volumes) {
  TRY(execute("BEGIN IMMEDIATE"));
  auto insert = [&]() -> Result<void> {
    auto added = Query(db_, fmt::format("INSERT INTO workloads({}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)", kColumns))
                     .bind(row.id)
                     .bind(row.name)
                     .bind(row.created_ns)
                     .bind(row.image)
                     .bind(row.image_id)
                     .bind(row.command)
                     .bind(row.network)
                     .bind(row.labels)
                     .bind(row.mounts)
                     .bind(row.ports)
                     .bind(row.auto_remove ? 1 : 0)
                     .bind(row.removing ? 1 : 0)
                     .bind(row.isolation == Isolation::kVm ? 1 : 0)
                     .run();
    if (!added.ok() && added.error().kind() == ErrorKind::kExists) {
      Query query(db_, "SELECT id FROM workloads WHERE name = ?");
      TRY_ASSIGN(const bool found, query.bind(row.name).step());
      return errorf(ErrorKind::kConflict,
                    "The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) "
                    "that container to be able to reuse that name.",
                    row.name, found ? query.text(0) : "");
    }
    TRY(std::move(added));
    TRY(Query(db_, "INSERT INTO configs(id, config) VALUES(?, ?)").bind(row.id).bind(config_json).run());
    for (const std::string& volume : volumes) {
      Query exists(db_, "SELECT 1 FROM volumes WHERE name = ?");
      TRY_ASSIGN(const bool there, exists.bind(volume).step());
      if (!there) return errorf(ErrorKind::kConflict, "volume {} was removed meanwhile: try again", volume);
      TRY(Query(db_, "INSERT OR IGNORE INTO volume_uses(volume, workload) VALUES(?, ?)")
              .bind(volume)
              .bind(row.id)
              .run());
    }
    return {};
  }();
  if (!insert.ok()) {
    ignore_result(execute("ROLLBACK"));
    return insert;
  }
  return execute("COMMIT");
}

Result<std::optional<WorkloadRow>> Index::by_id(std::string_view id) {
  Query query(db_, fmt::format("SELECT {} FROM workloads WHERE id = ?", kColumns));
  TRY_ASSIGN(const bool found, query.bind(id).step());
  if (!found) return std::optional<WorkloadRow>();
  return std::optional<WorkloadRow>(query.workload());
}

Result<WorkloadRow> Index::find(std::string_view ref) {
  if (ref.starts_with('/')) ref.remove_prefix(1);
  {
    Query query(db_,
                fmt::format("SELECT {} FROM workloads WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC", kColumns));
    TRY_ASSIGN(const bool found, query.bind(ref).step());
    if (found) return query.workload();
  }
  if (!ref.empty() && ref.size() < 64 && ref.find_first_not_of("0123456789abcdef") == std::string_view::npos) {
    Query query(db_, fmt::format("SELECT {} FROM workloads WHERE id >= ? AND id < ? LIMIT 2", kColumns));
    TRY_ASSIGN(const bool found, query.bind(ref).bind(std::string(ref) + "g").step());
    if (found) {
      WorkloadRow row = query.workload();
      TRY_ASSIGN(const bool second, query.step());
      if (second) {
        return errorf(ErrorKind::kConflict, "Multiple IDs found with provided prefix: {}: write more digits", ref);
      }
      return row;
    }
  }
  return errorf(ErrorKind::kNotFound, "No such container: {}", ref);
}

Result<std::string> Index::config(std::string_view id) {
  Query query(db_, "SELECT config FROM configs WHERE id = ?");
  TRY_ASSIGN(const bool found, query.bind(id).step());
  if (!found) return errorf(ErrorKind::kNotFound, "No such container: {}", id);
  return query.text(0);
}

Result<std::vector<WorkloadRow>> Index::list() {
  Query query(db_, fmt::format("SELECT {} FROM workloads ORDER BY created DESC", kColumns));
  std::vector<WorkloadRow> rows;
  while (true) {
    TRY_ASSIGN(const bool more, query.step());
    if (!more) return rows;
    rows.push_back(query.workload());
  }
}

Result<std::vector<std::string>> Index::ids() {
  Query query(db_, "SELECT id FROM workloads");
  std::vector<std::string> ids;
  while (true) {
    TRY_ASSIGN(const bool more, query.step());
    if (!more) return ids;
    ids.push_back(query.text(0));
  }
}

Result<void> Index::set_ports(std::string_view id, std::string_view ports) {
  return Query(db_, "UPDATE workloads SET ports = ? WHERE id = ?").bind(ports).bind(id).run();
}

Result<void> Index::set_removing(std::string_view id) {
  return Query(db_, "UPDATE workloads SET removing = 1 WHERE id = ?").bind(id).run();
}

Result<void> Index::remove(std::string_view id) {
  TRY(execute("BEGIN IMMEDIATE"));
  auto removed = [&]() -> Result<void> {
    TRY(Query(db_, "DELETE FROM volume_uses WHERE workload = ?").bind(id).run());
    TRY(Query(db_, "DELETE FROM configs WHERE id = ?").bind(id).run());
    return Query(db_, "DELETE FROM workloads WHERE id = ?").bind(id).run();
  }();
  if (!removed.ok()) {
    ignore_result(execute("ROLLBACK"));
    return removed;
  }
  return execute("COMMIT");
}

Result<bool> Index::name_taken(std::string_view name) {
  Query query(db_, "SELECT 1 FROM workloads WHERE name = ?");
  return query.bind(name).step();
}

Result<void> Index::add_volume(const VolumeRow& row) {
  return Query(db_, "INSERT INTO volumes(name, driver, created, options, labels, anonymous) VALUES(?,?,?,?,?,?)")
      .bind(row.name)
      .bind(row.driver)
      .bind(row.created_ns)
      .bind(row.options)
      .bind(row.labels)
      .bind(row.anonymous ? 1 : 0)
      .run();
}

namespace {
constexpr const char* kVolumeColumns =
    "v.name, v.driver, v.created, v.options, v.labels, v.anonymous, "
    "(SELECT count(*) FROM volume_uses u WHERE u.volume = v.name)";

template <typename Q>
VolumeRow volume_of(const Q& query) {
  VolumeRow row;
  row.name = query.text(0);
  row.driver = query.text(1);
  row.created_ns = query.number(2);
  row.options = query.text(3);
  row.labels = query.text(4);
  row.anonymous = query.number(5) != 0;
  row.references = static_cast<int>(query.number(6));
  return row;
}
}  // namespace

Result<std::optional<VolumeRow>> Index::volume(std::string_view name) {
  Query query(db_, fmt::format("SELECT {} FROM volumes v WHERE v.name = ?", kVolumeColumns));
  TRY_ASSIGN(const bool found, query.bind(name).step());
  if (!found) return std::optional<VolumeRow>();
  return std::optional<VolumeRow>(volume_of(query));
}

Result<std::vector<VolumeRow>> Index::volumes() {
  Query query(db_, fmt::format("SELECT {} FROM volumes v ORDER BY v.name", kVolumeColumns));
  std::vector<VolumeRow> rows;
  while (true) {
    TRY_ASSIGN(const bool more, query.step());
    if (!more) return rows;
    rows.push_back(volume_of(query));
  }
}

Result<void> Index::remove_volume(std::string_view name) {
  TRY_ASSIGN(const std::vector<std::string> users, users_of(name));
  if (!users.empty()) {
    std::string list;
    for (const std::string& user : users) list += (list.empty() ? "" : ", ") + user;
    return errorf(ErrorKind::kConflict, "remove {}: volume is in use - [{}]", name, list);
  }
  // In one statement with the condition, so that a workload made in between keeps its volume.
  TRY(Query(db_, "DELETE FROM volumes WHERE name = ?1 AND NOT EXISTS(SELECT 1 FROM volume_uses WHERE volume = ?1)")
          .bind(name)
          .run());
  if (sqlite3_changes(db_) == 0) return errorf(ErrorKind::kConflict, "remove {}: volume is in use or gone", name);
  return {};
}

Result<std::vector<std::string>> Index::volumes_of(std::string_view workload_id) {
  Query query(db_, "SELECT volume FROM volume_uses WHERE workload = ?");
  query.bind(workload_id);
  std::vector<std::string> names;
  while (true) {
    TRY_ASSIGN(const bool more, query.step());
    if (!more) return names;
    names.push_back(query.text(0));
  }
}

Result<std::vector<std::string>> Index::users_of(std::string_view volume) {
  Query query(db_, "SELECT workload FROM volume_uses WHERE volume = ?");
  query.bind(volume);
  std::vector<std::string> ids;
  while (true) {
    TRY_ASSIGN(const bool more, query.step());
    if (!more) return ids;
    ids.push_back(query.text(0));
  }
}

}  // namespace hull::engine
