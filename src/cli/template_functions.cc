#include "cli/template_functions.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/template_nodes.h"
#include "cli/text.h"

namespace hull::cli::template_detail {
namespace {

constexpr int64_t kMostPadding = 1000;
using Arguments = std::span<const Value>;

Error wrong(std::string_view function, std::string_view why) {
  return errorf(ErrorKind::kInvalid, "template: error calling {}: {}", function, why);
}

Result<int> compare(std::string_view function, const Value& a, const Value& b) {
  if (a.if_int() != nullptr && b.if_int() != nullptr) {
    return *a.if_int() < *b.if_int() ? -1 : *a.if_int() > *b.if_int() ? 1 : 0;
  }
  const auto real = [](const Value& v) -> const double* { return v.if_double(); };
  if ((real(a) != nullptr || a.if_int() != nullptr) && (real(b) != nullptr || b.if_int() != nullptr)) {
    const double x = real(a) != nullptr ? *real(a) : static_cast<double>(*a.if_int());
    const double y = real(b) != nullptr ? *real(b) : static_cast<double>(*b.if_int());
    return x < y ? -1 : x > y ? 1 : 0;
  }
  if (a.if_string() != nullptr && b.if_string() != nullptr) {
    const int order = a.if_string()->compare(*b.if_string());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  return wrong(function, "incompatible types for comparison");
}

bool comparable(const Value& a, const Value& b) {
  const auto is_number = [](const Value& v) { return v.if_int() != nullptr || v.if_double() != nullptr; };
  return (is_number(a) && is_number(b)) || (a.if_string() != nullptr && b.if_string() != nullptr) ||
         (a.if_bool() != nullptr && b.if_bool() != nullptr) || a.is_null() || b.is_null();
}

Result<Value> equal(Arguments arguments, std::string_view function) {
  if (arguments.size() < 2) return wrong(function, "missing argument for comparison");
  bool any = false;
  for (const Value& other : arguments.subspan(1)) {
    if (!comparable(arguments[0], other)) return wrong(function, "incompatible types for comparison");
    if (arguments[0].if_bool() != nullptr || arguments[0].is_null() || other.is_null()) {
      any = any || arguments[0] == other;
    } else {
      TRY_ASSIGN(const int order, compare(function, arguments[0], other));
      any = any || order == 0;
    }
  }
  return Value(function == "eq" ? any : !any);
}

Result<Value> order(Arguments arguments, std::string_view function) {
  if (arguments.size() != 2) return wrong(function, "wants two arguments");
  TRY_ASSIGN(const int result, compare(function, arguments[0], arguments[1]));
  if (function == "lt") return Value(result < 0);
  if (function == "le") return Value(result <= 0);
  if (function == "gt") return Value(result > 0);
  return Value(result >= 0);
}

Result<Value> index(Arguments arguments) {
  if (arguments.empty()) return wrong("index", "wants a value");
  const Value* at = &arguments[0];
  for (const Value& key : arguments.subspan(1)) {
    if (const auto* items = at->if_array()) {
      const int64_t* number = key.if_int();
      if (number == nullptr) return wrong("index", "cannot index an array with this");
      if (*number < 0 || *number >= static_cast<int64_t>(items->size())) {
        return wrong("index", fmt::format("index out of range: {}", *number));
      }
      at = &(*items)[static_cast<size_t>(*number)];
    } else if (at->if_object() != nullptr) {
      if (key.if_string() == nullptr) return wrong("index", "a map is indexed with a string");
      at = at->find(*key.if_string());
      // Go gives the zero value of the map's type; over JSON that is nothing.
      if (at == nullptr) return Value();
    } else if (at->is_null()) {
      return wrong("index", "index of untyped nil");
    } else {
      return wrong("index", "can't index item of this type");
    }
  }
  return *at;
}

Result<Value> slice(Arguments arguments) {
  if (arguments.empty() || arguments.size() > 3) return wrong("slice", "wants a value and one or two numbers");
  const auto* items = arguments[0].if_array();
  const auto* text = arguments[0].if_string();
  if (items == nullptr && text == nullptr) return wrong("slice", "can't slice item of this type");
  const auto length = static_cast<int64_t>(items != nullptr ? items->size() : text->size());
  std::array<int64_t, 2> bounds = {0, length};
  for (size_t i = 1; i < arguments.size(); ++i) {
    const int64_t* number = arguments[i].if_int();
    if (number == nullptr || *number < 0 || *number > length) return wrong("slice", "index out of range");
    bounds[i - 1] = *number;
  }
  if (bounds[0] > bounds[1]) return wrong("slice", "invalid slice index");
  if (text != nullptr) {
    return Value(text->substr(static_cast<size_t>(bounds[0]), static_cast<size_t>(bounds[1] - bounds[0])));
  }
  return Value(Value::Array(items->begin() + bounds[0], items->begin() + bounds[1]));
}

Result<Value> join_items(Arguments arguments) {
  if (arguments.size() != 2 || arguments[1].if_string() == nullptr)
    return wrong("join", "wants a list and a separator");
  std::vector<std::string> parts;
  if (arguments[0].is_null()) return Value("");
  if (const auto* items = arguments[0].if_array()) {
    for (const Value& item : *items) parts.push_back(shown(item));
  } else if (const auto* members = arguments[0].if_object()) {
    for (const auto& [key, value] : *members) parts.push_back(shown(value));
    std::sort(parts.begin(), parts.end());
  } else {
    return wrong("join", "expected a list");
  }
  return Value(join(parts, *arguments[1].if_string()));
}

/// lower, upper, title, and pad and truncate with their numbers.
Result<Value> text_function(std::string_view function, Arguments arguments) {
  const std::string* text = arguments.empty() ? nullptr : arguments[0].if_string();
  if (text == nullptr) return wrong(function, "expected a string");
  std::string out = *text;
  if (function == "pad") {
    if (arguments.size() != 3 || arguments[1].if_int() == nullptr || arguments[2].if_int() == nullptr) {
      return wrong(function, "wants a string and two numbers");
    }
    const auto count = [&](size_t i) {
      return static_cast<size_t>(std::clamp<int64_t>(*arguments[i].if_int(), 0, kMostPadding));
    };
    if (out.empty()) return Value(out);
    return Value(std::string(count(1), ' ') + out + std::string(count(2), ' '));
  }
  if (function == "truncate") {
    if (arguments.size() != 2 || arguments[1].if_int() == nullptr || *arguments[1].if_int() < 0) {
      return wrong(function, "wants a string and a number");
    }
    return Value(out.substr(0, static_cast<size_t>(*arguments[1].if_int())));
  }
  if (arguments.size() != 1) return wrong(function, "wants one string");
  if (function == "lower") return Value(lower(out));
  bool start = true;
  for (char& c : out) {
    const bool small = c >= 'a' && c <= 'z';
    if (small && (function == "upper" || start)) c = static_cast<char>(c - 'a' + 'A');
    start = c == ' ' || c == '\t' || c == '\n';
  }
  return Value(out);
}

Result<Value> split_text(Arguments arguments) {
  if (arguments.size() != 2 || arguments[0].if_string() == nullptr || arguments[1].if_string() == nullptr) {
    return wrong("split", "wants a string and a separator");
  }
  Value out = Value::array();
  std::string_view rest = *arguments[0].if_string();
  const std::string& separator = *arguments[1].if_string();
  if (separator.empty()) {
    for (const char c : rest) out.push(std::string(1, c));
    return out;
  }
  while (true) {
    const size_t end = rest.find(separator);
    out.push(rest.substr(0, end));
    if (end == std::string_view::npos) return out;
    rest.remove_prefix(end + separator.size());
  }
}

Result<Value> length(Arguments arguments) {
  if (arguments.size() != 1) return wrong("len", "wants one argument");
  if (const auto* text = arguments[0].if_string()) return Value(static_cast<int64_t>(text->size()));
  if (const auto* items = arguments[0].if_array()) return Value(static_cast<int64_t>(items->size()));
  if (const auto* members = arguments[0].if_object()) return Value(static_cast<int64_t>(members->size()));
  return wrong("len", arguments[0].is_null() ? "len of nil pointer" : "len of this type");
}

std::string print(Arguments arguments, bool line) {
  std::string out;
  for (size_t i = 0; i < arguments.size(); ++i) {
    // fmt.Sprint puts a blank between two operands when neither is a string; Sprintln always.
    const bool blank =
        line || (i > 0 && arguments[i].if_string() == nullptr && arguments[i - 1].if_string() == nullptr);
    if (i > 0 && blank) out += ' ';
    out += shown(arguments[i]);
  }
  if (line) out += '\n';
  return out;
}

std::string padded(std::string text, int64_t width, bool left, char fill) {
  const int64_t missing = width - display_width(text);
  if (missing <= 0) return text;
  const auto count = static_cast<size_t>(missing);
  if (left) return text + std::string(count, ' ');
  if (fill == '0' && text.starts_with('-')) return "-" + std::string(count, '0') + text.substr(1);
  return std::string(count, fill) + text;
}

/// The verbs %v %s %d %q %t %x %X %f with width, precision, - and 0.
Result<Value> printf_like(Arguments arguments) {
  if (arguments.empty() || arguments[0].if_string() == nullptr) return wrong("printf", "wants a format");
  const std::string& format = *arguments[0].if_string();
  std::string out;
  size_t next = 1;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    bool left = false;
    char fill = ' ';
    int64_t width = 0, precision = -1;
    for (++i; i < format.size() && (format[i] == '-' || format[i] == '0' || format[i] == '+' || format[i] == '#');
         ++i) {
      left = left || format[i] == '-';
      if (format[i] == '0') fill = '0';
    }
    const auto number = [&](int64_t& target) {
      for (; i < format.size() && format[i] >= '0' && format[i] <= '9'; ++i) {
        target = std::min<int64_t>(target * 10 + (format[i] - '0'), kMostPadding);
      }
    };
    number(width);
    if (i < format.size() && format[i] == '.') {
      ++i;
      precision = 0;
      number(precision);
    }
    if (i >= format.size()) return wrong("printf", "the format ends after %");
    if (format[i] == '%') {
      out += '%';
      continue;
    }
    if (next >= arguments.size()) {
      out += fmt::format("%!{}(MISSING)", format[i]);
      continue;
    }
    const Value& value = arguments[next++];
    std::string text = shown(value);
    const int64_t* whole = value.if_int();
    switch (format[i]) {
      case 'v':
      case 't':
      case 'd':
        break;
      case 's':
        if (precision >= 0) text = text.substr(0, static_cast<size_t>(precision));
        break;
      case 'q':
        text = quoted(text);
        break;
      case 'x':
      case 'X':
        if (whole == nullptr) return wrong("printf", "%x wants a number");
        text = format[i] == 'x' ? fmt::format("{:x}", *whole) : fmt::format("{:X}", *whole);
        break;
      case 'f': {
        const double real = value.if_double() != nullptr ? *value.if_double() : whole != nullptr ? double(*whole) : 0;
        text = fmt::format("{:.{}f}", real, precision < 0 ? 6 : precision);
        break;
      }
      default:
        return wrong("printf", fmt::format("the verb %{} is not supported", printable(format.substr(i, 1))));
    }
    out += padded(std::move(text), width, left, fill);
  }
  if (next < arguments.size()) out += "%!(EXTRA)";
  return Value(out);
}

constexpr std::string_view kFunctions[] = {"and",  "or",    "not",   "eq",    "ne",    "lt",     "le",      "gt",
                                           "ge",   "len",   "index", "slice", "print", "printf", "println", "json",
                                           "join", "split", "lower", "upper", "title", "pad",    "truncate"};

}  // namespace

bool is_function(std::string_view name) {
  return std::find(std::begin(kFunctions), std::end(kFunctions), name) != std::end(kFunctions);
}

bool is_true(const Value& value) {
  if (value.is_null()) return false;
  if (const bool* truth = value.if_bool()) return *truth;
  if (const int64_t* number = value.if_int()) return *number != 0;
  if (const double* real = value.if_double()) return *real != 0;
  if (const std::string* text = value.if_string()) return !text->empty();
  if (const auto* items = value.if_array()) return !items->empty();
  return !value.if_object()->empty();
}

std::string shown(const Value& value) {
  if (value.is_null()) return "<no value>";
  if (const std::string* text = value.if_string()) return *text;
  std::string out;
  if (const auto* items = value.if_array()) {
    for (const Value& item : *items) out += (out.empty() ? "" : " ") + (item.is_null() ? "<nil>" : shown(item));
    return "[" + out + "]";
  }
  if (const auto* members = value.if_object()) {
    std::vector<std::string> parts;
    for (const auto& [key, item] : *members) parts.push_back(key + ":" + (item.is_null() ? "<nil>" : shown(item)));
    std::sort(parts.begin(), parts.end());
    return "map[" + join(parts, " ") + "]";
  }
  return value.dump();
}

Result<Value> call(std::string_view function, Arguments arguments) {
  if (function == "not") {
    if (arguments.size() != 1) return wrong(function, "wants one argument");
    return Value(!is_true(arguments[0]));
  }
  if (function == "eq" || function == "ne") return equal(arguments, function);
  if (function == "lt" || function == "le" || function == "gt" || function == "ge") return order(arguments, function);
  if (function == "len") return length(arguments);
  if (function == "index") return index(arguments);
  if (function == "slice") return slice(arguments);
  if (function == "print") return Value(print(arguments, false));
  if (function == "println") return Value(print(arguments, true));
  if (function == "printf") return printf_like(arguments);
  if (function == "join") return join_items(arguments);
  if (function == "split") return split_text(arguments);
  if (function == "json") {
    if (arguments.size() != 1) return wrong(function, "wants one argument");
    return Value(arguments[0].dump());
  }
  return text_function(function, arguments);
}

}  // namespace hull::cli::template_detail
