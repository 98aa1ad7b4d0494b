#pragma once
// tar/tar_reader.h under the name that the store uses.

#include "tar/tar_reader.h"

namespace hull::store {
using namespace hull::tar;  // NOLINT(google-build-using-namespace)
}
