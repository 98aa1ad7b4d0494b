#include "sys/user_namespace.h"

#include <cstdlib>

namespace hull::sys {

bool in_user_namespace() { return std::getenv(kUserVariable) != nullptr; }

}  // namespace hull::sys
