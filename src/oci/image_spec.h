#pragma once
// The OCI image specification 1.1 and Docker's schema 2 as types: descriptors, indexes, manifests, image configs.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/error.h"

namespace hull::oci {

inline constexpr std::string_view kMediaTypeIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kMediaTypeManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kMediaTypeConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kMediaTypeLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kMediaTypeLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kMediaTypeLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kMediaTypeDockerList = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view kMediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kMediaTypeDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kMediaTypeDockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr std::string_view kMediaTypeDockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";

struct Platform {
  std::string os = "linux";
  std::string architecture;  // amd64, arm64 ...
  std::string variant;       // v7, v8 ...
  /// "linux/amd64", "linux/arm/v7"
  std::string str() const;
  bool operator==(const Platform&) const = default;
};
/// "linux/amd64", "arm64", "linux/arm/v7"; architecture names normalised (x86_64 -> amd64, aarch64 -> arm64).
Result<Platform> parse_platform(std::string_view text);
Platform host_platform();

struct Descriptor {
  std::string media_type;
  Digest digest;
  int64_t size = 0;
  std::vector<std::string> urls;
  std::map<std::string, std::string> annotations;
  std::optional<Platform> platform;
};

struct Index {
  std::string media_type;
  std::vector<Descriptor> manifests;
  std::map<std::string, std::string> annotations;
};

struct Manifest {
  std::string media_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  std::map<std::string, std::string> annotations;
};

/// Docker's health check, part of the image config (Docker image spec 1.2).
struct HealthConfig {
  std::vector<std::string> test;
  int64_t interval_ns = 0, timeout_ns = 0, start_period_ns = 0, start_interval_ns = 0;
  int retries = 0;
};

/// The `config` object of an image: how to run it.
struct ImageRunConfig {
  std::string user;
  std::vector<std::string> exposed_ports;  // "80/tcp"
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> volumes;
  std::string working_dir;
  std::map<std::string, std::string> labels;
  std::string stop_signal;
  std::optional<HealthConfig> healthcheck;
  std::vector<std::string> shell;
  std::vector<std::string> on_build;  ///< Docker's triggers
};

struct HistoryEntry {
  std::string created, created_by, author, comment;
  bool empty_layer = false;
};

struct ImageConfig {
  std::string created;  // RFC 3339
  std::string author;
  Platform platform;
  ImageRunConfig config;
  std::vector<Digest> diff_ids;
  std::vector<HistoryEntry> history;
};

inline constexpr size_t kMaxManifestBytes = 4 << 20;
inline constexpr size_t kMaxConfigBytes = 8 << 20;
inline constexpr size_t kMaxLayers = 127 * 4;

/// Each parser bounds its input and its counts and names the member at fault. A manifest must have a config and
/// sizes >= 0; media types that are neither OCI's nor Docker's are kUnsupported.
Result<Index> parse_index(std::string_view json);
Result<Manifest> parse_manifest(std::string_view json);
Result<ImageConfig> parse_image_config(std::string_view json);
std::string to_json(const Index& index);
std::string to_json(const Manifest& manifest);
std::string to_json(const ImageConfig& config);

/// True for index or manifest list; kInvalid when the JSON has no recognisable media type or shape.
Result<bool> is_index(std::string_view json, std::string_view content_type);

/// The entry of `index` for `platform` (exact variant first, then any variant of the architecture); kNotFound lists
/// the platforms that there are.
Result<Descriptor> choose_platform(const Index& index, const Platform& platform);

}  // namespace hull::oci
