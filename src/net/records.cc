#include "net/records.h"

#include <sqlite3.h>

#include <cstring>

#include "base/error_format.h"

namespace hull::net {
namespace {

// Addresses are blobs of 4 or 16 bytes in network order, so that they sort as numbers do.
constexpr const char* kSchema =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS number(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS boot(id TEXT PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS endpoint(workload TEXT PRIMARY KEY, network TEXT NOT NULL, interface TEXT NOT NULL,"
    " host_interface TEXT NOT NULL, mac BLOB NOT NULL, v4 BLOB NOT NULL, v6 BLOB, attached INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE UNIQUE INDEX IF NOT EXISTS endpoint_v4 ON endpoint(network, v4);"
    "CREATE UNIQUE INDEX IF NOT EXISTS endpoint_v6 ON endpoint(network, v6);"
    "CREATE UNIQUE INDEX IF NOT EXISTS endpoint_mac ON endpoint(network, mac);"
    "CREATE TABLE IF NOT EXISTS port(protocol INTEGER NOT NULL, host_port INTEGER NOT NULL, host_ip BLOB NOT NULL,"
    " container_port INTEGER NOT NULL, workload TEXT NOT NULL, PRIMARY KEY(protocol, host_port, host_ip)) WITHOUT "
    "ROWID;"
    "CREATE INDEX IF NOT EXISTS port_workload ON port(workload);"
    "COMMIT;";

constexpr const char* kColumns = "workload, network, interface, host_interface, mac, v4, v6, attached";

IpAddress address_from(const void* data, int size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  if (size == 4) return IpAddress::from_bytes(Family::kV4, bytes);
  if (size == 16) return IpAddress::from_bytes(Family::kV6, bytes);
  return {};
}

}  // namespace

void Records::Closer::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

/// A prepared statement; positions of bind and column count from 1 and 0 as SQLite has them.
class Records::Statement {
 public:
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}
  sqlite3_stmt* get() const { return statement_.get(); }
  // SQLITE_STATIC: the values outlive the statement's steps everywhere in this file.
  Statement& bind(int position, std::string_view text) {
    sqlite3_bind_text(get(), position, text.data(), static_cast<int>(text.size()), nullptr);
    return *this;
  }
  Statement& bind(int position, const IpAddress& address) {
    sqlite3_bind_blob(get(), position, address.data(), static_cast<int>(address.size()), nullptr);
    return *this;
  }
  Statement& bind(int position, const MacAddress& mac) {
    sqlite3_bind_blob(get(), position, mac.bytes.data(), static_cast<int>(mac.bytes.size()), nullptr);
    return *this;
  }
  Statement& bind(int position, int64_t number) {
    sqlite3_bind_int64(get(), position, number);
    return *this;
  }
  std::string text(int column) const {
    const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(get(), column));
    return bytes == nullptr ? std::string()
                            : std::string(bytes, static_cast<size_t>(sqlite3_column_bytes(get(), column)));
  }
  int64_t number(int column) const { return sqlite3_column_int64(get(), column); }
  std::optional<IpAddress> address(int column) const {
    if (sqlite3_column_type(get(), column) != SQLITE_BLOB) return std::nullopt;
    return address_from(sqlite3_column_blob(get(), column), sqlite3_column_bytes(get(), column));
  }
  MacAddress mac(int column) const {
    MacAddress out;
    if (sqlite3_column_bytes(get(), column) == static_cast<int>(out.bytes.size())) {
      std::memcpy(out.bytes.data(), sqlite3_column_blob(get(), column), out.bytes.size());
    }
    return out;
  }

 private:
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };
  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
};

Error Records::failure(std::string_view what) {
  const int code = sqlite3_extended_errcode(database_.get());
  const ErrorKind kind = code == SQLITE_FULL || code == SQLITE_IOERR_WRITE          ? ErrorKind::kNoSpace
                         : (code & 0xff) == SQLITE_CORRUPT || code == SQLITE_NOTADB ? ErrorKind::kCorrupt
                         : (code & 0xff) == SQLITE_CONSTRAINT                       ? ErrorKind::kConflict
                                                                                    : ErrorKind::kIo;
  return {kind, fmt::format("network records: {}: {}", what, sqlite3_errmsg(database_.get()))};
}

Result<void> Records::execute(const char* sql) {
  if (sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failure("change");
  return {};
}

Result<Records::Statement> Records::prepare(const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database_.get(), sql, -1, &statement, nullptr) != SQLITE_OK) return failure("prepare");
  return Statement(statement);
}

Result<Records> Records::open(const std::string& path, std::string_view boot_id) {
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &raw, flags, nullptr);
  Records records{std::unique_ptr<sqlite3, Closer>(raw)};
  if (code != SQLITE_OK) return records.failure(fmt::format("open {}", path));
  // PERSIST: the journal is not made and removed for each change; OFF: see the head of records.h.
  TRY(records.execute("PRAGMA synchronous=OFF; PRAGMA journal_mode=PERSIST;"));

  auto stored = records.prepare("SELECT id FROM boot");
  if (stored.ok()) {
    TRY_ASSIGN(const auto id, records.text(*stored));
    if (id == boot_id) return records;
    TRY(
        records.execute("BEGIN IMMEDIATE; DELETE FROM boot; DELETE FROM endpoint; DELETE FROM port;"
                        " DELETE FROM number; COMMIT;"));
  } else {
    TRY(records.execute(kSchema));
  }
  TRY_ASSIGN(Statement insert, records.prepare("INSERT OR IGNORE INTO boot VALUES(?)"));
  insert.bind(1, boot_id);
  if (sqlite3_step(insert.get()) != SQLITE_DONE) return records.failure("write the boot");
  return records;
}

Result<Records::Change> Records::begin() {
  TRY(execute("BEGIN IMMEDIATE"));
  return Change(this);
}

Records::Change::~Change() {
  if (records_ != nullptr) ignore_result(records_->execute("ROLLBACK"));
}

Result<void> Records::Change::commit() {
  TRY(records_->execute("COMMIT"));
  records_ = nullptr;
  return {};
}

Result<Endpoint> Records::read(Statement& statement) {
  Endpoint out;
  out.workload_id = statement.text(0);
  out.network = statement.text(1);
  out.interface_name = statement.text(2);
  out.host_interface = statement.text(3);
  out.mac = statement.mac(4);
  out.ipv4 = statement.address(5).value_or(IpAddress());
  out.ipv6 = statement.address(6);
  out.attached = statement.number(7) != 0;
  TRY_ASSIGN(Statement ports, prepare("SELECT protocol, host_port, host_ip, container_port FROM port WHERE workload=?"
                                      " ORDER BY protocol, container_port, host_port, host_ip"));
  ports.bind(1, out.workload_id);
  int code;
  while ((code = sqlite3_step(ports.get())) == SQLITE_ROW) {
    PublishedPort port;
    port.protocol = static_cast<Protocol>(ports.number(0));
    port.host_port = static_cast<uint16_t>(ports.number(1));
    port.host_ip = ports.address(2).value_or(IpAddress());
    port.container_port = static_cast<uint16_t>(ports.number(3));
    out.ports.push_back(port);
  }
  if (code != SQLITE_DONE) return failure("read ports");
  return out;
}

Result<std::optional<Endpoint>> Records::find(std::string_view workload_id) {
  TRY_ASSIGN(Statement statement, prepare(fmt::format("SELECT {} FROM endpoint WHERE workload=?", kColumns).c_str()));
  statement.bind(1, workload_id);
  const int code = sqlite3_step(statement.get());
  if (code == SQLITE_DONE) return std::optional<Endpoint>();
  if (code != SQLITE_ROW) return failure("read an endpoint");
  TRY_ASSIGN(Endpoint endpoint, read(statement));
  return std::optional<Endpoint>(std::move(endpoint));
}

Result<std::vector<Endpoint>> Records::list() {
  std::vector<Endpoint> out;
  TRY_ASSIGN(Statement statement, prepare(fmt::format("SELECT {} FROM endpoint ORDER BY v4", kColumns).c_str()));
  int code;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
    TRY_ASSIGN(Endpoint endpoint, read(statement));
    out.push_back(std::move(endpoint));
  }
  if (code != SQLITE_DONE) return failure("list endpoints");
  return out;
}

Result<size_t> Records::count() {
  TRY_ASSIGN(Statement statement, prepare("SELECT count(*) FROM endpoint"));
  if (sqlite3_step(statement.get()) != SQLITE_ROW) return failure("count endpoints");
  return static_cast<size_t>(statement.number(0));
}

Result<bool> Records::any() {
  TRY_ASSIGN(Statement statement, prepare("SELECT 1 FROM endpoint LIMIT 1"));
  const int code = sqlite3_step(statement.get());
  if (code != SQLITE_ROW && code != SQLITE_DONE) return failure("look for endpoints");
  return code == SQLITE_ROW;
}

Result<void> Records::insert(const Endpoint& endpoint) {
  TRY_ASSIGN(Statement statement,
             prepare(fmt::format("INSERT INTO endpoint({}) VALUES(?,?,?,?,?,?,?,?)", kColumns).c_str()));
  statement.bind(1, endpoint.workload_id).bind(2, endpoint.network).bind(3, endpoint.interface_name);
  statement.bind(4, endpoint.host_interface).bind(5, endpoint.mac).bind(6, endpoint.ipv4);
  if (endpoint.ipv6) statement.bind(7, *endpoint.ipv6);
  statement.bind(8, int64_t{endpoint.attached});
  if (sqlite3_step(statement.get()) != SQLITE_DONE) return failure("write an endpoint");
  if (endpoint.ports.empty()) return {};
  TRY_ASSIGN(Statement ports, prepare("INSERT INTO port(protocol, host_port, host_ip, container_port, workload)"
                                      " VALUES(?,?,?,?,?)"));
  for (const PublishedPort& port : endpoint.ports) {
    ports.bind(1, static_cast<int64_t>(port.protocol)).bind(2, int64_t{port.host_port}).bind(3, port.host_ip);
    ports.bind(4, int64_t{port.container_port}).bind(5, endpoint.workload_id);
    if (sqlite3_step(ports.get()) != SQLITE_DONE) return failure("write a port");
    sqlite3_reset(ports.get());
  }
  return {};
}

Result<void> Records::erase(std::string_view workload_id) {
  for (const char* sql : {"DELETE FROM port WHERE workload=?", "DELETE FROM endpoint WHERE workload=?"}) {
    TRY_ASSIGN(Statement statement, prepare(sql));
    statement.bind(1, workload_id);
    if (sqlite3_step(statement.get()) != SQLITE_DONE) return failure("erase an endpoint");
  }
  return {};
}

Result<void> Records::set_attached(std::string_view workload_id, bool attached) {
  TRY_ASSIGN(Statement statement, prepare("UPDATE endpoint SET attached=? WHERE workload=?"));
  statement.bind(1, int64_t{attached}).bind(2, workload_id);
  if (sqlite3_step(statement.get()) != SQLITE_DONE) return failure("change an endpoint");
  return {};
}

// The first column of the first row.
Result<std::optional<std::string>> Records::text(Statement& statement) {
  const int code = sqlite3_step(statement.get());
  if (code == SQLITE_ROW) return std::optional<std::string>(statement.text(0));
  if (code == SQLITE_DONE) return std::optional<std::string>();
  return failure("read");
}

Result<std::optional<std::string>> Records::holder_of(const std::string& network, const IpAddress& address) {
  const char* sql = address.is_v4() ? "SELECT workload FROM endpoint WHERE network=? AND v4=?"
                                    : "SELECT workload FROM endpoint WHERE network=? AND v6=?";
  TRY_ASSIGN(Statement statement, prepare(sql));
  return text(statement.bind(1, network).bind(2, address));
}

Result<std::optional<std::string>> Records::holder_of(const std::string& network, const MacAddress& mac) {
  TRY_ASSIGN(Statement statement, prepare("SELECT workload FROM endpoint WHERE network=? AND mac=?"));
  return text(statement.bind(1, network).bind(2, mac));
}

Result<std::optional<std::string>> Records::holder_of(const PublishedPort& port) {
  const IpAddress any = port.host_ip.is_v4() ? IpAddress() : Subnet::of(port.host_ip, 0).base();
  const char* sql =
      port.host_ip.is_unspecified()
          ? "SELECT workload FROM port WHERE protocol=?1 AND host_port=?2 AND length(host_ip)=length(?3) LIMIT 1"
          : "SELECT workload FROM port WHERE protocol=?1 AND host_port=?2 AND host_ip IN (?3, ?4) LIMIT 1";
  TRY_ASSIGN(Statement statement, prepare(sql));
  statement.bind(1, static_cast<int64_t>(port.protocol)).bind(2, int64_t{port.host_port}).bind(3, port.host_ip);
  if (!port.host_ip.is_unspecified()) statement.bind(4, any);
  return text(statement);
}

Result<std::optional<IpAddress>> Records::first_free(const std::string& network, const IpAddress& from,
                                                     const IpAddress& to) {
  // Walks the taken addresses in order until one is missing: as many steps as there are neighbours in use.
  TRY_ASSIGN(Statement statement,
             prepare(from.is_v4() ? "SELECT v4 FROM endpoint WHERE network=? AND v4>=? AND v4<=? ORDER BY v4"
                                  : "SELECT v6 FROM endpoint WHERE network=? AND v6>=? AND v6<=? ORDER BY v6"));
  statement.bind(1, network).bind(2, from).bind(3, to);
  IpAddress candidate = from;
  int code;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
    if (statement.address(0) != candidate) return std::optional<IpAddress>(candidate);
    if (candidate == to) return std::optional<IpAddress>();
    candidate = candidate.plus(1);
  }
  if (code != SQLITE_DONE) return failure("look for a free address");
  if (candidate > to) return std::optional<IpAddress>();
  return std::optional<IpAddress>(candidate);
}

Result<std::optional<int64_t>> Records::number(std::string_view key) {
  TRY_ASSIGN(Statement statement, prepare("SELECT value FROM number WHERE key=?"));
  statement.bind(1, key);
  const int code = sqlite3_step(statement.get());
  if (code == SQLITE_ROW) return std::optional<int64_t>(statement.number(0));
  if (code == SQLITE_DONE) return std::optional<int64_t>();
  return failure("read a number");
}

Result<void> Records::set_number(std::string_view key, int64_t value) {
  TRY_ASSIGN(Statement statement, prepare("INSERT INTO number VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=?2"));
  statement.bind(1, key).bind(2, value);
  if (sqlite3_step(statement.get()) != SQLITE_DONE) return failure("write a number");
  return {};
}

}  // namespace hull::net
