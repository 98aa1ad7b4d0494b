#pragma once

#include <guest/agent.pb.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/error.h"

namespace hull::guest {

/// Sets up the interfaces, in their order, and brings the loopback interface up. Everything is sent to the kernel in a
/// few netlink messages; addresses skip duplicate detection, since the host has given them out.
Result<void> configure_network(const google::protobuf::RepeatedPtrField<proto::Interface>& interfaces);
/// Only the loopback interface.
Result<void> bring_up_loopback();

/// "02:42:ac:11:00:02" as bytes.
std::optional<std::array<uint8_t, 6>> parse_mac(std::string_view text);

}  // namespace hull::guest
