#pragma once
// Which handler answers which method and path.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/request.h"

namespace hull::api {

using Handler = Result<void> (*)(Request& request, Response& response);

/// One endpoint. `pattern` is a path without the version: "/containers/{name}/json"; {name} stands for one segment,
/// {name...} for one or more (names of images hold slashes).
struct Route {
  std::string_view method;
  std::string_view pattern;
  Right right = Right::kAdmin;
  Handler handler = nullptr;
  /// The handler looks at the labels of what it touches (Request::workload, Principal::sees). Who is confined to some
  /// labels gets no other route.
  bool scoped = false;
  /// The first minor version of the API that has it.
  int since_minor = 24;
};

/// Where a request goes. Without a route, `status` is 404 or 405.
struct Match {
  const Route* route = nullptr;
  std::vector<std::pair<std::string, std::string>> params;
  int status = 404;
};

class Router {
 public:
  /// Every route of the program.
  static const Router& all();
  explicit Router(std::vector<std::span<const Route>> tables) : tables_(std::move(tables)) {}
  /// `path` is decoded and has no version. HEAD goes to the GET route where it has none of its own.
  Match find(std::string_view method, std::string_view path, int minor) const;

 private:
  std::vector<std::span<const Route>> tables_;
};

/// The version at the front of a path: "/v1.43/info" becomes "/info". Nothing when there is none; kInvalid outside of
/// kOldestVersion ... kNewestVersion, in Docker's words.
Result<std::optional<Version>> take_version(std::string_view* path);

}  // namespace hull::api
