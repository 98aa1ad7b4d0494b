// What of a Compose file Hull does not do, and how it says so.
#include "compose/service_config.h"

namespace hull::compose {
namespace {

struct Refusal {
  std::string_view key, why;
};

constexpr Refusal kRefused[] = {
    {"cpu_count", "is for Windows: use cpus"},
    {"cpu_percent", "is for Windows: use cpus"},
    {"credential_spec", "is for Windows"},
    {"external_links", "are not in this version of Hull: use a network that both are on"},
    {"gpus", "are not in this version of Hull: use devices"},
    {"models", "are not in this version of Hull"},
    {"pre_start", "is not in this version of Hull: use a service and service_completed_successfully"},
    {"provider", "is not in this version of Hull"},
    {"use_api_socket", "is not in this version of Hull: mount the socket with volumes"},
};

constexpr Refusal kIgnored[] = {
    {"placement", "there is one machine"},
    {"update_config", "containers are replaced one after the other"},
    {"rollback_config", "nothing is rolled back"},
    {"endpoint_mode", "a service's name gives the addresses of all its containers"},
};

}  // namespace

Result<void> check_supported(const Service& service, Notices& notices) {
  const Node& node = *service.node;
  for (const Refusal& one : kRefused) {
    const Node* found = node.value(one.key);
    if (found == nullptr || (found->is_list() && found->list.empty())) continue;
    if (found->is_scalar() && to_bool(*found) == false) continue;
    return errorf_at(found->mark, "services.{}: {} {}", service.name, one.key, one.why).as(ErrorKind::kUnsupported);
  }
  if (const Node* build = node.value("build")) {
    if (service.image.empty()) {
      return errorf_at(
                 build->mark,
                 "services.{}: build is not in this version of Hull: build the image elsewhere, load or pull it, and "
                 "name it with image",
                 service.name)
          .as(ErrorKind::kUnsupported);
    }
    notices.add_at(build->mark,
                   fmt::format("services.{}: build is not in this version of Hull; the image {} is used as "
                               "it is",
                               service.name, service.image));
  }
  if (const Node* develop = node.value("develop")) {
    notices.add_at(develop->mark, fmt::format("services.{}: develop is ignored: nothing is watched", service.name));
  }
  const Node* deploy = node.value("deploy");
  if (deploy == nullptr) return {};
  if (const Node* mode = deploy->value("mode");
      mode != nullptr && mode->text != "replicated" && mode->text != "global") {
    return errorf_at(mode->mark, "services.{}.deploy.mode: \"{:.40}\" belongs to a cluster (there is replicated)",
                     service.name, mode->text)
        .as(ErrorKind::kUnsupported);
  }
  for (const Refusal& one : kIgnored) {
    if (const Node* found = deploy->value(one.key)) {
      notices.add_at(found->mark, fmt::format("services.{}.deploy.{} is ignored: {}", service.name, one.key, one.why));
    }
  }
  const Node* resources = deploy->value("resources");
  const Node* reservations = resources == nullptr ? nullptr : resources->value("reservations");
  if (reservations == nullptr) return {};
  if (const Node* devices = reservations->value("devices"); devices != nullptr && !devices->list.empty()) {
    return errorf_at(devices->mark,
                     "services.{}.deploy.resources.reservations.devices are not in this version of Hull: "
                     "use devices",
                     service.name)
        .as(ErrorKind::kUnsupported);
  }
  for (const std::string_view key : {"cpus", "generic_resources"}) {
    if (const Node* found = reservations->value(key)) {
      notices.add_at(found->mark, fmt::format("services.{}.deploy.resources.reservations.{} is ignored: nothing is "
                                              "scheduled",
                                              service.name, key));
    }
  }
  return {};
}

}  // namespace hull::compose
