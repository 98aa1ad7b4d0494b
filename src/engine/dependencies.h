#pragma once
// Which workloads have to be there before others: joined namespaces, volumes-from, links, and what compose noted in
// labels.

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "engine/config.h"

namespace hull::engine {

/// Names or ids that the request names: container:X of network, ipc and pid; --volumes-from; --link.
std::vector<std::string> dependencies_of(const Config& config);

struct DependencyNode {
  std::string id, name;
  std::vector<std::string> needs;  // names, ids or unique prefixes of ids
  std::map<std::string, std::string> labels;
};

/// A condition of compose's depends_on other than service_started.
struct DependencyWait {
  std::string id, name, condition;
};

struct OrderedNode {
  size_t index = 0;
  std::vector<DependencyWait> waits;
};

/// Every node once, after those that it needs; otherwise in the given order. A circle is broken where it is entered, a
/// name that nobody has is left out.
std::vector<OrderedNode> order_by_dependency(const std::vector<DependencyNode>& nodes);

}  // namespace hull::engine
