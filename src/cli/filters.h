#pragma once
// --filter KEY=VALUE, and the flags that all list commands share.

#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/flags.h"

namespace hull::cli {

/// kInvalid names the keys that there are. "label!=x" has the key "label!".
Result<std::multimap<std::string, std::string>> parse_filters(const std::vector<std::string>& texts,
                                                              std::initializer_list<std::string_view> known);
/// True when every label filter ("KEY" or "KEY=VALUE") is met and no "label!" one is.
bool labels_match(const std::map<std::string, std::string>& labels,
                  const std::multimap<std::string, std::string>& filters);

inline constexpr Flag kFormatFlag = {.name = "format",
                                     .kind = ValueKind::kText,
                                     .metavar = "FORMAT",
                                     .help =
                                         "table, json, a template such as '{{.ID}} {{.Names}}', or 'table "
                                         "TEMPLATE' with titles"};
inline constexpr Flag kDocumentFormatFlag = {.name = "format",
                                             .short_name = 'f',
                                             .kind = ValueKind::kText,
                                             .metavar = "FORMAT",
                                             .help = "json (one line), or a template such as '{{.State.Pid}}'"};
inline constexpr Flag kFilterFlag = {.name = "filter",
                                     .short_name = 'f',
                                     .kind = ValueKind::kText,
                                     .metavar = "KEY=VALUE",
                                     .help = "Only those that meet a condition",
                                     .repeatable = true};
inline constexpr Flag kNoTruncFlag = {.name = "no-trunc", .help = "Do not shorten what is long"};

}  // namespace hull::cli
