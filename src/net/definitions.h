#pragma once
// The networks that users made: their definitions on disk, for ever. Internal to this room.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "db/database.h"
#include "net/network.h"

namespace hull::net {

class Definitions {
 public:
  /// Makes the file when it is absent. A commit that returned survives a power cut.
  static Result<Definitions> open(const std::string& path);
  /// Whether there is a file at all: where no network was ever made, none is opened.
  static bool exist(const std::string& path);

  /// kExists when the name is taken.
  Result<void> add(const Network& network);
  Result<void> remove(std::string_view id);
  /// In the order in which they were made.
  Result<std::vector<Network>> list();
  Result<std::optional<Network>> by_id(std::string_view id);
  /// By name, id, or a prefix of one id only; kConflict when several begin so.
  Result<std::optional<Network>> find(std::string_view ref);

 private:
  explicit Definitions(std::unique_ptr<db::Database> database) : db_(std::move(database)) {}
  Result<Network> read(const db::Statement& row);
  Result<std::vector<Network>> read_all(db::Statement rows);
  std::unique_ptr<db::Database> db_;
};

/// What the options of a network mean, put into its fields; an option that is not known, or not with this driver, is
/// kInvalid or kUnsupported and named.
Result<void> apply_options(Network& network);

}  // namespace hull::net
