#pragma once
// How the value of each flag of run and create gets into the request. Only run_flags.cc includes this.

#include <arpa/inet.h>

#include <algorithm>

#include "base/detach_keys.h"
#include "base/error_format.h"
#include "base/units.h"
#include "cli/run_options.h"
#include "cli/text.h"
#include "cli/values.h"
#include "engine/log_config.h"

namespace hull::cli::setters {

using engine::Config;
using Options = RunOptions;
using View = std::string_view;
using Done = Result<void>;

// Setters by the type of the member they fill.
template <auto Member>
inline Done text(Options& options, View value) {
  options.config.*Member = std::string(value);
  return {};
}
template <auto Member>
inline Done list(Options& options, View value) {
  (options.config.*Member).emplace_back(value);
  return {};
}
template <auto Member>
inline Done own_list(Options& options, View value) {
  (options.*Member).emplace_back(value);
  return {};
}
template <auto Member>
inline Done own_text(Options& options, View value) {
  options.*Member = std::string(value);
  return {};
}
template <auto Member>
inline Done on_off(Options& options, View value) {
  options.config.*Member = parse_bool(value).value_or(false);
  return {};
}
template <auto Member>
inline Done own_on_off(Options& options, View value) {
  options.*Member = parse_bool(value).value_or(false);
  return {};
}
template <auto Member, int64_t Least, int64_t Most>
inline Done number(Options& options, View value) {
  TRY_ASSIGN(const int64_t parsed, parse_int(value, Least, Most));
  options.config.*Member = static_cast<std::remove_reference_t<decltype(options.config.*Member)>>(parsed);
  return {};
}
/// For std::optional<int...> members.
template <auto Member, int64_t Least, int64_t Most, typename T>
inline Done optional_number(Options& options, View value) {
  TRY_ASSIGN(const int64_t parsed, parse_int(value, Least, Most));
  options.config.*Member = static_cast<T>(parsed);
  return {};
}
template <auto Member>
inline Done size(Options& options, View value) {
  TRY_ASSIGN(options.config.*Member, parse_size(value));
  return {};
}
template <auto Member, bool Bytes>
inline Done device_rate(Options& options, View value) {
  TRY_ASSIGN(auto rate, parse_device_rate(value, Bytes));
  (options.config.*Member).push_back(std::move(rate));
  return {};
}
template <auto Member>
inline Done pairs(Options& options, View value) {
  TRY_ASSIGN(auto pair, parse_pair(value));
  (options.config.*Member).insert_or_assign(std::move(pair.first), std::move(pair.second));
  return {};
}
/// One of a few words, or (Container) container:ID.
template <auto Member, bool Container>
inline Done mode(Options& options, View value, std::initializer_list<View> words) {
  const bool known = value.empty() || std::find(words.begin(), words.end(), value) != words.end() ||
                     (Container && value.starts_with("container:") && value.size() > 10);
  if (!known) {
    return errorf(ErrorKind::kInvalid, "unknown mode \"{:.80}\" (expected {}{})", value, fmt::join(words, ", "),
                  Container ? " or container:NAME" : "");
  }
  options.config.*Member = std::string(value);
  return {};
}

inline Done refuse_version(Options&, View value) {
  if (value == "false") return {};
  return errorf(ErrorKind::kUnsupported, "this comes with a later version of Hull");
}
inline Done refuse_windows(Options&, View) { return errorf(ErrorKind::kUnsupported, "this is for Windows only"); }
inline oci::HealthConfig& health(Options& options) {
  if (!options.config.healthcheck) options.config.healthcheck.emplace();
  return *options.config.healthcheck;
}
inline Done set_health_cmd(Options& options, View value) {
  if (!value.empty()) health(options).test = {"CMD-SHELL", std::string(value)};
  return {};
}
template <auto Member>
inline Done health_duration(Options& options, View value) {
  TRY_ASSIGN(const auto parsed, parse_duration(value));
  if (parsed.count() < 0) return errorf(ErrorKind::kInvalid, "a duration cannot be negative");
  health(options).*Member = parsed.count();
  return {};
}
inline Done set_health_retries(Options& options, View value) {
  TRY_ASSIGN(const int64_t parsed, parse_int(value, 0, 1'000'000));
  health(options).retries = static_cast<int>(parsed);
  return {};
}
inline Done set_health_on_failure(Options& options, View value) {
  if (value != "none" && value != "kill" && value != "restart" && value != "stop") {
    return errorf(ErrorKind::kInvalid, "unknown action '{:.80}' (none, kill, restart or stop)", value);
  }
  options.config.health_on_failure = value == "none" ? "" : value;
  return {};
}

inline Done set_attach(Options& options, View value) {
  const std::string stream = lower(value);
  if (stream != "stdin" && stream != "stdout" && stream != "stderr") {
    return errorf(ErrorKind::kInvalid, "valid streams are STDIN, STDOUT and STDERR");
  }
  options.attach.push_back(stream);
  return {};
}
inline Done set_interactive(Options& options, View value) {
  options.config.open_stdin = parse_bool(value).value_or(false);
  return {};
}
inline Done set_entrypoint(Options& options, View value) {
  options.config.entrypoint = std::vector<std::string>{std::string(value)};
  return {};
}
inline Done set_env(Options& options, View value) {
  TRY_ASSIGN(auto entry, parse_env(value, lookup_environment));
  options.env.push_back(std::move(entry));
  return {};
}
inline Done set_label(Options& options, View value) {
  TRY(parse_pair(value));
  options.labels.emplace_back(value);
  return {};
}
inline Done set_name(Options& options, View value) {
  if (value.starts_with('/')) value.remove_prefix(1);
  TRY(check_name(value));
  options.config.name = value;
  return {};
}
inline Done set_pull(Options& options, View value) {
  if (value == "always") {
    options.pull = engine::PullPolicy::kAlways;
  } else if (value == "missing" || value.empty()) {
    options.pull = engine::PullPolicy::kMissing;
  } else if (value == "never") {
    options.pull = engine::PullPolicy::kNever;
  } else {
    return errorf(ErrorKind::kInvalid, "must be one of \"always\", \"missing\" or \"never\"");
  }
  return {};
}
inline Done set_platform(Options& options, View value) {
  if (!value.empty()) TRY(oci::parse_platform(value));
  options.config.platform = value;
  return {};
}
inline Done set_restart(Options& options, View value) {
  const View name = value.substr(0, value.find(':'));
  engine::RestartPolicy policy;
  if (!name.empty()) policy.name = name;
  if (name != value) {
    if (name != "on-failure" && (name == "no" || name == "always" || name == "unless-stopped")) {
      return errorf(ErrorKind::kInvalid, "maximum retry count cannot be used with restart policy '{}'", name);
    }
    TRY_ASSIGN(const int64_t most, parse_int(value.substr(name.size() + 1), 0, 1 << 30));
    policy.maximum_retries = static_cast<int>(most);
  }
  if (policy.name != "no" && policy.name != "always" && policy.name != "unless-stopped" &&
      policy.name != "on-failure") {
    return errorf(ErrorKind::kInvalid,
                  "unknown policy '{:.80}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", name);
  }
  options.config.restart = std::move(policy);
  return {};
}
inline Done set_isolation(Options& options, View value) {
  if (value.empty() || value == "default" || value == "container") {
    options.config.isolation = engine::Isolation::kContainer;
    return {};
  }
  if (value == "vm") {
    options.config.isolation = engine::Isolation::kVm;
    return {};
  }
  return errorf(ErrorKind::kInvalid, "unknown isolation '{:.80}' (container or vm)", value);
}
inline Done set_vm(Options& options, View value) {
  const bool on = parse_bool(value).value_or(false);
  options.config.isolation = on ? engine::Isolation::kVm : engine::Isolation::kContainer;
  return {};
}
inline Done set_hypervisor(Options& options, View value) {
  if (value != "auto" && value != "kvm" && value != "qemu") {
    return errorf(ErrorKind::kInvalid, "unknown hypervisor '{:.80}' (auto, kvm or qemu)", value);
  }
  options.config.hypervisor = value;
  return {};
}
inline Done set_storage_option(Options& options, View value) {
  TRY_ASSIGN(auto pair, parse_pair(value));
  if (pair.first != "size")
    return errorf(ErrorKind::kUnsupported, "unknown storage option '{:.80}' (size)", pair.first);
  TRY(parse_size(pair.second));
  options.config.storage_opt.insert_or_assign(std::move(pair.first), std::move(pair.second));
  return {};
}
inline Done set_cgroupns(Options& options, View value) {
  return mode<&Config::cgroupns_mode, false>(options, value, {"host", "private"});
}
inline Done set_ipc(Options& options, View value) {
  return mode<&Config::ipc_mode, true>(options, value, {"none", "private", "shareable", "host"});
}
inline Done set_pid(Options& options, View value) { return mode<&Config::pid_mode, true>(options, value, {"host"}); }
inline Done set_uts(Options& options, View value) { return mode<&Config::uts_mode, false>(options, value, {"host"}); }
inline Done set_userns(Options& options, View value) {
  return mode<&Config::userns_mode, false>(options, value, {"host"});
}
inline Done set_workdir(Options& options, View value) {
  if (!value.starts_with('/')) {
    return errorf(ErrorKind::kInvalid, "the working directory is invalid, it needs to be an absolute path");
  }
  options.config.working_dir = value;
  return {};
}
inline Done set_hostname(Options& options, View value) {
  // RFC 1123 labels; the kernel takes 64 characters (__NEW_UTS_LEN).
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_';
  };
  if (value.size() > 64 || !std::all_of(value.begin(), value.end(), good)) {
    return errorf(ErrorKind::kInvalid, "a host name has at most 64 letters, digits, dots and dashes");
  }
  options.config.hostname = value;
  return {};
}
inline Done set_volume(Options& options, View value) {
  TRY_ASSIGN(auto mount, parse_volume(value));
  options.config.mounts.push_back(std::move(mount));
  return {};
}
inline Done set_mount(Options& options, View value) {
  TRY_ASSIGN(auto mount, parse_mount(value));
  options.config.mounts.push_back(std::move(mount));
  return {};
}
inline Done set_tmpfs(Options& options, View value) {
  TRY_ASSIGN(auto mount, parse_tmpfs(value));
  options.config.mounts.push_back(std::move(mount));
  return {};
}
inline Done set_volume_driver(Options& options, View value) {
  if (!value.empty() && value != "local") {
    return errorf(ErrorKind::kUnsupported, "there is no volume driver '{:.80}', only local", value);
  }
  options.volume_driver = value;
  return {};
}
inline Done set_publish(Options& options, View value) {
  TRY_ASSIGN(auto ports, parse_publish(value));
  std::move(ports.begin(), ports.end(), std::back_inserter(options.config.ports));
  return {};
}
inline Done set_expose(Options& options, View value) {
  TRY_ASSIGN(auto ports, parse_expose(value));
  for (std::string& port : ports) {
    auto& all = options.config.exposed_ports;
    if (std::find(all.begin(), all.end(), port) == all.end()) all.push_back(std::move(port));
  }
  return {};
}
inline Done set_network(Options& options, View value) {
  TRY(apply_network(options.config, value, !options.network_given));
  options.network_given = true;
  return {};
}
inline Done set_link(Options& options, View value) {
  if (value.empty()) return errorf(ErrorKind::kInvalid, "--link: WORKLOAD or WORKLOAD:ALIAS is meant");
  options.config.links.emplace_back(value);
  return {};
}
inline Done refuse_link_local(Options&, View) {
  return errorf(ErrorKind::kUnsupported,
                "--link-local-ip is not there: the link-local address follows from the MAC address");
}
inline Done set_add_host(Options& options, View value) {
  TRY_ASSIGN(auto host, parse_extra_host(value));
  options.config.extra_hosts.push_back(std::move(host));
  return {};
}
inline Done set_dns(Options& options, View value) {
  TRY(check_ip(value));
  options.config.dns.emplace_back(value);
  return {};
}
inline Done set_ip(Options& options, View value) {
  TRY(check_ip(value, AF_INET));
  options.config.ip = value;
  return {};
}
inline Done set_ip6(Options& options, View value) {
  TRY(check_ip(value, AF_INET6));
  options.config.ip6 = value;
  return {};
}
inline Done set_mac(Options& options, View value) {
  TRY(check_mac(trim(value)));
  options.config.mac_address = trim(value);
  return {};
}
inline Done set_device(Options& options, View value) {
  TRY_ASSIGN(auto device, parse_device(value));
  options.config.devices.push_back(std::move(device));
  return {};
}
inline Done set_device_rule(Options& options, View value) {
  TRY(check_device_cgroup_rule(value));
  options.config.device_cgroup_rules.emplace_back(value);
  return {};
}
inline Done set_security(Options& options, View value) {
  TRY_ASSIGN(auto option, parse_security_option(value));
  options.config.security_opt.push_back(std::move(option));
  return {};
}
inline Done set_sysctl(Options& options, View value) {
  if (value.find('=') == View::npos) return errorf(ErrorKind::kInvalid, "expected NAME=VALUE, not '{:.80}'", value);
  return pairs<&Config::sysctls>(options, value);
}
inline Done set_ulimit(Options& options, View value) {
  TRY_ASSIGN(auto limit, parse_ulimit(value));
  auto& all = options.config.ulimits;
  std::erase_if(all, [&](const engine::Ulimit& one) { return one.name == limit.name; });
  all.push_back(std::move(limit));
  return {};
}
inline Done set_cpus(Options& options, View value) {
  TRY_ASSIGN(options.config.nano_cpus, parse_cpus(value));
  return {};
}
inline Done set_memory_swap(Options& options, View value) {
  if (value == "-1") {
    options.config.memory_swap = -1;
    return {};
  }
  return size<&Config::memory_swap>(options, value);
}
inline Done set_swappiness(Options& options, View value) {
  TRY_ASSIGN(const int64_t parsed, parse_int(value, -1, 100));
  if (parsed >= 0) options.config.memory_swappiness = parsed;
  return {};
}
inline Done refuse_kernel_memory(Options&, View) {
  return errorf(ErrorKind::kUnsupported, "the kernel has no such limit any more; --memory covers kernel memory too");
}
inline Done set_pids_limit(Options& options, View value) {
  TRY_ASSIGN(const int64_t parsed, parse_int(value, -1, 1LL << 40));
  options.config.pids_limit = std::max<int64_t>(parsed, 0);  // -1 and 0: no limit
  return {};
}
inline Done set_blkio_weight(Options& options, View value) {
  TRY_ASSIGN(const int64_t parsed, parse_int(value, 0, 1000));
  if (parsed > 0 && parsed < 10) return errorf(ErrorKind::kInvalid, "range of blkio weight is from 10 to 1000");
  options.config.blkio_weight = static_cast<uint16_t>(parsed);
  return {};
}
inline Done set_blkio_weight_device(Options& options, View value) {
  TRY_ASSIGN(auto weight, parse_device_weight(value));
  options.config.blkio_weight_device.push_back(std::move(weight));
  return {};
}
inline Done set_shm_size(Options& options, View value) {
  TRY(size<&Config::shm_size>(options, value));
  if (options.config.shm_size <= 0) return errorf(ErrorKind::kInvalid, "SHM size can not be less than 0");
  return {};
}
inline Done set_log_driver(Options& options, View value) {
  TRY(engine::check_log_driver(value));
  options.config.log_driver = value;
  return {};
}
inline Done set_log_option(Options& options, View value) {
  TRY_ASSIGN(auto pair, parse_pair(value));
  options.config.log_options.insert_or_assign(std::move(pair.first), std::move(pair.second));
  return {};
}
inline Done set_detach_keys(Options& options, View value) {
  TRY(parse_detach_keys(value));
  options.detach_keys = value;
  return {};
}
inline Done set_content_trust(Options&, View value) {
  if (value == "true") return {};
  return errorf(ErrorKind::kUnsupported, "signature verification comes with a later version of Hull");
}

}  // namespace hull::cli::setters
