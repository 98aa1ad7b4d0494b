#pragma once
// What of a project is on this machine: its containers, as their labels say.

#include <map>
#include <string>
#include <vector>

#include "compose/service_config.h"
#include "engine/engine.h"

namespace hull::compose {

struct Container {
  std::string id, name, service, hash, image, image_id;
  int number = 1;
  bool one_off = false;
  engine::WorkloadSummary summary;
  bool is_running() const {
    return summary.status == engine::Status::kRunning || summary.status == engine::Status::kPaused;
  }
};

/// Of a project, sorted by service and number; `project` "" gives those of all.
Result<std::vector<Container>> project_containers(engine::Engine& engine, std::string_view project);

/// service → services that it depends on, from the labels of its containers.
std::map<std::string, std::vector<std::string>> recorded_dependencies(const std::vector<Container>& containers);

/// What only the inspect document says of a container.
struct Facts {
  std::string health;  // "", none, starting, healthy, unhealthy
  bool running = false;
  int exit_code = 0;
  bool restarting = false;
  std::map<std::string, std::string> anonymous_volumes;  // target → volume
  std::string image_id;
};
Result<Facts> container_facts(engine::Engine& engine, std::string_view id);

}  // namespace hull::compose
