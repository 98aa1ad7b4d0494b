#pragma once
// The insides of NetworkManager. Everything here expects the lock to be held, unless it says otherwise.

#include <optional>
#include <string>
#include <string_view>
#include <utility>

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
  std::optional<Network> default_;          // as it was found since the lock was taken
  bool borrowed_ = false;                   // the rules are written through the keepers' socket
  bool owned_ = false;                      // and it is known to be their owner

  /// While it lives nobody else changes records, links or rules.
  class Lock {
   public:
    Lock(Impl& impl, sys::FileLock file) : impl_(&impl), file_(std::move(file)) {}
    Lock(Lock&& other) noexcept : impl_(std::exchange(other.impl_, nullptr)), file_(std::move(other.file_)) {}
    Lock& operator=(Lock&&) = delete;
    ~Lock() {
      if (impl_ != nullptr) impl_->let_go_of_owner();
    }

   private:
    Impl* impl_;
    sys::FileLock file_;
  };
  Result<Lock> lock();
  Result<Links*> links();
  Result<Ruleset*> ruleset();

  // owner.cc: the socket that owns the tables, so that nobody else can flush them. The processes that live as long as
  // workloads hold it; a command borrows it for as long as it holds the lock.

  /// The socket for a workload's keeper: the one in use, or a new one. Recorded as ours until attach() names the
  /// keeper.
  Result<UniqueFd> socket_for_keeper(const std::string& workload_id);
  /// Takes the socket from this keeper, which proves that it can be had again, and makes the tables its own.
  Result<bool> own_rules_by(const Keeper& keeper);
  /// A change of rules, through the owner's socket if there is one.
  Result<void> write_rules(const std::function<Result<void>(Ruleset&)>& change);
  /// Whether a keeper of the tables' owner lives; then its socket is in use. Flat cost.
  Result<bool> borrow_owner();
  void let_go_of_owner();
  /// The tables are now the borrowed socket's, if one is.
  Result<void> note_owner();
  /// The tables had an owner that lives no more: before Linux 6.9 they went with it, and no generation counts that.
  Result<bool> owner_is_gone();
  Result<void> keep_rules_by(const Records::Keeper& keeper);
  /// The socket that keepers hold; not valid when none of them lives.
  Result<UniqueFd> find_owner_socket();
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
  /// The parent's index; makes it when it is ours to make.
  Result<uint32_t> ensure_parent(const Network& network);
  enum class Trust : uint8_t {
    kGeneration,  ///< no change of any table since we looked last means that ours is whole
    kNothing,     ///< read the table
  };
  /// Puts the table back when it is not as we left it; true when it had to.
  Result<bool> ensure_rules(Trust trust);
  /// Lets the rules know a network of a user's; the default one they always know.
  Result<void> activate(const Network& network);
  /// Whether frames on the bridge are guarded by rules (else the insides of containers are set up to be quiet).
  Result<bool> has_frame_guard();
  /// The rules of one endpoint, in a transaction of the records.
  Result<void> add_rules(const Endpoint& endpoint);
  Result<void> remove_rules(const Endpoint& endpoint);

  Result<std::string> next_host_interface();
  Result<Endpoint> choose_endpoint(const Network& network, const EndpointRequest& request, std::string_view workload_id,
                                   const std::vector<Endpoint>& others);
  Result<void> choose_addresses(const Network& network, const EndpointRequest& request, Endpoint& endpoint);
  Result<void> choose_ports(const ReserveRequest& request, const Network& network, const Endpoint& endpoint,
                            Reservation& out);

  /// One endpoint on its way to its namespace.
  struct Attaching {
    Endpoint endpoint;
    Network network;
    uint32_t device = 0;  ///< of the bridge, or the parent
    uint32_t link = 0;    ///< the host's end of the pair
  };
  /// Without the lock: takes it itself for the last part.
  Result<void> attach_one(Attaching& one, int netns_fd, bool frame_guard);
  Result<void> configure(const Attaching& one, int netns_fd, bool frame_guard);
  void undo(const Attaching& one);
  /// Puts on record what was attached; published ports pass to the gateway.
  Result<void> finish_attach(const std::vector<Attaching>& all, const Keeper& keeper);
  /// All endpoints of one workload.
  Result<void> detach(const std::vector<Endpoint>& endpoints);
  Result<void> repair_bridge(const Network& network, const std::vector<Endpoint>& endpoints, RepairReport& out);

  /// Fills in what the records don't hold.
  static void complete(Endpoint& endpoint, const Network& network);
  /// The same for many; each network is looked up once.
  Result<void> complete(std::vector<Endpoint>& endpoints);
  Result<Network> network_of(const std::string& id);

 private:
  struct Stored {
    std::optional<Subnet> subnet4, subnet6;
  };
  Result<Stored> read_stored();
  Result<void> write_stored(const Network& network);
  Result<Network> choose_network();
  Result<void> rebuild_rules();
  Result<void> note_rules();
  /// The default network and those that are active.
  Result<std::vector<Network>> ruled_networks();
  /// Runs a change of the table and remembers its generation when nobody else changed any meanwhile.
  Result<void> change_rules(const std::function<Result<void>(Ruleset&)>& change);
  /// The first address in [from, to] that nobody has and nothing keeps.
  Result<std::optional<IpAddress>> first_free(const Network& network, const IpAddress& from, const IpAddress& to);
  Result<IpAddress> choose_v4(const Network& network, const EndpointRequest& request);
  Result<IpAddress> choose_v6(const Network& network, const EndpointRequest& request, uint64_t offset);
  Result<void> choose_port(const PortMapping& mapping, const std::vector<IpAddress>& host_ips, Reservation& out);
  Result<std::optional<Error>> try_port(const PortMapping& mapping, uint16_t port,
                                        const std::vector<IpAddress>& host_ips, Reservation& out);
};

/// Which of a workload's endpoints has the default route and the published ports; nothing when none leads out.
const Endpoint* choose_gateway(const std::vector<const Endpoint*>& endpoints);

}  // namespace hull::net
