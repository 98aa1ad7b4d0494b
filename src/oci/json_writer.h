#pragma once
// The JSON writer of base, under the name that the OCI half uses.

#include "base/json_writer.h"

namespace hull::oci {
using hull::JsonWriter;
}
