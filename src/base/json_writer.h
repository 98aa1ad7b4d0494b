#pragma once
// Prints JSON. Members of default value are left out by the *_opt calls, as Go's omitempty does, so that documents
// look like those of other engines.

#include <fmt/format.h>

#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace hull {

class JsonWriter {
 public:
  /// indent < 0 prints one line; else each level is indented by that many spaces.
  explicit JsonWriter(int indent = -1) : indent_(indent) { out_.reserve(1024); }

  template <typename F>
  void object(F&& members) {
    open('{');
    members();
    close('}');
  }
  template <typename F>
  void object(std::string_view key, F&& members) {
    name(key);
    object(members);
  }
  template <typename F>
  void array(F&& elements) {
    open('[');
    elements();
    close(']');
  }
  template <typename F>
  void array(std::string_view key, F&& elements) {
    name(key);
    array(elements);
  }
  /// The name of the next member.
  void name(std::string_view key) {
    element();
    quote(key);
    out_ += indent_ < 0 ? ":" : ": ";
    after_name_ = true;
  }
  void value(std::string_view text) {
    element();
    quote(text);
  }
  void value(const char* text) { value(std::string_view(text)); }
  void value(const std::string& text) { value(std::string_view(text)); }
  void value(bool flag) {
    element();
    out_ += flag ? "true" : "false";
  }
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  void value(T number) {
    element();
    fmt::format_to(std::back_inserter(out_), "{}", number);
  }
  template <typename T>
  void value(const std::vector<T>& list) {
    array([&] {
      for (const T& item : list) value(item);
    });
  }
  void value(const std::map<std::string, std::string>& map) {
    object([&] {
      for (const auto& [key, text] : map) member(key, text);
    });
  }
  void null() {
    element();
    out_ += "null";
  }
  /// A fractional number as an element or after name().
  void value_number(double what) {
    element();
    fmt::format_to(std::back_inserter(out_), "{}", what);
  }
  template <typename T>
  void member(std::string_view key, const T& what) {
    name(key);
    value(what);
  }
  /// A member with a fractional number.
  void number(std::string_view key, double what) {
    name(key);
    element();
    fmt::format_to(std::back_inserter(out_), "{}", what);
  }
  /// Left out when empty, zero or false.
  template <typename T>
  void member_opt(std::string_view key, const T& what) {
    if constexpr (std::integral<T>) {
      if (what != T{}) member(key, what);
    } else {
      if (!what.empty()) member(key, what);
    }
  }
  template <typename T>
  void member_opt(std::string_view key, const std::optional<T>& what) {
    if (what) member(key, *what);
  }
  std::string take() && { return std::move(out_); }

 private:
  void open(char bracket);
  void close(char bracket);
  void element();
  void new_line();
  void quote(std::string_view text);

  std::string out_;
  int indent_;
  int depth_ = 0;
  bool first_ = true;
  bool after_name_ = false;
};

}  // namespace hull
