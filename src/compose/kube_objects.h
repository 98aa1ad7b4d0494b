#pragma once
// Kubernetes YAML as far as one machine can play it: Pod, Deployment, ConfigMap, Secret, PersistentVolumeClaim and
// Service (apps/v1, v1). Every other kind, and every key that is not Kubernetes', is an error with file and line; keys
// that mean something in a cluster only are told.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "compose/paths.h"

namespace hull::compose {

/// A ConfigMap or a Secret: name → content.
struct KubeData {
  std::string name;
  std::map<std::string, std::string> entries;
};

struct KubeClaim {
  std::string name;
  std::map<std::string, std::string> labels;
};

struct KubePod {
  std::string name;
  std::map<std::string, std::string> labels, annotations;
  const Node* spec = nullptr;
  std::vector<std::string> service_names;  // of Services that select it
  struct NodePort {
    int node = 0, target = 0;
    std::string target_name, protocol = "tcp";
  };
  std::vector<NodePort> node_ports;
};

struct KubeFile {
  std::vector<Node> documents;
  std::vector<KubePod> pods;
  std::map<std::string, KubeData> config_maps, secrets;
  std::vector<KubeClaim> claims;
  Notices notices;
};

/// `more` are files whose ConfigMaps and Secrets are taken too.
Result<KubeFile> read_kube_file(std::string_view text, const std::string* name,
                                const std::vector<std::pair<std::string, const std::string*>>& more);

/// "500m" is half a processor, in 10^-9 parts; "128Mi", "1e6", "0.5" bytes. Kubernetes' quantities.
Result<int64_t> parse_quantity(std::string_view text, int64_t unit);

/// RFC 4648, with padding.
Result<std::string> decode_base64(std::string_view text);

}  // namespace hull::compose
