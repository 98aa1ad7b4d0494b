#pragma once
// tar/tar_header.h under the name that the store uses.

#include "tar/tar_header.h"

namespace hull::store {
using namespace hull::tar;  // NOLINT(google-build-using-namespace)
}
