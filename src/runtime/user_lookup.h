#pragma once
// Who a workload runs as: names looked up in the image's own files, read inside its root.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "sys/root.h"

namespace hull::runtime {

struct ResolvedUser {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> additional_gids;
  std::string name;  // "" when the image knows none
  std::string home = "/";
};

/// `spec`: "", "user", "uid", "user:group", "uid:gid". `groups_add`: --group-add, names or numbers. Ids are whole
/// numbers from 0 to 2^31-1 (what fits both signed and unsigned readers). A number needs no entry. Files that are
/// absent, not regular, or larger than 4 MiB count as empty (absent) or are an error.
Result<ResolvedUser> resolve_user(const sys::Root& root, std::string_view spec,
                                  const std::vector<std::string>& groups_add);

/// The same on the files' texts.
Result<ResolvedUser> resolve_user_in(std::string_view passwd, std::string_view group, std::string_view spec,
                                     const std::vector<std::string>& groups_add);

/// The name of a uid in a passwd file's text, else the number.
std::string user_name_in(std::string_view passwd, uint32_t uid);

}  // namespace hull::runtime
