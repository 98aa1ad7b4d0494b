#include "compose/kube_objects.h"

#include <algorithm>
#include <cmath>

#include "compose/kube_schema.h"
#include "compose/yaml.h"

namespace hull::compose {
namespace {

constexpr int kMostReplicas = 1000;

std::map<std::string, std::string> pairs_of(const Node* map) {
  std::map<std::string, std::string> out;
  if (map == nullptr) return out;
  for (const Member& one : map->members) out.insert_or_assign(one.key, one.value.text);
  return out;
}

/// Kubernetes' names: DNS labels with dots.
bool is_kube_name(std::string_view name) {
  if (name.empty() || name.size() > 253) return false;
  for (const char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.')) return false;
  }
  return name.front() != '-' && name.front() != '.' && name.back() != '-' && name.back() != '.';
}

Result<std::string> name_of(const Node& document) {
  const Node& name = *document.find("metadata")->find("name");
  if (is_kube_name(name.text)) return name.text;
  return errorf_at(name.mark, "metadata.name: \"{:.80}\": a name has lower-case letters, digits, \"-\" and \".\" only",
                   name.text);
}

struct KubeService {
  std::string name;
  std::map<std::string, std::string> selector;
  std::vector<KubePod::NodePort> ports;
};

class Reader {
 public:
  explicit Reader(KubeFile& file) : file_(file) {}

  Result<void> take(const Node& document, bool data_only) {
    TRY(check_kube_schema(document));
    const std::string_view kind = document.text_of("kind");
    if (kind == "ConfigMap") return config_map(document);
    if (kind == "Secret") return secret(document);
    if (data_only) return {};
    if (kind == "Pod") return pod(document);
    if (kind == "Deployment") return deployment(document);
    if (kind == "Service") return service(document);
    TRY_ASSIGN(const std::string name, name_of(document));
    file_.claims.push_back({name, pairs_of(document.find("metadata")->value("labels"))});
    return {};
  }

  Result<void> finish() {
    for (const KubeService& one : services_) {
      bool any = false;
      for (KubePod& pod : file_.pods) {
        const bool selected =
            !one.selector.empty() && std::all_of(one.selector.begin(), one.selector.end(), [&](const auto& label) {
              const auto found = pod.labels.find(label.first);
              return found != pod.labels.end() && found->second == label.second;
            });
        if (!selected) continue;
        pod.service_names.push_back(one.name);
        // One pod only can have a port of the machine.
        if (!any) pod.node_ports.insert(pod.node_ports.end(), one.ports.begin(), one.ports.end());
        any = true;
      }
      if (!any) file_.notices.add(fmt::format("the Service {} selects no pod of the file", one.name));
    }
    for (size_t i = 0; i < file_.pods.size(); ++i) {
      for (size_t j = 0; j < i; ++j) {
        if (file_.pods[i].name == file_.pods[j].name) {
          return errorf_at(file_.pods[i].spec->mark, "there are two pods with the name {}", file_.pods[i].name);
        }
      }
    }
    return {};
  }

 private:
  Result<void> config_map(const Node& document) {
    KubeData data;
    TRY_ASSIGN(data.name, name_of(document));
    data.entries = pairs_of(document.value("data"));
    TRY(add_decoded(document.value("binaryData"), data));
    return add(file_.config_maps, std::move(data), document);
  }

  Result<void> secret(const Node& document) {
    KubeData data;
    TRY_ASSIGN(data.name, name_of(document));
    TRY(add_decoded(document.value("data"), data));
    for (auto& [key, value] : pairs_of(document.value("stringData"))) data.entries.insert_or_assign(key, value);
    return add(file_.secrets, std::move(data), document);
  }

  static Result<void> add_decoded(const Node* map, KubeData& data) {
    if (map == nullptr) return {};
    for (const Member& one : map->members) {
      auto decoded = decode_base64(one.value.text);
      if (!decoded.ok()) return errorf_at(one.value.mark, "{}: {}", one.key, decoded.error().message());
      data.entries.insert_or_assign(one.key, std::move(*decoded));
    }
    return {};
  }

  static Result<void> add(std::map<std::string, KubeData>& into, KubeData data, const Node& document) {
    for (const auto& [key, value] : data.entries) {
      // Keys become names of files.
      if (key.empty() || key == "." || key == ".." || key.find('/') != std::string::npos || key.size() > 253) {
        return errorf_at(document.mark, "{} {}: the key \"{:.80}\" can't be the name of a file",
                         document.text_of("kind"), data.name, key);
      }
    }
    const std::string name = data.name;
    if (!into.emplace(name, std::move(data)).second) {
      return errorf_at(document.mark, "there are two {} with the name {}", document.text_of("kind"), name);
    }
    return {};
  }

  Result<void> pod(const Node& document) {
    KubePod out;
    TRY_ASSIGN(out.name, name_of(document));
    const Node& metadata = *document.find("metadata");
    out.labels = pairs_of(metadata.value("labels"));
    out.annotations = pairs_of(metadata.value("annotations"));
    out.spec = document.find("spec");
    file_.pods.push_back(std::move(out));
    return {};
  }

  Result<void> deployment(const Node& document) {
    TRY_ASSIGN(const std::string name, name_of(document));
    const Node& spec = *document.find("spec");
    int64_t replicas = 1;
    if (const Node* node = spec.value("replicas")) {
      replicas = to_int(*node).value_or(-1);
      if (replicas < 0 || replicas > kMostReplicas) {
        return errorf_at(node->mark, "spec.replicas: expected a number from 0 to {}", kMostReplicas);
      }
    }
    const Node& pattern = *spec.find("template");
    const Node* metadata = pattern.value("metadata");
    for (int64_t i = 1; i <= replicas; ++i) {
      KubePod out;
      out.name = i == 1 ? name + "-pod" : fmt::format("{}-pod-{}", name, i);
      if (metadata != nullptr) {
        out.labels = pairs_of(metadata->value("labels"));
        out.annotations = pairs_of(metadata->value("annotations"));
      }
      out.spec = pattern.find("spec");
      file_.pods.push_back(std::move(out));
    }
    return {};
  }

  Result<void> service(const Node& document) {
    KubeService out;
    TRY_ASSIGN(out.name, name_of(document));
    const Node& spec = *document.find("spec");
    out.selector = pairs_of(spec.value("selector"));
    if (spec.text_of("type") == "ExternalName") {
      return errorf_at(spec.find("type")->mark, "Services of type ExternalName are not in this version of Hull")
          .as(ErrorKind::kUnsupported);
    }
    if (const Node* ports = spec.value("ports")) {
      for (const Node& port : ports->list) TRY(service_port(out, port));
    }
    services_.push_back(std::move(out));
    return {};
  }

  Result<void> service_port(KubeService& out, const Node& port) {
    const int64_t number = to_int(*port.find("port")).value_or(0);
    const Node* target = port.value("targetPort");
    const Node* node_port = port.value("nodePort");
    const int64_t numeric_target = target == nullptr ? number : to_int(*target).value_or(0);
    if (number < 1 || number > 65535) return errorf_at(port.mark, "port: expected a port, 1 to 65535");
    if (numeric_target != 0 && numeric_target != number && node_port == nullptr) {
      file_.notices.add_at(port.mark, fmt::format("the Service {}: its name leads to the pods themselves, so they are "
                                                  "reached at port {}, not {}",
                                                  out.name, numeric_target, number));
    }
    if (node_port == nullptr) return {};
    KubePod::NodePort one;
    one.node = static_cast<int>(to_int(*node_port).value_or(0));
    if (one.node < 1 || one.node > 65535) return errorf_at(node_port->mark, "nodePort: expected a port, 1 to 65535");
    one.target = static_cast<int>(numeric_target);
    if (one.target == 0 && target != nullptr) one.target_name = target->text;
    if (port.text_of("protocol") == "UDP") one.protocol = "udp";
    out.ports.push_back(std::move(one));
    return {};
  }

  KubeFile& file_;
  std::vector<KubeService> services_;
};

}  // namespace

Result<KubeFile> read_kube_file(std::string_view text, const std::string* name,
                                const std::vector<std::pair<std::string, const std::string*>>& more) {
  KubeFile file;
  Reader reader(file);
  for (const auto& [other_text, other_name] : more) {
    TRY_ASSIGN(const auto documents, parse_yaml(other_text, other_name));
    for (const Node& document : documents) {
      if (!document.is_null()) TRY(reader.take(document, true));
    }
  }
  TRY_ASSIGN(file.documents, parse_yaml(text, name));
  for (const Node& document : file.documents) {
    if (document.is_null()) continue;
    // "kind: List" holds others.
    if (document.is_map() && document.text_of("kind") == "List" && document.value("items") != nullptr) {
      for (const Node& item : document.value("items")->list) TRY(reader.take(item, false));
      continue;
    }
    TRY(reader.take(document, false));
  }
  TRY(reader.finish());
  return file;
}

Result<int64_t> parse_quantity(std::string_view text, int64_t unit) {
  struct Suffix {
    std::string_view text;
    double factor;
  };
  constexpr Suffix kSuffixes[] = {{"Ki", 1024.0},
                                  {"Mi", 1048576.0},
                                  {"Gi", 1073741824.0},
                                  {"Ti", 1099511627776.0},
                                  {"Pi", 1125899906842624.0},
                                  {"m", 1e-3},
                                  {"k", 1e3},
                                  {"M", 1e6},
                                  {"G", 1e9},
                                  {"T", 1e12},
                                  {"P", 1e15},
                                  {"n", 1e-9},
                                  {"u", 1e-6}};
  std::string_view number = text;
  double factor = 1;
  for (const Suffix& suffix : kSuffixes) {
    if (!number.ends_with(suffix.text)) continue;
    number.remove_suffix(suffix.text.size());
    factor = suffix.factor;
    break;
  }
  const auto value = to_number(Node::scalar(number));
  const double whole = value.value_or(-1) * factor * static_cast<double>(unit);
  constexpr double kMost = 9e18;
  if (!value || *value < 0 || whole > kMost || std::isnan(whole)) {
    return errorf(ErrorKind::kInvalid, "\"{:.40}\" is no quantity, as 500m, 2, 128Mi or 1G are", text);
  }
  return static_cast<int64_t>(std::ceil(whole));
}

Result<std::string> decode_base64(std::string_view text) {
  std::string out;
  uint32_t bits = 0;
  int count = 0, padding = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos || padding > 0) return errorf(ErrorKind::kInvalid, "not base64");
    bits = (bits << 6) | static_cast<uint32_t>(digit);
    if (++count == 4) {
      for (const int shift : {16, 8, 0}) out += static_cast<char>((bits >> shift) & 0xff);
      bits = 0;
      count = 0;
    }
  }
  if (count == 1 || (count != 0 && count + padding != 4) || (count == 0 && padding != 0)) {
    return errorf(ErrorKind::kInvalid, "not base64");
  }
  if (count >= 2) out += static_cast<char>((bits << (6 * (4 - count)) >> 16) & 0xff);
  if (count == 3) out += static_cast<char>((bits << 6 >> 8) & 0xff);
  return out;
}

}  // namespace hull::compose
