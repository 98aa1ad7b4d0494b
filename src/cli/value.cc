#include "cli/value.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error_format.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

constexpr size_t kMaxJson = 64 << 20;
constexpr size_t kMaxDepth = 64;

/// Builds a Value from the events of nlohmann's parser, so that its own tree is never made.
class Builder {
 public:
  // The names and types are nlohmann's SAX interface.
  bool null() { return add(Value()); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(int64_t value) { return add(value); }
  bool number_unsigned(uint64_t value) {
    if (value > static_cast<uint64_t>(INT64_MAX)) return add(static_cast<double>(value));
    return add(static_cast<int64_t>(value));
  }
  bool number_float(double value, const std::string&) { return add(value); }
  bool string(std::string& value) { return add(Value(std::move(value))); }
  bool binary(std::vector<uint8_t>&) { return false; }
  bool start_object(size_t) { return open(Value::object()); }
  bool start_array(size_t) { return open(Value::array()); }
  bool key(std::string& name) {
    keys_.back() = std::move(name);
    return true;
  }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) {
    problem_ = error.what();
    return false;
  }

  Value root;
  const std::string& problem() const { return problem_; }

 private:
  bool add(Value value) {
    if (stack_.empty()) {
      root = std::move(value);
    } else if (stack_.back().if_object() != nullptr) {
      stack_.back().if_object()->emplace_back(std::move(keys_.back()), std::move(value));
    } else {
      stack_.back().push(std::move(value));
    }
    return true;
  }
  bool open(Value value) {
    if (stack_.size() >= kMaxDepth) {
      problem_ = "nested too deeply";
      return false;
    }
    stack_.push_back(std::move(value));
    keys_.emplace_back();
    return true;
  }
  bool close() {
    Value done = std::move(stack_.back());
    stack_.pop_back();
    keys_.pop_back();
    return add(std::move(done));
  }

  std::vector<Value> stack_;
  std::vector<std::string> keys_;  // the member being read of each open object
  std::string problem_;
};

}  // namespace

Result<Value> Value::parse(std::string_view json) {
  if (json.size() > kMaxJson) return errorf(ErrorKind::kInvalid, "JSON of {} bytes is too large", json.size());
  Builder builder;
  if (!nlohmann::json::sax_parse(json, &builder)) {
    return errorf(ErrorKind::kInvalid, "JSON: {:.200}", builder.problem());
  }
  return std::move(builder.root);
}

Value& Value::set(std::string_view key, Value value) {
  if (if_object() == nullptr) data_ = Object();
  auto& members = *if_object();
  for (auto& [name, old] : members) {
    if (name == key) {
      old = std::move(value);
      return *this;
    }
  }
  members.emplace_back(std::string(key), std::move(value));
  return *this;
}

Value& Value::push(Value value) {
  if (if_array() == nullptr) data_ = Array();
  std::get<Array>(data_).push_back(std::move(value));
  return *this;
}

const Value* Value::find(std::string_view key) const {
  const Object* members = if_object();
  if (members == nullptr) return nullptr;
  for (const auto& [name, value] : *members) {
    if (name == key) return &value;
  }
  return nullptr;
}

std::string Value::dump(int indent) const {
  std::string out;
  dump_to(out, indent, 0);
  return out;
}

void Value::dump_to(std::string& out, int indent, int depth) const {
  const auto line = [&](int level) {
    if (indent > 0) {
      out += '\n';
      out.append(static_cast<size_t>(level) * static_cast<size_t>(indent), ' ');
    }
  };
  if (is_null()) {
    out += "null";
  } else if (const bool* truth = if_bool()) {
    out += *truth ? "true" : "false";
  } else if (const int64_t* number = if_int()) {
    out += std::to_string(*number);
  } else if (const double* real = if_double()) {
    out += std::isfinite(*real) ? fmt::format("{}", *real) : "null";
  } else if (const std::string* text = if_string()) {
    out += json_string(*text);
  } else if (const Array* items = if_array()) {
    out += '[';
    for (size_t i = 0; i < items->size(); ++i) {
      if (i > 0) out += ',';
      line(depth + 1);
      (*items)[i].dump_to(out, indent, depth + 1);
    }
    if (!items->empty()) line(depth);
    out += ']';
  } else if (const Object* members = if_object()) {
    out += '{';
    for (size_t i = 0; i < members->size(); ++i) {
      if (i > 0) out += ',';
      line(depth + 1);
      out += json_string((*members)[i].first);
      out += indent > 0 ? ": " : ":";
      (*members)[i].second.dump_to(out, indent, depth + 1);
    }
    if (!members->empty()) line(depth);
    out += '}';
  }
}

std::string json_string(std::string_view text) {
  std::string out = "\"";
  // Bytes that are not UTF-8 become U+FFFD, as with Go's encoder; what comes out is always valid JSON.
  const bool valid = valid_utf8(text);
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (byte < 0x20 || byte == 0x7f) {
          out += fmt::format("\\u{:04x}", byte);
        } else if (byte >= 0x80 && !valid) {
          out += "\\ufffd";
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

}  // namespace hull::cli
