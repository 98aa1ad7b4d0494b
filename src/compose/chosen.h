#pragma once

#include "compose/app.h"
#include "compose/state.h"

namespace hull::compose {

/// The containers that a command means: of the named services or of all, without one-off ones. With a file the names
/// are checked against it; with --project-name alone against what is there.
struct Chosen {
  std::string project;
  std::vector<Container> containers;
};
Result<Chosen> choose(App& app, const std::vector<std::string>& services, bool one_offs = false);

/// The one container with --index (1 when not given) of a service; running unless `any`.
Result<Container> choose_one(App& app, const std::string& service, const cli::Parsed& flags, bool any = false);

}  // namespace hull::compose
