#include "runtime/user_lookup.h"

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "base/units.h"

namespace hull::runtime {
namespace {

constexpr int64_t kMaxId = (1LL << 31) - 1;
constexpr size_t kMaxFile = 4 << 20;

/// Fields between colons; at most N, missing ones are empty.
template <size_t N>
std::array<std::string_view, N> fields_of(std::string_view line) {
  std::array<std::string_view, N> fields;
  for (size_t i = 0; i < N; ++i) {
    const size_t colon = i + 1 == N ? std::string_view::npos : line.find(':');
    fields[i] = line.substr(0, colon);
    if (colon == std::string_view::npos) break;
    line.remove_prefix(colon + 1);
  }
  return fields;
}

/// Calls visit(line) until it returns false.
template <typename F>
void each_line(std::string_view text, F&& visit) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.front() == '#') continue;
    if (!visit(line)) return;
  }
}

std::optional<uint32_t> id_of(std::string_view text) {
  const auto number = parse_int(text, 0, kMaxId);
  if (!number.ok()) return std::nullopt;
  return static_cast<uint32_t>(*number);
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

Result<uint32_t> group_id(std::string_view file, std::string_view name) {
  std::optional<uint32_t> found;
  const std::optional<uint32_t> number = id_of(name);
  each_line(file, [&](std::string_view line) {
    const auto fields = fields_of<4>(line);
    const std::optional<uint32_t> gid = id_of(fields[2]);
    if (gid && (fields[0] == name || gid == number)) found = gid;
    return !found;
  });
  if (found) return *found;
  if (number) return *number;
  if (all_digits(name) || name.starts_with('-')) {
    return errorf(ErrorKind::kInvalid, "group id {}: must be in range 0-{}", name, kMaxId);
  }
  return errorf(ErrorKind::kInvalid, "unable to find group {}: no matching entries in group file", name);
}

}  // namespace

Result<ResolvedUser> resolve_user_in(std::string_view passwd, std::string_view group, std::string_view spec,
                                     const std::vector<std::string>& groups_add) {
  const size_t colon = spec.find(':');
  const std::string_view user = spec.substr(0, colon);
  const std::string_view group_part = colon == std::string_view::npos ? std::string_view() : spec.substr(colon + 1);
  ResolvedUser out;
  bool matched = false;
  const std::optional<uint32_t> number = user.empty() ? 0 : id_of(user);
  each_line(passwd, [&](std::string_view line) {
    const auto fields = fields_of<7>(line);
    const std::optional<uint32_t> uid = id_of(fields[2]), gid = id_of(fields[3]);
    if (!uid || !gid || !((!user.empty() && fields[0] == user) || (number && uid == number))) return true;
    matched = true;
    out.uid = *uid;
    out.gid = *gid;
    out.name = std::string(fields[0]);
    if (fields[5].starts_with('/')) out.home = std::string(fields[5]);
    return false;
  });
  if (!matched) {
    if (!number) {
      if (all_digits(user) || user.starts_with('-')) {
        return errorf(ErrorKind::kInvalid, "user id {}: must be in range 0-{}", user, kMaxId);
      }
      return errorf(ErrorKind::kInvalid, "unable to find user {}: no matching entries in passwd file", user);
    }
    out.uid = *number;
  }
  if (!group_part.empty()) {
    TRY_ASSIGN(out.gid, group_id(group, group_part));
  } else if (!out.name.empty()) {
    each_line(group, [&](std::string_view line) {
      const auto fields = fields_of<4>(line);
      const std::optional<uint32_t> gid = id_of(fields[2]);
      std::string_view members = fields[3];
      while (gid && !members.empty()) {
        const size_t comma = members.find(',');
        if (members.substr(0, comma) == out.name) {
          out.additional_gids.push_back(*gid);
          break;
        }
        members.remove_prefix(comma == std::string_view::npos ? members.size() : comma + 1);
      }
      return out.additional_gids.size() < 65536;  // NGROUPS_MAX
    });
  }
  for (const std::string& name : groups_add) {
    TRY_ASSIGN(const uint32_t gid, group_id(group, name));
    out.additional_gids.push_back(gid);
  }
  std::sort(out.additional_gids.begin(), out.additional_gids.end());
  out.additional_gids.erase(std::unique(out.additional_gids.begin(), out.additional_gids.end()),
                            out.additional_gids.end());
  return out;
}

Result<ResolvedUser> resolve_user(const sys::Root& root, std::string_view spec,
                                  const std::vector<std::string>& groups_add) {
  const auto read = [&](const char* path) -> Result<std::string> {
    auto text = root.read_file(path, kMaxFile);
    if (!text.ok() && (text.error().error_number() == ENOENT || text.error().error_number() == ENOTDIR)) {
      return std::string();
    }
    return std::move(text).context("look up the user in the image");
  };
  TRY_ASSIGN(const std::string passwd, read("etc/passwd"));
  TRY_ASSIGN(const std::string group, read("etc/group"));
  return resolve_user_in(passwd, group, spec, groups_add);
}

std::string user_name_in(std::string_view passwd, uint32_t uid) {
  std::string name = std::to_string(uid);
  each_line(passwd, [&](std::string_view line) {
    const auto fields = fields_of<7>(line);
    if (fields[0].empty() || id_of(fields[2]) != uid) return true;
    name = fields[0];
    return false;
  });
  return name;
}

}  // namespace hull::runtime
