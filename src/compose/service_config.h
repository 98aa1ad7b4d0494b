#pragma once
// One service as the request that the engine takes.

#include <functional>

#include "compose/files.h"
#include "compose/model.h"
#include "engine/config.h"

namespace hull::compose {

// The labels by which Docker's compose knows its own; other tools read them too.
inline constexpr std::string_view kLabelProject = "com.docker.compose.project";
inline constexpr std::string_view kLabelService = "com.docker.compose.service";
inline constexpr std::string_view kLabelNumber = "com.docker.compose.container-number";
inline constexpr std::string_view kLabelHash = "com.docker.compose.config-hash";
inline constexpr std::string_view kLabelOneOff = "com.docker.compose.oneoff";
inline constexpr std::string_view kLabelFolder = "com.docker.compose.project.working_dir";
inline constexpr std::string_view kLabelFiles = "com.docker.compose.project.config_files";
inline constexpr std::string_view kLabelDepends = "com.docker.compose.depends_on";
inline constexpr std::string_view kLabelImage = "com.docker.compose.image";
inline constexpr std::string_view kLabelNetwork = "com.docker.compose.network";
inline constexpr std::string_view kLabelVolume = "com.docker.compose.volume";
inline constexpr std::string_view kLabelVersion = "com.docker.compose.version";

struct ServiceRequest {
  int number = 1;    // of the container; 0: a one-off (run)
  std::string name;  // of the container; "": after project, service and number
  /// The id of a running container of a service, for network_mode: service:NAME and the like.
  std::function<Result<std::string>(const std::string& service)> container_of;
};

/// Errors are kInvalid with the place in the file; kUnsupported for what Hull does not have.
Result<engine::Config> make_config(const Model& model, const Service& service, const ServiceRequest& request,
                                   const std::vector<FileMount>& files);

/// Says what of a service Hull does not do: an error where the service would not be what its file says, a notice where
/// it makes no difference on one machine.
Result<void> check_supported(const Service& service, Notices& notices);

/// What a container of this service is made from, as 64 hexadecimal digits: another hash means another container.
Result<std::string> config_hash(const Model& model, const Service& service, const std::vector<FileMount>& files);

/// "PROJECT-SERVICE-1", or the name that the file gives.
std::string container_name(const Model& model, const Service& service, int number);

/// stop_grace_period in whole seconds, when it is given.
Result<std::optional<int>> stop_timeout(const Service& service);

/// The health check as the file has it, nothing when it says nothing.
Result<std::optional<oci::HealthConfig>> health_check(const Node* node);

}  // namespace hull::compose
