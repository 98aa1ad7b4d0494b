#pragma once

#include "compose/kube_pod.h"

namespace hull::compose {

/// What a container of a pod says of itself, into `out`, which has what all containers of the pod have.
Result<void> kube_container(const Node& node, const KubePod& pod, KubeFile& file, const PodPlan& plan,
                            PodContainer& out);

/// One entry of spec.volumes, into the plan's sources, volumes and files.
Result<void> kube_volume(const Node& node, const KubePod& pod, KubeFile& file, PodPlan& plan);

/// A probe as a health check.
Result<oci::HealthConfig> kube_probe(const Node& probe, const Node& container);

}  // namespace hull::compose
