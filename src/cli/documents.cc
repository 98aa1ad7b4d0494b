#include "cli/documents.h"

#include "base/error_format.h"
#include "base/units.h"
#include "cli/table.h"

namespace hull::cli {
namespace {

constexpr DefaultNetwork kNetworks[] = {{"bridge", "bridge"}, {"host", "host"}, {"none", "null"}};

}  // namespace

Result<Value> image_document(const store::Image& image) {
  TRY_ASSIGN(const Value whole, Value::parse(image.config_json).context("the image's configuration"));
  const auto member = [&](std::string_view name, Value otherwise) {
    const Value* found = whole.find(name);
    return found != nullptr && !found->is_null() ? *found : std::move(otherwise);
  };
  Value out = Value::object();
  out.set("Id", image.id.str());
  out.set("RepoTags", to_value(image.tags));
  out.set("RepoDigests", to_value(image.digests));
  out.set("Parent", "");
  out.set("Comment", image.config.history.empty() ? "" : image.config.history.back().comment);
  out.set("Created", image.config.created.empty() ? format_rfc3339(image.created) : image.config.created);
  out.set("Author", image.config.author);
  out.set("Config", member("config", Value::object()));
  out.set("Architecture", image.config.platform.architecture);
  if (!image.config.platform.variant.empty()) out.set("Variant", image.config.platform.variant);
  out.set("Os", image.config.platform.os);
  out.set("Size", image.size);
  Value layers = Value::array();
  for (const Digest& layer : image.diff_ids) layers.push(layer.str());
  out.set("RootFS", Value::object().set("Type", "layers").set("Layers", std::move(layers)));
  if (!image.manifest_digest.empty()) {
    out.set("Descriptor", Value::object().set("digest", image.manifest_digest.str()));
  }
  return out;
}

Value volume_document(const engine::Volume& volume) {
  Value out = Value::object();
  out.set("CreatedAt", format_rfc3339(volume.created));
  out.set("Driver", volume.driver);
  out.set("Labels", to_value(volume.labels));
  out.set("Mountpoint", volume.mountpoint);
  out.set("Name", volume.name);
  out.set("Options", volume.options.empty() ? Value() : to_value(volume.options));
  out.set("Scope", volume.scope);
  if (volume.size) {
    out.set("UsageData", Value::object().set("RefCount", volume.references).set("Size", *volume.size));
  }
  return out;
}

std::span<const DefaultNetwork> default_networks() { return kNetworks; }

std::string network_id(std::string_view name) {
  // FNV-1a over the name and a counter: an id to tell networks apart by, not a secret.
  std::string id;
  for (int part = 0; part < 4; ++part) {
    uint64_t hash = 0xcbf29ce484222325ULL + static_cast<uint64_t>(part);
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    id += fmt::format("{:016x}", hash);
  }
  return id;
}

Result<Value> network_document(engine::Engine& engine, std::string_view wanted) {
  const DefaultNetwork* network = nullptr;
  for (const DefaultNetwork& one : kNetworks) {
    if (one.name == wanted || (wanted.size() >= 4 && network_id(one.name).starts_with(wanted))) network = &one;
  }
  if (network == nullptr) {
    return errorf(ErrorKind::kNotFound,
                  "network {:.80} not found (there are bridge, host and none; user-defined "
                  "networks come with a later version of Hull)",
                  wanted);
  }
  const bool is_bridge = network->name == "bridge";
  engine::Engine::BridgeNetwork bridge;
  if (is_bridge) {
    TRY_ASSIGN(bridge, engine.bridge_network());
  }
  Value out = Value::object();
  out.set("Name", network->name).set("Id", network_id(network->name)).set("Scope", "local");
  out.set("Driver", network->driver).set("EnableIPv4", is_bridge).set("EnableIPv6", bridge.network.subnet6.has_value());
  Value subnets = Value::array();
  const auto add_subnet = [&](const net::Subnet& subnet, const net::IpAddress& gateway) {
    subnets.push(Value::object().set("Subnet", subnet.str()).set("Gateway", gateway.str()));
  };
  if (is_bridge) add_subnet(bridge.network.subnet4, bridge.network.gateway4);
  if (bridge.network.subnet6 && bridge.network.gateway6) add_subnet(*bridge.network.subnet6, *bridge.network.gateway6);
  out.set("IPAM", Value::object().set("Driver", "default").set("Options", Value()).set("Config", std::move(subnets)));
  out.set("Internal", false);
  engine::ListFilter filter;
  filter.filters.emplace("network", std::string(network->name));
  TRY_ASSIGN(const auto workloads, engine.list(filter));
  Value members = Value::object();
  for (const auto& one : workloads) {
    if (one.network != network->name) continue;
    Value member = Value::object();
    member.set("Name", one.name);
    for (const net::Endpoint& endpoint : bridge.endpoints) {
      if (endpoint.workload_id != one.id) continue;
      member.set("MacAddress", endpoint.mac.str());
      member.set("IPv4Address", fmt::format("{}/{}", endpoint.ipv4.str(), endpoint.prefix4));
      if (endpoint.ipv6) member.set("IPv6Address", fmt::format("{}/{}", endpoint.ipv6->str(), endpoint.prefix6));
    }
    members.set(one.id, std::move(member));
  }
  out.set("Containers", std::move(members));
  Value options = Value::object();
  if (is_bridge) {
    options.set("com.docker.network.bridge.name", bridge.network.bridge_device);
    options.set("com.docker.network.driver.mtu", std::to_string(bridge.network.mtu));
  }
  out.set("Options", std::move(options));
  out.set("Labels", Value::object());
  return out;
}

Result<void> print_inspected(Output& out, std::string_view format, const std::vector<Value>& documents) {
  if (!format.empty()) return print_documents(out, format, documents);
  Value all = Value::array();
  for (const Value& document : documents) all.push(document);
  out.print("{}\n", all.dump(4));
  return {};
}

}  // namespace hull::cli
