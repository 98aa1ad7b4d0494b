#include "compose/interpolate.h"

#include <cstring>

namespace hull::compose {
namespace {

constexpr size_t kMostText = 1 << 20;
constexpr int kMostNesting = 32;

bool starts_name(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool in_name(char c) { return starts_name(c) || (c >= '0' && c <= '9'); }

class Interpolation {
 public:
  Interpolation(const VariableLookup& lookup, const MissingVariable& missing) : lookup_(lookup), missing_(missing) {}

  Result<std::string> expand(std::string_view text, int depth) {
    if (depth > kMostNesting) {
      return errorf(ErrorKind::kInvalid, "variables are nested deeper than {} levels", kMostNesting);
    }
    std::string out;
    while (!text.empty()) {
      const size_t dollar = text.find('$');
      out += text.substr(0, dollar);
      if (out.size() > kMostText)
        return errorf(ErrorKind::kInvalid, "the value is longer than 1 MiB with its variables");
      if (dollar == std::string_view::npos) break;
      text.remove_prefix(dollar + 1);
      if (text.starts_with('$')) {
        out += '$';
        text.remove_prefix(1);
      } else if (text.starts_with('{')) {
        const std::optional<size_t> end = closing(text);
        if (!end)
          return errorf(ErrorKind::kInvalid, "\"${:.80}\": the brace is never closed (write $$ for a dollar)", text);
        TRY_ASSIGN(const std::string value, braced(text.substr(1, *end - 1), depth));
        out += value;
        text.remove_prefix(*end + 1);
      } else if (!text.empty() && starts_name(text[0])) {
        size_t length = 1;
        while (length < text.size() && in_name(text[length])) ++length;
        out += plain(text.substr(0, length));
        text.remove_prefix(length);
      } else {
        out += '$';
      }
    }
    return out;
  }

 private:
  /// Where the brace at the text's beginning ends.
  static std::optional<size_t> closing(std::string_view text) {
    int open = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '$' && i + 1 < text.size() && text[i + 1] == '$') {
        ++i;
      } else if (text[i] == '{' && (i == 0 || text[i - 1] == '$')) {
        ++open;
      } else if (text[i] == '}' && --open == 0) {
        return i;
      }
    }
    return std::nullopt;
  }

  std::string plain(std::string_view name) {
    if (auto value = lookup_(name)) return *value;
    if (missing_) missing_(name);
    return {};
  }

  Result<std::string> braced(std::string_view body, int depth) {
    size_t length = 0;
    while (length < body.size() && in_name(body[length])) ++length;
    const std::string_view name = body.substr(0, length);
    std::string_view rest = body.substr(length);
    if (name.empty() || !starts_name(name[0])) {
      return errorf(ErrorKind::kInvalid, "\"${{{:.80}}}\" holds no variable's name (write $$ for a dollar)", body);
    }
    if (rest.empty()) return plain(name);
    const bool empty_counts = rest[0] == ':';
    if (empty_counts) rest.remove_prefix(1);
    if (rest.empty() || std::strchr("-?+", rest[0]) == nullptr) {
      return errorf(ErrorKind::kInvalid, "\"${{{:.80}}}\": after the name there may be :- - :? ? :+ or +", body);
    }
    const char operation = rest[0];
    rest.remove_prefix(1);
    const auto value = lookup_(name);
    const bool there = value && !(empty_counts && value->empty());
    if (operation == '+') return there ? expand(rest, depth + 1) : Result<std::string>(std::string());
    if (there) return *value;
    if (operation == '-') return expand(rest, depth + 1);
    TRY_ASSIGN(const std::string message, expand(rest, depth + 1));
    return errorf(ErrorKind::kInvalid, "the variable {} is required{}{}", name, message.empty() ? "" : ": ", message);
  }

  const VariableLookup& lookup_;
  const MissingVariable& missing_;
};

}  // namespace

VariableLookup lookup_in(const Variables& variables) {
  return [&variables](std::string_view name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

Result<std::string> interpolate(std::string_view text, const VariableLookup& lookup, const MissingVariable& missing) {
  return Interpolation(lookup, missing).expand(text, 0);
}

Result<void> interpolate_tree(Node& node, const VariableLookup& lookup, const MissingVariable& missing) {
  if (node.is_scalar() && node.text.find('$') != std::string::npos) {
    auto value = interpolate(node.text, lookup, missing);
    if (!value.ok()) return error_at(node.mark, value.error().message());
    node.text = std::move(*value);
    node.style = Node::Style::kInterpolated;
  }
  for (Node& element : node.list) TRY(interpolate_tree(element, lookup, missing));
  for (Member& member : node.members) TRY(interpolate_tree(member.value, lookup, missing));
  return {};
}

}  // namespace hull::compose
