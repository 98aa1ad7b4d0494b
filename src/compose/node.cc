#include "compose/node.h"

#include <charconv>
#include <set>

namespace hull::compose {
namespace {

bool is_null_text(std::string_view text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

std::optional<int64_t> int_of(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  int base = 10;
  if (text.starts_with("0x")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.starts_with("0o")) {
    base = 8;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text[0] == '0') {
    base = 8;
    text.remove_prefix(1);
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (text.empty() || text[0] == '-' || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return negative ? -value : value;
}

std::optional<double> float_of(std::string_view text) {
  if (!text.empty() && text[0] == '+') text.remove_prefix(1);
  // Not "inf" and "nan", which from_chars takes and YAML writes otherwise.
  if (text.find_first_not_of("0123456789.eE+-") != std::string_view::npos) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<bool> bool_of(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return std::nullopt;
}

}  // namespace

std::string Mark::str() const { return file == nullptr ? std::string() : fmt::format("{}:{}", *file, line); }

const std::string* intern_file(std::string_view path) {
  static std::set<std::string, std::less<>> names;
  const auto found = names.find(path);
  return found != names.end() ? &*found : &*names.emplace(path).first;
}

Error error_at(const Mark& mark, std::string_view message) {
  if (mark.file == nullptr) return {ErrorKind::kInvalid, std::string(message)};
  return errorf(ErrorKind::kInvalid, "{}: {}", mark.str(), message);
}

Node Node::scalar(std::string_view text, Mark mark, Style style) {
  Node node;
  node.kind = Kind::kScalar;
  node.style = style;
  node.mark = mark;
  node.text = text;
  return node;
}
Node Node::number(int64_t value, Mark mark) { return scalar(std::to_string(value), mark, Style::kPlain); }
Node Node::boolean(bool value, Mark mark) { return scalar(value ? "true" : "false", mark, Style::kPlain); }
Node Node::make_list(Mark mark) {
  Node node;
  node.kind = Kind::kList;
  node.mark = mark;
  return node;
}
Node Node::make_map(Mark mark) {
  Node node;
  node.kind = Kind::kMap;
  node.mark = mark;
  return node;
}

const Node* Node::find(std::string_view key) const {
  for (const Member& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}
Node* Node::find(std::string_view key) {
  for (Member& member : members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}
const Node* Node::value(std::string_view key) const {
  const Node* found = find(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}
std::string_view Node::text_of(std::string_view key) const {
  const Node* found = find(key);
  return found == nullptr || !found->is_scalar() ? std::string_view() : found->text;
}
Node& Node::set(std::string_view key, Node value) {
  const Mark where = value.mark;
  return set(key, std::move(value), where);
}
Node& Node::set(std::string_view key, Node value, Mark key_mark) {
  kind = Kind::kMap;
  if (Node* found = find(key); found != nullptr) {
    *found = std::move(value);
    return *found;
  }
  members.push_back({std::string(key), key_mark, std::move(value)});
  return members.back().value;
}
bool Node::erase(std::string_view key) {
  for (auto it = members.begin(); it != members.end(); ++it) {
    if (it->key == key) {
      members.erase(it);
      return true;
    }
  }
  return false;
}

ScalarType scalar_type(const Node& node) {
  if (node.kind == Node::Kind::kNull) return ScalarType::kNull;
  if (node.style == Node::Style::kQuoted) return ScalarType::kText;
  if (is_null_text(node.text)) return node.style == Node::Style::kInterpolated ? ScalarType::kText : ScalarType::kNull;
  if (bool_of(node.text)) return ScalarType::kBool;
  if (int_of(node.text)) return ScalarType::kInt;
  if (float_of(node.text)) return ScalarType::kFloat;
  return ScalarType::kText;
}

std::optional<bool> to_bool(const Node& node) { return node.is_scalar() ? bool_of(node.text) : std::nullopt; }
std::optional<int64_t> to_int(const Node& node) { return node.is_scalar() ? int_of(node.text) : std::nullopt; }
std::optional<double> to_number(const Node& node) {
  if (!node.is_scalar()) return std::nullopt;
  if (const auto whole = int_of(node.text)) return static_cast<double>(*whole);
  return float_of(node.text);
}

std::string_view describe(const Node& node) {
  if (node.is_map()) return "a map";
  if (node.is_list()) return "a list";
  switch (scalar_type(node)) {
    case ScalarType::kNull:
      return "nothing";
    case ScalarType::kBool:
      return "true or false";
    case ScalarType::kInt:
    case ScalarType::kFloat:
      return "a number";
    case ScalarType::kText:
      break;
  }
  return "text";
}

}  // namespace hull::compose
