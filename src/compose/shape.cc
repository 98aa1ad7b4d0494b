#include "compose/shape.h"

#include "cli/flags.h"
#include "cli/text.h"

namespace hull::compose {
namespace {

std::string wanted(const Shape& shape) {
  std::vector<std::string> parts;
  if ((shape.types & kText) != 0) parts.emplace_back(shape.words.empty() ? "text" : std::string(shape.words));
  if ((shape.types & kNumber) == kNumber) {
    parts.emplace_back("a number");
  } else if ((shape.types & kInt) != 0) {
    parts.emplace_back("a whole number");
  }
  if ((shape.types & kBool) != 0) parts.emplace_back("true or false");
  if ((shape.types & kList) != 0) parts.emplace_back("a list");
  if ((shape.types & kMap) != 0) parts.emplace_back("a map");
  return cli::join(parts, " or ");
}

bool is_name(std::string_view key) {
  for (const char c : key) {
    const bool good =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!good) return false;
  }
  return !key.empty() && key.size() <= 128;
}

class Checker {
 public:
  Result<void> check(const Node& node, const Shape& shape) {
    if (node.tag == Node::Tag::kReset) return {};
    if (node.is_null()) {
      if (shape.needed) return wrong(node, shape);
      return {};
    }
    if (node.is_map()) return check_map(node, shape);
    if (node.is_list()) return check_list(node, shape);
    return check_scalar(node, shape);
  }

  std::string path;

 private:
  Error wrong(const Node& node, const Shape& shape) const {
    const std::string_view hint =
        node.is_scalar() && shape.types == kText ? " (put it into quotes to make it text)" : "";
    return errorf_at(node.mark, "{}: expected {}, this is {}{}", path.empty() ? "the file" : path, wanted(shape),
                     describe(node), hint);
  }

  Result<void> check_scalar(const Node& node, const Shape& shape) const {
    const bool from_variable = node.style == Node::Style::kInterpolated;
    bool good = false;
    switch (scalar_type(node)) {
      case ScalarType::kNull:
      case ScalarType::kText:
        good = (shape.types & kText) != 0;
        break;
      case ScalarType::kBool:
        good = (shape.types & kBool) != 0;
        break;
      case ScalarType::kInt:
        good = (shape.types & kInt) != 0;
        break;
      case ScalarType::kFloat:
        good = (shape.types & kNumber) == kNumber;
        break;
    }
    // What a variable gave has no quotes of its own.
    if (!good && from_variable) good = (shape.types & kText) != 0;
    if (!good) return wrong(node, shape);
    if (shape.words.empty() || (shape.types & kText) == 0) return {};
    for (const std::string_view word : cli::split(shape.words, ' ')) {
      if (word == node.text) return {};
    }
    return errorf_at(node.mark, "{}: \"{:.60}\" is not one of: {}", path, node.text, shape.words);
  }

  Result<void> check_list(const Node& node, const Shape& shape) {
    if ((shape.types & kList) == 0) return wrong(node, shape);
    const size_t length = path.size();
    for (size_t i = 0; i < node.list.size(); ++i) {
      path += fmt::format("[{}]", i);
      if (node.list[i].is_null() && node.list[i].tag != Node::Tag::kReset) {
        return errorf_at(node.list[i].mark, "{}: an empty element", path);
      }
      TRY(check(node.list[i], *shape.items));
      path.resize(length);
    }
    constexpr size_t kMostCompared = 1000;
    if (!shape.unique || node.list.size() > kMostCompared) return {};
    for (size_t i = 0; i < node.list.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (node.list[i].is_scalar() && node.list[j].is_scalar() && node.list[i].text == node.list[j].text) {
          return errorf_at(node.list[i].mark, "{}: \"{:.60}\" is there twice", path, node.list[i].text);
        }
      }
    }
    return {};
  }

  Result<void> check_map(const Node& node, const Shape& shape) {
    if ((shape.types & kMap) == 0) return wrong(node, shape);
    const size_t length = path.size();
    for (const Member& member : node.members) {
      if (shape.extensions && member.key.starts_with("x-")) continue;
      path += fmt::format("{}{:.128}", path.empty() ? "" : ".", member.key);
      const Shape* below = nullptr;
      for (const Property& property : shape.properties) {
        if (property.key == member.key) below = property.shape;
      }
      if (below == nullptr) below = shape.others;
      if (below == nullptr) return unknown(member, shape);
      if (shape.others == below && shape.names && !is_name(member.key)) {
        return errorf_at(member.mark, "{}: a name has letters, digits, \".\", \"_\" and \"-\" only", path);
      }
      TRY(check(member.value, *below));
      path.resize(length);
    }
    if (shape.required.empty()) return {};
    for (const std::string_view key : cli::split(shape.required, ' ')) {
      if (node.find(key) == nullptr) return errorf_at(node.mark, "{}: the key \"{}\" is missing", path, key);
    }
    return {};
  }

  Error unknown(const Member& member, const Shape& shape) const {
    std::vector<std::string_view> keys;
    for (const Property& property : shape.properties) keys.push_back(property.key);
    const std::string_view near = cli::nearest(member.key, keys);
    return errorf_at(member.mark, "{}: unknown key{}", path,
                     near.empty() ? std::string() : fmt::format(" (did you mean \"{}\"?)", near));
  }
};

}  // namespace

Result<void> check_shape(const Node& node, const Shape& shape, std::string path) {
  Checker checker;
  checker.path = std::move(path);
  return checker.check(node, shape);
}

}  // namespace hull::compose
