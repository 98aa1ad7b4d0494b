#pragma once
// What answers look like in which version of the API, where it is more than a member that is there or not
// (Docker's "Engine API version history").

#include <string>
#include <string_view>

#include "api/json.h"
#include "api/request.h"
#include "base/error.h"
#include "engine/engine.h"

namespace hull::api {

/// An inspect document of the engine for 1.52 and newer: NetworkSettings without the address on the default bridge,
/// which is among its Networks, and without what never said anything.
std::string without_old_addresses(std::string inspect);

/// An image's Config (null: it has none) as JSON. 1.52 and newer leave out what says nothing; older ones have it as
/// null or "", up to 1.49 with all members of a container's config.
std::string image_config(const Json* config, Version version);

/// How a stream of events is sent.
struct EventForm {
  std::string_view content_type;
  bool sequence = false;  // RFC 7464: each document begins with a record separator
};
/// What the client's Accept header names, if it is one of JSON lines' forms; wildcards name none. Else what the version
/// is used to.
EventForm event_form(std::string_view accept, Version version);

/// The member "Status" of a network's document: how many addresses are taken and left in each of its subnets.
std::string network_status(const engine::Engine::NetworkInfo& info);

/// Checks the parameter `type` of /system/df. kInvalid for what is no type; before 1.42 there was no such parameter.
Result<std::vector<std::string>> usage_types(const Request& request);

}  // namespace hull::api
