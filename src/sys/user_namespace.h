#pragma once

namespace hull::sys {

/// In the environment of every process that is in an ordinary user's namespaces: the user's number outside. Whoever
/// enters sets it (src/rootless).
inline constexpr const char* kUserVariable = "_HULL_ROOTLESS_UID";

/// Whether this is root of an ordinary user's namespaces, not of the host. Costs no system call.
bool in_user_namespace();

}  // namespace hull::sys
