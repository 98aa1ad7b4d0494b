#pragma once
// Parts of a request's JSON that stand in files of their own.

#include "engine/config.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"

namespace hull::engine {

/// The member Healthcheck, when there is something to say.
void write_health(oci::JsonWriter& w, const Config& config);
/// Its value. Always true, for member handlers.
bool read_health(oci::JsonReader& r, Config& config);

}  // namespace hull::engine
