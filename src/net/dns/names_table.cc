#include "net/dns/names_table.h"

#include <algorithm>

namespace hull::net::dns {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::set<std::string> names_of(const NameRecord& record) {
  std::set<std::string> out;
  for (const std::string& name : record.names) out.insert(lower(name));
  return out;
}

}  // namespace

void NamesTable::unlink(Network& network, const NameRecord& record) {
  std::erase_if(network.names, [&](const auto& entry) { return entry.second == &record; });
  std::erase_if(network.addresses, [&](const auto& entry) { return entry.second == &record; });
}

void NamesTable::put(NameRecord record) {
  Network& network = networks_[record.network_id];
  networks_of_[record.workload_id].insert(record.network_id);
  if (const auto old = network.endpoints.find(record.workload_id); old != network.endpoints.end()) {
    unlink(network, old->second);
    network.endpoints.erase(old);
  }
  const std::string workload_id = record.workload_id;
  const NameRecord& kept = network.endpoints.emplace(workload_id, std::move(record)).first->second;
  for (const std::string& name : names_of(kept)) network.names.emplace(name, &kept);
  for (const IpAddress& address : kept.addresses) network.addresses.insert_or_assign(address, &kept);
}

void NamesTable::remove(std::string_view network_id, std::string_view workload_id) {
  const auto network = networks_.find(network_id);
  if (network == networks_.end()) return;
  const auto endpoint = network->second.endpoints.find(workload_id);
  if (endpoint == network->second.endpoints.end()) return;
  unlink(network->second, endpoint->second);
  network->second.endpoints.erase(endpoint);
  if (network->second.endpoints.empty()) networks_.erase(network);
  const auto of = networks_of_.find(workload_id);
  if (of == networks_of_.end()) return;
  if (const auto it = of->second.find(network_id); it != of->second.end()) of->second.erase(it);
  if (of->second.empty()) networks_of_.erase(of);
}

void NamesTable::clear() {
  networks_.clear();
  networks_of_.clear();
}

const NamesTable::Network* NamesTable::network_of(std::string_view network_id) const {
  const auto it = networks_.find(network_id);
  return it == networks_.end() ? nullptr : &it->second;
}

std::optional<std::string> NamesTable::workload_at(std::string_view network_id, const IpAddress& address) const {
  const Network* network = network_of(network_id);
  if (network == nullptr) return std::nullopt;
  const auto it = network->addresses.find(address);
  if (it == network->addresses.end()) return std::nullopt;
  return it->second->workload_id;
}

void NamesTable::collect(const Network& network, const std::string& name, Family family, bool* known,
                         std::set<IpAddress>* out) {
  const auto [first, last] = network.names.equal_range(name);
  for (auto it = first; it != last; ++it) {
    *known = true;
    for (const IpAddress& address : it->second->addresses) {
      if (address.family() == family) out->insert(address);
    }
  }
}

std::optional<std::vector<IpAddress>> NamesTable::addresses(std::string_view workload_id, std::string_view name,
                                                            uint16_t type) const {
  const auto text = name_to_text(name);
  if (!text || text->empty()) return std::nullopt;
  const auto of = networks_of_.find(workload_id);
  if (of == networks_of_.end()) return std::nullopt;
  const Family family = type == kTypeAaaa ? Family::kV6 : Family::kV4;
  bool known = false;
  std::set<IpAddress> found;
  for (const std::string& id : of->second) {
    const Network* network = network_of(id);
    if (network == nullptr) continue;
    collect(*network, *text, family, &known, &found);
    // "web.mynet": the suffix is the network's name, which every endpoint of it tells.
    const std::string suffix = "." + lower(network->endpoints.begin()->second.network_name);
    if (text->size() > suffix.size() && text->ends_with(suffix)) {
      collect(*network, text->substr(0, text->size() - suffix.size()), family, &known, &found);
    }
  }
  if (!known) return std::nullopt;
  if (type != kTypeA && type != kTypeAaaa) found.clear();
  return std::vector<IpAddress>(found.begin(), found.end());
}

std::optional<std::string> NamesTable::pointer(std::string_view workload_id, const IpAddress& address) const {
  const auto of = networks_of_.find(workload_id);
  if (of == networks_of_.end()) return std::nullopt;
  for (const std::string& id : of->second) {
    const Network* network = network_of(id);
    if (network == nullptr) continue;
    const auto it = network->addresses.find(address);
    if (it == network->addresses.end()) continue;
    return it->second->names.front() + "." + it->second->network_name;
  }
  return std::nullopt;
}

NamesTable::Forwarding NamesTable::forwarding(std::string_view workload_id) const {
  Forwarding out;
  const auto of = networks_of_.find(workload_id);
  if (of == networks_of_.end()) return out;
  for (const std::string& id : of->second) {
    const Network* network = network_of(id);
    if (network == nullptr) continue;
    const auto endpoint = network->endpoints.find(workload_id);
    if (endpoint == network->endpoints.end()) continue;
    out.allowed = out.allowed || endpoint->second.forward;
    if (out.servers.empty()) out.servers = endpoint->second.servers;
  }
  return out;
}

}  // namespace hull::net::dns
