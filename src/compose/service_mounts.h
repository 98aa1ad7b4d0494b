#pragma once

#include "compose/model.h"
#include "engine/config.h"

namespace hull::compose {

/// volumes, tmpfs and volumes_from of a service into the request.
Result<void> service_mounts(const Service& service, const Model& model, engine::Config& config);

}  // namespace hull::compose
