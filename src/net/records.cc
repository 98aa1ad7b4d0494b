#include "net/records.h"

#include <cstring>

#include "base/error_format.h"

namespace hull::net {
namespace {

// Addresses are blobs of 4 or 16 bytes in network order, so that they sort as numbers do.
constexpr int kVersion = 3;
constexpr const char* kSchema =
    "CREATE TABLE IF NOT EXISTS number(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS boot(id TEXT PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS endpoint(workload TEXT NOT NULL, network TEXT NOT NULL, interface TEXT NOT NULL,"
    " host_interface TEXT NOT NULL, mac BLOB NOT NULL, v4 BLOB NOT NULL, v6 BLOB, attached INTEGER NOT NULL,"
    " priority INTEGER NOT NULL, gateway INTEGER NOT NULL, PRIMARY KEY(workload, network)) WITHOUT ROWID;"
    "CREATE UNIQUE INDEX IF NOT EXISTS endpoint_v4 ON endpoint(network, v4);"
    "CREATE UNIQUE INDEX IF NOT EXISTS endpoint_v6 ON endpoint(network, v6);"
    "CREATE UNIQUE INDEX IF NOT EXISTS endpoint_mac ON endpoint(network, mac);"
    "CREATE TABLE IF NOT EXISTS port(protocol INTEGER NOT NULL, host_port INTEGER NOT NULL, host_ip BLOB NOT NULL,"
    " container_port INTEGER NOT NULL, workload TEXT NOT NULL, PRIMARY KEY(protocol, host_port, host_ip)) WITHOUT "
    "ROWID;"
    "CREATE INDEX IF NOT EXISTS port_workload ON port(workload);"
    "CREATE TABLE IF NOT EXISTS active(network TEXT PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS keeper(workload TEXT PRIMARY KEY, pid INTEGER NOT NULL, fd INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "PRAGMA user_version=3;";
// The form of a Hull that knew the default bridge only; what runs goes on.
constexpr const char* kFromVersion0 =
    "DROP INDEX endpoint_v4; DROP INDEX endpoint_v6; DROP INDEX endpoint_mac;"
    "ALTER TABLE endpoint RENAME TO endpoint_before;";
constexpr const char* kTakeOver =
    "INSERT INTO endpoint SELECT workload, ?, interface, host_interface, mac, v4, v6, attached, 0, attached"
    " FROM endpoint_before";

constexpr const char* kColumns =
    "workload, network, interface, host_interface, mac, v4, v6, attached, priority, gateway";

std::span<const uint8_t> blob_of(const IpAddress& address) { return {address.data(), address.size()}; }

std::optional<IpAddress> address_of(const db::Statement& row, int column) {
  const std::span<const uint8_t> bytes = row.blob(column);
  if (bytes.size() == 4) return IpAddress::from_bytes(Family::kV4, bytes.data());
  if (bytes.size() == 16) return IpAddress::from_bytes(Family::kV6, bytes.data());
  return std::nullopt;
}

MacAddress mac_of(const db::Statement& row, int column) {
  MacAddress out;
  const std::span<const uint8_t> bytes = row.blob(column);
  if (bytes.size() == out.bytes.size()) std::memcpy(out.bytes.data(), bytes.data(), bytes.size());
  return out;
}

}  // namespace

std::string endpoint_id(std::string_view workload_id, std::string_view network_id) {
  return default_network_id(fmt::format("{}\n{}", workload_id, network_id));
}

Result<Records> Records::open(const std::string& path, std::string_view boot_id) {
  TRY_ASSIGN(std::unique_ptr<db::Database> database, db::Database::open(path, {.subject = "network records"}));
  Records records(std::move(database));
  db::Database& db = *records.db_;
  // PERSIST: the journal is not made and removed for each change; OFF: see the head of records.h.
  TRY(db.execute("PRAGMA synchronous=OFF; PRAGMA journal_mode=PERSIST;"));
  TRY_ASSIGN(const int64_t version, db.query_number("PRAGMA user_version"));
  if (version != kVersion) {
    TRY_ASSIGN(db::WriteTransaction change, db::WriteTransaction::begin(db));
    const bool before = version == 0 && db.texts("SELECT id FROM boot").ok();
    if (before) TRY(db.execute(kFromVersion0));
    TRY(db.execute(kSchema));
    if (before) {
      TRY(db.run(kTakeOver, default_network_id(kDefaultNetwork)));
      TRY(db.execute("DROP TABLE endpoint_before;"));
    }
    TRY(change.commit());
  }
  TRY_ASSIGN(const auto stored, db.texts("SELECT id FROM boot"));
  if (!stored.empty() && stored.front() == boot_id) return records;
  TRY(
      db.execute("BEGIN IMMEDIATE; DELETE FROM boot; DELETE FROM endpoint; DELETE FROM port; DELETE FROM active;"
                 " DELETE FROM keeper; DELETE FROM number; COMMIT;"));
  TRY(db.run("INSERT OR IGNORE INTO boot VALUES(?)", boot_id));
  return records;
}

Result<Endpoint> Records::read(const db::Statement& row) {
  Endpoint out;
  out.workload_id = row.text(0);
  out.network_id = row.text(1);
  out.interface_name = row.text(2);
  out.host_interface = row.text(3);
  out.mac = mac_of(row, 4);
  out.ipv4 = address_of(row, 5).value_or(IpAddress());
  out.ipv6 = address_of(row, 6);
  out.attached = row.number(7) != 0;
  out.gateway_priority = static_cast<int>(row.number(8));
  out.gateway = row.number(9) != 0;
  out.id = endpoint_id(out.workload_id, out.network_id);
  if (out.gateway) {
    TRY_ASSIGN(out.ports, ports_of(out.workload_id));
  }
  return out;
}

Result<std::vector<PublishedPort>> Records::ports_of(std::string_view workload_id) {
  std::vector<PublishedPort> out;
  TRY_ASSIGN(db::Statement ports, db_->query("SELECT protocol, host_port, host_ip, container_port FROM port WHERE "
                                             "workload=? ORDER BY protocol, container_port, host_port, host_ip",
                                             workload_id));
  while (true) {
    TRY_ASSIGN(const bool more, ports.step());
    if (!more) return out;
    PublishedPort port;
    port.protocol = static_cast<Protocol>(ports.number(0));
    port.host_port = static_cast<uint16_t>(ports.number(1));
    port.host_ip = address_of(ports, 2).value_or(IpAddress());
    port.container_port = static_cast<uint16_t>(ports.number(3));
    out.push_back(port);
  }
}

Result<std::vector<Endpoint>> Records::read_all(db::Statement rows) {
  std::vector<Endpoint> out;
  while (true) {
    TRY_ASSIGN(const bool more, rows.step());
    if (!more) return out;
    TRY_ASSIGN(Endpoint endpoint, read(rows));
    out.push_back(std::move(endpoint));
  }
}

Result<std::vector<Endpoint>> Records::find(std::string_view workload_id) {
  TRY_ASSIGN(db::Statement rows,
             db_->query(fmt::format("SELECT {} FROM endpoint WHERE workload=? ORDER BY length(interface), interface",
                                    kColumns),
                        workload_id));
  return read_all(std::move(rows));
}

Result<std::vector<Endpoint>> Records::list() {
  TRY_ASSIGN(db::Statement rows, db_->prepare(fmt::format("SELECT {} FROM endpoint ORDER BY network, v4", kColumns)));
  return read_all(std::move(rows));
}

Result<std::vector<Endpoint>> Records::list(std::string_view network_id) {
  TRY_ASSIGN(db::Statement rows,
             db_->query(fmt::format("SELECT {} FROM endpoint WHERE network=? ORDER BY v4", kColumns), network_id));
  return read_all(std::move(rows));
}

Result<size_t> Records::count() {
  TRY_ASSIGN(const int64_t count, db_->query_number("SELECT count(*) FROM endpoint"));
  return static_cast<size_t>(count);
}

Result<bool> Records::any(std::string_view network_id) {
  TRY_ASSIGN(db::Statement row, db_->query("SELECT 1 FROM endpoint WHERE network=? LIMIT 1", network_id));
  return row.step();
}

Result<void> Records::insert(const Endpoint& endpoint) {
  TRY_ASSIGN(db::Statement row,
             db_->query(fmt::format("INSERT INTO endpoint({}) VALUES(?,?,?,?,?,?,?,?,?,?)", kColumns),
                        endpoint.workload_id, endpoint.network_id, endpoint.interface_name, endpoint.host_interface,
                        std::span<const uint8_t>(endpoint.mac.bytes), blob_of(endpoint.ipv4)));
  if (endpoint.ipv6) row.bind(7, blob_of(*endpoint.ipv6));
  return row.bind(8, int64_t{endpoint.attached})
      .bind(9, int64_t{endpoint.gateway_priority})
      .bind(10, int64_t{endpoint.gateway})
      .run();
}

Result<void> Records::insert(std::string_view workload_id, const std::vector<PublishedPort>& all) {
  if (all.empty()) return {};
  TRY_ASSIGN(db::Statement ports,
             db_->prepare("INSERT INTO port(protocol, host_port, host_ip, container_port, workload)"
                          " VALUES(?,?,?,?,?)"));
  for (const PublishedPort& port : all) {
    TRY(ports
            .bind_all(static_cast<int64_t>(port.protocol), int64_t{port.host_port}, blob_of(port.host_ip),
                      int64_t{port.container_port}, workload_id)
            .run());
  }
  return {};
}

Result<void> Records::erase(std::string_view workload_id) {
  TRY(db_->run("DELETE FROM port WHERE workload=?", workload_id));
  return db_->run("DELETE FROM endpoint WHERE workload=?", workload_id);
}

Result<void> Records::erase(std::string_view workload_id, std::string_view network_id) {
  return db_->run("DELETE FROM endpoint WHERE workload=? AND network=?", workload_id, network_id);
}

Result<void> Records::set_attached(const Endpoint& endpoint, bool attached, bool gateway) {
  return db_->run("UPDATE endpoint SET attached=?, gateway=? WHERE workload=? AND network=?", int64_t{attached},
                  int64_t{gateway}, endpoint.workload_id, endpoint.network_id);
}

Result<std::vector<std::string>> Records::active() { return db_->texts("SELECT network FROM active ORDER BY network"); }

Result<bool> Records::is_active(std::string_view network_id) {
  TRY_ASSIGN(db::Statement row, db_->query("SELECT 1 FROM active WHERE network=?", network_id));
  return row.step();
}

Result<void> Records::set_active(std::string_view network_id, bool active) {
  return db_->run(active ? "INSERT OR IGNORE INTO active VALUES(?)" : "DELETE FROM active WHERE network=?", network_id);
}

template <typename... Values>
Result<std::optional<std::string>> Records::text(std::string_view sql, const Values&... values) {
  TRY_ASSIGN(db::Statement row, db_->query(sql, values...));
  TRY_ASSIGN(const bool found, row.step());
  return found ? std::optional<std::string>(row.text(0)) : std::nullopt;
}

Result<std::optional<std::string>> Records::holder_of(const std::string& network, const IpAddress& address) {
  return text(address.is_v4() ? "SELECT workload FROM endpoint WHERE network=? AND v4=?"
                              : "SELECT workload FROM endpoint WHERE network=? AND v6=?",
              network, blob_of(address));
}

Result<std::optional<std::string>> Records::holder_of(const std::string& network, const MacAddress& mac) {
  return text("SELECT workload FROM endpoint WHERE network=? AND mac=?", network, std::span<const uint8_t>(mac.bytes));
}

Result<std::optional<std::string>> Records::holder_of(const PublishedPort& port) {
  const auto protocol = static_cast<int64_t>(port.protocol);
  if (port.host_ip.is_unspecified()) {
    return text("SELECT workload FROM port WHERE protocol=?1 AND host_port=?2 AND length(host_ip)=length(?3) LIMIT 1",
                protocol, int64_t{port.host_port}, blob_of(port.host_ip));
  }
  const IpAddress any = port.host_ip.is_v4() ? IpAddress() : Subnet::of(port.host_ip, 0).base();
  return text("SELECT workload FROM port WHERE protocol=?1 AND host_port=?2 AND host_ip IN (?3, ?4) LIMIT 1", protocol,
              int64_t{port.host_port}, blob_of(port.host_ip), blob_of(any));
}

Result<std::optional<IpAddress>> Records::first_free(const std::string& network, const IpAddress& from,
                                                     const IpAddress& to) {
  // Walks the taken addresses in order until one is missing: as many steps as there are neighbours in use.
  TRY_ASSIGN(db::Statement taken,
             db_->query(from.is_v4() ? "SELECT v4 FROM endpoint WHERE network=? AND v4>=? AND v4<=? ORDER BY v4"
                                     : "SELECT v6 FROM endpoint WHERE network=? AND v6>=? AND v6<=? ORDER BY v6",
                        network, blob_of(from), blob_of(to)));
  IpAddress candidate = from;
  while (true) {
    TRY_ASSIGN(const bool more, taken.step());
    if (!more) break;
    if (address_of(taken, 0) != candidate) return std::optional<IpAddress>(candidate);
    if (candidate == to) return std::optional<IpAddress>();
    candidate = candidate.plus(1);
  }
  if (candidate > to) return std::optional<IpAddress>();
  return std::optional<IpAddress>(candidate);
}

Result<std::vector<Records::Keeper>> Records::read_keepers(db::Statement rows) {
  std::vector<Keeper> out;
  while (true) {
    TRY_ASSIGN(const bool more, rows.step());
    if (!more) return out;
    out.push_back({rows.text(0), static_cast<pid_t>(rows.number(1)), static_cast<int>(rows.number(2))});
  }
}

Result<std::vector<Records::Keeper>> Records::keepers() {
  TRY_ASSIGN(db::Statement rows, db_->prepare("SELECT workload, pid, fd FROM keeper LIMIT 16"));
  return read_keepers(std::move(rows));
}

Result<std::vector<Records::Keeper>> Records::keepers_after(std::string_view workload_id) {
  TRY_ASSIGN(
      db::Statement rows,
      db_->query("SELECT workload, pid, fd FROM keeper WHERE workload>? ORDER BY workload LIMIT 2", workload_id));
  return read_keepers(std::move(rows));
}

Result<void> Records::set_keeper(const Keeper& keeper) {
  return db_->run("INSERT OR REPLACE INTO keeper VALUES(?,?,?)", keeper.workload, int64_t{keeper.pid},
                  int64_t{keeper.fd});
}

Result<void> Records::erase_keeper(const Keeper& keeper) {
  return db_->run("DELETE FROM keeper WHERE workload=? AND pid=?", keeper.workload, int64_t{keeper.pid});
}

Result<std::optional<int64_t>> Records::number(std::string_view key) {
  TRY_ASSIGN(db::Statement row, db_->query("SELECT value FROM number WHERE key=?", key));
  TRY_ASSIGN(const bool found, row.step());
  return found ? std::optional<int64_t>(row.number(0)) : std::nullopt;
}

Result<void> Records::set_number(std::string_view key, int64_t value) {
  return db_->run("INSERT INTO number VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=?2", key, value);
}

}  // namespace hull::net
