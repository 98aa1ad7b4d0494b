#pragma once
// A project as compose works with it: services with their dependencies, and what they share. References are checked:
// whatever a service names is there, and nothing depends on itself.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compose/loader.h"

namespace hull::compose {

enum class Condition : uint8_t { kStarted, kHealthy, kCompleted };
std::string_view to_string(Condition condition);

struct Dependency {
  std::string service;
  Condition condition = Condition::kStarted;
  bool required = true;
  bool restart = false;  // restart the dependent one when compose restarts this one
  Mark mark;
};

/// A command inside a running container: post_start, pre_stop.
struct Hook {
  std::vector<std::string> command, environment;
  std::string user, working_dir;
  bool privileged = false;
};

struct ServiceNetwork {
  std::string name;            // the key under networks
  const Node* node = nullptr;  // null: no settings
  double priority = 0;
};

struct Service {
  std::string name;
  const Node* node = nullptr;  // canonical
  std::string image, container_name, pull_policy;
  int replicas = 1;
  bool build = false;  // has a build section
  bool attach = true;
  std::vector<std::string> profiles;
  std::vector<Dependency> depends_on;    // also those that links, network_mode and the like imply
  std::vector<ServiceNetwork> networks;  // by priority, then by name; empty with network_mode
  std::vector<Hook> post_start, pre_stop;
};

/// A network, volume, config or secret of the top level.
struct Resource {
  std::string key;   // in the file
  std::string name;  // on this machine
  bool external = false;
  const Node* node = nullptr;  // null: nothing is said about it
};

struct Model {
  const Project* project = nullptr;
  std::vector<Service> services;                                        // active ones, sorted by name
  std::map<std::string, const Node*> disabled;                          // by profiles
  std::map<std::string, Resource> networks, volumes, configs, secrets;  // those in use by active services, by key
  bool uses_default_network = false;

  const Service* find(std::string_view name) const;
};

/// `targets`: services that the user named, whose profiles are active therefore. Errors as load_project.
Result<Model> build_model(const Project& project, const std::vector<std::string>& targets);

/// Every service before those that depend on it; kInvalid names a circle. Indices into model.services.
Result<std::vector<size_t>> start_order(const Model& model);

/// The services with those that they depend on (`dependencies`), in the model's order. kNotFound: an unknown name.
Result<std::vector<std::string>> select_services(const Model& model, const std::vector<std::string>& names,
                                                 bool dependencies);

/// The document that `config` prints: active services with their defaults written out.
Node printed_document(const Model& model);

}  // namespace hull::compose
