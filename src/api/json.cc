#include "api/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "api/request.h"
#include "base/error_format.h"
#include "base/json_nesting.h"
#include "base/json_writer.h"

namespace hull::api {
namespace {

constexpr int kDeepest = 48;
constexpr size_t kMostValues = 200'000;

using Type = Json::Type;

/// Takes nlohmann-json's events; each returns false to stop the parser.
class Builder {
 public:
  explicit Builder(Json* root) : root_(root) {}
  const std::string& fault() const { return fault_; }

  bool null() { return place() != nullptr; }
  bool boolean(bool value) {
    return set(Type::kBool, [&](Json& v) { v.flag = value; });
  }
  bool number_integer(int64_t value) {
    return set(Type::kInteger, [&](Json& v) { v.integer = value; });
  }
  bool number_unsigned(uint64_t value) {
    if (value <= INT64_MAX) return number_integer(static_cast<int64_t>(value));
    return number_float(static_cast<double>(value), "");
  }
  bool number_float(double value, const std::string&) {
    return set(Type::kReal, [&](Json& v) { v.real = value; });
  }
  bool string(std::string& value) {
    if (value.find('\0') != std::string::npos) return fail("a text holds a NUL character");
    return set(Type::kText, [&](Json& v) { v.text = std::move(value); });
  }
  bool binary(std::vector<uint8_t>&) { return false; }
  bool start_object(size_t) { return open(Type::kObject); }
  bool end_object() { return close(); }
  bool start_array(size_t) { return open(Type::kArray); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    if (!keys_.back().insert(name).second) return fail(fmt::format("the member {} is there twice", name));
    name_ = std::move(name);
    return true;
  }
  template <typename E>
  bool parse_error(size_t at, const std::string&, const E&) {
    return fail(fmt::format("not one whole JSON document (byte {})", at));
  }

 private:
  bool fail(std::string what) {
    if (fault_.empty()) fault_ = std::move(what);
    return false;
  }
  /// Where the next value goes.
  Json* place() {
    if (++values_ > kMostValues) {
      fail("too many values");
      return nullptr;
    }
    if (open_.empty()) return root_;
    Json& parent = *open_.back();
    if (parent.type == Type::kArray) return &parent.items.emplace_back();
    return &parent.members.emplace_back(std::move(name_), Json()).second;
  }
  template <typename F>
  bool set(Type type, F fill) {
    Json* const value = place();
    if (value == nullptr) return false;
    value->type = type;
    fill(*value);
    return true;
  }
  bool open(Type type) {
    Json* const value = place();
    if (value == nullptr) return false;
    value->type = type;
    open_.push_back(value);
    keys_.emplace_back();
    return true;
  }
  bool close() {
    open_.pop_back();
    keys_.pop_back();
    return true;
  }

  Json* root_;
  std::vector<Json*> open_;  // stable: only the last one of a list grows
  std::vector<std::set<std::string>> keys_;
  std::string name_, fault_;
  size_t values_ = 0;
};

Error wrong_type(std::string_view name, std::string_view expected) {
  return errorf(ErrorKind::kInvalid, "invalid JSON: {}: expected {}", name, expected);
}

void print_text(std::string_view text, std::string& out) {
  JsonWriter w;
  w.value(text);
  out += std::move(w).take();
}

void print(const Json& value, std::string& out) {
  switch (value.type) {
    case Type::kNull:
      out += "null";
      return;
    case Type::kBool:
      out += value.flag ? "true" : "false";
      return;
    case Type::kInteger:
      out += fmt::format("{}", value.integer);
      return;
    case Type::kReal:
      out += fmt::format("{}", value.real);
      return;
    case Type::kText:
      return print_text(value.text, out);
    case Type::kArray:
      out += '[';
      for (const Json& item : value.items) {
        if (&item != &value.items.front()) out += ',';
        print(item, out);
      }
      out += ']';
      return;
    case Type::kObject:
      out += '{';
      for (const auto& member : value.members) {
        if (&member != &value.members.front()) out += ',';
        print_text(member.first, out);
        out += ':';
        print(member.second, out);
      }
      out += '}';
  }
}

}  // namespace

const Json* Json::find(std::string_view name) const {
  for (const auto& [key, value] : members) {
    if (key == name) return value.type == Type::kNull ? nullptr : &value;
  }
  return nullptr;
}

bool Json::is_default() const {
  switch (type) {
    case Type::kNull:
      return true;
    case Type::kBool:
      return !flag;
    case Type::kInteger:
      return integer == 0;
    case Type::kReal:
      return real == 0;
    case Type::kText:
      return text.empty();
    case Type::kArray:
      return std::all_of(items.begin(), items.end(), [](const Json& item) { return item.is_default(); });
    case Type::kObject:
      return std::all_of(members.begin(), members.end(), [](const auto& item) { return item.second.is_default(); });
  }
  return false;
}

Result<Json> parse_json(std::string_view text) {
  if (!json_nests_within(text, kDeepest)) {
    return errorf(ErrorKind::kInvalid, "invalid JSON: nested deeper than {} levels", kDeepest);
  }
  Json out;
  Builder builder(&out);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) {
    return errorf(ErrorKind::kInvalid, "invalid JSON: {}", builder.fault());
  }
  return out;
}

Result<Json> parse_json_object(std::string_view text) {
  Json out;
  if (!text.empty()) {
    TRY_ASSIGN(out, parse_json(text));
  }
  if (out.type == Type::kNull) out.type = Type::kObject;
  if (out.type != Type::kObject) return errorf(ErrorKind::kInvalid, "invalid JSON: expected an object");
  return out;
}

std::string to_text(const Json& value) {
  std::string out;
  print(value, out);
  return out;
}

Result<void> read_member(const Json& object, std::string_view name, std::string* out) {
  if (const Json* value = object.find(name)) {
    if (!value->is(Type::kText)) return wrong_type(name, "a text");
    *out = value->text;
  }
  return {};
}

Result<void> read_member(const Json& object, std::string_view name, bool* out) {
  if (const Json* value = object.find(name)) {
    if (!value->is(Type::kBool)) return wrong_type(name, "true or false");
    *out = value->flag;
  }
  return {};
}

Result<void> read_member(const Json& object, std::string_view name, int64_t* out) {
  if (const Json* value = object.find(name)) {
    if (!value->is(Type::kInteger)) return wrong_type(name, "a whole number");
    *out = value->integer;
  }
  return {};
}

Result<void> read_member(const Json& object, std::string_view name, std::vector<std::string>* out) {
  if (const Json* value = object.find(name)) {
    if (!value->is(Type::kArray)) return wrong_type(name, "a list of texts");
    out->clear();
    for (const Json& item : value->items) {
      if (!item.is(Type::kText)) return wrong_type(name, "a list of texts");
      out->push_back(item.text);
    }
  }
  return {};
}

Result<void> read_member(const Json& object, std::string_view name, std::map<std::string, std::string>* out) {
  if (const Json* value = object.find(name)) {
    if (!value->is(Type::kObject)) return wrong_type(name, "an object of texts");
    out->clear();
    for (const auto& [key, item] : value->members) {
      if (!item.is(Type::kText)) return wrong_type(name, "an object of texts");
      out->emplace(key, item.text);
    }
  }
  return {};
}

Result<Filters> parse_filters(std::string_view text, const std::vector<std::string_view>& known) {
  Filters out;
  auto parsed = parse_json_object(text);
  if (!parsed.ok()) return std::move(parsed).error().context("invalid filter");
  for (const auto& [name, values] : parsed->members) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return errorf(ErrorKind::kInvalid, "invalid filter '{}'", name);
    }
    if (values.is(Type::kArray)) {
      for (const Json& value : values.items) {
        if (!value.is(Type::kText)) return errorf(ErrorKind::kInvalid, "invalid filter: {}: expected texts", name);
        out.emplace(name, value.text);
      }
    } else if (values.is(Type::kObject)) {
      // The older form; a member that is false says nothing.
      for (const auto& [value, on] : values.members) {
        if (!on.is(Type::kBool)) return errorf(ErrorKind::kInvalid, "invalid filter: {}: expected true or false", name);
        if (on.flag) out.emplace(name, value);
      }
    } else {
      return errorf(ErrorKind::kInvalid, "invalid filter: {} has to be a list or an object", name);
    }
  }
  return out;
}

}  // namespace hull::api
