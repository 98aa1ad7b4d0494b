// The host's side of a network: its bridge, or the interface that it stacks upon.
#include "base/error_format.h"
#include "net/manager.h"

namespace hull::net {

using Impl = NetworkManager::Impl;

Result<void> Impl::name_parent(Network& n) {
  if (n.parent.empty()) {
    // Nothing outside to be on: an interface without a wire, as Docker makes it.
    n.parent = "dm-" + n.id.substr(0, 12);
    n.makes_parent = true;
    n.internal = true;
  }
  return validate_interface_name(n.parent);
}

Result<void> Impl::ensure_device(const Network&) { return {}; }

Result<void> Impl::remove_device(const Network&) { return {}; }

}  // namespace hull::net
