#pragma once
// A pod as workloads of the engine: a small one that holds the network, then those that share it.

#include "compose/kube_objects.h"
#include "engine/config.h"

namespace hull::compose {

inline constexpr std::string_view kLabelPod = "io.hull.kube.pod";
inline constexpr std::string_view kLabelRole = "io.hull.kube.role";  // infra, init, container
inline constexpr std::string_view kLabelContainer = "io.hull.kube.container";
inline constexpr std::string_view kLabelEmptyDir = "io.hull.kube.emptydir";  // of volumes: the pod's name
/// The network that pods are on when none is named.
inline constexpr std::string_view kKubeNetwork = "hull-kube";
/// What holds a pod's network: the image that comes with Hull.
inline constexpr std::string_view kInfraImage = "hull-demo";

/// A volume that has to be there before the pod's containers are made.
struct PodVolume {
  std::string name;
  std::map<std::string, std::string> options, labels;
};
/// A file of a ConfigMap or Secret that has to be written.
struct PodFile {
  std::string path, content;
  uint32_t mode = 0644;
};

struct PodContainer {
  engine::Config config;
  engine::PullPolicy pull = engine::PullPolicy::kMissing;
};

/// What a volume of the pod is for those that mount it.
struct PodSource {
  engine::MountRequest::Type type = engine::MountRequest::Type::kBind;
  std::string source;
  bool read_only = false;
  bool create = false;   // a missing folder of the host is made
  bool missing = false;  // optional, and not there: nothing is mounted
};

struct PodPlan {
  std::string name, folder;  // `folder`: below Hull's data, holds files
  std::map<std::string, PodSource> sources;
  std::optional<PodContainer> infra;  // nothing for a pod that is one virtual machine
  std::vector<PodContainer> init, containers;
  std::vector<PodVolume> volumes;
  std::vector<PodFile> files;
};

/// `networks` empty: kKubeNetwork. Errors name file and line.
Result<PodPlan> plan_pod(const KubePod& pod, KubeFile& file, const std::vector<std::string>& networks,
                         const std::string& data_root);

}  // namespace hull::compose
