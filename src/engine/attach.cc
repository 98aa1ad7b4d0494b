// Workloads on their networks: interfaces, names, links to others, connect and disconnect while they run.
#include <fcntl.h>

#include <algorithm>
#include <cctype>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/merge.h"
#include "engine/process.h"
#include "engine/validate.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

constexpr size_t kMostHostsBytes = 1 << 20;

bool has_names(const net::Endpoint& endpoint) { return endpoint.network != net::kDefaultNetwork; }

/// The namespace of a workload that runs; checked to be of the process that we mean.
Result<UniqueFd> netns_of(const Paths& paths, const WorkloadRow& row, int pid) {
  TRY_ASSIGN(UniqueFd netns, sys::open(fmt::format("/proc/{}/ns/net", pid), O_RDONLY));
  const RunState again = read_state(paths, row.id);
  if (again.pid != pid || process_start_time(pid) != again.start_time) {
    return errorf(ErrorKind::kConflict, "container {} ended", row.name);
  }
  return netns;
}

/// The hosts file is bound into the workload, which may have written to it: lines are added and taken out, the file
/// stays the same.
Result<void> change_hosts(const std::string& path, const std::vector<net::IpAddress>& remove, const std::string& add) {
  TRY_ASSIGN(const UniqueFd fd, sys::open(path, O_RDWR | O_NOFOLLOW));
  TRY_ASSIGN(const std::string text, sys::read_all(fd.get(), kMostHostsBytes));
  std::string out;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    const std::string_view address = line.substr(0, line.find_first_of(" \t"));
    const auto is_it = [&](const net::IpAddress& one) { return one.str() == address; };
    if (std::none_of(remove.begin(), remove.end(), is_it)) out += std::string(line) + "\n";
  }
  out += add;
  if (::ftruncate(fd.get(), 0) != 0 || ::lseek(fd.get(), 0, SEEK_SET) != 0) return errnof("write {}", path);
  return sys::write_all(fd.get(), out).context(path);
}

std::vector<net::IpAddress> addresses_of(const net::Endpoint& endpoint) {
  std::vector<net::IpAddress> out{endpoint.ipv4};
  if (endpoint.ipv6) out.push_back(*endpoint.ipv6);
  return out;
}

std::string variable_name(std::string_view alias) {
  std::string out;
  for (const char c : alias) {
    out += std::isalnum(static_cast<unsigned char>(c)) != 0
               ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
               : '_';
  }
  return out;
}

}  // namespace

net::DnsPlace EngineImpl::dns_place() const { return {paths_.run + "/net", settings_.libexec + "/hull-dns"}; }

void EngineImpl::emit_network(const net::Endpoint& endpoint, std::string action) {
  emit({"network",
        std::move(action),
        endpoint.network_id,
        {{"container", endpoint.workload_id},
         {"name", endpoint.network},
         {"type", std::string(net::to_string(endpoint.driver))}}});
}

Result<void> EngineImpl::announce(const WorkloadRow& row, const Config& config, const net::Endpoint& endpoint,
                                  int pid) {
  net::NameRecord record;
  record.network_id = endpoint.network_id;
  record.workload_id = row.id;
  record.network_name = endpoint.network;
  record.names = {row.name, row.id.substr(0, 12)};
  if (!config.hostname.empty()) record.names.push_back(config.hostname);
  for (const NetworkAttachment& one : attachments(config)) {
    if (one.network != endpoint.network) continue;
    record.names.insert(record.names.end(), one.aliases.begin(), one.aliases.end());
  }
  record.addresses = addresses_of(endpoint);
  if (row.isolation == Isolation::kVm) {
    record.gateways.push_back(endpoint.gateway4);
    if (endpoint.ipv6 && endpoint.gateway6) record.gateways.push_back(*endpoint.gateway6);
  } else {
    TRY_ASSIGN(record.holder, net::namespace_of(pid));
  }
  record.forward = endpoint.leads_out;
  record.servers = config.dns;
  return net::announce_names(dns_place(), record);
}

Result<void> EngineImpl::attach_networks(const WorkloadRow& row, const Config& config, int netns_fd, int pid,
                                         const net::Keeper& keeper) {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<net::Endpoint> attached, manager->attach(row.id, netns_fd, keeper));
  for (const net::Endpoint& endpoint : attached) {
    if (has_names(endpoint)) TRY(announce(row, config, endpoint, pid));
    emit_network(endpoint, "connect");
  }
  return {};
}

Result<void> EngineImpl::announce_again(const WorkloadRow& row) {
  const RunState state = read_state(paths_, row.id);
  const bool running = state.status == Status::kRunning || state.status == Status::kPaused;
  if (!running || !has_own_networks(row.network) || row.network == net::kDefaultNetwork) return {};
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(const Config config, parse_config(json));
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->find(row.id));
  for (const net::Endpoint& endpoint : endpoints) {
    if (endpoint.attached && has_names(endpoint)) TRY(announce(row, config, endpoint, state.pid));
  }
  return {};
}

Result<void> EngineImpl::detach_networks(const WorkloadRow& row) {
  if (!has_own_networks(row.network)) return {};
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->find(row.id));
  for (const net::Endpoint& endpoint : endpoints) {
    if (has_names(endpoint)) ignore_result(net::withdraw_names(dns_place(), endpoint.network_id, row.id));
  }
  TRY(manager->detach(row.id));
  for (const net::Endpoint& endpoint : endpoints) {
    if (endpoint.attached) emit_network(endpoint, "disconnect");
  }
  return {};
}

Result<void> EngineImpl::connect_running(const WorkloadRow& row, const Config& config, const NetworkAttachment& wanted,
                                         int pid) {
  if (row.isolation == Isolation::kVm) {
    return errorf(ErrorKind::kUnsupported,
                  "container {} is a virtual machine that runs: its network cards are those that it started with; stop "
                  "it first",
                  row.name);
  }
  TRY_ASSIGN(const UniqueFd netns, netns_of(paths_, row, pid));
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  net::ReserveRequest request;
  request.workload_id = row.id;
  TRY_ASSIGN(request.endpoints.emplace_back(), endpoint_request(wanted));
  // What a killed connect has left: reserved, not attached.
  const auto stale = manager->disconnect(row.id, wanted.network, netns.get());
  if (!stale.ok() && stale.error().kind() != ErrorKind::kNotFound) return stale;
  // So far none of its networks could publish: this one may.
  if (row.ports.empty()) {
    TRY_ASSIGN(request.ports, port_mappings(config));
  }
  TRY_ASSIGN(const net::Reservation reservation, manager->reserve(request));
  auto attached = attach_networks(row, config, netns.get(), pid);
  if (!attached.ok()) {
    ignore_result(net::withdraw_names(dns_place(), reservation.endpoints.front().network_id, row.id));
    ignore_result(manager->disconnect(row.id, reservation.endpoints.front().network_id, netns.get()));
    return attached;
  }
  if (!reservation.ports.empty()) {
    TRY_ASSIGN(Index* const names, index());
    TRY(names->set_ports(row.id, ports_text(reservation.ports)));
  }
  std::string lines;
  for (const net::IpAddress& address : addresses_of(reservation.endpoints.front())) {
    lines += fmt::format("{}\t{}\n", address.str(), config.hostname);
  }
  return change_hosts(paths_.workload(row.id) + "/hosts", {}, lines);
}

Result<void> EngineImpl::disconnect_running(const WorkloadRow& row, const net::Network& n, int pid) {
  if (row.isolation == Isolation::kVm) {
    return errorf(ErrorKind::kUnsupported,
                  "container {} is a virtual machine that runs: its network cards are those that it started with; stop "
                  "it first",
                  row.name);
  }
  TRY_ASSIGN(const UniqueFd netns, netns_of(paths_, row, pid));
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->find(row.id));
  const auto it = std::find_if(endpoints.begin(), endpoints.end(),
                               [&](const net::Endpoint& one) { return one.network_id == n.id; });
  if (it == endpoints.end()) {
    return errorf(ErrorKind::kConflict, "container {} is not connected to network {}", row.id, n.name);
  }
  if (has_names(*it)) ignore_result(net::withdraw_names(dns_place(), n.id, row.id));
  TRY(manager->disconnect(row.id, n.id, netns.get()));
  emit_network(*it, "disconnect");
  return change_hosts(paths_.workload(row.id) + "/hosts", addresses_of(*it), {});
}

Result<std::string> EngineImpl::link_hosts(const WorkloadRow& row, const Config& config) {
  std::string out;
  const auto add = [&](const std::string& network_name, const std::vector<std::string>& links) -> Result<void> {
    TRY_ASSIGN(net::NetworkManager* const manager, network());
    for (const std::string& text : links) {
      TRY_ASSIGN(const Link link, parse_link(text));
      TRY_ASSIGN(const WorkloadRow other, find(link.workload));
      if (other.id == row.id)
        return errorf(ErrorKind::kInvalid, "--link {}: a workload can't be linked to itself", text);
      TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->find(other.id));
      const auto it = std::find_if(endpoints.begin(), endpoints.end(), [&](const net::Endpoint& one) {
        return one.attached && one.network == network_name;
      });
      if (it == endpoints.end()) {
        return errorf(ErrorKind::kConflict, "Cannot link to a non running container: /{} AS /{}/{} (on network {})",
                      other.name, row.name, link.alias, network_name);
      }
      for (const net::IpAddress& address : addresses_of(*it)) {
        out += fmt::format("{}\t{} {} {}\n", address.str(), link.alias, other.id.substr(0, 12), other.name);
      }
    }
    return {};
  };
  const std::vector<NetworkAttachment> all = attachments(config);
  for (const NetworkAttachment& one : all) TRY(add(one.network, one.links));
  const bool on_default = std::any_of(all.begin(), all.end(),
                                      [](const NetworkAttachment& one) { return one.network == net::kDefaultNetwork; });
  if (on_default && config.network == net::kDefaultNetwork) TRY(add(config.network, config.links));
  return out;
}

Result<void> EngineImpl::add_link_environment(const WorkloadRow& row, Config* config) {
  if (config->network != net::kDefaultNetwork) return {};  // on the user's networks names do without
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(Index* const names, index());
  std::vector<std::string> added;
  for (const std::string& text : config->links) {
    TRY_ASSIGN(const Link link, parse_link(text));
    TRY_ASSIGN(const WorkloadRow other, find(link.workload));
    TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->find(other.id));
    if (endpoints.empty()) continue;  // link_hosts says so
    const std::string address = endpoints.front().ipv4.str();
    const std::string prefix = variable_name(link.alias);
    added.push_back(fmt::format("{}_NAME=/{}/{}", prefix, row.name, link.alias));
    TRY_ASSIGN(const std::string json, names->config(other.id));
    TRY_ASSIGN(const Config its, parse_config(json));
    bool first = true;
    for (const std::string& exposed : its.exposed_ports) {
      TRY_ASSIGN(const std::vector<net::PortMapping> ports, net::parse_expose_spec(exposed));
      for (const net::PortMapping& port : ports) {
        const std::string protocol(net::to_string(port.protocol));
        const std::string whole = fmt::format("{}://{}:{}", protocol, address, port.container_port);
        const std::string name = fmt::format("{}_PORT_{}_{}", prefix, port.container_port, variable_name(protocol));
        if (first) added.push_back(fmt::format("{}_PORT={}", prefix, whole));
        first = false;
        added.push_back(fmt::format("{}={}", name, whole));
        added.push_back(fmt::format("{}_ADDR={}", name, address));
        added.push_back(fmt::format("{}_PORT={}", name, port.container_port));
        added.push_back(fmt::format("{}_PROTO={}", name, protocol));
      }
    }
    for (const std::string& entry : its.env) {
      const std::string_view name = std::string_view(entry).substr(0, entry.find('='));
      if (name != "PATH" && name != "HOME") added.push_back(fmt::format("{}_ENV_{}", prefix, entry));
    }
  }
  config->env = merge_environment(added, config->env);
  return {};
}

}  // namespace hull::engine
