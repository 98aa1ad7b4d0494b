// kube generate: workloads as a Pod that `kube play` makes again.
#include <algorithm>

#include "compose/commands.h"
#include "compose/kube_pod.h"
#include "compose/yaml.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

using engine::Config;
using engine::MountRequest;

Node texts(const std::vector<std::string>& all) {
  Node list = Node::make_list();
  for (const std::string& one : all) list.add(Node::scalar(one));
  return list;
}

/// A name as Kubernetes wants it.
std::string kube_name(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool upper = c >= 'A' && c <= 'Z';
    const char lower = upper ? static_cast<char>(c - 'A' + 'a') : c;
    const bool good = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    if (good) {
      out += lower;
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out.empty() ? "workload" : out.substr(0, 63);
}

class Generator {
 public:
  explicit Generator(engine::Engine& engine) : engine_(engine) {}

  Result<void> add(const std::string& name) {
    // A pod's name stands for all that is in it.
    engine::ListFilter filter;
    filter.all = true;
    filter.filters.emplace("label", fmt::format("{}={}", kLabelPod, name));
    TRY_ASSIGN(const auto members, engine_.list(filter));
    if (members.empty()) {
      TRY_ASSIGN(const auto details, engine_.inspect(name));
      return add(details);
    }
    if (pod_name_.empty()) pod_name_ = name;
    for (auto member = members.rbegin(); member != members.rend(); ++member) {
      TRY_ASSIGN(const auto details, engine_.inspect(member->id));
      TRY(add(details));
    }
    return {};
  }

  std::string print(bool with_service) {
    Node pod = object("v1", "Pod");
    Node spec = Node::make_map();
    if (!init_.list.empty()) spec.set("initContainers", std::move(init_));
    spec.set("containers", std::move(containers_));
    if (host_network_) spec.set("hostNetwork", Node::boolean(true));
    if (!hostname_.empty()) spec.set("hostname", Node::scalar(hostname_));
    spec.set("restartPolicy", Node::scalar(restart_));
    if (vm_) spec.set("runtimeClassName", Node::scalar("hull-vm"));
    if (!volumes_.list.empty()) spec.set("volumes", std::move(volumes_));
    pod.set("spec", std::move(spec));
    std::string out = print_yaml(pod);
    for (const std::string& claim : claims_) out += "---\n" + print_yaml(claim_object(claim));
    if (with_service && !service_ports_.list.empty()) out += "---\n" + print_yaml(service());
    return out;
  }

  Result<void> check() const {
    if (containers_.list.empty()) return errorf(ErrorKind::kInvalid, "there is no workload to write down");
    if (vm_ && containers_.list.size() != 1) {
      return errorf(ErrorKind::kUnsupported, "a virtual machine is a pod of its own: generate it alone");
    }
    return {};
  }

 private:
  Node object(std::string_view version, std::string_view kind) const {
    Node out = Node::make_map();
    out.set("apiVersion", Node::scalar(version));
    out.set("kind", Node::scalar(kind));
    Node metadata = Node::make_map();
    metadata.set("name", Node::scalar(pod_name_));
    Node labels = Node::make_map();
    labels.set("app", Node::scalar(pod_name_));
    metadata.set("labels", std::move(labels));
    out.set("metadata", std::move(metadata));
    return out;
  }

  static Node claim_object(const std::string& name) {
    Node out = Node::make_map();
    out.set("apiVersion", Node::scalar("v1"));
    out.set("kind", Node::scalar("PersistentVolumeClaim"));
    Node metadata = Node::make_map();
    metadata.set("name", Node::scalar(name));
    out.set("metadata", std::move(metadata));
    Node spec = Node::make_map();
    spec.set("accessModes", texts({"ReadWriteOnce"}));
    Node requests = Node::make_map();
    requests.set("storage", Node::scalar("1Gi"));
    Node resources = Node::make_map();
    resources.set("requests", std::move(requests));
    spec.set("resources", std::move(resources));
    out.set("spec", std::move(spec));
    return out;
  }

  Node service() {
    Node out = object("v1", "Service");
    Node spec = Node::make_map();
    spec.set("ports", std::move(service_ports_));
    Node selector = Node::make_map();
    selector.set("app", Node::scalar(pod_name_));
    spec.set("selector", std::move(selector));
    spec.set("type", Node::scalar("NodePort"));
    out.set("spec", std::move(spec));
    return out;
  }

  Result<void> add(const engine::WorkloadDetails& details) {
    const Config& config = details.config;
    const auto role = config.labels.find(std::string(kLabelRole));
    if (pod_name_.empty()) pod_name_ = kube_name(details.summary.name) + "-pod";
    if (role != config.labels.end() && role->second == "infra") {
      hostname_ = config.hostname == pod_name_ ? "" : config.hostname;
      infra_ports_ = ports_of(config);
      return {};
    }
    if (config.isolation == engine::Isolation::kVm) vm_ = true;
    if (config.network == "host") host_network_ = true;
    const std::string& policy = config.restart.name;
    const bool init = role != config.labels.end() && role->second == "init";
    if (!init) restart_ = policy == "no" || policy.empty() ? "Never" : policy == "on-failure" ? "OnFailure" : "Always";
    const auto own = config.labels.find(std::string(kLabelContainer));
    Node node = Node::make_map();
    node.set("name", Node::scalar(own != config.labels.end() ? own->second : kube_name(details.summary.name)));
    node.set("image", Node::scalar(config.image));
    if (config.entrypoint && !config.entrypoint->empty()) node.set("command", texts(*config.entrypoint));
    if (!config.cmd.empty()) node.set("args", texts(config.cmd));
    environment(config, node);
    if (!config.working_dir.empty()) node.set("workingDir", Node::scalar(config.working_dir));
    if (config.tty) node.set("tty", Node::boolean(true));
    if (config.open_stdin) node.set("stdin", Node::boolean(true));
    Node ports = ports_of(config);
    if (!init && containers_.list.empty() && !infra_ports_.list.empty()) ports = infra_ports_;
    if (!ports.list.empty()) node.set("ports", std::move(ports));
    resources(config, node);
    security(config, node);
    probe(config, node);
    TRY(mounts(config, node));
    (init ? init_ : containers_).add(std::move(node));
    return {};
  }

  static void environment(const Config& config, Node& node) {
    Node all = Node::make_list();
    for (const std::string& entry : config.env) {
      const size_t equals = entry.find('=');
      if (equals == std::string::npos) continue;
      Node one = Node::make_map();
      one.set("name", Node::scalar(entry.substr(0, equals)));
      std::string value;
      // "$(" would be a reference.
      for (size_t i = equals + 1; i < entry.size(); ++i) {
        if (entry[i] == '$' && i + 1 < entry.size() && (entry[i + 1] == '(' || entry[i + 1] == '$')) value += '$';
        value += entry[i];
      }
      one.set("value", Node::scalar(value));
      all.add(std::move(one));
    }
    if (!all.list.empty()) node.set("env", std::move(all));
  }

  Node ports_of(const Config& config) {
    Node all = Node::make_list();
    for (const engine::PortRequest& port : config.ports) {
      Node one = Node::make_map();
      one.set("containerPort", Node::number(port.container_port));
      if (port.host_port != 0) one.set("hostPort", Node::number(port.host_port));
      if (!port.host_ip.empty()) one.set("hostIP", Node::scalar(port.host_ip));
      if (port.protocol == "udp") one.set("protocol", Node::scalar("UDP"));
      all.add(std::move(one));
      Node published = Node::make_map();
      published.set("name", Node::scalar(std::to_string(port.container_port)));
      published.set("port", Node::number(port.container_port));
      published.set("targetPort", Node::number(port.container_port));
      if (port.protocol == "udp") published.set("protocol", Node::scalar("UDP"));
      service_ports_.add(std::move(published));
    }
    return all;
  }

  static void resources(const Config& config, Node& node) {
    Node limits = Node::make_map();
    constexpr int64_t kMilli = 1'000'000;
    if (config.nano_cpus > 0) limits.set("cpu", Node::scalar(fmt::format("{}m", config.nano_cpus / kMilli)));
    if (config.memory > 0) limits.set("memory", Node::scalar(std::to_string(config.memory)));
    if (limits.members.empty()) return;
    Node all = Node::make_map();
    all.set("limits", std::move(limits));
    node.set("resources", std::move(all));
  }

  static void security(const Config& config, Node& node) {
    Node out = Node::make_map();
    if (config.privileged) out.set("privileged", Node::boolean(true));
    if (config.read_only_rootfs) out.set("readOnlyRootFilesystem", Node::boolean(true));
    const size_t colon = config.user.find(':');
    const auto number = [&](std::string_view key, const std::string& text) {
      if (!text.empty() && text.find_first_not_of("0123456789") == std::string::npos) {
        out.set(key, Node::scalar(text, {}, Node::Style::kPlain));
      }
    };
    number("runAsUser", config.user.substr(0, colon));
    if (colon != std::string::npos) number("runAsGroup", config.user.substr(colon + 1));
    Node capabilities = Node::make_map();
    if (!config.cap_add.empty()) capabilities.set("add", texts(config.cap_add));
    if (!config.cap_drop.empty()) capabilities.set("drop", texts(config.cap_drop));
    if (!capabilities.members.empty()) out.set("capabilities", std::move(capabilities));
    if (std::find(config.security_opt.begin(), config.security_opt.end(), "no-new-privileges=true") !=
        config.security_opt.end()) {
      out.set("allowPrivilegeEscalation", Node::boolean(false));
    }
    if (!out.members.empty()) node.set("securityContext", std::move(out));
  }

  static void probe(const Config& config, Node& node) {
    if (!config.healthcheck || config.healthcheck->test.size() < 2) return;
    const oci::HealthConfig& health = *config.healthcheck;
    std::vector<std::string> command(health.test.begin() + 1, health.test.end());
    if (health.test[0] == "CMD-SHELL") command = {"/bin/sh", "-c", health.test[1]};
    Node exec = Node::make_map();
    exec.set("command", texts(command));
    Node out = Node::make_map();
    out.set("exec", std::move(exec));
    constexpr int64_t kSecond = 1'000'000'000;
    const auto seconds = [&](std::string_view key, int64_t ns) {
      if (ns > 0) out.set(key, Node::number(std::max<int64_t>(1, ns / kSecond)));
    };
    seconds("initialDelaySeconds", health.start_period_ns);
    seconds("periodSeconds", health.interval_ns);
    seconds("timeoutSeconds", health.timeout_ns);
    if (health.retries > 0) out.set("failureThreshold", Node::number(health.retries));
    node.set("livenessProbe", std::move(out));
  }

  Result<void> mounts(const Config& config, Node& node) {
    Node all = Node::make_list();
    for (const MountRequest& mount : config.mounts) {
      Node source = Node::make_map();
      std::string name;
      if (mount.type == MountRequest::Type::kBind) {
        name = kube_name(mount.source) + "-host";
        Node path = Node::make_map();
        path.set("path", Node::scalar(mount.source));
        source.set("hostPath", std::move(path));
      } else if (mount.type == MountRequest::Type::kVolume && !mount.source.empty()) {
        name = kube_name(mount.source) + "-pvc";
        Node claim = Node::make_map();
        claim.set("claimName", Node::scalar(kube_name(mount.source)));
        source.set("persistentVolumeClaim", std::move(claim));
        if (kube_name(mount.source) != mount.source) {
          return errorf(ErrorKind::kUnsupported, "the volume {} has a name that Kubernetes does not allow",
                        mount.source);
        }
        if (std::find(claims_.begin(), claims_.end(), mount.source) == claims_.end()) claims_.push_back(mount.source);
      } else {
        name = kube_name(mount.target) + "-empty";
        Node empty = Node::make_map();
        if (mount.type == MountRequest::Type::kTmpfs) empty.set("medium", Node::scalar("Memory"));
        source.set("emptyDir", std::move(empty));
      }
      if (name.size() > 63) name = name.substr(name.size() - 63);
      Node one = Node::make_map();
      one.set("name", Node::scalar(name));
      one.set("mountPath", Node::scalar(mount.target));
      if (mount.read_only) one.set("readOnly", Node::boolean(true));
      all.add(std::move(one));
      const bool known = std::any_of(volumes_.list.begin(), volumes_.list.end(),
                                     [&](const Node& volume) { return volume.text_of("name") == name; });
      if (known) continue;
      Node volume = Node::make_map();
      volume.set("name", Node::scalar(name));
      for (Member& member : source.members) volume.set(member.key, std::move(member.value));
      volumes_.add(std::move(volume));
    }
    if (!all.list.empty()) node.set("volumeMounts", std::move(all));
    return {};
  }

  engine::Engine& engine_;
  std::string pod_name_, hostname_, restart_ = "Always";
  bool host_network_ = false, vm_ = false;
  Node containers_ = Node::make_list(), init_ = Node::make_list(), volumes_ = Node::make_list();
  Node infra_ports_ = Node::make_list(), service_ports_ = Node::make_list();
  std::vector<std::string> claims_;
};

}  // namespace

Result<int> run_generate(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const auto engine, App::open_engine());
  Generator generator(*engine);
  for (const std::string& name : flags.arguments) TRY(generator.add(name));
  TRY(generator.check());
  const std::string text = generator.print(flags.on("service"));
  if (flags.has("filename")) {
    TRY(sys::replace_file(std::string(flags.value("filename")), text, 0644, false));
  } else {
    app.context().out.write(text);
  }
  return 0;
}

}  // namespace hull::compose
