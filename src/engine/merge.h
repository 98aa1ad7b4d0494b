#pragma once
// A request and the image's own configuration made one, as Docker does it.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/config.h"
#include "oci/image_spec.h"

namespace hull::engine {

inline constexpr std::string_view kDefaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Fills what the request leaves open from the image: entry point and command (an entry point in the request drops
/// the image's command), environment, working folder, user, labels, stop signal, exposed ports; its volumes become
/// anonymous volumes unless the request mounts something there. kInvalid "no command specified" when nothing runs.
Result<Config> merge_image(Config config, const oci::ImageRunConfig& image);

/// entry point + command.
std::vector<std::string> full_command(const Config& config);

/// The environment of the first process: PATH, HOSTNAME and (with a tty) TERM, replaced or followed by the merged
/// configuration's, and HOME unless that names it or `home` is empty. A later entry of a name replaces an earlier one
/// in its place; a name without "=" removes it.
std::vector<std::string> process_environment(const Config& merged, std::string_view hostname, std::string_view home);

/// `overrides` applied to `base` by these rules.
std::vector<std::string> merge_environment(std::vector<std::string> base, const std::vector<std::string>& overrides);

}  // namespace hull::engine
