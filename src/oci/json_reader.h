#pragma once
// The bounded JSON reader of base, under the name that the OCI half uses.

#include "base/json_reader.h"

namespace hull::oci {
using hull::JsonReader;
}
