#include "engine/index.h"

#include "base/error_format.h"
#include "db/database.h"
#include "engine/index_log.h"

namespace hull::engine {
namespace {

constexpr int kSchemaVersion = 2;
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

WorkloadRow workload_of(const db::Statement& row) {
  WorkloadRow out;
  out.id = row.text(0);
  out.name = row.text(1);
  out.created_ns = row.number(2);
  out.image = row.text(3);
  out.image_id = row.text(4);
  out.command = row.text(5);
  out.network = row.text(6);
  out.labels = row.text(7);
  out.mounts = row.text(8);
  out.ports = row.text(9);
  out.auto_remove = row.number(10) != 0;
  out.removing = row.number(11) != 0;
  out.isolation = row.number(12) == 1 ? Isolation::kVm : Isolation::kContainer;
  return out;
}

constexpr const char* kVolumeColumns =
    "v.name, v.driver, v.created, v.options, v.labels, v.anonymous, "
    "(SELECT count(*) FROM volume_uses u WHERE u.volume = v.name)";

VolumeRow volume_of(const db::Statement& row) {
  VolumeRow out;
  out.name = row.text(0);
  out.driver = row.text(1);
  out.created_ns = row.number(2);
  out.options = row.text(3);
  out.labels = row.text(4);
  out.anonymous = row.number(5) != 0;
  out.references = static_cast<int>(row.number(6));
  return out;
}

}  // namespace

Index::Index(std::unique_ptr<db::Database> database) : db_(std::move(database)) {}
Index::~Index() = default;

Result<std::unique_ptr<Index>> Index::open(const std::string& path) {
  TRY_ASSIGN(std::unique_ptr<db::Database> database, db::Database::open(path, {.subject = "index of workloads"}));
  std::unique_ptr<Index> index(new Index(std::move(database)));
  db::Database& db = *index->db_;
  keep_log_between_commands(db, path);
  TRY_ASSIGN(const int64_t version, db.query_number("PRAGMA user_version"));
  if (version > kSchemaVersion) {
    return errorf(ErrorKind::kUnsupported, "{}: version {}, this Hull knows up to {}; use a newer Hull", path, version,
                  kSchemaVersion);
  }
  TRY(db.execute("PRAGMA synchronous=NORMAL"));
  if (version < kSchemaVersion) {
    if (version == 0) TRY(db.execute("PRAGMA journal_mode=WAL"));
    TRY_ASSIGN(db::WriteTransaction transaction, db::WriteTransaction::begin(db));
    TRY_ASSIGN(const int64_t found, db.query_number("PRAGMA user_version"));  // another process may have been first
    if (found == 0) TRY(db.execute(kSchema));
    if (found == 1) TRY(db.execute(kFromVersion1));
    TRY(transaction.commit());
  }
  return index;
}

Result<void> Index::add(const WorkloadRow& row, std::string_view config_json, const std::vector<std::string>& volumes) {
  TRY_ASSIGN(db::WriteTransaction transaction, db::WriteTransaction::begin(*db_));
  auto added = db_->run(fmt::format("INSERT INTO workloads({}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)", kColumns), row.id,
                        row.name, row.created_ns, row.image, row.image_id, row.command, row.network, row.labels,
                        row.mounts, row.ports, row.auto_remove, row.removing, row.isolation == Isolation::kVm ? 1 : 0);
  if (!added.ok() && added.error().kind() == ErrorKind::kExists) {
    TRY_ASSIGN(const std::vector<std::string> holder, db_->texts("SELECT id FROM workloads WHERE name = ?", row.name));
    return errorf(ErrorKind::kConflict,
                  "The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) "
                  "that container to be able to reuse that name.",
                  row.name, holder.empty() ? "" : holder.front());
  }
  TRY(std::move(added));
  TRY(db_->run("INSERT INTO configs(id, config) VALUES(?, ?)", row.id, config_json));
  for (const std::string& volume : volumes) {
    TRY_ASSIGN(db::Statement exists, db_->query("SELECT 1 FROM volumes WHERE name = ?", volume));
    TRY_ASSIGN(const bool there, exists.step());
    if (!there) return errorf(ErrorKind::kConflict, "volume {} was removed meanwhile: try again", volume);
    TRY(db_->run("INSERT OR IGNORE INTO volume_uses(volume, workload) VALUES(?, ?)", volume, row.id));
  }
  return transaction.commit();
}

Result<std::optional<WorkloadRow>> Index::by_id(std::string_view id) {
  TRY_ASSIGN(db::Statement row, db_->query(fmt::format("SELECT {} FROM workloads WHERE id = ?", kColumns), id));
  TRY_ASSIGN(const bool found, row.step());
  if (!found) return std::optional<WorkloadRow>();
  return std::optional<WorkloadRow>(workload_of(row));
}

Result<WorkloadRow> Index::find(std::string_view ref) {
  if (ref.starts_with('/')) ref.remove_prefix(1);
  {
    TRY_ASSIGN(
        db::Statement row,
        db_->query(fmt::format("SELECT {} FROM workloads WHERE id = ?1 OR name = ?1 ORDER BY id = ?1 DESC", kColumns),
                   ref));
    TRY_ASSIGN(const bool found, row.step());
    if (found) return workload_of(row);
  }
  if (!ref.empty() && ref.size() < 64 && ref.find_first_not_of("0123456789abcdef") == std::string_view::npos) {
    TRY_ASSIGN(db::Statement rows,
               db_->query(fmt::format("SELECT {} FROM workloads WHERE id >= ? AND id < ? LIMIT 2", kColumns), ref,
                          std::string(ref) + "g"));
    TRY_ASSIGN(const bool found, rows.step());
    if (found) {
      WorkloadRow row = workload_of(rows);
      TRY_ASSIGN(const bool second, rows.step());
      if (second) {
        return errorf(ErrorKind::kConflict, "Multiple IDs found with provided prefix: {}: write more digits", ref);
      }
      return row;
    }
  }
  return errorf(ErrorKind::kNotFound, "No such container: {}", ref);
}

Result<std::string> Index::config(std::string_view id) {
  TRY_ASSIGN(db::Statement row, db_->query("SELECT config FROM configs WHERE id = ?", id));
  TRY_ASSIGN(const bool found, row.step());
  if (!found) return errorf(ErrorKind::kNotFound, "No such container: {}", id);
  return row.text(0);
}

Result<std::vector<WorkloadRow>> Index::list() {
  TRY_ASSIGN(db::Statement row, db_->prepare(fmt::format("SELECT {} FROM workloads ORDER BY created DESC", kColumns)));
  std::vector<WorkloadRow> rows;
  while (true) {
    TRY_ASSIGN(const bool more, row.step());
    if (!more) return rows;
    rows.push_back(workload_of(row));
  }
}

Result<std::vector<std::string>> Index::ids() { return db_->texts("SELECT id FROM workloads"); }

Result<void> Index::set_networks(std::string_view id, std::string_view config_json, std::string_view networks) {
  TRY_ASSIGN(db::WriteTransaction transaction, db::WriteTransaction::begin(*db_));
  TRY(db_->run("UPDATE configs SET config = ? WHERE id = ?", config_json, id));
  TRY(db_->run("UPDATE workloads SET network = ? WHERE id = ?", networks, id));
  return transaction.commit();
}

Result<void> Index::rename(std::string_view id, std::string_view name) {
  auto renamed = db_->run("UPDATE workloads SET name = ? WHERE id = ?", name, id);
  if (renamed.ok() || renamed.error().kind() != ErrorKind::kExists) return renamed;
  TRY_ASSIGN(const std::vector<std::string> holder, db_->texts("SELECT id FROM workloads WHERE name = ?", name));
  return errorf(ErrorKind::kConflict,
                "Error when allocating new name: Conflict. The container name \"/{}\" is already in use by container "
                "\"{}\". You have to remove (or rename) that container to be able to reuse that name.",
                name, holder.empty() ? "" : holder.front());
}

Result<void> Index::set_config(std::string_view id, std::string_view config_json) {
  return db_->run("UPDATE configs SET config = ? WHERE id = ?", config_json, id);
}

Result<void> Index::set_ports(std::string_view id, std::string_view ports) {
  return db_->run("UPDATE workloads SET ports = ? WHERE id = ?", ports, id);
}

Result<void> Index::set_removing(std::string_view id) {
  return db_->run("UPDATE workloads SET removing = 1 WHERE id = ?", id);
}

Result<void> Index::remove(std::string_view id) {
  TRY_ASSIGN(db::WriteTransaction transaction, db::WriteTransaction::begin(*db_));
  TRY(db_->run("DELETE FROM volume_uses WHERE workload = ?", id));
  TRY(db_->run("DELETE FROM configs WHERE id = ?", id));
  TRY(db_->run("DELETE FROM workloads WHERE id = ?", id));
  return transaction.commit();
}

Result<bool> Index::name_taken(std::string_view name) {
  TRY_ASSIGN(db::Statement row, db_->query("SELECT 1 FROM workloads WHERE name = ?", name));
  return row.step();
}

Result<void> Index::add_volume(const VolumeRow& row) {
  return db_->run("INSERT INTO volumes(name, driver, created, options, labels, anonymous) VALUES(?,?,?,?,?,?)",
                  row.name, row.driver, row.created_ns, row.options, row.labels, row.anonymous);
}

Result<std::optional<VolumeRow>> Index::volume(std::string_view name) {
  TRY_ASSIGN(db::Statement row,
             db_->query(fmt::format("SELECT {} FROM volumes v WHERE v.name = ?", kVolumeColumns), name));
  TRY_ASSIGN(const bool found, row.step());
  if (!found) return std::optional<VolumeRow>();
  return std::optional<VolumeRow>(volume_of(row));
}

Result<std::vector<VolumeRow>> Index::volumes() {
  TRY_ASSIGN(db::Statement row, db_->prepare(fmt::format("SELECT {} FROM volumes v ORDER BY v.name", kVolumeColumns)));
  std::vector<VolumeRow> rows;
  while (true) {
    TRY_ASSIGN(const bool more, row.step());
    if (!more) return rows;
    rows.push_back(volume_of(row));
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
  TRY(db_->run("DELETE FROM volumes WHERE name = ?1 AND NOT EXISTS(SELECT 1 FROM volume_uses WHERE volume = ?1)",
               name));
  if (db_->rows_changed() == 0) return errorf(ErrorKind::kConflict, "remove {}: volume is in use or gone", name);
  return {};
}

Result<std::vector<std::string>> Index::volumes_of(std::string_view workload_id) {
  return db_->texts("SELECT volume FROM volume_uses WHERE workload = ?", workload_id);
}

Result<std::vector<std::string>> Index::users_of(std::string_view volume) {
  return db_->texts("SELECT workload FROM volume_uses WHERE volume = ?", volume);
}

}  // namespace hull::engine
