#pragma once
// Who has which address and port: an SQLite file in run_dir, used under the manager's lock. Nothing is synced to disk,
// for the records describe kernel objects that end with the boot; a killed process can't harm them, for SQLite rolls
// its half-done change back. Internal to this room.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "db/database.h"
#include "net/network.h"

namespace hull::net {

class Records {
 public:
  /// Opens or makes the file. Records of an earlier boot (`boot_id` differs) are dropped.
  static Result<Records> open(const std::string& path, std::string_view boot_id);

  /// The only writer until commit(); rolled back without it.
  Result<db::WriteTransaction> begin() { return db::WriteTransaction::begin(*db_); }

  /// Endpoints come without what the Network knows (prefixes, gateways); those fields are not stored.
  Result<std::optional<Endpoint>> find(std::string_view workload_id);
  Result<std::vector<Endpoint>> list();
  Result<size_t> count();
  /// Whether there is one at all; costs the same for any number.
  Result<bool> any();
  Result<void> insert(const Endpoint& endpoint);
  Result<void> erase(std::string_view workload_id);
  Result<void> set_attached(std::string_view workload_id, bool attached);

  /// The workload that has it, or nothing.
  Result<std::optional<std::string>> holder_of(const std::string& network, const IpAddress& address);
  Result<std::optional<std::string>> holder_of(const std::string& network, const MacAddress& mac);
  /// A workload whose published port overlaps: same family, protocol and port, and same or unspecified address.
  Result<std::optional<std::string>> holder_of(const PublishedPort& port);
  /// The first address in [from, to] that nobody has.
  Result<std::optional<IpAddress>> first_free(const std::string& network, const IpAddress& from, const IpAddress& to);

  /// Small numbers: where the next search starts, which generation of rules was seen.
  Result<std::optional<int64_t>> number(std::string_view key);
  Result<void> set_number(std::string_view key, int64_t value);

 private:
  explicit Records(std::unique_ptr<db::Database> database) : db_(std::move(database)) {}
  /// The first column of the first row.
  template <typename... Values>
  Result<std::optional<std::string>> text(std::string_view sql, const Values&... values);
  Result<Endpoint> read(const db::Statement& row);
  std::unique_ptr<db::Database> db_;
};

}  // namespace hull::net
