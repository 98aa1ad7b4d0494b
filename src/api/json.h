#pragma once
// JSON from clients: one document and nothing else. What two readers could take differently is refused: a member that
// is there twice, bytes after the document, deep nesting, more values than any request needs.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace hull::api {

/// One value with what is in it.
struct Json {
  enum class Type { kNull, kBool, kInteger, kReal, kText, kArray, kObject };
  Type type = Type::kNull;
  bool flag = false;
  int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<Json> items;
  std::vector<std::pair<std::string, Json>> members;  // in the document's order

  bool is(Type wanted) const { return type == wanted; }
  /// A member of an object; null when it is absent or null.
  const Json* find(std::string_view name) const;
  /// false, 0, "", [], {} and null: what Go's clients send for what was not asked for.
  bool is_default() const;
};

/// kInvalid when it is not one whole document.
Result<Json> parse_json(std::string_view text);
/// The same, of an object; an empty text and null are empty objects.
Result<Json> parse_json_object(std::string_view text);
std::string to_text(const Json& value);

/// A member of an object with its type checked. Absent and null leave `out` alone.
Result<void> read_member(const Json& object, std::string_view name, std::string* out);
Result<void> read_member(const Json& object, std::string_view name, bool* out);
Result<void> read_member(const Json& object, std::string_view name, int64_t* out);
Result<void> read_member(const Json& object, std::string_view name, std::vector<std::string>* out);
Result<void> read_member(const Json& object, std::string_view name, std::map<std::string, std::string>* out);

}  // namespace hull::api
