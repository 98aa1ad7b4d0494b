#pragma once
// The other way round: the words of `hull run` that ask for what a stored request asks.

#include <string>
#include <vector>

#include "base/error.h"
#include "engine/config.h"
#include "oci/image_spec.h"

namespace hull::cli {

/// Flags, image and command, after "run". What the image gives anyway is left out. The words are read back and
/// compared: kUnsupported names what the command line could not say.
Result<std::vector<std::string>> run_words(const engine::Config& config, const oci::ImageRunConfig& image);

}  // namespace hull::cli
