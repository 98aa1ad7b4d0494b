#pragma once
// Who has which address and port: an SQLite file in run_dir, used under the manager's lock. Nothing is synced to disk,
// for the records describe kernel objects that end with the boot; a killed process can't harm them, for SQLite rolls
// its half-done change back. Internal to this room.

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/network.h"

struct sqlite3;
struct sqlite3_stmt;

namespace hull::net {

class Records {
 public:
  /// Opens or makes the file. Records of an earlier boot (`boot_id` differs) are dropped.
  static Result<Records> open(const std::string& path, std::string_view boot_id);

  /// A transaction: rolled back unless commit() is called.
  class Change {
   public:
    Change(Change&& other) noexcept : records_(std::exchange(other.records_, nullptr)) {}
    Change& operator=(Change&&) = delete;
    ~Change();
    Result<void> commit();

   private:
    friend class Records;
    explicit Change(Records* records) : records_(records) {}
    Records* records_;
  };
  Result<Change> begin();

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
  struct Closer {
    void operator()(sqlite3* database) const;
  };
  class Statement;
  explicit Records(std::unique_ptr<sqlite3, Closer> database) : database_(std::move(database)) {}
  Result<void> execute(const char* sql);
  Result<Statement> prepare(const char* sql);
  Result<std::optional<std::string>> text(Statement& statement);
  Result<Endpoint> read(Statement& statement);
  Error failure(std::string_view what);
  std::unique_ptr<sqlite3, Closer> database_;
};

}  // namespace hull::net
