#pragma once
// tar/tar_entry.h under the name that the store uses.

#include "tar/tar_entry.h"

namespace hull::store {
using namespace hull::tar;  // NOLINT(google-build-using-namespace)
}
