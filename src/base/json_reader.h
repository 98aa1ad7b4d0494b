#pragma once
// A strict, bounded JSON pull reader (RFC 8259) for documents whose shape is known beforehand.
//
// Why not nlohmann-json here: config.json is read on every create, start and exec. Decoding Docker's 30 KB document
// straight into its types takes a few tens of microseconds; building a DOM first takes about ten times that and pulls
// 200 KB of templates into the static hull-oci. The unit tests and the fuzz target hold this reader against
// nlohmann-json as their oracle.
//
// Errors are sticky: after the first one every call returns at once, and error() names the member
// ("linux.resources.memory.limit: expected a whole number"). Strings handed out contain no NUL and are valid UTF-8.

#include <array>
#include <concepts>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace hull {

class JsonReader {
 public:
  static constexpr int kMaxDepth = 64;
  /// Values (members and array elements) in one document; keeps what hostile text expands to in bounds.
  static constexpr size_t kMaxValues = 1 << 20;

  /// `text` must outlive the reader.
  explicit JsonReader(std::string_view text) : at_(text.data()), end_(text.data() + text.size()), begin_(text.data()) {}

  bool failed() const { return error_.has_value(); }
  /// The first error, or success; also checks that nothing follows the value that was read.
  Result<void> finish();
  /// Records `what` as the error of the member that is being read.
  void fail(std::string_view what);

  /// Consumes `null`, which means an absent member, when it is next.
  bool take_null();

  /// Calls on_member(key) for each member; it reads the value and returns true, or returns false for a member that it
  /// does not know, which is then skipped. A key that comes twice is an error. null counts as an empty object.
  template <typename F>
  void object(F&& on_member) {
    if (!enter('{', "an object")) return;
    SeenKeys seen;
    while (more('}')) {
      const std::string_view key = member_key();
      if (failed()) return;
      path_.push_back({key, 0});
      if (!seen.add(key)) return fail("is there twice");
      if (!take_null() && !on_member(key)) skip();
      if (failed()) return;
      path_.pop_back();
    }
    leave();
  }

  /// Calls on_element() for each element; it reads one value. null counts as an empty array.
  template <typename F>
  void array(F&& on_element) {
    if (!enter('[', "an array")) return;
    for (size_t index = 0; more(']'); ++index) {
      path_.push_back({{}, index});
      on_element();
      if (failed()) return;
      path_.pop_back();
    }
    leave();
  }

  // Each returns true so that a member handler can end in `return reader.value(x);`.
  bool value(std::string& out);
  bool value(bool& out);
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  bool value(T& out) {
    if constexpr (std::is_signed_v<T>) {
      out = static_cast<T>(signed_number(std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    } else {
      out = static_cast<T>(unsigned_number(std::numeric_limits<T>::max()));
    }
    return true;
  }
  template <typename T>
  bool value(std::optional<T>& out) {
    return value(out.emplace());
  }
  template <typename T>
    requires(std::integral<T> || std::same_as<T, std::string>)
  bool value(std::vector<T>& out) {
    array([&] { value(out.emplace_back()); });
    return true;
  }
  bool value(std::map<std::string, std::string>& out) {
    object([&](std::string_view key) { return value(out[std::string(key)]); });
    return true;
  }

  /// Reads over one value of any kind, checking its syntax.
  void skip();

 private:
  struct PathElement {
    std::string_view key;  // empty data(): an array index
    size_t index;
  };
  class SeenKeys {
   public:
    bool add(std::string_view key);

   private:
    std::array<std::string_view, 24> first_;
    size_t count_ = 0;
    std::set<std::string_view> rest_;
  };

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  bool enter(char open, std::string_view expected);
  bool more(char close);
  void leave() { --depth_; }
  std::string_view member_key();
  /// Reads a string token; a view into the text, or into `scratch` when it held escapes.
  std::string_view string_token(std::string& scratch, bool allow_nul);
  bool decode_escape(std::string& out);
  bool hex4(unsigned& out);
  bool utf8_sequence();
  /// The extent of a number token that follows the JSON grammar.
  std::string_view number_token();
  bool whole(std::string_view token);
  int64_t signed_number(int64_t lowest, int64_t highest);
  uint64_t unsigned_number(uint64_t highest);
  void literal(std::string_view word);
  void expected(std::string_view what);

  const char* at_;
  const char* end_;
  const char* begin_;
  int depth_ = 0;
  bool first_in_container_ = false;
  size_t values_ = 0;
  std::vector<PathElement> path_;
  std::deque<std::string> unescaped_keys_;
  std::optional<Error> error_;
};

}  // namespace hull
