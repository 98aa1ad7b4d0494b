#include "compose/kube_container.h"

#include <algorithm>

#include "cli/text.h"
#include "compose/value_reader.h"
#include "sys/root.h"

namespace hull::compose {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

class ContainerReader {
 public:
  ContainerReader(const Node& node, const KubePod& pod, KubeFile& file, const PodPlan& plan, PodContainer& out)
      : node_(node), pod_(pod), file_(file), plan_(plan), out_(out), config_(out.config) {}

  Result<void> read() {
    const Node& name = *node_.find("name");
    if (name.text.empty() || name.text.size() > 63 ||
        name.text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) {
      return errorf_at(name.mark, "name: \"{:.60}\": a name has lower-case letters, digits and \"-\" only", name.text);
    }
    path_ = fmt::format("containers.{}", name.text);
    config_.name = fmt::format("{}-{}", pod_.name, name.text);
    config_.labels.insert_or_assign(std::string(kLabelContainer), name.text);
    config_.image = node_.text_of("image");
    TRY(pull_policy());
    TRY(environment());
    command();
    const ValueReader read(node_, path_);
    TRY(read.flag("tty", config_.tty));
    TRY(read.flag("stdin", config_.open_stdin));
    config_.working_dir = node_.text_of("workingDir");
    TRY(resources());
    TRY(security());
    TRY(mounts());
    TRY(probes());
    for (const std::string_view key : {"lifecycle", "volumeDevices"}) {
      if (const Node* found = node_.value(key)) {
        return errorf_at(found->mark, "{}.{} is not in this version of Hull", path_, key).as(ErrorKind::kUnsupported);
      }
    }
    return {};
  }

 private:
  Result<void> pull_policy() {
    const std::string_view policy = node_.text_of("imagePullPolicy");
    if (policy == "Always") {
      out_.pull = engine::PullPolicy::kAlways;
    } else if (policy == "Never") {
      out_.pull = engine::PullPolicy::kNever;
    } else if (!policy.empty() && policy != "IfNotPresent") {
      return errorf_at(node_.find("imagePullPolicy")->mark, "imagePullPolicy: expected Always, IfNotPresent or Never");
    }
    return {};
  }

  // ---- variables

  void set(const std::string& name, std::string value) {
    if (values_.insert_or_assign(name, std::move(value)).second) order_.push_back(name);
  }

  /// $(NAME) for a variable that is defined before; $$ for a dollar.
  std::string expand(std::string_view text) const {
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '$' || i + 1 == text.size()) {
        out += text[i];
      } else if (text[i + 1] == '$') {
        out += '$';
        ++i;
      } else if (const size_t end = text.find(')', i); text[i + 1] == '(' && end != std::string_view::npos) {
        const auto found = values_.find(std::string(text.substr(i + 2, end - i - 2)));
        out += found != values_.end() ? found->second : std::string(text.substr(i, end - i + 1));
        i = end;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  Result<void> environment() {
    if (const Node* from = node_.value("envFrom")) {
      for (const Node& source : from->list) TRY(environment_from(source));
    }
    if (const Node* all = node_.value("env")) {
      for (const Node& one : all->list) {
        const std::string name(one.text_of("name"));
        if (name.empty() || name.find('=') != std::string::npos) return errorf_at(one.mark, "env: no name");
        if (const Node* source = one.value("valueFrom")) {
          TRY_ASSIGN(auto value, value_from(*source));
          if (value) set(name, std::move(*value));
        } else {
          set(name, expand(one.text_of("value")));
        }
      }
    }
    for (const std::string& name : order_) config_.env.push_back(fmt::format("{}={}", name, values_.at(name)));
    return {};
  }

  static bool is_optional(const Node& node) {
    const Node* optional = node.value("optional");
    return optional != nullptr && to_bool(*optional).value_or(false);
  }

  Result<void> environment_from(const Node& source) {
    const std::string prefix(source.text_of("prefix"));
    const auto take = [&](std::string_view key, const std::map<std::string, KubeData>& all,
                          std::string_view kind) -> Result<void> {
      const Node* ref = source.value(key);
      if (ref == nullptr) return {};
      const auto found = all.find(std::string(ref->text_of("name")));
      if (found == all.end()) {
        if (is_optional(*ref)) return {};
        return errorf_at(ref->mark, "there is no {} \"{:.80}\" in the file (--configmap names more files)", kind,
                         ref->text_of("name"));
      }
      for (const auto& [name, value] : found->second.entries) set(prefix + name, value);
      return {};
    };
    TRY(take("configMapRef", file_.config_maps, "ConfigMap"));
    return take("secretRef", file_.secrets, "Secret");
  }

  Result<std::optional<std::string>> value_from(const Node& source) {
    using Value = std::optional<std::string>;
    for (const auto& [key, all, kind] : {std::tuple("configMapKeyRef", &file_.config_maps, "ConfigMap"),
                                         std::tuple("secretKeyRef", &file_.secrets, "Secret")}) {
      const Node* ref = source.value(key);
      if (ref == nullptr) continue;
      const auto found = all->find(std::string(ref->text_of("name")));
      if (found != all->end()) {
        const auto entry = found->second.entries.find(std::string(ref->text_of("key")));
        if (entry != found->second.entries.end()) return Value(entry->second);
      }
      if (is_optional(*ref)) return Value();
      return errorf_at(ref->mark, "there is no key \"{:.80}\" in a {} \"{:.80}\" of the file", ref->text_of("key"),
                       kind, ref->text_of("name"));
    }
    if (const Node* ref = source.value("fieldRef")) {
      const std::string_view path = ref->text_of("fieldPath");
      if (path == "metadata.name") return Value(pod_.name);
      if (path == "metadata.namespace") return Value("default");
      for (const auto& [prefix, all] :
           {std::pair("metadata.labels['", &pod_.labels), std::pair("metadata.annotations['", &pod_.annotations)}) {
        const std::string_view start = prefix;
        if (!path.starts_with(start) || !path.ends_with("']")) continue;
        const auto found = all->find(std::string(path.substr(start.size(), path.size() - start.size() - 2)));
        return Value(found != all->end() ? found->second : std::string());
      }
      return errorf_at(ref->mark, "fieldPath {:.80} is not in this version of Hull", path).as(ErrorKind::kUnsupported);
    }
    return errorf_at(source.mark, "valueFrom: resourceFieldRef is not in this version of Hull")
        .as(ErrorKind::kUnsupported);
  }

  void command() {
    // Kubernetes' command is the entry point; with it alone the image's own arguments are dropped.
    if (const Node* command = node_.value("command")) {
      config_.entrypoint.emplace();
      for (const Node& word : command->list) config_.entrypoint->push_back(expand(word.text));
    }
    if (const Node* args = node_.value("args")) {
      for (const Node& word : args->list) config_.cmd.push_back(expand(word.text));
    }
  }

  // ---- limits and rights

  static Result<void> quantity(const Node* map, std::string_view key, int64_t unit, int64_t& out) {
    const Node* node = map == nullptr ? nullptr : map->value(key);
    if (node == nullptr) return {};
    auto value = parse_quantity(node->text, unit);
    if (!value.ok()) return errorf_at(node->mark, "{}: {}", key, value.error().message());
    out = *value;
    return {};
  }

  Result<void> resources() {
    const Node* resources = node_.value("resources");
    if (resources == nullptr) return {};
    const Node* limits = resources->value("limits");
    const Node* requests = resources->value("requests");
    for (const Node* map : {limits, requests}) {
      if (map == nullptr) continue;
      if (!map->is_map()) return errorf_at(map->mark, "resources: expected a map");
      for (const Member& one : map->members) {
        if (one.key == "cpu" || one.key == "memory") continue;
        file_.notices.add_at(one.mark, fmt::format("resources: {:.60} is ignored", one.key));
      }
    }
    TRY(quantity(limits, "cpu", kSecond, config_.nano_cpus));
    TRY(quantity(limits, "memory", 1, config_.memory));
    TRY(quantity(requests, "memory", 1, config_.memory_reservation));
    int64_t millis = 0;
    TRY(quantity(requests, "cpu", 1000, millis));
    constexpr int64_t kSharesOfOne = 1024, kLeastShares = 2;
    if (millis > 0) config_.cpu_shares = std::max(kLeastShares, millis * kSharesOfOne / 1000);
    return {};
  }

  Result<void> security() {
    const Node* pod = pod_.spec->value("securityContext");
    const Node* own = node_.value("securityContext");
    const auto find = [&](std::string_view key) -> const Node* {
      if (own != nullptr && own->value(key) != nullptr) return own->value(key);
      return pod == nullptr ? nullptr : pod->value(key);
    };
    const auto on = [&](std::string_view key) {
      const Node* node = find(key);
      return node != nullptr && to_bool(*node).value_or(false);
    };
    if (const Node* user = find("runAsUser")) config_.user = user->text;
    if (const Node* group = find("runAsGroup")) {
      config_.user = fmt::format("{}:{}", config_.user.empty() ? "0" : config_.user, group->text);
    }
    if (on("runAsNonRoot") && (config_.user == "0" || config_.user.starts_with("0:"))) {
      return errorf_at(find("runAsNonRoot")->mark, "{}: runAsNonRoot and the user 0 exclude each other", path_);
    }
    if (pod != nullptr) {
      if (const Node* group = pod->value("fsGroup")) config_.groups_add.push_back(group->text);
      if (const Node* groups = pod->value("supplementalGroups"); groups != nullptr && groups->is_list()) {
        for (const Node& one : groups->list) config_.groups_add.push_back(one.text);
      }
    }
    config_.privileged = on("privileged");
    config_.read_only_rootfs = on("readOnlyRootFilesystem");
    if (const Node* escalation = find("allowPrivilegeEscalation");
        escalation != nullptr && !on("allowPrivilegeEscalation")) {
      config_.security_opt.emplace_back("no-new-privileges=true");
    }
    if (const Node* capabilities = find("capabilities")) {
      const auto texts = [&](std::string_view key, std::vector<std::string>& out) {
        if (const Node* list = capabilities->value(key)) {
          for (const Node& one : list->list) out.push_back(one.text);
        }
      };
      texts("add", config_.cap_add);
      texts("drop", config_.cap_drop);
    }
    if (const Node* mount = find("procMount"); mount != nullptr && mount->text == "Unmasked") {
      config_.security_opt.emplace_back("systempaths=unconfined");
    }
    if (const Node* seccomp = find("seccompProfile")) {
      const std::string_view type = seccomp->text_of("type");
      if (type == "Unconfined") {
        config_.security_opt.emplace_back("seccomp=unconfined");
      } else if (type != "RuntimeDefault") {
        return errorf_at(seccomp->mark, "seccompProfile: expected RuntimeDefault or Unconfined");
      }
    }
    for (const std::string_view key : {"seLinuxOptions", "appArmorProfile", "windowsOptions"}) {
      if (const Node* other = find(key)) {
        return errorf_at(other->mark, "{}.securityContext.{} is not in this version of Hull", path_, key)
            .as(ErrorKind::kUnsupported);
      }
    }
    return {};
  }

  // ---- mounts and probes

  Result<void> mounts() {
    const Node* all = node_.value("volumeMounts");
    if (all == nullptr) return {};
    for (const Node& node : all->list) {
      const auto found = plan_.sources.find(std::string(node.text_of("name")));
      if (found == plan_.sources.end()) {
        return errorf_at(node.mark, "volumeMounts: there is no volume \"{:.60}\" under volumes", node.text_of("name"));
      }
      const PodSource& source = found->second;
      if (source.missing) continue;
      engine::MountRequest mount;
      mount.type = source.type;
      mount.source = source.source;
      mount.target = node.text_of("mountPath");
      mount.create_source = source.create;
      mount.read_only = source.read_only;
      if (const Node* read_only = node.value("readOnly"))
        mount.read_only = mount.read_only || to_bool(*read_only).value_or(false);
      if (!mount.target.starts_with('/')) return errorf_at(node.mark, "mountPath: expected an absolute path");
      if (const Node* part = node.value("subPath")) {
        if (part->text.starts_with('/') || sys::clean_path(part->text) != part->text) {
          return errorf_at(part->mark, "subPath: \"{:.80}\" must lead into the volume, without \"..\"", part->text);
        }
        if (source.type != engine::MountRequest::Type::kBind) {
          return errorf_at(part->mark, "subPath of a {} is not in this version of Hull", "volume")
              .as(ErrorKind::kUnsupported);
        }
        mount.source += "/" + part->text;
      }
      if (const Node* part = node.value("subPathExpr")) {
        return errorf_at(part->mark, "subPathExpr is not in this version of Hull").as(ErrorKind::kUnsupported);
      }
      config_.mounts.push_back(std::move(mount));
    }
    return {};
  }

  Result<void> probes() {
    const Node* liveness = node_.value("livenessProbe");
    const Node* readiness = node_.value("readinessProbe");
    const Node* startup = node_.value("startupProbe");
    const Node* chosen = liveness != nullptr ? liveness : startup != nullptr ? startup : readiness;
    if (chosen == nullptr) return {};
    for (const Node* other : {readiness, startup}) {
      if (other != nullptr && other != chosen) {
        file_.notices.add_at(other->mark,
                             fmt::format("{}: a container has one health check here; the one that stands for it "
                                         "is on line {}",
                                         path_, chosen->mark.line));
      }
    }
    TRY_ASSIGN(oci::HealthConfig health, kube_probe(*chosen, node_));
    // A container has the time of its startup probe before the other counts.
    if (startup != nullptr && startup != chosen) {
      const auto number = [&](std::string_view key, int64_t otherwise) {
        const Node* node = startup->value(key);
        return node == nullptr ? otherwise : to_int(*node).value_or(otherwise);
      };
      constexpr int64_t kMost = 1'000'000;
      const int64_t seconds =
          number("initialDelaySeconds", 0) + number("periodSeconds", 10) * number("failureThreshold", 3);
      health.start_period_ns = std::max(health.start_period_ns, std::clamp<int64_t>(seconds, 0, kMost) * kSecond);
    }
    config_.healthcheck = health;
    const std::string_view policy = pod_.spec->text_of("restartPolicy");
    if (liveness != nullptr) config_.health_on_failure = policy == "Never" ? "kill" : "restart";
    return {};
  }

  const Node& node_;
  const KubePod& pod_;
  KubeFile& file_;
  const PodPlan& plan_;
  PodContainer& out_;
  engine::Config& config_;
  std::string path_;
  std::map<std::string, std::string> values_;
  std::vector<std::string> order_;
};

Result<int> probe_port(const Node& action, const Node& container) {
  const Node& port = *action.find("port");
  if (const auto number = to_int(port)) {
    if (*number >= 1 && *number <= 65535) return static_cast<int>(*number);
  } else if (const Node* ports = container.value("ports")) {
    for (const Node& one : ports->list) {
      if (one.text_of("name") == port.text) return static_cast<int>(to_int(*one.find("containerPort")).value_or(0));
    }
  }
  return errorf_at(port.mark, "port: \"{:.60}\" is no port of the container", port.text);
}

/// In single quotes for a shell.
std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

}  // namespace

Result<oci::HealthConfig> kube_probe(const Node& probe, const Node& container) {
  oci::HealthConfig health;
  if (const Node* exec = probe.value("exec")) {
    health.test = {"CMD"};
    for (const Node& word : exec->value("command")->list) health.test.push_back(word.text);
  } else if (const Node* http = probe.value("httpGet")) {
    TRY_ASSIGN(const int port, probe_port(*http, container));
    const std::string_view scheme = http->text_of("scheme");
    if (!scheme.empty() && scheme != "HTTP" && scheme != "HTTPS")
      return errorf_at(http->mark, "scheme: expected HTTP or HTTPS");
    std::string_view path = http->text_of("path");
    if (path.empty()) path = "/";
    const std::string_view host = http->text_of("host");
    const std::string url =
        shell_quoted(fmt::format("{}://{}:{}{}{}", scheme == "HTTPS" ? "https" : "http",
                                 host.empty() ? "127.0.0.1" : host, port, path.starts_with('/') ? "" : "/", path));
    // Whichever of the two the image has.
    health.test = {"CMD-SHELL",
                   fmt::format("if command -v curl >/dev/null 2>&1; then exec curl -kfsS -o /dev/null {}; fi; "
                               "exec wget -q -O /dev/null {}",
                               url, url)};
  } else if (const Node* tcp = probe.value("tcpSocket")) {
    TRY_ASSIGN(const int port, probe_port(*tcp, container));
    const std::string_view host = tcp->text_of("host");
    health.test = {"CMD-SHELL",
                   fmt::format("exec nc -z -w 5 {} {}", shell_quoted(host.empty() ? "127.0.0.1" : host), port)};
  } else {
    return errorf_at(probe.mark,
                     "a probe of this kind is not in this version of Hull (there are exec, httpGet and tcpSocket)")
        .as(ErrorKind::kUnsupported);
  }
  const ValueReader read(probe, "probe");
  constexpr int64_t kMost = 1'000'000;
  int64_t delay = 0, period = 10, timeout = 1;
  health.retries = 3;
  TRY(read.whole("initialDelaySeconds", delay, 0, kMost));
  TRY(read.whole("periodSeconds", period, 1, kMost));
  TRY(read.whole("timeoutSeconds", timeout, 1, kMost));
  TRY(read.whole("failureThreshold", health.retries, 1, kMost));
  health.interval_ns = period * kSecond;
  health.timeout_ns = timeout * kSecond;
  health.start_period_ns = delay * kSecond;
  return health;
}

Result<void> kube_container(const Node& node, const KubePod& pod, KubeFile& file, const PodPlan& plan,
                            PodContainer& out) {
  return ContainerReader(node, pod, file, plan, out).read();
}

}  // namespace hull::compose
