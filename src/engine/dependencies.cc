#include "engine/dependencies.h"

#include <string_view>

namespace hull::engine {
namespace {

constexpr const char* kProject = "com.docker.compose.project";
constexpr const char* kService = "com.docker.compose.service";
constexpr const char* kDependsOn = "com.docker.compose.depends_on";  // "db:service_healthy:false,cache:service_started"

std::string label(const DependencyNode& node, const char* name) {
  const auto it = node.labels.find(name);
  return it == node.labels.end() ? std::string() : it->second;
}

struct Edge {
  size_t target = 0;
  std::string condition;
};

std::vector<Edge> edges_of(const std::vector<DependencyNode>& nodes, const DependencyNode& node) {
  std::vector<Edge> edges;
  for (const std::string& ref : node.needs) {
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].name == ref || (!ref.empty() && nodes[i].id.starts_with(ref))) edges.push_back({i, ""});
    }
  }
  const std::string project = label(node, kProject), text = label(node, kDependsOn);
  std::string_view rest = text;
  while (!project.empty() && !rest.empty()) {
    std::string_view one = rest.substr(0, rest.find(','));
    rest.remove_prefix(one.size() == rest.size() ? one.size() : one.size() + 1);
    const size_t colon = one.find(':');
    const std::string_view service = one.substr(0, colon);
    std::string_view condition = colon == std::string_view::npos ? std::string_view() : one.substr(colon + 1);
    condition = condition.substr(0, condition.find(':'));
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (label(nodes[i], kProject) == project && label(nodes[i], kService) == service) {
        edges.push_back({i, std::string(condition)});
      }
    }
  }
  return edges;
}

}  // namespace

std::vector<std::string> dependencies_of(const Config& config) {
  std::vector<std::string> out;
  for (const std::string* mode : {&config.network, &config.ipc_mode, &config.pid_mode}) {
    if (mode->starts_with("container:")) out.push_back(mode->substr(10));
  }
  for (const auto* list : {&config.volumes_from, &config.links}) {
    for (const std::string& entry : *list) out.push_back(entry.substr(0, entry.find(':')));
  }
  return out;
}

std::vector<OrderedNode> order_by_dependency(const std::vector<DependencyNode>& nodes) {
  enum class Mark { kNew, kEntered, kDone };
  std::vector<Mark> marks(nodes.size(), Mark::kNew);
  std::vector<OrderedNode> out;
  // With a stack of its own: a chain may be as long as there are workloads.
  struct Frame {
    size_t node = 0;
    std::vector<Edge> edges;
    size_t next = 0;
  };
  for (size_t root = 0; root < nodes.size(); ++root) {
    if (marks[root] != Mark::kNew) continue;
    std::vector<Frame> stack;
    stack.push_back({root, edges_of(nodes, nodes[root]), 0});
    marks[root] = Mark::kEntered;
    while (!stack.empty()) {
      Frame& top = stack.back();
      if (top.next < top.edges.size()) {
        const size_t target = top.edges[top.next++].target;
        if (marks[target] == Mark::kNew) {
          marks[target] = Mark::kEntered;
          stack.push_back({target, edges_of(nodes, nodes[target]), 0});
        }
        continue;
      }
      OrderedNode done{top.node, {}};
      for (const Edge& edge : top.edges) {
        if (edge.condition.empty() || edge.condition == "service_started" || marks[edge.target] != Mark::kDone)
          continue;
        done.waits.push_back({nodes[edge.target].id, nodes[edge.target].name, edge.condition});
      }
      marks[top.node] = Mark::kDone;
      out.push_back(std::move(done));
      stack.pop_back();
    }
  }
  return out;
}

}  // namespace hull::engine
