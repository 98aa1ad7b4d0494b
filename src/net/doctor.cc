#include "net/manager.h"

namespace hull::net {

std::vector<Check> NetworkManager::doctor() { return {}; }

}  // namespace hull::net
