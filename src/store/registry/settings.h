#pragma once
// The parts of hull.toml that concern registries and limits on images:
//
//   [registry]
//   default = "docker.io"            # for names without a host
//   parallel_layers = 3              # layers fetched at once
//   parallel_ranges = 4              # streams for one large layer, where the registry serves ranges
//   stall_timeout = "30s"            # no byte for so long: the connection is given up and resumed
//   retries = 5
//
//   [registry."registry.example:5000"]
//   insecure = true                  # plain HTTP, or TLS without verification (localhost is so by default)
//   mirrors = ["mirror.example", "http://10.0.0.1:5000"]   # asked first, in this order
//   ca = "/etc/hull/example.pem"     # trusted beside the system's CAs
//   client_cert = "/etc/hull/example.cert"
//   client_key = "/etc/hull/example.key"
//
//   [limits]
//   max_layer_bytes = "256GiB"       # unpacked
//   max_image_bytes = "1TiB"         # all layers, as they are sent
//   max_ratio = 1100                 # unpacked to packed, after the first GiB
//   max_entries = 16777216           # files in a layer

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::store {

struct RegistryHost {
  bool insecure = false;
  std::vector<std::string> mirrors;
  std::string ca, client_cert, client_key;
};

struct RegistrySettings {
  /// Top-level keys of the file, which the engine reads too.
  std::string data_root = "/var/lib/hull", run_root = "/run/hull";
  std::string default_registry = "docker.io";
  std::map<std::string, RegistryHost> hosts;
  int parallel_layers = 3;
  int parallel_ranges = 4;
  std::chrono::milliseconds stall_timeout{30000};
  int retries = 5;
  uint64_t max_layer_bytes = 256ULL << 30;
  uint64_t max_image_bytes = 1ULL << 40;
  uint32_t max_ratio = 1100;
  uint32_t max_entries = 16U << 20;

  /// What holds for a host; a loopback address or name is insecure without being named.
  RegistryHost host(const std::string& name) const;
};

/// Reads data_root, run_root and the tables "registry" and "limits" of the document; the rest is the engine's. Errors
/// name key and line.
Result<RegistrySettings> parse_registry_settings(std::string_view toml, const std::string& file_name);
/// From a file; an absent file gives the defaults.
Result<RegistrySettings> load_registry_settings(const std::string& path);

/// localhost, 127.0.0.0/8, ::1, with or without port.
bool is_loopback_host(std::string_view host);

}  // namespace hull::store
