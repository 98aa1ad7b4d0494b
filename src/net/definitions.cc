#include "net/definitions.h"

#include <algorithm>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::net {
namespace {

// Subnets and addresses as texts: they are read by people, and compared as values after reading.
constexpr const char* kSchema =
    "CREATE TABLE IF NOT EXISTS network(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,"
    " driver TEXT NOT NULL, created INTEGER NOT NULL, internal INTEGER NOT NULL, attachable INTEGER NOT NULL,"
    " device TEXT NOT NULL, subnet4 TEXT NOT NULL, gateway4 TEXT NOT NULL, range4 TEXT NOT NULL, subnet6 TEXT NOT NULL,"
    " gateway6 TEXT NOT NULL, range6 TEXT NOT NULL, parent TEXT NOT NULL, makes_parent INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS word(network TEXT NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL,"
    " value TEXT NOT NULL, PRIMARY KEY(network, kind, key)) WITHOUT ROWID;"
    "PRAGMA user_version=1;";
constexpr const char* kColumns =
    "id, name, driver, created, internal, attachable, device, subnet4, gateway4, range4, subnet6, gateway6, range6,"
    " parent, makes_parent";
constexpr int kSchemaVersion = 1;

enum Kind : int64_t { kOption = 0, kLabel = 1, kIpamOption = 2, kTaken = 3 };

std::string text_of(const std::optional<Subnet>& subnet) { return subnet ? subnet->str() : std::string(); }
std::string text_of(const std::optional<IpAddress>& address) { return address ? address->str() : std::string(); }

Result<std::optional<Subnet>> subnet_of(const std::string& text) {
  if (text.empty()) return std::optional<Subnet>();
  TRY_ASSIGN(const Subnet subnet, Subnet::parse(text));
  return std::optional<Subnet>(subnet);
}
Result<std::optional<IpAddress>> address_of(const std::string& text) {
  if (text.empty()) return std::optional<IpAddress>();
  TRY_ASSIGN(const IpAddress address, IpAddress::parse(text));
  return std::optional<IpAddress>(address);
}

bool is_hex(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

bool Definitions::exist(const std::string& path) { return sys::exists(path); }

Result<Definitions> Definitions::open(const std::string& path) {
  TRY_ASSIGN(std::unique_ptr<db::Database> database, db::Database::open(path, {.subject = "definitions of networks"}));
  TRY_ASSIGN(const int64_t version, database->query_number("PRAGMA user_version"));
  if (version > kSchemaVersion) {
    return errorf(ErrorKind::kUnsupported, "{}: version {}, this Hull knows up to {}; use a newer Hull", path, version,
                  kSchemaVersion);
  }
  if (version == 0) {
    TRY_ASSIGN(db::WriteTransaction change, db::WriteTransaction::begin(*database));
    TRY(database->execute(kSchema));
    TRY(change.commit());
  }
  return Definitions(std::move(database));
}

Result<void> Definitions::add(const Network& n) {
  TRY_ASSIGN(db::WriteTransaction change, db::WriteTransaction::begin(*db_));
  TRY(db_->run(fmt::format("INSERT INTO network({}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", kColumns), n.id, n.name,
               to_string(n.driver), n.created_ns, int64_t{n.internal}, int64_t{n.attachable}, n.bridge_device,
               n.subnet4.str(), n.gateway4.is_unspecified() ? std::string() : n.gateway4.str(), text_of(n.range4),
               text_of(n.subnet6), text_of(n.gateway6), text_of(n.range6), n.parent, int64_t{n.makes_parent}));
  const auto words = [&](Kind kind, const std::map<std::string, std::string>& map) -> Result<void> {
    for (const auto& [key, value] : map) {
      TRY(db_->run("INSERT INTO word VALUES(?,?,?,?)", n.id, int64_t{kind}, key, value));
    }
    return {};
  };
  TRY(words(kOption, n.options));
  TRY(words(kLabel, n.labels));
  TRY(words(kIpamOption, n.ipam_options));
  std::map<std::string, std::string> taken;
  for (const auto& [name, address] : n.taken) taken.emplace(name, address.str());
  TRY(words(kTaken, taken));
  return change.commit();
}

Result<void> Definitions::remove(std::string_view id) {
  TRY_ASSIGN(db::WriteTransaction change, db::WriteTransaction::begin(*db_));
  TRY(db_->run("DELETE FROM word WHERE network=?", id));
  TRY(db_->run("DELETE FROM network WHERE id=?", id));
  return change.commit();
}

Result<Network> Definitions::read(const db::Statement& row) {
  Network n;
  n.id = row.text(0);
  n.name = row.text(1);
  const std::string driver = row.text(2);
  n.driver = driver == "macvlan" ? Driver::kMacvlan : driver == "ipvlan" ? Driver::kIpvlan : Driver::kBridge;
  n.created_ns = row.number(3);
  n.internal = row.number(4) != 0;
  n.attachable = row.number(5) != 0;
  n.bridge_device = row.text(6);
  TRY_ASSIGN(n.subnet4, Subnet::parse(row.text(7)));
  TRY_ASSIGN(const auto gateway4, address_of(row.text(8)));
  if (gateway4) n.gateway4 = *gateway4;
  TRY_ASSIGN(n.range4, subnet_of(row.text(9)));
  TRY_ASSIGN(n.subnet6, subnet_of(row.text(10)));
  TRY_ASSIGN(n.gateway6, address_of(row.text(11)));
  TRY_ASSIGN(n.range6, subnet_of(row.text(12)));
  n.parent = row.text(13);
  n.makes_parent = row.number(14) != 0;
  TRY_ASSIGN(db::Statement words, db_->query("SELECT kind, key, value FROM word WHERE network=?", n.id));
  while (true) {
    TRY_ASSIGN(const bool more, words.step());
    if (!more) break;
    std::string key = words.text(1);
    std::string value = words.text(2);
    switch (words.number(0)) {
      case kOption:
        n.options.emplace(std::move(key), std::move(value));
        break;
      case kLabel:
        n.labels.emplace(std::move(key), std::move(value));
        break;
      case kIpamOption:
        n.ipam_options.emplace(std::move(key), std::move(value));
        break;
      default: {
        TRY_ASSIGN(const IpAddress address, IpAddress::parse(value));
        n.taken.emplace(std::move(key), address);
      }
    }
  }
  TRY(apply_options(n));
  return n;
}

Result<std::vector<Network>> Definitions::read_all(db::Statement rows) {
  std::vector<Network> out;
  while (true) {
    TRY_ASSIGN(const bool more, rows.step());
    if (!more) return out;
    auto network = read(rows);
    if (!network.ok()) return std::move(network).error().as(ErrorKind::kCorrupt).context("definitions of networks");
    out.push_back(std::move(*network));
  }
}

Result<std::vector<Network>> Definitions::list() {
  TRY_ASSIGN(db::Statement rows, db_->prepare(fmt::format("SELECT {} FROM network ORDER BY number", kColumns)));
  return read_all(std::move(rows));
}

Result<std::optional<Network>> Definitions::by_id(std::string_view id) {
  TRY_ASSIGN(db::Statement rows, db_->query(fmt::format("SELECT {} FROM network WHERE id=?", kColumns), id));
  TRY_ASSIGN(auto found, read_all(std::move(rows)));
  if (found.empty()) return std::optional<Network>();
  return std::optional<Network>(std::move(found.front()));
}

Result<std::optional<Network>> Definitions::find(std::string_view ref) {
  TRY_ASSIGN(
      db::Statement exact,
      db_->query(fmt::format("SELECT {} FROM network WHERE name=?1 OR id=?1 ORDER BY id=?1 DESC", kColumns), ref));
  TRY_ASSIGN(auto found, read_all(std::move(exact)));
  if (found.empty() && is_hex(ref)) {
    TRY_ASSIGN(
        db::Statement prefixed,
        db_->query(fmt::format("SELECT {} FROM network WHERE substr(id, 1, length(?1))=?1 LIMIT 2", kColumns), ref));
    TRY_ASSIGN(found, read_all(std::move(prefixed)));
    if (found.size() > 1) {
      return errorf(ErrorKind::kConflict, "network {} is ambiguous ({} matches found on ID prefix)", ref, found.size());
    }
  }
  if (found.empty()) return std::optional<Network>();
  return std::optional<Network>(std::move(found.front()));
}

}  // namespace hull::net
