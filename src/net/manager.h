#pragma once
// The insides of NetworkManager. Everything here expects the lock to be held, unless it says otherwise.

#include <optional>
#include <string>
#include <string_view>

#include "net/definitions.h"
#include "net/host.h"
#include "net/link.h"
#include "net/network.h"
#include "net/records.h"
#include "net/ruleset.h"
#include "sys/file.h"

namespace hull::net {

/// Names of the host's ends of pairs start so; repair() removes only such.
inline constexpr std::string_view kHostInterfacePrefix = "hv";

/// dev_valid_name() of the kernel, and not lo.
Result<void> validate_interface_name(std::string_view name);
/// In the calling thread's namespace.
Result<void> bring_loopback_up();

struct NetworkManager::Impl {
  NetPaths paths;
  NetSettings settings;
  std::optional<Records> records;
  std::optional<Definitions> definitions_;  // opened when there are any
  std::optional<Links> links_;              // opened at first use, in the host's namespace
  std::optional<Ruleset> ruleset_;          // the same
  UniqueFd home_;                           // the host's namespace

  Result<sys::FileLock> lock() { return sys::FileLock::acquire(paths.run_dir + "/lock", true, true); }
  Result<Links*> links();
  Result<Ruleset*> ruleset();
  Result<int> home_netns();

  /// The network's definition, from data_dir and the settings; chosen and written at first.
  Result<Network> network();
  /// The definitions of networks that users made; nothing when there never was one, unless `make`.
  Result<Definitions*> definitions(bool make);
  Result<std::vector<Network>> user_networks();
  /// By name, id or prefix of an id; kNotFound.
  Result<Network> find_network(std::string_view ref);
  Result<void> choose_subnets(const NetworkRequest& request, Network& network);
  /// kConflict when another network has its device or parent.
  Result<void> check_devices(const Network& network);
  /// The parent of a macvlan or ipvlan network: as asked for, or one to be made.
  Result<void> name_parent(Network& network);
  /// The bridge with its rules, or the parent.
  Result<void> ensure_device(const Network& network);
  /// What ensure_device made; absent is success.
  Result<void> remove_device(const Network& network);
  /// Marks the bridge as that of these folders.
  std::string alias_prefix() const;
  std::string alias_of(const Network& network) const;

  /// The bridge's index; makes it, and reconnects what was on it, when it is absent.
  Result<uint32_t> ensure_bridge(const Network& network);
  enum class Trust : uint8_t {
    kGeneration,  ///< no change of any table since we looked last means that ours is whole
    kNothing,     ///< read the table
  };
  /// Puts the table back when it is not as we left it; true when it had to.
  Result<bool> ensure_rules(const Network& network, Trust trust);
  /// Whether frames on the bridge are guarded by rules (else the insides of containers are set up to be quiet).
  Result<bool> has_frame_guard();
  /// The rules of one endpoint, in a transaction of the records.
  Result<void> add_rules(const Endpoint& endpoint, const Network& network);
  Result<void> remove_rules(const Endpoint& endpoint, const Network& network);

  Result<std::string> next_host_interface();
  Result<void> choose_addresses(const Network& network, const ReserveRequest& request, Endpoint& endpoint);
  Result<void> choose_ports(const ReserveRequest& request, Reservation& out);

  /// Without the lock: takes it itself for the last part.
  Result<void> finish_attach(const Endpoint& endpoint, const Network& network, int netns_fd, bool frame_guard);
  Result<void> detach(Endpoint& endpoint, const Network& network, uint32_t bridge_index);

  /// Fills in what the records don't hold.
  static void complete(Endpoint& endpoint, const Network& network);

 private:
  struct Stored {
    std::optional<Subnet> subnet4, subnet6;
  };
  Result<Stored> read_stored();
  Result<void> write_stored(const Network& network);
  Result<void> rebuild_rules(const Network& network);
  Result<void> note_rules();
  Result<IpAddress> choose_v4(const Network& network, const ReserveRequest& request);
  Result<IpAddress> choose_v6(const Network& network, const ReserveRequest& request, uint64_t offset);
  Result<void> choose_port(const PortMapping& mapping, const std::vector<IpAddress>& host_ips, Reservation& out);
  Result<std::optional<Error>> try_port(const PortMapping& mapping, uint16_t port,
                                        const std::vector<IpAddress>& host_ips, Reservation& out);
};

}  // namespace hull::net
