#pragma once

#include "compose/shape.h"

namespace hull::compose {

/// One document of Kubernetes YAML. kUnsupported for kinds that Hull does not play; kInvalid, with file and line, for
/// keys that Kubernetes does not have there.
Result<void> check_kube_schema(const Node& document);

}  // namespace hull::compose
