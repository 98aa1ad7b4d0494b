#pragma once
// What the worker knows of endpoints, and what each workload may see of it: the names of all networks that it is on,
// nothing of others.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "net/address.h"
#include "net/dns/message.h"
#include "net/names.h"

namespace hull::net::dns {

/// How long a client may keep an answer: short, for endpoints come and go.
inline constexpr uint32_t kNameTtlSeconds = 5;

class NamesTable {
 public:
  /// Adds an endpoint or replaces the one of the same network and workload.
  void put(NameRecord record);
  void remove(std::string_view network_id, std::string_view workload_id);
  void clear();

  /// The workload of a network that has this address: who asks, when it asks at the gateway.
  std::optional<std::string> workload_at(std::string_view network_id, const IpAddress& address) const;

  /// A name in a workload's view. Absent: the name is none of ours. Present without addresses: it is, but has none of
  /// this kind.
  std::optional<std::vector<IpAddress>> addresses(std::string_view workload_id, std::string_view name,
                                                  uint16_t type) const;
  /// "web.mynet" for an address in a workload's view.
  std::optional<std::string> pointer(std::string_view workload_id, const IpAddress& address) const;

  struct Forwarding {
    bool allowed = false;              ///< one of its networks is not internal
    std::vector<std::string> servers;  ///< --dns, empty for the host's
  };
  Forwarding forwarding(std::string_view workload_id) const;

 private:
  struct Network {
    std::map<std::string, NameRecord, std::less<>> endpoints;       // by workload
    std::unordered_multimap<std::string, const NameRecord*> names;  // text, lower case
    std::map<IpAddress, const NameRecord*> addresses;
  };
  static void unlink(Network& network, const NameRecord& record);
  const Network* network_of(std::string_view network_id) const;
  static void collect(const Network& network, const std::string& name, Family family, bool* known,
                      std::set<IpAddress>* out);
  std::map<std::string, Network, std::less<>> networks_;
  std::map<std::string, std::set<std::string, std::less<>>, std::less<>> networks_of_;  // by workload
};

}  // namespace hull::net::dns
