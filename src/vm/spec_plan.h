#pragma once
// One config.json, parted between host and guest: what the guest's runtime executes, what becomes the machine's, what
// the host keeps. What can't mean in a machine what it means in a container is refused here, by name.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/runtime_spec.h"

namespace hull::vm {

/// A file or folder of the host that the guest sees at /run/hull/share/<index>.
struct Share {
  std::string source;  ///< absolute
  std::string member;  ///< for messages: "mounts[3] (/data)"
  bool read_only = false;
  bool recursive = false;
};

struct SpecPlan {
  oci::Spec guest;                            ///< what is executed inside
  std::map<std::string, std::string> sysctl;  ///< of the guest's kernel and network
  std::vector<Share> shares;
  std::string network_namespace;  ///< path of the one to join; empty: a new one
  oci::Resources host;            ///< limits of the host's control group but for memory and devices
};

/// Reads a config.json for a machine: as runtime::load_spec, but any sysctl is allowed. They are left out of the result
/// when they are the guest kernel's own, and put into `sysctl`.
Result<oci::Spec> parse_machine_spec(std::string_view json, std::map<std::string, std::string>* sysctl);

/// Parts it. `rootfs` is the absolute path of the root folder to be shared; empty when the guest makes the root out of
/// layers. kUnsupported names the member that a machine can't do. Looks at what bind mounts name, mounts nothing.
Result<SpecPlan> plan_spec(oci::Spec spec, const std::string& bundle, const std::string& rootfs);

}  // namespace hull::vm
