#pragma once
// What a service's env_file, environment, label_file and labels come to.

#include "compose/model.h"

namespace hull::compose {

/// NAME → value: files first, in order, then `environment`; a name without a value takes the project's variable, and is
/// left out when nobody has set it.
Result<std::map<std::string, std::string>> service_environment(const Project& project, const Service& service);
Result<std::map<std::string, std::string>> service_labels(const Service& service);

}  // namespace hull::compose
