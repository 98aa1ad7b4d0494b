#include "compose/kube_pod.h"

#include <algorithm>

#include "cli/values.h"
#include "compose/kube_container.h"

namespace hull::compose {
namespace {

constexpr std::string_view kIgnored[] = {"activeDeadlineSeconds",
                                         "affinity",
                                         "automountServiceAccountToken",
                                         "enableServiceLinks",
                                         "ephemeralContainers",
                                         "imagePullSecrets",
                                         "nodeName",
                                         "nodeSelector",
                                         "os",
                                         "overhead",
                                         "preemptionPolicy",
                                         "priority",
                                         "priorityClassName",
                                         "readinessGates",
                                         "resourceClaims",
                                         "schedulerName",
                                         "schedulingGates",
                                         "serviceAccount",
                                         "serviceAccountName",
                                         "setHostnameAsFQDN",
                                         "subdomain",
                                         "tolerations",
                                         "topologySpreadConstraints"};

bool is_on(const Node* node) { return node != nullptr && to_bool(*node).value_or(false); }

class PodPlanner {
 public:
  PodPlanner(const KubePod& pod, KubeFile& file, const std::vector<std::string>& networks, const std::string& data_root)
      : pod_(pod), spec_(*pod.spec), file_(file), networks_(networks) {
    plan_.name = pod.name;
    plan_.folder = fmt::format("{}/kube/{}", data_root, pod.name);
  }

  Result<PodPlan> plan() {
    for (const std::string_view key : kIgnored) {
      if (const Node* node = spec_.value(key)) {
        file_.notices.add_at(node->mark, fmt::format("spec.{} is ignored: it means something in a cluster only", key));
      }
    }
    TRY(check_modes());
    TRY(volumes());
    engine::Config shared;
    TRY(network(shared));
    if (!vm_) TRY(infra(shared));
    for (const std::string_view key : {"initContainers", "containers"}) {
      const Node* all = spec_.value(key);
      if (all == nullptr) continue;
      for (const Node& node : all->list) {
        // A sidecar: an init container that goes on running.
        const bool init = key == "initContainers" && node.text_of("restartPolicy") != "Always";
        TRY_ASSIGN(PodContainer one, container(node, init, shared));
        (init ? plan_.init : plan_.containers).push_back(std::move(one));
      }
    }
    if (plan_.containers.empty()) return errorf_at(spec_.mark, "the pod {} has no containers", pod_.name);
    return std::move(plan_);
  }

 private:
  Result<void> check_modes() {
    const std::string_view runtime = spec_.text_of("runtimeClassName");
    vm_ = runtime == "hull-vm" || runtime == "vm";
    if (!runtime.empty() && !vm_ && runtime != "hull") {
      return errorf_at(spec_.find("runtimeClassName")->mark,
                       "runtimeClassName: \"{:.60}\" is not there (there are hull and hull-vm)", runtime);
    }
    const Node* containers = spec_.value("containers");
    const size_t count = containers == nullptr ? 0 : containers->list.size();
    const Node* init = spec_.value("initContainers");
    if (vm_ && (count != 1 || (init != nullptr && !init->list.empty()))) {
      return errorf_at(spec_.mark, "the pod {}: a virtual machine is one container, without init containers",
                       pod_.name);
    }
    const std::string_view policy = spec_.text_of("restartPolicy");
    if (!policy.empty() && policy != "Always" && policy != "OnFailure" && policy != "Never") {
      return errorf_at(spec_.find("restartPolicy")->mark, "restartPolicy: expected Always, OnFailure or Never");
    }
    return {};
  }

  /// What all containers of the pod have in common; on the infra container where there is one.
  Result<void> network(engine::Config& shared) {
    shared.labels = pod_.labels;
    for (const auto& [key, value] : pod_.annotations) shared.annotations.insert_or_assign(key, value);
    shared.labels.insert_or_assign(std::string(kLabelPod), pod_.name);
    const bool host = is_on(spec_.value("hostNetwork"));
    if (host) {
      shared.network = "host";
      return {};
    }
    shared.hostname = spec_.text_of("hostname");
    if (shared.hostname.empty()) shared.hostname = pod_.name.substr(0, 63);
    std::vector<std::string> names = networks_;
    if (names.empty()) names.emplace_back(kKubeNetwork);
    shared.network = names.front();
    const bool plain =
        names.size() == 1 && (names.front() == "bridge" || names.front() == "none" || names.front() == "host");
    if (!plain) {
      for (const std::string& name : names) {
        engine::NetworkAttachment attachment;
        attachment.network = name;
        attachment.aliases.push_back(pod_.name);
        attachment.aliases.insert(attachment.aliases.end(), pod_.service_names.begin(), pod_.service_names.end());
        shared.networks.push_back(std::move(attachment));
      }
    }
    TRY(ports(shared));
    if (const Node* aliases = spec_.value("hostAliases")) {
      for (const Node& alias : aliases->list) {
        for (const Node& host_name : alias.value("hostnames")->list) {
          auto entry = cli::parse_extra_host(fmt::format("{}={}", host_name.text, alias.text_of("ip")));
          if (!entry.ok()) return error_at(host_name.mark, entry.error().message());
          shared.extra_hosts.push_back(std::move(*entry));
        }
      }
    }
    if (const Node* dns = spec_.value("dnsConfig")) {
      const auto texts = [&](std::string_view key, std::vector<std::string>& out) {
        if (const Node* list = dns->value(key)) {
          for (const Node& one : list->list) out.push_back(one.text);
        }
      };
      texts("nameservers", shared.dns);
      texts("searches", shared.dns_search);
      if (const Node* options = dns->value("options")) {
        for (const Node& one : options->list) {
          const std::string_view value = one.text_of("value");
          shared.dns_options.push_back(value.empty() ? std::string(one.text_of("name"))
                                                     : fmt::format("{}:{}", one.text_of("name"), value));
        }
      }
    }
    if (const Node* security = spec_.value("securityContext")) {
      if (const Node* sysctls = security->value("sysctls")) {
        for (const Node& one : sysctls->list) {
          shared.sysctls.emplace(std::string(one.text_of("name")), std::string(one.text_of("value")));
        }
      }
    }
    return {};
  }

  Result<void> ports(engine::Config& shared) {
    std::map<std::string, int> named;
    const auto number = [](const Node& node, std::string_view key) -> Result<uint16_t> {
      const auto value = to_int(node);
      if (!value || *value < 1 || *value > 65535) return errorf_at(node.mark, "{}: expected a port, 1 to 65535", key);
      return static_cast<uint16_t>(*value);
    };
    for (const Node& container : spec_.value("containers")->list) {
      const Node* all = container.value("ports");
      if (all == nullptr) continue;
      for (const Node& node : all->list) {
        engine::PortRequest port;
        TRY_ASSIGN(port.container_port, number(*node.find("containerPort"), "containerPort"));
        const std::string_view protocol = node.text_of("protocol");
        if (!protocol.empty() && protocol != "TCP" && protocol != "UDP") {
          return errorf_at(node.find("protocol")->mark, "protocol: expected TCP or UDP");
        }
        port.protocol = protocol == "UDP" ? "udp" : "tcp";
        if (!node.text_of("name").empty()) named.emplace(std::string(node.text_of("name")), port.container_port);
        shared.exposed_ports.push_back(fmt::format("{}/{}", port.container_port, port.protocol));
        if (node.value("hostPort") == nullptr) continue;
        TRY_ASSIGN(port.host_port, number(*node.find("hostPort"), "hostPort"));
        port.host_ip = node.text_of("hostIP");
        shared.ports.push_back(std::move(port));
      }
    }
    for (const KubePod::NodePort& one : pod_.node_ports) {
      engine::PortRequest port;
      port.host_port = static_cast<uint16_t>(one.node);
      const auto found = named.find(one.target_name);
      const int target = one.target != 0 ? one.target : found != named.end() ? found->second : 0;
      if (target == 0) {
        return errorf_at(spec_.mark, "a Service sends to the port \"{:.60}\", which no container of the pod {} has",
                         one.target_name, pod_.name);
      }
      port.container_port = static_cast<uint16_t>(target);
      port.protocol = one.protocol;
      shared.ports.push_back(std::move(port));
    }
    return {};
  }

  Result<void> infra(engine::Config& shared) {
    engine::Config config = shared;
    config.name = pod_.name + "-infra";
    config.image = kInfraImage;
    config.entrypoint = {"/bin/busybox", "sleep"};
    config.cmd = {"2147483647"};
    config.stop_signal = "SIGKILL";
    config.attach_stdout = config.attach_stderr = false;
    config.labels.insert_or_assign(std::string(kLabelRole), "infra");
    config.restart.name = spec_.text_of("restartPolicy") == "Never" ? "no" : "always";
    if (is_on(spec_.value("hostIPC"))) config.ipc_mode = "host";
    if (config.ipc_mode.empty()) config.ipc_mode = "shareable";
    if (is_on(spec_.value("hostPID"))) config.pid_mode = "host";
    plan_.infra = PodContainer{std::move(config), engine::PullPolicy::kMissing};
    return {};
  }

  Result<PodContainer> container(const Node& node, bool init, const engine::Config& shared) {
    PodContainer out;
    engine::Config& config = out.config;
    if (vm_) {
      config = shared;
      config.isolation = engine::Isolation::kVm;
    } else {
      const std::string other = "container:" + plan_.infra->config.name;
      config.labels = shared.labels;
      config.annotations = shared.annotations;
      const bool host = is_on(spec_.value("hostNetwork"));
      config.network = host ? "host" : other;
      config.ipc_mode = plan_.infra->config.ipc_mode == "host" ? "host" : other;
      if (is_on(spec_.value("hostPID"))) {
        config.pid_mode = "host";
      } else if (is_on(spec_.value("shareProcessNamespace"))) {
        config.pid_mode = other;
      }
    }
    config.labels.insert_or_assign(std::string(kLabelRole), init ? "init" : "container");
    config.attach_stdout = config.attach_stderr = false;
    const std::string_view policy = spec_.text_of("restartPolicy");
    config.restart.name = init || policy == "Never" ? "no" : policy == "OnFailure" ? "on-failure" : "always";
    if (const Node* grace = spec_.value("terminationGracePeriodSeconds")) {
      const auto seconds = to_int(*grace);
      if (!seconds || *seconds < 0 || *seconds > INT32_MAX)
        return errorf_at(grace->mark, "expected a number of seconds");
      config.stop_timeout_s = static_cast<int>(*seconds);
    }
    TRY(kube_container(node, pod_, file_, plan_, out));
    return out;
  }

  // ---- volumes

  Result<void> volumes() {
    const Node* all = spec_.value("volumes");
    if (all == nullptr) return {};
    for (const Node& node : all->list) TRY(kube_volume(node, pod_, file_, plan_));
    return {};
  }

  const KubePod& pod_;
  const Node& spec_;
  KubeFile& file_;
  const std::vector<std::string>& networks_;
  PodPlan plan_;
  bool vm_ = false;
};

}  // namespace

Result<PodPlan> plan_pod(const KubePod& pod, KubeFile& file, const std::vector<std::string>& networks,
                         const std::string& data_root) {
  return PodPlanner(pod, file, networks, data_root).plan();
}

}  // namespace hull::compose
