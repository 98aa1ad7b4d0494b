#pragma once
// Who a client is and what it may do. Decisions are made on the parsed request that is then executed, never on bytes.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/config.h"

namespace hull::api {

/// What a route needs. The rights of a role contain those below it.
enum class Right {
  kNone,     ///< ping, version
  kView,     ///< look, without what may be secret (environment, contents of files, output)
  kOperate,  ///< make, start, stop, enter, read and remove workloads, images, volumes, networks
  kAdmin,    ///< what reaches beyond workloads: system-wide removal, whatever gives power over the host
};
enum class Role { kViewer, kOperator, kAdmin };
std::string_view to_string(Role role);

using Labels = std::map<std::string, std::string>;

/// Whoever is at the other end of a connection.
struct Principal {
  std::string name;  // "uid:0", "cert:alice"
  Role role = Role::kAdmin;
  /// Not empty: only objects that carry all these labels exist for it. An empty value: any value.
  Labels scope;

  bool may(Right right) const;
  bool scoped() const { return !scope.empty(); }
  /// Whether an object with these labels exists for it.
  bool sees(const Labels& labels) const;
  /// Environment variables are shown to operators and above.
  bool sees_secrets() const { return role != Role::kViewer; }
};

/// Whether `who` may make this workload: an operator gets nothing that gives power over the host (privileged mode,
/// bind mounts, devices, namespaces of the host, added capabilities, lifted confinement); a scoped principal's must
/// carry its labels. kPermission names the option.
Result<void> check_create(const Principal& who, const engine::Config& config);

}  // namespace hull::api
