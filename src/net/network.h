#pragma once
// Networks of containers: a bridge, addresses, published ports. The manager works in the network namespace of the
// calling thread ("the host"); the engine gives it descriptors of the namespaces of workloads.
//
// What is remembered where: the definition of a network (its subnets) in data_dir, for ever; who has which address
// and port in run_dir, until the next boot; and the kernel holds links, neighbours and one nftables table. Every call
// takes a short lock (a file in run_dir), so that several commands can work at once. A process killed at any point
// leaves at most a record of a workload that is no more, which repair() takes away with all that belongs to it.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"
#include "net/ports.h"

namespace hull::net {

/// The name of the network that is always there.
inline constexpr std::string_view kDefaultNetwork = "bridge";
/// How many interfaces a Linux bridge takes (BR_MAX_PORTS - 1).
inline constexpr unsigned kBridgePortLimit = 1023;

/// Where the manager keeps its files. Both folders are made (0700) when absent.
struct NetPaths {
  std::string data_dir;  ///< e.g. /var/lib/hull/net
  std::string run_dir;   ///< e.g. /run/hull/net; emptied by a boot
};

/// The [network] section of hull.toml.
struct NetSettings {
  std::string bridge_device = "hull0";
  /// Nothing: 172.30.0.0/16, or the first of a list that collides with no route of the host.
  std::optional<Subnet> subnet4;
  /// Nothing: a random unique local /64 (RFC 4193), made once.
  std::optional<Subnet> subnet6;
  bool ipv6 = true;
  unsigned mtu = 1500;
  /// Keep a bound socket for each published port, so that no program of the host can take it (Reservation::holders).
  bool hold_ports = true;
};

/// What carries a network's traffic.
enum class Driver : uint8_t {
  kBridge,
  kMacvlan,
  kIpvlan,
  kHost,  ///< the host's own namespace: listed, never made
  kNull,  ///< none: the same
};
/// "bridge", "macvlan", "ipvlan", "host", "null".
std::string_view to_string(Driver driver);

/// One --subnet with what belongs to it, as it was asked for.
struct IpamPool {
  std::optional<Subnet> subnet;            ///< nothing: one that collides with nothing is chosen
  std::optional<IpAddress> gateway;        ///< nothing: the first address of the subnet
  std::optional<Subnet> range;             ///< --ip-range: where addresses are chosen from; inside the subnet
  std::map<std::string, IpAddress> taken;  ///< --aux-address: name and address of what else is there
};

/// A network that is wanted (`network create`).
struct NetworkRequest {
  std::string name;
  std::string driver = "bridge";  ///< bridge, macvlan, ipvlan
  bool internal = false;          ///< no way out of it
  bool attachable = false;        ///< kept and shown; means nothing on one machine
  bool ipv4 = true, ipv6 = false;
  std::string ipam_driver = "default";
  std::map<std::string, std::string> ipam_options;
  std::vector<IpamPool> pools;  ///< at most one of each family
  std::map<std::string, std::string> options, labels;
};

/// A network as data.
struct Network {
  std::string id;  ///< 64 hexadecimal digits
  std::string name;
  Driver driver = Driver::kBridge;
  int64_t created_ns = 0;  ///< since 1970; 0 for those that are always there
  bool internal = false, attachable = false;
  std::string bridge_device;  ///< of a bridge
  Subnet subnet4;
  IpAddress gateway4;  ///< 0.0.0.0: none
  std::optional<Subnet> subnet6;
  std::optional<IpAddress> gateway6;
  std::optional<Subnet> range4, range6;
  std::map<std::string, IpAddress> taken;
  unsigned mtu = 1500;
  bool mtu_given = false;
  std::map<std::string, std::string> options, labels, ipam_options;  ///< as they were asked for
  // What the options say.
  bool between = true;                   ///< enable_icc: workloads reach one another
  bool masquerade = true;                ///< ip_masquerade: they reach the outside under the host's address
  std::optional<IpAddress> publish_on;   ///< host_binding_ipv4: where ports are published that name no address
  std::string parent;                    ///< of macvlan and ipvlan: the host's interface
  bool makes_parent = false;             ///< the parent is ours: a VLAN, or a dummy when none was named
  std::string mode;                      ///< of macvlan: bridge, private, vepa, passthru; of ipvlan: l2, l3, l3s
  std::string flag;                      ///< of ipvlan: bridge, private, vepa
  std::string interface_prefix = "eth";  ///< container_iface_prefix: names inside begin so

  bool is_default() const { return name == kDefaultNetwork; }
  /// Whether workloads get a default route by it.
  bool leads_out() const { return !internal && driver != Driver::kHost && driver != Driver::kNull; }
  bool publishes() const { return driver == Driver::kBridge && !internal; }
};

/// The id of one of the three networks that are always there (bridge, host, none).
std::string default_network_id(std::string_view name);

/// One endpoint that is wanted.
struct EndpointRequest {
  std::string network;                  ///< name, id, unique prefix of an id; "": the default bridge
  std::string interface_name;           ///< "": the first ethN that is free
  std::optional<IpAddress> ipv4, ipv6;  ///< --ip, --ip6
  std::optional<MacAddress> mac;        ///< --mac-address
  int gateway_priority = 0;             ///< of several networks the one with the highest has the default route
};

struct ReserveRequest {
  std::string workload_id;  ///< 1 to 128 of [A-Za-z0-9_.-]
  std::vector<EndpointRequest> endpoints;
  /// Published by way of the endpoint that has the default route, if that is a bridge; else none is.
  std::vector<PortMapping> ports;
  /// A process will live as long as the workload and keep descriptors (Reservation::rules).
  bool has_keeper = false;
};

/// The process that keeps Reservation::rules, and its number there.
struct Keeper {
  int pid = 0;  ///< 0: none
  int fd = -1;
};

/// A workload on a network.
struct Endpoint {
  std::string id;  ///< 64 hexadecimal digits
  std::string workload_id;
  std::string network_id, network;  ///< id and name
  Driver driver = Driver::kBridge;
  std::string interface_name;  ///< inside
  std::string host_interface;  ///< the other end of the pair, a port of the bridge; empty without one
  MacAddress mac;
  IpAddress ipv4;
  unsigned prefix4 = 0;
  IpAddress gateway4;  ///< 0.0.0.0: none
  std::optional<IpAddress> ipv6;
  unsigned prefix6 = 0;
  std::optional<IpAddress> gateway6;
  int gateway_priority = 0;
  bool leads_out = true;  ///< its network has a way out
  bool gateway = true;    ///< it has the workload's default route and published ports
  std::vector<PublishedPort> ports;
  bool attached = false;  ///< false between reserve() and attach()
};

struct Reservation {
  std::vector<Endpoint> endpoints;  ///< in the order asked for
  std::vector<PublishedPort> ports;
  /// Bound sockets that keep the published ports from programs of the host, for the process that lives as long as the
  /// workload (the monitor) to inherit and never read. Closing them frees nothing else. Empty without ports.
  std::vector<UniqueFd> holders;
  /// With `has_keeper`: the socket that owns the nftables tables. As long as a workload's keeper has it open nobody
  /// else can change or flush them. To be kept here until attach(), and by the keeper as long as it lives; never used.
  UniqueFd rules;
};

/// What repair() took away or put back.
struct RepairReport {
  unsigned endpoints_freed = 0, links_removed = 0, neighbours_removed = 0;
  bool rules_restored = false;
};

/// One fact for `hull doctor`.
struct Check {
  enum class Status : uint8_t { kOk, kWarning, kFailed };
  std::string name;
  Status status = Status::kOk;
  std::string detail;  ///< what was found
  std::string remedy;  ///< what to do about it; empty when ok
};

class NetworkManager {
 public:
  /// Opens the records; touches nothing in the kernel. `paths` may be shared by any number of processes.
  static Result<NetworkManager> open(const NetPaths& paths, const NetSettings& settings);
  NetworkManager(NetworkManager&&) noexcept;
  NetworkManager& operator=(NetworkManager&&) noexcept;
  ~NetworkManager();

  // Networks. `ref` is a name, an id, or a unique prefix of an id.

  /// Writes a network down and makes its bridge (or VLAN). kExists: the name is taken; kConflict: the subnet overlaps
  /// another network's or a route of the host, or the device is another network's; kInvalid names what is wrong.
  Result<Network> create(const NetworkRequest& request);
  /// Those that are always there first, then in the order they were made.
  Result<std::vector<Network>> networks();
  Result<Network> inspect(std::string_view ref = kDefaultNetwork);
  /// kConflict while workloads are on it, kPermission for those that are always there.
  Result<void> remove(std::string_view ref);

  // Workloads on them.

  /// Takes addresses and ports for a workload and writes them down, so that its hosts file can be written before it
  /// exists. The workload must already be on record with the engine (see repair()). For one that is on networks already
  /// this adds to them.
  /// kInvalid: an address outside the subnet; kExists: this workload is on that network; kConflict: an address or a
  /// port is in use (the message says by whom); kNoSpace: no address, no ephemeral port is left; kNotFound: no network.
  Result<Reservation> reserve(const ReserveRequest& request);

  /// Connects what is reserved for a workload and not attached yet: makes the bridge and the rules when they are
  /// absent, a veth pair with the peer born inside the namespace, addresses usable at once, routes, and the published
  /// ports. The calling thread enters the namespace for some microseconds and comes back. On failure everything but the
  /// reservation is undone. Returns what was attached.
  /// `keeper` holds Reservation::rules; without one the rules are anybody's, and come back at the next call after
  /// somebody flushed them.
  Result<std::vector<Endpoint>> attach(std::string_view workload_id, int netns_fd, const Keeper& keeper = {});

  /// Frees addresses, ports and rules of all its endpoints, and closes the workload's ports of the bridges, so that its
  /// addresses are free for the next even if something keeps the namespace. The interface pair goes with the namespace
  /// (deleting it here would take the caller some 20 ms); what stays behind in a kept one is removed by repair().
  /// Unknown workloads are success.
  Result<void> detach(std::string_view workload_id);

  /// Takes a workload that runs off one network: its interface goes away; default route and published ports pass to
  /// another network that it is on. `netns_fd` -1: nothing of it runs. kNotFound: it is not on it.
  Result<void> disconnect(std::string_view workload_id, std::string_view network, int netns_fd);

  /// Brings the loopback interface of a namespace up (--network none and every other private namespace).
  static Result<void> loopback_up(int netns_fd);

  /// Frees what belongs to workloads that are gone, removes stray links, restores flushed rules. `alive` is asked
  /// under the lock, so a workload that is put on record before its reserve() is never taken for gone.
  Result<RepairReport> repair(const std::function<bool(std::string_view workload_id)>& alive);

  /// Every endpoint, or those on one network.
  Result<std::vector<Endpoint>> list(std::string_view network_id = {});
  /// Those of one workload, in the order of their interfaces; none is no error.
  Result<std::vector<Endpoint>> find(std::string_view workload_id);

  /// Removes every bridge device and the table; definitions stay. kConflict while endpoints exist.
  Result<void> tear_down();

  /// What the network needs of this host, tried out in a namespace of its own, and what stands in its way (forward
  /// policies of other firewalls, forwarding off, colliding routes).
  std::vector<Check> doctor();

  struct Impl;

 private:
  explicit NetworkManager(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hull::net
