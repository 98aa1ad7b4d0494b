// The host's side of a network: its bridge, or the interface that it stacks upon.
#include "base/error_format.h"
#include "base/units.h"
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
  TRY(validate_interface_name(n.parent));
  if (n.makes_parent) return {};
  TRY_ASSIGN(Links * host, links());
  TRY_ASSIGN(const auto found, host->find(n.parent));
  if (found) return {};
  const size_t dot = n.parent.rfind('.');
  if (dot == std::string::npos || !parse_int(n.parent.substr(dot + 1), 1, 4094).ok()) {
    return errorf(ErrorKind::kInvalid, "network {}: the parent interface {} is not there; INTERFACE.VLAN would be made",
                  n.name, n.parent);
  }
  n.makes_parent = true;
  return {};
}

Result<uint32_t> Impl::ensure_parent(const Network& n) {
  TRY_ASSIGN(Links * host, links());
  TRY_ASSIGN(const auto found, host->find(n.parent));
  if (found) return found->index;
  if (!n.makes_parent) {
    return errorf(ErrorKind::kNotFound, "network {}: the parent interface {} is not there", n.name, n.parent);
  }
  const std::string alias = alias_prefix() + n.id;
  const size_t dot = n.parent.rfind('.');
  if (dot == std::string::npos) return host->make_dummy(n.parent, n.mtu, alias);
  TRY_ASSIGN(const int64_t vlan, parse_int(n.parent.substr(dot + 1), 1, 4094));
  TRY_ASSIGN(const auto below, host->find(n.parent.substr(0, dot)));
  if (!below) {
    return errorf(ErrorKind::kNotFound,
                  "network {}: the parent interface {} is not there, and without {} it can't be "
                  "made",
                  n.name, n.parent, n.parent.substr(0, dot));
  }
  return host->make_vlan(n.parent, below->index, static_cast<uint16_t>(vlan), alias);
}

Result<void> Impl::ensure_device(const Network& n) {
  if (n.driver != Driver::kBridge) {
    TRY(ensure_parent(n));
    return {};
  }
  TRY(ensure_bridge(n));
  TRY(ensure_rules(Trust::kGeneration));
  return activate(n);
}

Result<void> Impl::remove_device(const Network& n) {
  TRY_ASSIGN(Links * host, links());
  if (n.driver != Driver::kBridge && !n.makes_parent) return {};
  TRY_ASSIGN(const auto found, host->find(n.driver == Driver::kBridge ? n.bridge_device : n.parent));
  if (found && found->alias.starts_with(alias_prefix())) TRY(host->remove(found->index));
  TRY_ASSIGN(const bool known, records->is_active(n.id));
  if (!known) return {};
  TRY(records->set_active(n.id, false));
  return change_rules([&](Ruleset& table) { return table.remove(n); });
}

}  // namespace hull::net
