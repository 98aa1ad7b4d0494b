#pragma once
// A JSON value as templates and --format json use it: objects keep the order of their members.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"

namespace hull::cli {

class Value {
 public:
  using Array = std::vector<Value>;
  using Object = std::vector<std::pair<std::string, Value>>;

  Value() = default;
  Value(bool value) : data_(value) {}                            // NOLINT(google-explicit-constructor)
  Value(int value) : data_(static_cast<int64_t>(value)) {}       // NOLINT(google-explicit-constructor)
  Value(int64_t value) : data_(value) {}                         // NOLINT(google-explicit-constructor)
  Value(uint64_t value) : data_(static_cast<int64_t>(value)) {}  // NOLINT(google-explicit-constructor)
  Value(double value) : data_(value) {}                          // NOLINT(google-explicit-constructor)
  Value(std::string value) : data_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Value(std::string_view value) : data_(std::string(value)) {}   // NOLINT(google-explicit-constructor)
  Value(const char* value) : data_(std::string(value)) {}        // NOLINT(google-explicit-constructor)
  Value(Array value) : data_(std::move(value)) {}                // NOLINT(google-explicit-constructor)
  Value(Object value) : data_(std::move(value)) {}               // NOLINT(google-explicit-constructor)
  static Value object() { return Value(Object()); }
  static Value array() { return Value(Array()); }

  /// RFC 8259, at most 64 levels deep and 64 MiB.
  static Result<Value> parse(std::string_view json);
  /// indent 0: one line, as Go's encoder writes it; otherwise one member a line.
  std::string dump(int indent = 0) const;

  bool is_null() const { return std::holds_alternative<std::monostate>(data_); }
  const bool* if_bool() const { return std::get_if<bool>(&data_); }
  const int64_t* if_int() const { return std::get_if<int64_t>(&data_); }
  const double* if_double() const { return std::get_if<double>(&data_); }
  const std::string* if_string() const { return std::get_if<std::string>(&data_); }
  const Array* if_array() const { return std::get_if<Array>(&data_); }
  const Object* if_object() const { return std::get_if<Object>(&data_); }
  Object* if_object() { return std::get_if<Object>(&data_); }

  /// Sets a member of an object (anything else becomes one).
  Value& set(std::string_view key, Value value);
  /// Appends to an array (anything else becomes one).
  Value& push(Value value);
  /// A member of an object, or null.
  const Value* find(std::string_view key) const;

  bool operator==(const Value&) const = default;

 private:
  void dump_to(std::string& out, int indent, int depth) const;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> data_;
};

/// A JSON string with its quotes.
std::string json_string(std::string_view text);

template <typename Map>
Value to_value(const Map& map) {
  Value out = Value::object();
  for (const auto& [key, value] : map) out.set(key, value);
  return out;
}
inline Value to_value(const std::vector<std::string>& list) {
  Value out = Value::array();
  for (const std::string& text : list) out.push(text);
  return out;
}

}  // namespace hull::cli
