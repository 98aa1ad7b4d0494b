#include "compose/service_config.h"

#include <algorithm>

#include "cli/text.h"
#include "cli/values.h"
#include "compose/digest.h"
#include "compose/environment.h"
#include "compose/service_mounts.h"
#include "compose/value_reader.h"
#include "compose/yaml.h"

namespace hull::compose {
namespace {

using engine::Config;

class ConfigMaker {
 public:
  ConfigMaker(const Model& model, const Service& service, const ServiceRequest& request)
      : model_(model),
        service_(service),
        request_(request),
        node_(*service.node),
        read_(node_, "services." + service.name) {}

  Result<Config> make(const std::vector<FileMount>& files) {
    TRY(process());
    TRY(identity());
    TRY(rights());
    TRY(limits());
    TRY(deploy());
    TRY(namespaces());
    TRY(networks());
    TRY(restart());
    TRY(service_mounts(service_, model_, config_));
    for (const FileMount& file : files) {
      engine::MountRequest mount;
      mount.source = file.source;
      mount.target = file.target;
      mount.read_only = true;
      config_.mounts.push_back(std::move(mount));
    }
    return std::move(config_);
  }

 private:
  Result<void> process() {
    config_.image = service_.image;
    read_.texts("command", config_.cmd);
    if (const Node* entrypoint = read_.node("entrypoint")) {
      config_.entrypoint.emplace();
      for (const Node& word : entrypoint->list) config_.entrypoint->push_back(word.text);
    }
    // An empty list drops the image's own command, which the engine does when there is an entrypoint.
    if (const Node* command = read_.node("command"); command != nullptr && command->list.empty()) {
      return error_at(command->mark,
                      fmt::format("services.{}.command: an empty command is not in this version of Hull: "
                                  "give an entrypoint",
                                  service_.name));
    }
    TRY_ASSIGN(const auto environment, service_environment(*model_.project, service_));
    for (const auto& [name, value] : environment) config_.env.push_back(fmt::format("{}={}", name, value));
    read_.text("working_dir", config_.working_dir);
    read_.text("user", config_.user);
    read_.texts("group_add", config_.groups_add);
    read_.text("stop_signal", config_.stop_signal);
    TRY_ASSIGN(config_.stop_timeout_s, stop_timeout(service_));
    TRY(read_.flag("tty", config_.tty));
    TRY(read_.flag("stdin_open", config_.open_stdin));
    TRY(read_.flag("init", config_.init));
    config_.attach_stdout = config_.attach_stderr = false;
    TRY_ASSIGN(config_.healthcheck, health_check(read_.node("healthcheck")));
    if (const Node* logging = read_.node("logging")) {
      config_.log_driver = logging->text_of("driver");
      if (const Node* options = logging->value("options")) {
        for (const Member& option : options->members) config_.log_options.emplace(option.key, option.value.text);
      }
    }
    return {};
  }

  Result<void> identity() {
    config_.name = request_.name.empty() ? container_name(model_, service_, request_.number) : request_.name;
    read_.text("platform", config_.platform);
    read_.text("hostname", config_.hostname);
    read_.text("domainname", config_.domainname);
    TRY_ASSIGN(config_.labels, service_labels(service_));
    if (const Node* annotations = read_.node("annotations")) {
      for (const Member& one : annotations->members) config_.annotations.insert_or_assign(one.key, one.value.text);
    }
    if (const Node* options = read_.node("storage_opt")) {
      for (const Member& one : options->members) config_.storage_opt.emplace(one.key, one.value.text);
    }
    TRY(isolation());
    const auto label = [&](std::string_view key, std::string value) {
      config_.labels.insert_or_assign(std::string(key), std::move(value));
    };
    const Project& project = *model_.project;
    label(kLabelProject, project.name);
    label(kLabelService, service_.name);
    label(kLabelNumber, std::to_string(std::max(request_.number, 1)));
    label(kLabelOneOff, request_.number == 0 ? "True" : "False");
    label(kLabelFolder, project.folder);
    label(kLabelFiles, fmt::format("{}", fmt::join(project.files, ",")));
    label(kLabelVersion, "hull");
    std::string depends;
    for (const Dependency& one : service_.depends_on) {
      depends +=
          fmt::format("{}{}:{}:{}", depends.empty() ? "" : ",", one.service, to_string(one.condition), one.restart);
    }
    label(kLabelDepends, std::move(depends));
    return {};
  }

  Result<void> isolation() {
    if (const Node* runtime = read_.node("runtime")) {
      const std::string& name = runtime->text;
      if (name == "hull-vm" || name == "hull-oci-vm") {
        config_.isolation = engine::Isolation::kVm;
      } else if (name != "hull" && name != "hull-oci" && name != "runc" && !name.empty()) {
        return errorf_at(runtime->mark, "services.{}.runtime: \"{:.60}\" is not there (there are hull and hull-vm)",
                         service_.name, name);
      }
    }
    const Node* isolation = read_.node("isolation");
    if (isolation == nullptr) return {};
    if (isolation->text == "vm") {
      config_.isolation = engine::Isolation::kVm;
    } else if (isolation->text != "default" && isolation->text != "container") {
      return errorf_at(isolation->mark, "services.{}.isolation: expected vm, container or default", service_.name);
    }
    return {};
  }

  Result<void> rights() {
    TRY(read_.flag("privileged", config_.privileged));
    TRY(read_.flag("read_only", config_.read_only_rootfs));
    read_.texts("cap_add", config_.cap_add);
    read_.texts("cap_drop", config_.cap_drop);
    read_.texts("device_cgroup_rules", config_.device_cgroup_rules);
    if (const Node* options = read_.node("security_opt")) {
      for (const Node& option : options->list) {
        auto parsed = cli::parse_security_option(option.text);
        if (!parsed.ok()) return read_.at(option, "security_opt", parsed.error());
        config_.security_opt.push_back(std::move(*parsed));
      }
    }
    if (const Node* devices = read_.node("devices")) {
      for (const Node& device : devices->list) {
        config_.devices.push_back({std::string(device.text_of("source")), std::string(device.text_of("target")),
                                   std::string(device.text_of("permissions"))});
      }
    }
    if (const Node* sysctls = read_.node("sysctls")) {
      for (const Member& one : sysctls->members) config_.sysctls.emplace(one.key, one.value.text);
    }
    if (const Node* limits = read_.node("ulimits")) {
      for (const Member& one : limits->members) {
        const std::string text =
            one.value.is_map() ? fmt::format("{}={}:{}", one.key, one.value.text_of("soft"), one.value.text_of("hard"))
                               : fmt::format("{}={}", one.key, one.value.text);
        auto parsed = cli::parse_ulimit(text);
        if (!parsed.ok()) return read_.at(one.value, "ulimits", parsed.error());
        config_.ulimits.push_back(std::move(*parsed));
      }
    }
    return {};
  }

  Result<void> limits() {
    constexpr int64_t kMost = INT64_MAX;
    TRY(read_.size("mem_limit", config_.memory));
    TRY(read_.size("mem_reservation", config_.memory_reservation));
    if (const Node* swap = read_.node("memswap_limit"); swap != nullptr && swap->text == "-1") {
      config_.memory_swap = -1;
    } else {
      TRY(read_.size("memswap_limit", config_.memory_swap));
    }
    if (read_.node("mem_swappiness") != nullptr) {
      TRY(read_.whole("mem_swappiness", config_.memory_swappiness.emplace(), -1, 100));
    }
    TRY(read_.flag("oom_kill_disable", config_.oom_kill_disable));
    if (read_.node("oom_score_adj") != nullptr) {
      TRY(read_.whole("oom_score_adj", config_.oom_score_adj.emplace(), -1000, 1000));
    }
    TRY(read_.cpus("cpus", config_.nano_cpus));
    TRY(read_.whole("cpu_shares", config_.cpu_shares, 0, 262144));
    TRY(microseconds("cpu_period", config_.cpu_period));
    TRY(microseconds("cpu_quota", config_.cpu_quota));
    TRY(microseconds("cpu_rt_period", config_.cpu_rt_period));
    TRY(microseconds("cpu_rt_runtime", config_.cpu_rt_runtime));
    read_.text("cpuset", config_.cpuset_cpus);
    TRY(read_.whole("pids_limit", config_.pids_limit, -1, kMost));
    TRY(read_.size("shm_size", config_.shm_size));
    read_.text("cgroup_parent", config_.cgroup_parent);
    return block_io();
  }

  /// A number of microseconds, or a duration.
  Result<void> microseconds(std::string_view key, int64_t& out) const {
    const Node* node = read_.node(key);
    if (node == nullptr) return {};
    if (const auto number = to_int(*node)) {
      out = *number;
      return {};
    }
    int64_t ns = 0;
    TRY(read_.duration(key, ns));
    out = ns / 1000;
    return {};
  }

  Result<void> block_io() {
    const Node* blkio = read_.node("blkio_config");
    if (blkio == nullptr) return {};
    const ValueReader read(*blkio, fmt::format("services.{}.blkio_config", service_.name));
    TRY(read.whole("weight", config_.blkio_weight, 10, 1000));
    const auto rates = [&](std::string_view key, std::string_view unit,
                           std::vector<Config::DeviceRate>& out) -> Result<void> {
      const Node* all = read.node(key);
      if (all == nullptr) return {};
      for (const Node& one : all->list) {
        int64_t rate = 0;
        TRY(ValueReader(one, fmt::format("services.{}.blkio_config.{}", service_.name, key)).size(unit, rate));
        out.push_back({std::string(one.text_of("path")), static_cast<uint64_t>(rate)});
      }
      return {};
    };
    TRY(rates("device_read_bps", "rate", config_.device_read_bps));
    TRY(rates("device_write_bps", "rate", config_.device_write_bps));
    TRY(rates("device_read_iops", "rate", config_.device_read_iops));
    TRY(rates("device_write_iops", "rate", config_.device_write_iops));
    return rates("weight_device", "weight", config_.blkio_weight_device);
  }

  Result<void> deploy() {
    const Node* deploy = read_.node("deploy");
    const Node* resources = deploy == nullptr ? nullptr : deploy->value("resources");
    if (resources == nullptr) return {};
    if (const Node* limits = resources->value("limits")) {
      const ValueReader read(*limits, fmt::format("services.{}.deploy.resources.limits", service_.name));
      TRY(read.cpus("cpus", config_.nano_cpus));
      TRY(read.size("memory", config_.memory));
      TRY(read.whole("pids", config_.pids_limit, -1, INT64_MAX));
    }
    if (const Node* reservations = resources->value("reservations")) {
      const ValueReader read(*reservations, fmt::format("services.{}.deploy.resources.reservations", service_.name));
      TRY(read.size("memory", config_.memory_reservation));
    }
    return {};
  }

  /// "service:NAME" is the container of that service.
  Result<std::string> mode(std::string_view key) const {
    const Node* node = read_.node(key);
    if (node == nullptr) return std::string();
    if (!node->text.starts_with("service:")) return node->text;
    TRY_ASSIGN(const std::string id, request_.container_of(node->text.substr(8)));
    return "container:" + id;
  }

  Result<void> namespaces() {
    TRY_ASSIGN(config_.ipc_mode, mode("ipc"));
    TRY_ASSIGN(config_.pid_mode, mode("pid"));
    read_.text("uts", config_.uts_mode);
    read_.text("userns_mode", config_.userns_mode);
    read_.text("cgroup", config_.cgroupns_mode);
    return {};
  }

  Result<void> networks() {
    TRY(ports());
    if (read_.node("network_mode") != nullptr) {
      TRY_ASSIGN(config_.network, mode("network_mode"));
    } else {
      TRY(attachments());
    }
    read_.texts("dns", config_.dns);
    read_.texts("dns_search", config_.dns_search);
    read_.texts("dns_opt", config_.dns_options);
    if (const Node* hosts = read_.node("extra_hosts")) {
      for (const Member& host : hosts->members) {
        for (const Node& address : host.value.list) {
          auto parsed = cli::parse_extra_host(fmt::format("{}={}", host.key, address.text));
          if (!parsed.ok()) return read_.at(address, "extra_hosts", parsed.error());
          config_.extra_hosts.push_back(std::move(*parsed));
        }
      }
    }
    if (const Node* expose = read_.node("expose")) {
      for (const Node& port : expose->list) {
        auto parsed = cli::parse_expose(port.text);
        if (!parsed.ok()) return read_.at(port, "expose", parsed.error());
        config_.exposed_ports.insert(config_.exposed_ports.end(), parsed->begin(), parsed->end());
      }
    }
    return {};
  }

  Result<void> ports() {
    const Node* all = read_.node("ports");
    if (all == nullptr || request_.number == 0) return {};
    for (const Node& port : all->list) {
      const std::string_view host = port.text_of("host_ip");
      const std::string_view published = port.text_of("published");
      const bool v6 = host.find(':') != std::string_view::npos && !host.starts_with('[');
      std::string spec = host.empty() ? "" : fmt::format("{}{}{}:", v6 ? "[" : "", host, v6 ? "]" : "");
      if (!published.empty() || !host.empty()) spec += fmt::format("{}:", published);
      spec += fmt::format("{}/{}", port.text_of("target"), port.text_of("protocol"));
      auto parsed = cli::parse_publish(spec);
      if (!parsed.ok()) return read_.at(port, "ports", parsed.error());
      config_.ports.insert(config_.ports.end(), parsed->begin(), parsed->end());
    }
    return {};
  }

  Result<void> attachments() {
    read_.text("mac_address", config_.mac_address);
    for (const ServiceNetwork& network : service_.networks) {
      engine::NetworkAttachment attachment;
      attachment.network = model_.networks.at(network.name).name;
      // A one-off container must not be found under the service's name.
      if (request_.number != 0) attachment.aliases.push_back(service_.name);
      TRY(links(attachment));
      if (network.node != nullptr) TRY(settings(*network.node, network.name, attachment));
      if (attachment.mac_address.empty() && config_.networks.empty()) attachment.mac_address = config_.mac_address;
      config_.networks.push_back(std::move(attachment));
    }
    // Docker's container_name, and the plain name, are found by DNS as every workload's name is.
    config_.network = config_.networks.front().network;
    config_.mac_address.clear();
    return {};
  }

  Result<void> links(engine::NetworkAttachment& attachment) const {
    const Node* all = read_.node("links");
    if (all == nullptr) return {};
    for (const Node& link : all->list) {
      const size_t colon = link.text.find(':');
      const std::string service = link.text.substr(0, colon);
      const Service* other = model_.find(service);
      if (other == nullptr) continue;  // checked with the references
      const std::string alias = colon == std::string::npos ? service : link.text.substr(colon + 1);
      if (alias != service) attachment.links.push_back(fmt::format("{}:{}", container_name(model_, *other, 1), alias));
    }
    return {};
  }

  Result<void> settings(const Node& node, std::string_view name, engine::NetworkAttachment& attachment) const {
    const ValueReader read(node, fmt::format("services.{}.networks.{}", service_.name, name));
    if (request_.number != 0) read.texts("aliases", attachment.aliases);
    read.text("ipv4_address", attachment.ipv4);
    read.text("ipv6_address", attachment.ipv6);
    read.text("mac_address", attachment.mac_address);
    const auto address = [&](std::string_view key, int family) -> Result<void> {
      const Node* given = read.node(key);
      if (given == nullptr) return {};
      auto checked = cli::check_ip(given->text, family);
      if (!checked.ok()) return read.at(*given, key, checked.error());
      return {};
    };
    TRY(address("ipv4_address", 4));
    TRY(address("ipv6_address", 6));
    if (!attachment.mac_address.empty()) {
      auto checked = cli::check_mac(attachment.mac_address);
      if (!checked.ok()) return read.at(*read.node("mac_address"), "mac_address", checked.error());
    }
    if (const Node* options = read.node("driver_opts")) {
      for (const Member& one : options->members) attachment.driver_options.emplace(one.key, one.value.text);
    }
    TRY(read.whole("gw_priority", attachment.gateway_priority, -1'000'000, 1'000'000));
    for (const std::string_view key : {"interface_name", "link_local_ips"}) {
      if (const Node* other = read.node(key)) {
        return errorf_at(other->mark, "services.{}.networks.{}.{}: not in this version of Hull", service_.name, name,
                         key);
      }
    }
    return {};
  }

  Result<void> restart() {
    if (request_.number == 0) return {};
    if (const Node* policy = read_.node("restart")) {
      const std::string_view text = policy->text;
      const size_t colon = text.find(':');
      config_.restart.name = text.substr(0, colon);
      const bool known = config_.restart.name == "no" || config_.restart.name == "always" ||
                         config_.restart.name == "unless-stopped" || config_.restart.name == "on-failure";
      if (!known || (colon != std::string_view::npos && config_.restart.name != "on-failure")) {
        return read_.wrong(*policy, "restart", "\"no\", always, unless-stopped or on-failure[:TIMES]");
      }
      if (colon == std::string_view::npos) return {};
      const auto times = parse_int(text.substr(colon + 1), 0, INT32_MAX);
      if (!times.ok()) return read_.wrong(*policy, "restart", "a number after on-failure:");
      config_.restart.maximum_retries = static_cast<int>(*times);
      return {};
    }
    const Node* deploy = read_.node("deploy");
    const Node* policy = deploy == nullptr ? nullptr : deploy->value("restart_policy");
    if (policy == nullptr) return {};
    const ValueReader read(*policy, fmt::format("services.{}.deploy.restart_policy", service_.name));
    std::string condition = "any";
    read.text("condition", condition);
    if (condition == "none") {
      config_.restart.name = "no";
    } else if (condition == "any") {
      config_.restart.name = "unless-stopped";
    } else if (condition == "on-failure") {
      config_.restart.name = "on-failure";
      TRY(read.whole("max_attempts", config_.restart.maximum_retries, 0, INT32_MAX));
    } else {
      return read.wrong(*read.node("condition"), "condition", "none, on-failure or any");
    }
    return {};
  }

  const Model& model_;
  const Service& service_;
  const ServiceRequest& request_;
  const Node& node_;
  ValueReader read_;
  Config config_;
};

/// Everything that changes nothing about a container.
constexpr std::string_view kNotHashed[] = {
    "attach", "build",    "depends_on",  "develop",    "extends", "profiles",   "pull_policy", "pull_refresh_after",
    "scale",  "env_file", "environment", "label_file", "labels",  "post_start", "pre_stop"};

}  // namespace

Result<Config> make_config(const Model& model, const Service& service, const ServiceRequest& request,
                           const std::vector<FileMount>& files) {
  return ConfigMaker(model, service, request).make(files);
}

std::string container_name(const Model& model, const Service& service, int number) {
  if (!service.container_name.empty()) return service.container_name;
  return fmt::format("{}-{}-{}", model.project->name, service.name, number);
}

Result<std::optional<int>> stop_timeout(const Service& service) {
  const Node* node = service.node->value("stop_grace_period");
  if (node == nullptr) return std::optional<int>();
  int64_t ns = 0;
  TRY(ValueReader(*service.node, "services." + service.name).duration("stop_grace_period", ns));
  constexpr int64_t kSecond = 1'000'000'000;
  return std::optional<int>(static_cast<int>(std::min<int64_t>((ns + kSecond - 1) / kSecond, INT32_MAX)));
}

Result<std::optional<oci::HealthConfig>> health_check(const Node* node) {
  if (node == nullptr) return std::optional<oci::HealthConfig>();
  oci::HealthConfig health;
  const ValueReader read(*node, "healthcheck");
  bool disabled = false;
  TRY(read.flag("disable", disabled));
  read.texts("test", health.test);
  if (disabled) {
    health.test = {"NONE"};
    return std::optional(health);
  }
  if (const Node* test = read.node("test")) {
    const bool known =
        !health.test.empty() && (health.test[0] == "NONE" || health.test[0] == "CMD" || health.test[0] == "CMD-SHELL");
    if (!known) return read.wrong(*test, "test", "text, or a list that begins with NONE, CMD or CMD-SHELL");
    if (health.test[0] != "NONE" && health.test.size() < 2) return read.wrong(*test, "test", "a command");
  }
  TRY(read.duration("interval", health.interval_ns));
  TRY(read.duration("timeout", health.timeout_ns));
  TRY(read.duration("start_period", health.start_period_ns));
  TRY(read.duration("start_interval", health.start_interval_ns));
  TRY(read.whole("retries", health.retries, 0, 1'000'000));
  return std::optional(health);
}

Result<std::string> config_hash(const Model& model, const Service& service, const std::vector<FileMount>& files) {
  Node node = *service.node;
  for (const std::string_view key : kNotHashed) node.erase(key);
  if (Node* deploy = node.find("deploy")) deploy->erase("replicas");
  std::sort(node.members.begin(), node.members.end(), [](const Member& a, const Member& b) { return a.key < b.key; });
  std::string text = print_json(node);
  TRY_ASSIGN(const auto environment, service_environment(*model.project, service));
  TRY_ASSIGN(const auto labels, service_labels(service));
  for (const auto& [key, value] : environment) text += fmt::format("\n{}={}", key, value);
  text += "\n-";
  for (const auto& [key, value] : labels) text += fmt::format("\n{}={}", key, value);
  for (const FileMount& file : files) text += fmt::format("\n{} {}", file.source, file.target);
  for (const ServiceNetwork& network : service.networks) text += "\n" + model.networks.at(network.name).name;
  if (const Node* mounts = service.node->value("volumes")) {
    for (const Node& mount : mounts->list) {
      if (mount.text_of("type") != "volume" || mount.value("source") == nullptr) continue;
      text += "\n" + model.volumes.at(std::string(mount.text_of("source"))).name;
    }
  }
  return sha256(text);
}

}  // namespace hull::compose
