#include "cli/filters.h"

#include <algorithm>

#include "base/error_format.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

bool has_label(const std::map<std::string, std::string>& labels, std::string_view wanted) {
  const size_t equals = wanted.find('=');
  const auto found = labels.find(std::string(wanted.substr(0, equals)));
  if (found == labels.end()) return false;
  return equals == std::string_view::npos || found->second == wanted.substr(equals + 1);
}

}  // namespace

Result<std::multimap<std::string, std::string>> parse_filters(const std::vector<std::string>& texts,
                                                              std::initializer_list<std::string_view> known) {
  std::multimap<std::string, std::string> filters;
  for (const std::string& text : texts) {
    size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
      return errorf(ErrorKind::kInvalid, "invalid argument \"{:.80}\" for \"--filter\" flag: expected KEY=VALUE", text);
    }
    const std::string key = lower(trim(std::string_view(text).substr(0, equals)));
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      return errorf(ErrorKind::kInvalid, "invalid filter '{:.80}' (there are {})", key, fmt::join(known, ", "));
    }
    filters.emplace(key, text.substr(equals + 1));
  }
  return filters;
}

bool labels_match(const std::map<std::string, std::string>& labels,
                  const std::multimap<std::string, std::string>& filters) {
  return std::all_of(filters.begin(), filters.end(), [&](const auto& filter) {
    if (filter.first == "label") return has_label(labels, filter.second);
    if (filter.first == "label!") return !has_label(labels, filter.second);
    return true;
  });
}

}  // namespace hull::cli
