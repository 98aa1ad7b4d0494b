#include "compose/model.h"

#include <algorithm>
#include <functional>

#include "base/units.h"
#include "cli/text.h"

namespace hull::compose {
namespace {

constexpr int kMostReplicas = 1000;
constexpr std::string_view kDefault = "default";

std::vector<std::string> texts(const Node* node) {
  std::vector<std::string> out;
  if (node == nullptr) return out;
  for (const Node& element : node->list) out.push_back(element.text);
  return out;
}

bool is_on(const Node* node) { return node != nullptr && to_bool(*node).value_or(false); }

Condition condition_of(std::string_view word) {
  if (word == "service_healthy") return Condition::kHealthy;
  if (word == "service_completed_successfully") return Condition::kCompleted;
  return Condition::kStarted;
}

class Builder {
 public:
  Builder(const Project& project, const std::vector<std::string>& targets) : project_(project), targets_(targets) {}

  Result<Model> build() {
    model_.project = &project_;
    const Node* services = project_.document.value("services");
    if (services == nullptr || services->members.empty()) {
      return errorf(ErrorKind::kInvalid, "{}: there are no services", fmt::join(project_.files, ", "));
    }
    TRY(choose_profiles(*services));
    for (const Member& member : services->members) {
      if (is_active(member.value)) {
        TRY(service(member));
      } else {
        model_.disabled.emplace(member.key, &member.value);
      }
    }
    std::sort(model_.services.begin(), model_.services.end(),
              [](const Service& a, const Service& b) { return a.name < b.name; });
    for (Service& one : model_.services) TRY(check_references(one));
    TRY(start_order(model_));
    return std::move(model_);
  }

 private:
  Result<void> choose_profiles(const Node& services) {
    profiles_ = project_.profiles;
    for (const std::string& name : targets_) {
      const Node* node = services.find(name);
      if (node == nullptr) return errorf(ErrorKind::kNotFound, "there is no service \"{:.100}\"", name);
      for (const std::string& profile : texts(node->value("profiles"))) profiles_.insert(profile);
    }
    return {};
  }

  bool is_active(const Node& node) const {
    const std::vector<std::string> own = texts(node.value("profiles"));
    if (own.empty() || profiles_.contains("*")) return true;
    return std::any_of(own.begin(), own.end(), [&](const std::string& one) { return profiles_.contains(one); });
  }

  Result<void> service(const Member& member) {
    Service out;
    out.name = member.key;
    out.node = &member.value;
    const Node& node = member.value;
    out.image = node.text_of("image");
    out.container_name = node.text_of("container_name");
    out.pull_policy = node.text_of("pull_policy");
    out.build = node.value("build") != nullptr;
    out.profiles = texts(node.value("profiles"));
    if (const Node* attach = node.value("attach")) out.attach = to_bool(*attach).value_or(true);
    if (out.image.empty() && !out.build && node.value("provider") == nullptr) {
      return errorf_at(member.mark, "services.{}: has neither an image nor a build section", out.name);
    }
    TRY(replicas(out));
    TRY(dependencies(out));
    TRY(networks(out));
    TRY_ASSIGN(out.post_start, hooks(out, "post_start"));
    TRY_ASSIGN(out.pre_stop, hooks(out, "pre_stop"));
    model_.services.push_back(std::move(out));
    return {};
  }

  static Result<void> replicas(Service& out) {
    const Node* scale = out.node->value("scale");
    const Node* deploy = out.node->value("deploy");
    const Node* replicas = deploy == nullptr ? nullptr : deploy->value("replicas");
    const auto number = [&](const Node& node, std::string_view key) -> Result<int> {
      const auto value = to_int(node);
      if (!value || *value < 0 || *value > kMostReplicas) {
        return errorf_at(node.mark, "services.{}.{}: expected a number from 0 to {}", out.name, key, kMostReplicas);
      }
      return static_cast<int>(*value);
    };
    if (replicas != nullptr) {
      TRY_ASSIGN(out.replicas, number(*replicas, "deploy.replicas"));
    }
    if (scale != nullptr) {
      TRY_ASSIGN(const int scaled, number(*scale, "scale"));
      if (replicas != nullptr && scaled != out.replicas) {
        return errorf_at(scale->mark, "services.{}: scale ({}) and deploy.replicas ({}) differ", out.name, scaled,
                         out.replicas);
      }
      out.replicas = scaled;
    }
    if (!out.container_name.empty() && out.replicas > 1) {
      return errorf_at(out.node->find("container_name")->mark,
                       "services.{}: several containers can't share the name {}: remove container_name or the scale",
                       out.name, out.container_name);
    }
    return {};
  }

  static void add_dependency(Service& out, std::string_view name, const Mark& mark) {
    for (const Dependency& known : out.depends_on) {
      if (known.service == name) return;
    }
    out.depends_on.push_back({std::string(name), Condition::kStarted, true, false, mark});
  }

  static Result<void> dependencies(Service& out) {
    if (const Node* all = out.node->value("depends_on")) {
      for (const Member& member : all->members) {
        Dependency one;
        one.service = member.key;
        one.mark = member.mark;
        one.condition = condition_of(member.value.text_of("condition"));
        if (const Node* required = member.value.value("required")) one.required = to_bool(*required).value_or(true);
        one.restart = is_on(member.value.value("restart"));
        out.depends_on.push_back(std::move(one));
      }
    }
    for (const std::string_view key : {"network_mode", "ipc", "pid"}) {
      const Node* mode = out.node->value(key);
      if (mode != nullptr && mode->text.starts_with("service:")) {
        add_dependency(out, std::string_view(mode->text).substr(8), mode->mark);
      }
    }
    if (const Node* links = out.node->value("links")) {
      for (const Node& link : links->list) {
        add_dependency(out, std::string_view(link.text).substr(0, link.text.find(':')), link.mark);
      }
    }
    if (const Node* from = out.node->value("volumes_from")) {
      for (const Node& one : from->list) {
        if (one.text.starts_with("container:")) continue;
        add_dependency(out, std::string_view(one.text).substr(0, one.text.find(':')), one.mark);
      }
    }
    return {};
  }

  Result<void> networks(Service& out) {
    const Node* all = out.node->value("networks");
    const Node* mode = out.node->value("network_mode");
    if (mode != nullptr) {
      if (all != nullptr && !all->members.empty()) {
        return errorf_at(mode->mark, "services.{}: network_mode and networks exclude each other", out.name);
      }
      return {};
    }
    if (all == nullptr || all->members.empty()) {
      out.networks.push_back({std::string(kDefault), nullptr, 0});
      return {};
    }
    for (const Member& member : all->members) {
      ServiceNetwork one;
      one.name = member.key;
      one.node = member.value.is_map() ? &member.value : nullptr;
      if (one.node != nullptr && one.node->value("priority") != nullptr) {
        one.priority = to_number(*one.node->value("priority")).value_or(0);
      }
      out.networks.push_back(std::move(one));
    }
    std::stable_sort(out.networks.begin(), out.networks.end(), [](const ServiceNetwork& a, const ServiceNetwork& b) {
      return a.priority != b.priority ? a.priority > b.priority : a.name < b.name;
    });
    return {};
  }

  static Result<std::vector<Hook>> hooks(const Service& service, std::string_view key) {
    std::vector<Hook> out;
    const Node* all = service.node->value(key);
    if (all == nullptr) return out;
    for (const Node& node : all->list) {
      Hook hook;
      hook.command = texts(node.value("command"));
      if (hook.command.empty()) {
        return errorf_at(node.mark, "services.{}.{}: a command is missing", service.name, key);
      }
      hook.user = node.text_of("user");
      hook.working_dir = node.text_of("working_dir");
      hook.privileged = is_on(node.value("privileged"));
      if (const Node* environment = node.value("environment")) {
        for (const Member& member : environment->members) {
          if (!member.value.is_null()) hook.environment.push_back(fmt::format("{}={}", member.key, member.value.text));
        }
      }
      out.push_back(std::move(hook));
    }
    return out;
  }

  // ---- references

  Result<void> check_references(Service& one) {
    std::vector<Dependency> kept;
    for (Dependency& dependency : one.depends_on) {
      if (model_.find(dependency.service) != nullptr) {
        kept.push_back(std::move(dependency));
        continue;
      }
      if (!dependency.required) continue;
      if (model_.disabled.contains(dependency.service)) {
        return errorf_at(dependency.mark,
                         "services.{}: depends on \"{}\", which the active profiles leave out (its profiles: {})",
                         one.name, dependency.service,
                         fmt::join(texts(model_.disabled.at(dependency.service)->value("profiles")), ", "));
      }
      return errorf_at(dependency.mark, "services.{}: depends on \"{:.100}\", which is not defined", one.name,
                       dependency.service);
    }
    one.depends_on = std::move(kept);
    for (const ServiceNetwork& network : one.networks) {
      const Node* all = one.node->value("networks");
      const Mark mark = network.node != nullptr ? network.node->mark : all != nullptr ? all->mark : one.node->mark;
      TRY(use(model_.networks, "networks", network.name, mark, one.name));
      if (network.name == kDefault) model_.uses_default_network = true;
    }
    if (const Node* mounts = one.node->value("volumes")) {
      for (const Node& mount : mounts->list) {
        const Node* source = mount.value("source");
        if (mount.text_of("type") != "volume" || source == nullptr) continue;
        TRY(use(model_.volumes, "volumes", source->text, source->mark, one.name));
      }
    }
    for (const std::string_view key : {"configs", "secrets"}) {
      const Node* refs = one.node->value(key);
      if (refs == nullptr) continue;
      for (const Node& ref : refs->list) {
        const Node* source = ref.value("source");
        TRY(use(key == "configs" ? model_.configs : model_.secrets, key, source->text, source->mark, one.name));
      }
    }
    return {};
  }

  Result<void> use(std::map<std::string, Resource>& into, std::string_view section, const std::string& key, Mark mark,
                   std::string_view service) const {
    if (into.contains(key)) return {};
    const Node* all = project_.document.value(section);
    const Node* node = all == nullptr ? nullptr : all->find(key);
    if (node == nullptr && !(section == "networks" && key == kDefault)) {
      return errorf_at(mark, "services.{}: uses \"{:.100}\", which is not defined under {}", service, key, section);
    }
    Resource resource;
    resource.key = key;
    resource.node = node != nullptr && node->is_map() ? node : nullptr;
    if (resource.node != nullptr) {
      resource.external = is_on(resource.node->value("external"));
      resource.name = resource.node->text_of("name");
      TRY(check_resource(resource, section));
    }
    if (resource.name.empty()) resource.name = resource.external ? key : fmt::format("{}_{}", project_.name, key);
    into.emplace(key, std::move(resource));
    return {};
  }

  static Result<void> check_resource(const Resource& resource, std::string_view section) {
    const Node& node = *resource.node;
    if (resource.external) {
      for (const Member& member : node.members) {
        if (member.key == "external" || member.key == "name" || member.key.starts_with("x-")) continue;
        return errorf_at(member.mark, "{}.{}: it is external, so {} can't be given here", section, resource.key,
                         member.key);
      }
    }
    if (section != "configs" && section != "secrets") return {};
    if (resource.external) {
      return errorf_at(node.mark, "{}.{}: there are no external {} without a cluster: use file, environment{}", section,
                       resource.key, section, section == "configs" ? " or content" : "");
    }
    int sources = 0;
    for (const std::string_view key : {"file", "environment", "content"}) {
      if (node.find(key) != nullptr) ++sources;
    }
    if (sources != 1) {
      return errorf_at(node.mark, "{}.{}: expected exactly one of file, environment{}", section, resource.key,
                       section == "configs" ? " and content" : "");
    }
    for (const std::string_view key : {"driver", "template_driver"}) {
      if (const Node* other = node.value(key)) {
        return errorf_at(other->mark, "{}.{}.{}: drivers for {} belong to a cluster, which Hull is not", section,
                         resource.key, key, section);
      }
    }
    return {};
  }

  const Project& project_;
  const std::vector<std::string>& targets_;
  std::set<std::string> profiles_;
  Model model_;
};

}  // namespace

std::string_view to_string(Condition condition) {
  switch (condition) {
    case Condition::kStarted:
      return "service_started";
    case Condition::kHealthy:
      return "service_healthy";
    case Condition::kCompleted:
      return "service_completed_successfully";
  }
  return "";
}

const Service* Model::find(std::string_view name) const {
  for (const Service& one : services) {
    if (one.name == name) return &one;
  }
  return nullptr;
}

Result<Model> build_model(const Project& project, const std::vector<std::string>& targets) {
  return Builder(project, targets).build();
}

Result<std::vector<size_t>> start_order(const Model& model) {
  enum class Visit : uint8_t { kNew, kOpen, kDone };
  std::vector<Visit> marks(model.services.size(), Visit::kNew);
  std::vector<size_t> order;
  std::vector<std::string> way;
  std::map<std::string_view, size_t> index;
  for (size_t i = 0; i < model.services.size(); ++i) index.emplace(model.services[i].name, i);
  // Recursion as deep as the longest chain; a file has at most some thousand services.
  const std::function<Result<void>(size_t)> visit = [&](size_t at) -> Result<void> {
    if (marks[at] == Visit::kDone) return {};
    const Service& service = model.services[at];
    way.push_back(service.name);
    if (marks[at] == Visit::kOpen) {
      const auto start = std::find(way.begin(), way.end(), service.name);
      return errorf_at(service.node->mark, "services depend on each other in a circle: {}",
                       fmt::join(std::vector<std::string>(start, way.end()), " -> "));
    }
    marks[at] = Visit::kOpen;
    for (const Dependency& dependency : service.depends_on) TRY(visit(index.at(dependency.service)));
    marks[at] = Visit::kDone;
    way.pop_back();
    order.push_back(at);
    return {};
  };
  for (size_t i = 0; i < model.services.size(); ++i) TRY(visit(i));
  return order;
}

Result<std::vector<std::string>> select_services(const Model& model, const std::vector<std::string>& names,
                                                 bool dependencies) {
  std::set<std::string> wanted;
  std::vector<std::string> open = names;
  if (names.empty()) {
    for (const Service& one : model.services) wanted.insert(one.name);
  }
  while (!open.empty()) {
    const std::string name = std::move(open.back());
    open.pop_back();
    if (!wanted.insert(name).second) continue;
    const Service* service = model.find(name);
    if (service == nullptr) return errorf(ErrorKind::kNotFound, "there is no service \"{:.100}\"", name);
    if (!dependencies) continue;
    for (const Dependency& dependency : service->depends_on) open.push_back(dependency.service);
  }
  return std::vector<std::string>(wanted.begin(), wanted.end());
}

namespace {

Node sorted(Node node) {
  std::sort(node.members.begin(), node.members.end(), [](const Member& a, const Member& b) { return a.key < b.key; });
  for (Member& member : node.members) member.value = sorted(std::move(member.value));
  for (Node& element : node.list) element = sorted(std::move(element));
  return node;
}

Node printed_resources(const std::map<std::string, Resource>& resources) {
  Node out = Node::make_map();
  for (const auto& [key, resource] : resources) {
    Node node = resource.node != nullptr ? *resource.node : Node::make_map();
    node.set("name", Node::scalar(resource.name));
    out.set(key, sorted(std::move(node)));
  }
  return out;
}

}  // namespace

Node printed_document(const Model& model) {
  Node out = Node::make_map();
  out.set("name", Node::scalar(model.project->name));
  Node services = Node::make_map();
  for (const Service& service : model.services) {
    Node node = *service.node;
    if (node.find("network_mode") == nullptr) {
      Node networks = Node::make_map();
      for (const ServiceNetwork& network : service.networks) {
        networks.set(network.name, network.node != nullptr ? *network.node : Node());
      }
      node.set("networks", std::move(networks));
    }
    std::erase_if(node.members, [](const Member& member) { return member.value.is_null(); });
    services.set(service.name, sorted(std::move(node)));
  }
  out.set("services", std::move(services));
  const auto section = [&](std::string_view key, const std::map<std::string, Resource>& resources) {
    if (!resources.empty()) out.set(key, printed_resources(resources));
  };
  section("networks", model.networks);
  section("volumes", model.volumes);
  section("secrets", model.secrets);
  section("configs", model.configs);
  for (const Member& member : model.project->document.members) {
    if (member.key.starts_with("x-")) out.set(member.key, member.value);
  }
  return out;
}

}  // namespace hull::compose
