#include "engine/validate.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <set>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/log_config.h"
#include "engine/spec.h"
#include "net/address.h"
#include "net/hostfiles.h"
#include "net/network.h"
#include "net/ports.h"
#include "rootless/rootless.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

Error invalid(std::string text, std::source_location where = std::source_location::current()) {
  return {ErrorKind::kInvalid, std::move(text), where};
}

/// What the host gives to its root alone.
Result<void> check_ordinary_user(const Config& c) {
  if (c.isolation == Isolation::kVm) {
    return errorf(ErrorKind::kUnsupported,
                  "virtual machines need root: their file daemon and their tap are made with its rights; use sudo, or "
                  "a container");
  }
  return {};
}

Result<void> check_limits(const Config& c) {
  constexpr int64_t kSmallestMemory = 6 << 20;
  if (c.memory != 0 && c.memory < kSmallestMemory) return invalid("Minimum memory limit allowed is 6MB");
  if (c.memory_reservation != 0 && c.memory_reservation < kSmallestMemory) {
    return invalid("Minimum memory reservation allowed is 6MB");
  }
  if (c.memory > 0 && c.memory_swap > 0 && c.memory_swap < c.memory) {
    return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
  }
  if (c.memory == 0 && c.memory_swap > 0) {
    return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
  }
  if (c.memory_swap < -1) return invalid(fmt::format("invalid memory swap value: {}", c.memory_swap));
  if (c.memory > 0 && c.memory_reservation > c.memory) {
    return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
  }
  if (c.memory_swappiness && (*c.memory_swappiness < -1 || *c.memory_swappiness > 100)) {
    return invalid(fmt::format("Invalid value: {}, valid memory swappiness range is 0-100", *c.memory_swappiness));
  }
  // The kernel's smallest quota is 1 ms of 100.
  if (c.nano_cpus < 0 || (c.nano_cpus > 0 && c.nano_cpus < 10'000'000)) return invalid("Range of CPUs is from 0.01 up");
  if (c.nano_cpus > 0 && (c.cpu_quota != 0 || c.cpu_period != 0)) {
    return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
  }
  if (c.cpu_shares < 0)
    return invalid(fmt::format("invalid CPU shares ({}): value must be a positive integer", c.cpu_shares));
  if (c.cpu_period != 0 && (c.cpu_period < 1000 || c.cpu_period > 1'000'000)) {
    return invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
  }
  if (c.cpu_quota > 0 && c.cpu_quota < 1000) return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
  if (c.blkio_weight != 0 && (c.blkio_weight < 10 || c.blkio_weight > 1000)) {
    return invalid("Range of blkio weight is from 10 to 1000");
  }
  if (c.oom_score_adj && (*c.oom_score_adj < -1000 || *c.oom_score_adj > 1000)) {
    return invalid(fmt::format("Invalid value {}, range for oom score adj is [-1000, 1000]", *c.oom_score_adj));
  }
  if (c.shm_size < 0) return invalid("SHM size can not be less than 0");
  TRY(make_rlimits(c.ulimits));
  return {};
}

Result<void> check_mounts(const Config& c) {
  std::set<std::string> targets;
  for (const MountRequest& m : c.mounts) {
    const std::string target = sys::clean_path(m.target);
    if (!m.target.starts_with('/')) {
      return invalid(
          fmt::format("invalid volume specification: invalid mount path: '{}' mount path must be absolute", m.target));
    }
    if (target.empty()) return invalid("invalid volume specification: destination can't be '/'");
    if (!targets.insert(target).second) return invalid(fmt::format("Duplicate mount point: {}", m.target));
    if (m.type == MountRequest::Type::kBind && !m.source.starts_with('/')) {
      return invalid(
          fmt::format("invalid mount config for type \"bind\": invalid mount path: '{}' mount path must be "
                      "absolute",
                      m.source));
    }
    if (m.type == MountRequest::Type::kVolume && !m.source.empty() && !valid_name(m.source)) {
      return invalid(
          fmt::format("{} includes invalid characters for a local volume name, only "
                      "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, "
                      "use absolute path",
                      m.source));
    }
    if (m.recursive_read_only && !m.read_only) {
      return invalid("mount options conflict: ReadOnlyForceRecursive && !ReadOnly");
    }
    SpecInput::ResolvedMount resolved{&m, m.source};
    TRY(make_mount(resolved));
  }
  return {};
}

Result<void> check_modes(const Config& c) {
  const auto is_container = [](const std::string& mode) { return mode.starts_with("container:") && mode.size() > 10; };
  if (has_own_networks(c.network) && !valid_name(c.network)) {
    return invalid(fmt::format("invalid network mode or name: {}", c.network));
  }
  static constexpr std::array<std::string_view, 5> kIpc = {"", "none", "private", "shareable", "host"};
  if (std::find(kIpc.begin(), kIpc.end(), c.ipc_mode) == kIpc.end() && !is_container(c.ipc_mode)) {
    return invalid(fmt::format("--ipc: invalid IPC mode: {}", c.ipc_mode));
  }
  if (!c.pid_mode.empty() && c.pid_mode != "private" && c.pid_mode != "host" && !is_container(c.pid_mode)) {
    return invalid(fmt::format("--pid: invalid PID mode: {}", c.pid_mode));
  }
  if (!c.uts_mode.empty() && c.uts_mode != "private" && c.uts_mode != "host") {
    return invalid(fmt::format("--uts: invalid UTS mode: {}", c.uts_mode));
  }
  if (!c.userns_mode.empty() && c.userns_mode != "host") {
    return invalid(fmt::format("--userns: invalid USER mode: {}", c.userns_mode));
  }
  if (!c.cgroupns_mode.empty() && c.cgroupns_mode != "host" && c.cgroupns_mode != "private") {
    return invalid(fmt::format("--cgroupns: invalid CGROUP mode: {}", c.cgroupns_mode));
  }
  if (!has_own_networks(c.network) && (!c.ip.empty() || !c.ip6.empty())) {
    return invalid("user specified IP address is supported on networks with subnets only");
  }
  if (!has_own_networks(c.network)) {
    for (const NetworkAttachment& one : c.networks) {
      if (one.network != c.network) {
        return invalid(fmt::format("conflicting options: a workload with network mode {} can't be on network {}",
                                   c.network, one.network));
      }
    }
  }
  if (is_container(c.network)) {
    if (!c.ports.empty() || c.publish_all) {
      return invalid("conflicting options: port publishing and the container type network mode");
    }
    if (!c.hostname.empty()) return invalid("conflicting options: hostname and the network mode");
    if (!c.mac_address.empty()) return invalid("conflicting options: mac-address and the network mode");
    if (!c.dns.empty()) return invalid("conflicting options: dns and the network mode");
    if (!c.extra_hosts.empty()) {
      return invalid("conflicting options: custom host-to-IP mapping and the network mode");
    }
  }
  if (c.uts_mode == "host" && !c.hostname.empty()) return invalid("conflicting options: hostname and the UTS mode");
  if (!c.links.empty() && !has_own_networks(c.network)) {
    return invalid("conflicting options: links and the network mode");
  }
  return {};
}

Result<void> check_attachments(const Config& c) {
  constexpr size_t kMostNetworks = 64, kMostAliases = 128;
  if (c.networks.size() > kMostNetworks) return invalid(fmt::format("more than {} networks", kMostNetworks));
  std::set<std::string> seen;
  for (const NetworkAttachment& one : attachments(c)) {
    if (!valid_name(one.network)) return invalid(fmt::format("invalid network name: {:.80}", one.network));
    if (!seen.insert(one.network).second) {
      return invalid(fmt::format("network \"{}\" is specified multiple times", one.network));
    }
    if (one.aliases.size() > kMostAliases) return invalid(fmt::format("more than {} aliases", kMostAliases));
    for (const std::string& alias : one.aliases) {
      if (!valid_name(alias)) return invalid(fmt::format("network-scoped alias \"{:.80}\" is no host name", alias));
    }
    if (!one.aliases.empty() && one.network == net::kDefaultNetwork) {
      return invalid("network-scoped aliases are only supported for user-defined networks");
    }
    for (const std::string& link : one.links) TRY(parse_link(link));
    if (!one.ipv4.empty()) TRY(net::IpAddress::parse(one.ipv4));
    if (!one.ipv6.empty()) TRY(net::IpAddress::parse(one.ipv6));
    if (!one.mac_address.empty()) TRY(net::MacAddress::parse(one.mac_address));
    for (const auto& [key, value] : one.driver_options) {
      if (key != "com.docker.network.endpoint.ifname") {
        return invalid(fmt::format("driver option {:.80} of network {}: there is com.docker.network.endpoint.ifname",
                                   key, one.network));
      }
    }
  }
  for (const std::string& link : c.links) TRY(parse_link(link));
  return {};
}

Result<void> check_network(const Config& c) {
  if (!c.hostname.empty()) TRY(net::validate_hostname(c.hostname));
  net::DnsFlags dns{c.dns, c.dns_search, c.dns_options};
  TRY(net::validate_dns_flags(dns));
  for (const std::string& host : c.extra_hosts) {
    TRY(net::parse_add_host(host));
  }
  if (!c.ip.empty()) TRY(net::IpAddress::parse(c.ip));
  if (!c.ip6.empty()) TRY(net::IpAddress::parse(c.ip6));
  if (!c.mac_address.empty()) TRY(net::MacAddress::parse(c.mac_address));
  TRY(check_attachments(c));
  for (const PortRequest& port : c.ports) {
    if (port.container_port == 0) return invalid("invalid containerPort: 0");
    TRY(net::parse_protocol(port.protocol));
    if (!port.host_ip.empty()) TRY(net::IpAddress::parse(port.host_ip));
  }
  for (const std::string& port : c.exposed_ports) {
    TRY(net::parse_expose_spec(port));
  }
  return {};
}

/// Docker's texts (daemon/container.go).
Result<void> check_service(const Config& c) {
  const RestartPolicy& policy = c.restart;
  if (policy.restarts() && policy.name != "always" && policy.name != "unless-stopped" && policy.name != "on-failure") {
    return invalid(fmt::format(
        "invalid restart policy: unknown policy '{}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        policy.name));
  }
  if (policy.maximum_retries != 0 && policy.name != "on-failure") {
    return invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'");
  }
  if (policy.maximum_retries < 0) return invalid("invalid restart policy: maximum retry count cannot be negative");
  if (policy.restarts() && c.auto_remove) return invalid("can't create 'AutoRemove' container with restart policy");
  const std::string& action = c.health_on_failure;
  if (!action.empty() && action != "none" && action != "kill" && action != "restart" && action != "stop") {
    return invalid(fmt::format("unknown health check action '{}': use none, kill, restart or stop", action));
  }
  if (!c.healthcheck) return {};
  const oci::HealthConfig& health = *c.healthcheck;
  if (!health.test.empty() && health.test[0] != "NONE" && health.test[0] != "CMD" && health.test[0] != "CMD-SHELL") {
    return invalid(fmt::format("Unknown type '{}' in healthcheck: use NONE, CMD or CMD-SHELL", health.test[0]));
  }
  if (health.test.size() == 1 && health.test[0] != "NONE") return invalid("Healthcheck has no command");
  constexpr int64_t kLeastNs = 1'000'000;
  const std::pair<const char*, int64_t> durations[] = {{"Interval", health.interval_ns},
                                                       {"Timeout", health.timeout_ns},
                                                       {"StartPeriod", health.start_period_ns},
                                                       {"StartInterval", health.start_interval_ns}};
  for (const auto& [name, ns] : durations) {
    if (ns != 0 && ns < kLeastNs) return invalid(fmt::format("{} in Healthcheck cannot be less than 1ms", name));
  }
  if (health.retries < 0) return invalid("Retries in Healthcheck cannot be negative");
  return {};
}

}  // namespace

bool valid_name(std::string_view name) {
  const auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  if (name.empty() || name.size() > 255 || !alnum(name.front())) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return alnum(c) || c == '_' || c == '.' || c == '-'; });
}

Result<int> parse_signal(std::string_view text) {
  struct Name {
    std::string_view name;
    int number;
  };
  static constexpr std::array kNames = {
      Name{"ABRT", SIGABRT}, Name{"ALRM", SIGALRM},     Name{"BUS", SIGBUS},       Name{"CHLD", SIGCHLD},
      Name{"CONT", SIGCONT}, Name{"FPE", SIGFPE},       Name{"HUP", SIGHUP},       Name{"ILL", SIGILL},
      Name{"INT", SIGINT},   Name{"IO", SIGIO},         Name{"IOT", SIGABRT},      Name{"KILL", SIGKILL},
      Name{"PIPE", SIGPIPE}, Name{"POLL", SIGPOLL},     Name{"PROF", SIGPROF},     Name{"PWR", SIGPWR},
      Name{"QUIT", SIGQUIT}, Name{"SEGV", SIGSEGV},     Name{"STKFLT", SIGSTKFLT}, Name{"STOP", SIGSTOP},
      Name{"SYS", SIGSYS},   Name{"TERM", SIGTERM},     Name{"TRAP", SIGTRAP},     Name{"TSTP", SIGTSTP},
      Name{"TTIN", SIGTTIN}, Name{"TTOU", SIGTTOU},     Name{"URG", SIGURG},       Name{"USR1", SIGUSR1},
      Name{"USR2", SIGUSR2}, Name{"VTALRM", SIGVTALRM}, Name{"WINCH", SIGWINCH},   Name{"XCPU", SIGXCPU},
      Name{"XFSZ", SIGXFSZ}};
  if (const auto number = parse_int(text, 1, 64); number.ok()) return static_cast<int>(*number);
  std::string upper(text);
  for (char& c : upper) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  std::string_view name = upper;
  if (name.starts_with("SIG")) name.remove_prefix(3);
  for (const Name& known : kNames) {
    if (known.name == name) return known.number;
  }
  if (name == "RTMIN") return 34;  // what the C library leaves to programs
  if (name == "RTMAX") return 64;
  if (name.starts_with("RTMIN+")) {
    if (const auto offset = parse_int(name.substr(6), 0, 30); offset.ok()) return 34 + static_cast<int>(*offset);
  }
  if (name.starts_with("RTMAX-")) {
    if (const auto offset = parse_int(name.substr(6), 0, 30); offset.ok()) return 64 - static_cast<int>(*offset);
  }
  return errorf(ErrorKind::kInvalid, "Invalid signal: {}", text);
}

Result<Link> parse_link(std::string_view text) {
  const size_t colon = text.find(':');
  std::string_view workload = text.substr(0, colon);
  std::string_view alias = colon == std::string_view::npos ? workload : text.substr(colon + 1);
  // Clients send back what inspect showed: "/workload:/this/alias".
  if (workload.starts_with('/')) workload.remove_prefix(1);
  if (const size_t slash = alias.rfind('/'); slash != std::string_view::npos) alias.remove_prefix(slash + 1);
  if (!valid_name(workload) || !valid_name(alias)) {
    return errorf(ErrorKind::kInvalid, "bad format for links: {:.80}: WORKLOAD or WORKLOAD:ALIAS is meant", text);
  }
  return Link{std::string(workload), std::string(alias)};
}

Result<void> validate(const Config& c) {
  if (!c.name.empty() && !valid_name(c.name)) {
    return errorf(ErrorKind::kInvalid, "Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
                  c.name);
  }
  if (!c.runtime.empty() && c.runtime != "hull-oci" && c.runtime != "hull" && c.runtime != "hull-oci-vm") {
    return errorf(ErrorKind::kInvalid, "unknown or invalid runtime name: {}: there are hull-oci and hull-oci-vm",
                  c.runtime);
  }
  TRY(check_service(c));
  for (const std::string& entry : c.env) {
    if (entry.empty() || entry.front() == '=') {
      return errorf(ErrorKind::kInvalid, "invalid environment variable: {}", entry);
    }
    if (entry.find('\0') != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "environment variable with a NUL byte: {}", entry.substr(0, entry.find('\0')));
    }
  }
  if (!c.stop_signal.empty()) TRY(parse_signal(c.stop_signal));
  TRY(check_limits(c));
  if (rootless::inside()) TRY(check_ordinary_user(c));
  TRY(check_mounts(c));
  TRY(check_modes(c));
  TRY(check_network(c));
  TRY(log_config(c, {}));
  TRY(validate_vm(c));
  TRY(effective_capabilities(c));
  TRY(parse_security_options(c.security_opt));
  return {};
}

}  // namespace hull::engine
