#pragma once
// Docker's create request as it comes from clients of all ages, made the engine's configuration.

#include <string_view>

#include "api/request.h"
#include "base/error.h"
#include "engine/config.h"

namespace hull::api {

/// `body` is the request of POST /containers/create; its name and platform are query parameters. Members of their
/// default values are what clients send for what nobody asked for. What was asked for and can't be done is kInvalid or
/// kUnsupported, named; what will be another thing in later versions is added to the warnings.
Result<engine::Config> read_create(std::string_view body, std::string_view name, std::string_view platform,
                                   Version version = kNewestVersion, std::vector<std::string>* warnings = nullptr);

}  // namespace hull::api
