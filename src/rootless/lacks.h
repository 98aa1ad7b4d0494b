#pragma once
// What an ordinary user needs of a host. Internal to this room.

#include <optional>
#include <string>

#include "rootless/rootless.h"

namespace hull::rootless {

/// The name of this process's user in /etc/passwd, or the number.
std::string user_name();

/// `program`: newuidmap or newgidmap; `file`: /etc/subuid or /etc/subgid.
std::optional<Lack> lack_of_ids(const std::string& program, const std::string& file);
/// Tries it, in a process of its own.
std::optional<Lack> lack_of_user_namespaces();
/// pasta and the device that it opens.
std::optional<Lack> lack_of_network();

}  // namespace hull::rootless
