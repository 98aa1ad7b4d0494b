#pragma once
// A YAML document as a tree whose every part knows its file and line, so that whatever is wrong with it later (an
// unknown key, a port that is no number, a network that nobody defined) is told with the place where it was written.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/error_format.h"

namespace hull::compose {

/// Where something was written. `file` lives as long as the program (intern_file).
struct Mark {
  const std::string* file = nullptr;
  int line = 0;  // from 1; 0: nowhere, made by the program
  /// "compose.yaml:12", or "" when it was written nowhere.
  std::string str() const;
};
/// The one copy of a file's name that marks point to.
const std::string* intern_file(std::string_view path);

/// kInvalid, "FILE:LINE: message".
Error error_at(const Mark& mark, std::string_view message);
template <typename... Args>
Error errorf_at(const Mark& mark, fmt::format_string<Args...> format, Args&&... args) {
  return error_at(mark, fmt::format(format, std::forward<Args>(args)...));
}

struct Member;

struct Node {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  /// How a scalar was written decides what it may be: "true" in quotes is text.
  enum class Style : uint8_t { kPlain, kQuoted, kInterpolated };
  /// Compose's own tags, which say how a later file replaces an earlier one.
  enum class Tag : uint8_t { kNone, kReset, kOverride };

  Kind kind = Kind::kNull;
  Style style = Style::kPlain;
  Tag tag = Tag::kNone;
  Mark mark;
  std::string text;             // of a scalar
  std::vector<Node> list;       // of a list
  std::vector<Member> members;  // of a map, in the order of the file

  static Node scalar(std::string_view text, Mark mark = {}, Style style = Style::kQuoted);
  static Node number(int64_t value, Mark mark = {});
  static Node boolean(bool value, Mark mark = {});
  static Node make_list(Mark mark = {});
  static Node make_map(Mark mark = {});

  bool is_null() const { return kind == Kind::kNull; }
  bool is_scalar() const { return kind == Kind::kScalar; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }

  /// A map's member, or null.
  const Node* find(std::string_view key) const;
  Node* find(std::string_view key);
  /// The same, and null for members that are null.
  const Node* value(std::string_view key) const;
  /// The text of a scalar member, or "".
  std::string_view text_of(std::string_view key) const;
  /// Adds or replaces; the node becomes a map.
  Node& set(std::string_view key, Node value);
  Node& set(std::string_view key, Node value, Mark key_mark);
  bool erase(std::string_view key);
  void add(Node value);
};

struct Member {
  std::string key;
  Mark mark;
  Node value;
};

// Here, where a member is whole.
inline void Node::add(Node value) { list.push_back(std::move(value)); }

/// What a scalar is by YAML 1.2's core schema (with the octal form 0644 of YAML 1.1, as file modes are written).
enum class ScalarType : uint8_t { kNull, kBool, kInt, kFloat, kText };
ScalarType scalar_type(const Node& node);

// Values of scalars. Text in quotes is taken too where it has the form: "3" for 3.
std::optional<bool> to_bool(const Node& node);
std::optional<int64_t> to_int(const Node& node);
std::optional<double> to_number(const Node& node);

/// "a map", "a list", "a number", for messages.
std::string_view describe(const Node& node);

}  // namespace hull::compose
