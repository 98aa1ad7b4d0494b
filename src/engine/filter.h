#pragma once
// --filter: names with values, several values of one name are alternatives (labels: all must hold).

#include <algorithm>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/error_format.h"

namespace hull::engine {

using Filters = std::multimap<std::string, std::string>;

/// kInvalid for names that are not known.
inline Result<void> check_filters(const Filters& filters, std::initializer_list<std::string_view> known) {
  for (const auto& [name, value] : filters) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return errorf(ErrorKind::kInvalid, "invalid filter '{}'", name);
    }
  }
  return {};
}

/// True when there is no value, or one that matches.
template <typename F>
bool any_value(const Filters& filters, const std::string& name, F&& matches) {
  const auto [begin, end] = filters.equal_range(name);
  return begin == end || std::any_of(begin, end, [&](const auto& item) { return matches(item.second); });
}
template <typename F>
bool all_values(const Filters& filters, const std::string& name, F&& matches) {
  const auto [begin, end] = filters.equal_range(name);
  return std::all_of(begin, end, [&](const auto& item) { return matches(item.second); });
}

/// "key" or "key=value".
inline bool has_label(const std::map<std::string, std::string>& labels, std::string_view wanted) {
  const size_t equals = wanted.find('=');
  const auto it = labels.find(std::string(wanted.substr(0, equals)));
  return it != labels.end() && (equals == std::string_view::npos || it->second == wanted.substr(equals + 1));
}

}  // namespace hull::engine
