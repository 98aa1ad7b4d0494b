#include "base/json_writer.h"
#include "compose/yaml.h"

namespace hull::compose {
namespace {

/// True when plain text reads back as the same text, by this reader and by YAML 1.1 ones.
bool plain_is_safe(std::string_view text) {
  if (text.empty() || text.front() == ' ' || text.back() == ' ' || text.back() == ':') return false;
  constexpr std::string_view kStart = "-?:,[]{}#&*!|>'\"%@`=<~.+0123456789";
  if (kStart.find(text.front()) != std::string_view::npos &&
      !(text.front() == '.' && text.size() > 1 && text[1] == '/'))
    return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x20 || c >= 0x7f) return false;
    if (c == '#' && i > 0 && text[i - 1] == ' ') return false;
    if (c == ':' && i + 1 < text.size() && text[i + 1] == ' ') return false;
  }
  for (const std::string_view word : {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}) {
    if (text.size() != word.size()) continue;
    bool same = true;
    for (size_t i = 0; i < word.size(); ++i) same = same && (static_cast<unsigned char>(text[i]) | 0x20) == word[i];
    if (same) return false;
  }
  return true;
}

void print_text(std::string& out, std::string_view text) {
  if (plain_is_safe(text)) {
    out += text;
    return;
  }
  bool controls = false;
  for (const char c : text) controls = controls || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  if (!controls) {
    out += '\'';
    for (const char c : text) {
      out += c;
      if (c == '\'') out += '\'';
    }
    out += '\'';
    return;
  }
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  out += '"';
}

void print_scalar(std::string& out, const Node& node) {
  if (node.is_null()) {
    out += "null";
  } else if (scalar_type(node) == ScalarType::kText) {
    print_text(out, node.text);
  } else {
    out += node.text;
  }
}

void print_block(std::string& out, const Node& node, int indent);

/// What stands after "key:" or "-".
void print_value(std::string& out, const Node& node, int indent) {
  if (node.is_map() && node.members.empty()) {
    out += " {}\n";
  } else if (node.is_list() && node.list.empty()) {
    out += " []\n";
  } else if (node.is_map() || node.is_list()) {
    out += '\n';
    print_block(out, node, indent);
  } else {
    out += ' ';
    print_scalar(out, node);
    out += '\n';
  }
}

void print_block(std::string& out, const Node& node, int indent) {
  const std::string blanks(static_cast<size_t>(indent), ' ');
  for (const Member& member : node.members) {
    out += blanks;
    print_text(out, member.key);
    out += ':';
    print_value(out, member.value, indent + 2);
  }
  for (const Node& element : node.list) {
    out += blanks;
    out += '-';
    if (element.is_map() && !element.members.empty()) {
      // The first member stands beside the dash.
      std::string inner;
      print_block(inner, element, indent + 2);
      out += ' ';
      out += std::string_view(inner).substr(static_cast<size_t>(indent) + 2);
    } else {
      print_value(out, element, indent + 2);
    }
  }
}

void write_json(JsonWriter& json, const Node& node) {
  if (node.is_map()) {
    json.object([&] {
      for (const Member& member : node.members) {
        json.name(member.key);
        write_json(json, member.value);
      }
    });
  } else if (node.is_list()) {
    json.array([&] {
      for (const Node& element : node.list) write_json(json, element);
    });
  } else if (node.is_null()) {
    json.null();
  } else {
    switch (scalar_type(node)) {
      case ScalarType::kBool:
        return json.value(*to_bool(node));
      case ScalarType::kInt:
        return json.value(*to_int(node));
      case ScalarType::kFloat:
        return json.value_number(*to_number(node));
      default:
        return json.value(node.text);
    }
  }
}

}  // namespace

std::string print_yaml(const Node& node) {
  std::string out;
  if ((node.is_map() && !node.members.empty()) || (node.is_list() && !node.list.empty())) {
    print_block(out, node, 0);
    return out;
  }
  print_value(out, node, 0);
  out.erase(0, 1);
  return out;
}

std::string print_json(const Node& node, int indent) {
  JsonWriter json(indent);
  write_json(json, node);
  return std::move(json).take();
}

}  // namespace hull::compose
