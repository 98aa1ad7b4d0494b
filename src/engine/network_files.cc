// Names and addresses of a workload: its place on the network and the files that tell it.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/log.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/state.h"
#include "net/hostfiles.h"
#include "net/names.h"
#include "net/ports.h"
#include "rootless/rootless.h"
#include "sys/file.h"

namespace hull::engine {

Result<void> EngineImpl::publish_again() {
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(const std::vector<net::Endpoint> endpoints, manager->list());
  for (const net::Endpoint& endpoint : endpoints) {
    if (endpoint.ports.empty() || !endpoint.gateway) continue;
    const RunState state = read_state(paths_, endpoint.workload_id);
    if (state.pid <= 0 || state.start_time == 0) continue;
    for (const net::PublishedPort& port : endpoint.ports) {
      auto done = rootless::publish(
          {port.protocol == net::Protocol::kUdp, port.host_ip.str(), port.host_port, state.pid, state.start_time});
      if (!done.ok()) log_warning("{}: {}", port.str(), done.error().message());
    }
  }
  return {};
}

Result<std::vector<net::PortMapping>> port_mappings(const Config& config) {
  std::vector<net::PortMapping> mappings;
  for (const PortRequest& port : config.ports) {
    net::PortMapping mapping;
    if (!port.host_ip.empty()) {
      TRY_ASSIGN(mapping.host_ip, net::IpAddress::parse(port.host_ip));
    }
    mapping.host_port = port.host_port;
    mapping.host_port_last = std::max(port.host_port, port.host_port_last);
    mapping.container_port = port.container_port;
    TRY_ASSIGN(mapping.protocol, net::parse_protocol(port.protocol));
    mappings.push_back(mapping);
  }
  if (config.publish_all) {
    for (const std::string& text : config.exposed_ports) {
      TRY_ASSIGN(const std::vector<net::PortMapping> exposed, net::parse_expose_spec(text));
      for (const net::PortMapping& one : exposed) {
        const auto same = [&](const net::PortMapping& m) {
          return m.container_port == one.container_port && m.protocol == one.protocol;
        };
        if (std::none_of(mappings.begin(), mappings.end(), same)) mappings.push_back(one);
      }
    }
  }
  return mappings;
}

Result<net::EndpointRequest> endpoint_request(const NetworkAttachment& wanted) {
  net::EndpointRequest out;
  out.network = wanted.network;
  out.gateway_priority = wanted.gateway_priority;
  if (!wanted.ipv4.empty()) {
    TRY_ASSIGN(out.ipv4, net::IpAddress::parse(wanted.ipv4));
  }
  if (!wanted.ipv6.empty()) {
    TRY_ASSIGN(out.ipv6, net::IpAddress::parse(wanted.ipv6));
  }
  if (!wanted.mac_address.empty()) {
    TRY_ASSIGN(out.mac, net::MacAddress::parse(wanted.mac_address));
  }
  const auto name = wanted.driver_options.find("com.docker.network.endpoint.ifname");
  if (name != wanted.driver_options.end()) out.interface_name = name->second;
  return out;
}

std::string ports_text(const std::vector<net::PublishedPort>& ports) {
  std::string out;
  for (const net::PublishedPort& port : ports) {
    out += fmt::format("{} {} {} {}\n", port.host_ip.str(), port.host_port, port.container_port,
                       net::to_string(port.protocol));
  }
  return out;
}

namespace {

std::string host_text(const char* path) {
  auto text = sys::read_file(path, 1 << 20);
  return text.ok() ? std::move(text).value() : std::string();
}

Result<void> write_file(const std::string& path, std::string_view text) {
  // Written in place: it may be bound into a container that runs. 0644: whoever runs inside reads it.
  TRY_ASSIGN(const UniqueFd fd, sys::open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644));
  if (::fchmod(fd.get(), 0644) != 0) return errnof("chmod {}", path);  // whatever the umask is
  return sys::write_all(fd.get(), text).context(path);
}

}  // namespace

Result<bool> EngineImpl::reserve_networks(const WorkloadRow& row, const Config& config, net::HostsRequest* hosts,
                                          Prepared* prepared) {
  net::ReserveRequest request;
  request.workload_id = row.id;
  for (const NetworkAttachment& wanted : attachments(config)) {
    TRY_ASSIGN(net::EndpointRequest endpoint, endpoint_request(wanted));
    request.endpoints.push_back(std::move(endpoint));
  }
  if (row.isolation == Isolation::kVm && request.endpoints.size() > kMostVmNetworks) {
    return errorf(ErrorKind::kUnsupported, "a virtual machine has at most {} network cards, {} networks are asked for",
                  kMostVmNetworks, request.endpoints.size());
  }
  TRY_ASSIGN(request.ports, port_mappings(config));
  request.has_keeper = true;
  TRY_ASSIGN(net::NetworkManager* const manager, network());
  TRY_ASSIGN(net::Reservation reservation, manager->reserve(request));
  bool ipv6 = false;
  bool named = false;
  for (const net::Endpoint& endpoint : reservation.endpoints) {
    if (row.isolation == Isolation::kVm && endpoint.driver != net::Driver::kBridge) {
      return errorf(ErrorKind::kUnsupported, "network {}: a virtual machine can be on bridges, not on {}",
                    endpoint.network, net::to_string(endpoint.driver));
    }
    hosts->addresses.push_back(endpoint.ipv4);
    const bool to_host = endpoint.driver == net::Driver::kBridge && endpoint.leads_out;
    if (to_host && hosts->host_gateway.empty()) {
      hosts->host_gateway.push_back(endpoint.gateway4);
      if (endpoint.ipv6 && endpoint.gateway6) hosts->host_gateway.push_back(*endpoint.gateway6);
    }
    if (endpoint.ipv6) {
      ipv6 = true;
      hosts->addresses.push_back(*endpoint.ipv6);
    }
    if (endpoint.network == net::kDefaultNetwork) continue;
    named = true;
    if (row.isolation == Isolation::kVm) prepared->name_servers.push_back(endpoint.gateway4.str());
  }
  if (named && row.isolation == Isolation::kContainer) prepared->name_servers = {std::string(net::kResolverAddress)};
  hosts->ipv6 = ipv6;
  prepared->held = std::move(reservation.holders);
  if (reservation.rules) prepared->held.insert(prepared->held.begin(), std::move(reservation.rules));
  if (!reservation.ports.empty()) {
    TRY_ASSIGN(Index* const names, index());
    TRY(names->set_ports(row.id, ports_text(reservation.ports)));
  }
  return ipv6;
}

Result<void> EngineImpl::prepare_network_files(const WorkloadRow& row, const Config& config, Prepared* prepared) {
  SpecInput& spec = prepared->spec;
  if (config.network.starts_with("container:")) {
    // One network, one name: the other's files.
    TRY_ASSIGN(const WorkloadRow other, find(config.network.substr(10)));
    TRY_ASSIGN(Index* const names, index());
    TRY_ASSIGN(const std::string json, names->config(other.id));
    TRY_ASSIGN(const Config other_config, parse_config(json));
    const std::string folder = paths_.workload(other.id);
    const auto take = [&](const char* name) { return sys::exists(folder + name) ? folder + name : std::string(); };
    spec.hosts_file = take("/hosts");
    spec.hostname_file = take("/hostname");
    spec.resolv_conf_file = take("/resolv.conf");
    spec.hostname = other_config.hostname;
    return {};
  }
  spec.hostname = config.hostname.empty() && (config.network == "host" || config.uts_mode == "host") ? host_name()
                                                                                                     : config.hostname;
  net::HostsRequest hosts;
  hosts.hostname = spec.hostname;
  hosts.domainname = config.domainname;
  bool ipv6 = false;
  if (prepared->own_network) {
    TRY_ASSIGN(const bool has_ipv6, reserve_networks(row, config, &hosts, prepared));
    ipv6 = has_ipv6;
  }
  for (const std::string& text : config.extra_hosts) {
    TRY_ASSIGN(net::HostsEntry entry, net::parse_add_host(text));
    hosts.extra.push_back(std::move(entry));
  }
  const std::string folder = paths_.workload(row.id);
  const bool host_network = config.network == "host";
  std::string hosts_text;
  if (host_network) {
    hosts_text = host_text("/etc/hosts");
    if (!hosts_text.empty() && !hosts_text.ends_with('\n')) hosts_text += '\n';
    for (const net::HostsEntry& entry : hosts.extra) {
      hosts_text += fmt::format("{}\t{}\n", entry.address == "host-gateway" ? "127.0.0.1" : entry.address, entry.name);
    }
  } else {
    TRY_ASSIGN(hosts_text, net::make_hosts(hosts));
  }
  const std::string etc_text = host_text("/etc/resolv.conf");
  const std::string chosen(net::resolv_conf_path(etc_text));
  const std::string host_resolv = chosen == "/etc/resolv.conf" ? etc_text : host_text(chosen.c_str());
  const net::DnsFlags dns{config.dns, config.dns_search, config.dns_options};
  TRY_ASSIGN(const std::string links, link_hosts(row, config));
  TRY(write_file(folder + "/hosts", hosts_text + links));
  TRY(write_file(folder + "/hostname", net::make_hostname(spec.hostname)));
  const std::string resolv =
      prepared->name_servers.empty()
          ? net::make_resolv_conf(host_resolv, dns,
                                  host_network ? net::ResolvFor::kHostNetwork : net::ResolvFor::kOwnNetwork, ipv6)
          : net::make_dns_resolv_conf(prepared->name_servers, host_resolv, dns);
  TRY(write_file(folder + "/resolv.conf", resolv));
  spec.hosts_file = folder + "/hosts";
  spec.hostname_file = folder + "/hostname";
  spec.resolv_conf_file = folder + "/resolv.conf";
  return {};
}

}  // namespace hull::engine
