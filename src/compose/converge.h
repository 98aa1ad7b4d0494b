#pragma once
// From what a file describes and what is there to the pieces of work that make the one into the other. A container
// stays when its configuration and its image are the ones it was made from. Every step can be repeated, so that whoever
// is killed in the middle is carried on by the next command.

#include <set>

#include "compose/app.h"
#include "compose/state.h"
#include "compose/tasks.h"
#include "compose/waiting.h"
#include "sys/file.h"

namespace hull::compose {

struct UpOptions {
  std::vector<std::string> services;  // those named; empty: all
  std::map<std::string, int> scale;
  bool force_recreate = false, no_recreate = false, recreate_dependencies = false;
  bool no_deps = false, start = true, renew_volumes = false, quiet_pull = false, remove_orphans = false;
  std::string pull;  // "": as the services say
  std::optional<int> timeout_s;
  bool wait = false;
  std::optional<std::chrono::seconds> wait_timeout;
};

/// Holds a project against other commands that change it, until it is destroyed.
Result<sys::FileLock> lock_project(const engine::Settings& settings, std::string_view project);

/// Networks, volumes, images, then containers in the order of dependencies.
Result<void> bring_up(App& app, const Model& model, const UpOptions& options);

/// Networks and volumes that the services use and that are not there yet.
Result<void> make_resources(App& app, engine::Engine& engine, const Model& model);

/// Pulls what is missing, or all that its policy says.
struct PullWish {
  std::string policy;  // "": the service's own
  bool quiet = false, keep_going = false;
};
Result<void> pull_images(App& app, const Model& model, const std::vector<std::string>& services, const PullWish& wish);

/// Stops and removes containers, dependent ones first. `remove` false only stops.
struct TakeDown {
  std::optional<int> timeout_s;
  bool stop = true, remove = true, volumes = false;
};
Result<void> take_down(App& app, const Model* model, const std::vector<Container>& containers, const TakeDown& how);

/// Runs the commands of post_start or pre_stop inside a container.
Result<void> run_hooks(engine::Engine& engine, const std::string& id, const std::vector<Hook>& hooks);

/// The id of a running container of a service, for namespaces that are shared.
Result<std::string> running_container_of(engine::Engine& engine, const std::string& project,
                                         const std::string& service);

}  // namespace hull::compose
