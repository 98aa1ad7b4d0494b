#include "api/router.h"

#include "api/routes.h"
#include "base/error_format.h"

namespace hull::api {
namespace {

/// The next segment of "/a/b", taken off.
std::string_view take_segment(std::string_view* path) {
  if (path->starts_with('/')) path->remove_prefix(1);
  const size_t end = path->find('/');
  const std::string_view segment = path->substr(0, end);
  path->remove_prefix(end == std::string_view::npos ? path->size() : end);
  return segment;
}

using Params = std::vector<std::pair<std::string, std::string>>;

bool matches(std::string_view pattern, std::string_view path, Params* params) {
  while (!pattern.empty()) {
    const std::string_view wanted = take_segment(&pattern);
    if (wanted.ends_with("...}")) {
      // As many segments as leave enough for what follows in the pattern; a pattern has at most one of these.
      const std::string_view tail = pattern;
      if (!path.starts_with('/') || !path.ends_with(tail)) return false;
      const std::string_view value = path.substr(1, path.size() - 1 < tail.size() ? 0 : path.size() - 1 - tail.size());
      if (value.empty() || value.starts_with('/') || value.ends_with('/')) return false;
      params->emplace_back(wanted.substr(1, wanted.size() - 5), value);
      return true;
    }
    if (path.empty()) return false;
    const std::string_view segment = take_segment(&path);
    if (wanted.starts_with('{')) {
      if (segment.empty()) return false;
      params->emplace_back(wanted.substr(1, wanted.size() - 2), segment);
    } else if (wanted != segment) {
      return false;
    }
  }
  return path.empty();
}

}  // namespace

Match Router::find(std::string_view method, std::string_view path, int minor) const {
  Match found;
  const Route* get = nullptr;
  Params get_params;
  for (const auto& table : tables_) {
    for (const Route& route : table) {
      if (route.since_minor > minor) continue;
      const bool same = route.method == method;
      const bool stands_in = method == "HEAD" && route.method == "GET" && get == nullptr;
      Params params;
      if (!matches(route.pattern, path, &params)) continue;
      if (same) return {&route, std::move(params), 200};
      if (stands_in) {
        get = &route;
        get_params = std::move(params);
      }
      found.status = 405;
    }
  }
  if (get != nullptr) return {get, std::move(get_params), 200};
  return found;
}

const Router& Router::all() {
  static const Router router(route_tables());
  return router;
}

Result<std::optional<Version>> take_version(std::string_view* path) {
  if (!path->starts_with("/v") || path->size() < 3 || (*path)[2] < '0' || (*path)[2] > '9') {
    return std::optional<Version>();
  }
  const size_t end = path->find('/', 1);
  const std::string_view text = path->substr(2, end == std::string_view::npos ? end : end - 2);
  const std::optional<Version> version = parse_version(text);
  if (!version) return std::optional<Version>();
  if (*version > kNewestVersion) {
    return errorf(ErrorKind::kInvalid, "client version {} is too new. Maximum supported API version is {}",
                  to_string(*version), to_string(kNewestVersion));
  }
  if (*version < kOldestVersion) {
    return errorf(ErrorKind::kInvalid,
                  "client version {} is too old. Minimum supported API version is {}, please upgrade your client to a "
                  "newer version",
                  to_string(*version), to_string(kOldestVersion));
  }
  path->remove_prefix(end == std::string_view::npos ? path->size() : end);
  return std::optional<Version>(version);
}

}  // namespace hull::api
