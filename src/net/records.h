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

/// 64 hexadecimal digits that stay the same for the two.
std::string endpoint_id(std::string_view workload_id, std::string_view network_id);

class Records {
 public:
  /// Opens or makes the file. Records of an earlier boot (`boot_id` differs) are dropped.
  static Result<Records> open(const std::string& path, std::string_view boot_id);

  /// The only writer until commit(); rolled back without it.
  Result<db::WriteTransaction> begin() { return db::WriteTransaction::begin(*db_); }

  /// Endpoints come without what the Network knows (its name and driver, prefixes, gateways); those fields are not
  /// stored. Published ports come with the one that is the gateway. In the order of their interfaces.
  Result<std::vector<Endpoint>> find(std::string_view workload_id);
  Result<std::vector<Endpoint>> list();
  Result<std::vector<Endpoint>> list(std::string_view network_id);
  Result<size_t> count();
  /// Whether a network has one at all; costs the same for any number.
  Result<bool> any(std::string_view network_id);
  Result<void> insert(const Endpoint& endpoint);
  Result<void> insert(std::string_view workload_id, const std::vector<PublishedPort>& ports);
  /// Endpoints and ports.
  Result<void> erase(std::string_view workload_id);
  /// One endpoint; ports stay.
  Result<void> erase(std::string_view workload_id, std::string_view network_id);
  Result<void> set_attached(const Endpoint& endpoint, bool attached, bool gateway);
  Result<std::vector<PublishedPort>> ports_of(std::string_view workload_id);

  /// Networks of users whose devices and rules were made in this boot.
  Result<std::vector<std::string>> active();
  Result<bool> is_active(std::string_view network_id);
  Result<void> set_active(std::string_view network_id, bool active);

  /// The workload that has it, or nothing.
  Result<std::optional<std::string>> holder_of(const std::string& network, const IpAddress& address);
  Result<std::optional<std::string>> holder_of(const std::string& network, const MacAddress& mac);
  /// A workload whose published port overlaps: same family, protocol and port, and same or unspecified address.
  Result<std::optional<std::string>> holder_of(const PublishedPort& port);
  /// The first address in [from, to] that nobody has.
  Result<std::optional<IpAddress>> first_free(const std::string& network, const IpAddress& from, const IpAddress& to);

  /// A process that holds the socket which owns the rules.
  struct Keeper {
    std::string workload;
    pid_t pid = 0;
    int fd = -1;
  };
  /// A few of them, perhaps dead ones among them: a keeper lives a little longer than its workload.
  Result<std::vector<Keeper>> keepers();
  Result<void> set_keeper(const Keeper& keeper);
  Result<void> erase_keeper(const Keeper& keeper);
  /// The next two in the order of their workloads' ids.
  Result<std::vector<Keeper>> keepers_after(std::string_view workload_id);

  /// Small numbers: where the next search starts, which generation of rules was seen.
  Result<std::optional<int64_t>> number(std::string_view key);
  Result<void> set_number(std::string_view key, int64_t value);

 private:
  explicit Records(std::unique_ptr<db::Database> database) : db_(std::move(database)) {}
  /// The first column of the first row.
  template <typename... Values>
  Result<std::optional<std::string>> text(std::string_view sql, const Values&... values);
  Result<Endpoint> read(const db::Statement& row);
  Result<std::vector<Keeper>> read_keepers(db::Statement rows);
  Result<std::vector<Endpoint>> read_all(db::Statement rows);
  std::unique_ptr<db::Database> db_;
};

}  // namespace hull::net
