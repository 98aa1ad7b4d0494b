#include "cli/run_options.h"

#include <algorithm>

#include "base/error_format.h"
#include "cli/values.h"
#include "engine/log_config.h"

namespace hull::cli {
namespace {

using engine::Config;
using Options = RunOptions;
using View = std::string_view;

/// Files first, then flags; a later entry of the same name replaces an earlier one.
Result<std::vector<std::string>> merged_env(const Options& options) {
  std::vector<std::string> all;
  const auto add = [&](std::string entry) {
    const View name = View(entry).substr(0, entry.find('='));
    for (std::string& known : all) {
      if (View(known).substr(0, known.find('=')) == name) {
        known = std::move(entry);
        return;
      }
    }
    all.push_back(std::move(entry));
  };
  for (const std::string& path : options.env_files) {
    auto content = read_value_file(path);
    if (!content.ok()) return std::move(content).error().context("--env-file");
    auto lines = parse_env_file(*content, lookup_environment);
    if (!lines.ok()) return std::move(lines).error().context(fmt::format("--env-file: invalid env file ({})", path));
    for (std::string& line : *lines) add(std::move(line));
  }
  for (const std::string& entry : options.env) add(entry);
  return all;
}

Result<std::map<std::string, std::string>> merged_labels(const Options& options) {
  std::map<std::string, std::string> all;
  const auto add = [&](View line) -> Result<void> {
    TRY_ASSIGN(auto pair, parse_pair(line));
    all.insert_or_assign(std::move(pair.first), std::move(pair.second));
    return {};
  };
  for (const std::string& path : options.label_files) {
    auto content = read_value_file(path);
    if (!content.ok()) return std::move(content).error().context("--label-file");
    auto lines = parse_label_file(*content);
    if (!lines.ok()) return std::move(lines).error().context(fmt::format("--label-file: {}", path));
    for (const std::string& line : *lines) TRY(add(line));
  }
  for (const std::string& label : options.labels) TRY(add(label));
  return all;
}

Result<void> check_conflicts(const Options& options) {
  const Config& config = options.config;
  if (options.detach && !options.attach.empty()) {
    return errorf(ErrorKind::kInvalid, "conflicting options: cannot specify both --attach and --detach");
  }
  if (config.log_driver == "none" && !config.log_options.empty()) {
    return errorf(ErrorKind::kInvalid, "invalid logging opts for driver none");
  }
  if (!config.log_options.empty()) TRY(engine::log_config(config, {}));
  if (config.auto_remove && config.restart.restarts()) {
    return errorf(ErrorKind::kInvalid, "conflicting options: cannot specify both --restart and --rm");
  }
  if (options.no_healthcheck && (config.healthcheck || !config.health_on_failure.empty())) {
    return errorf(ErrorKind::kInvalid, "--no-healthcheck conflicts with --health-* options");
  }
  const bool shared = config.network == "host" || config.network.starts_with("container:");
  const auto conflict = [&](View flag) {
    return errorf(ErrorKind::kInvalid, "conflicting options: {} and the network mode {}", flag, config.network);
  };
  if (config.network.starts_with("container:")) {
    if (!config.hostname.empty()) return conflict("--hostname");
    if (!config.ports.empty() || config.publish_all) return conflict("--publish");
    if (!config.exposed_ports.empty()) return conflict("--expose");
    if (!config.dns.empty()) return conflict("--dns");
    if (!config.extra_hosts.empty()) return conflict("--add-host");
  }
  if (shared && !config.mac_address.empty()) return conflict("--mac-address");
  if ((shared || config.network == "none") && (!config.ip.empty() || !config.ip6.empty())) return conflict("--ip");
  if (config.uts_mode == "host" && (!config.hostname.empty() || !config.domainname.empty())) {
    return errorf(ErrorKind::kInvalid, "conflicting options: --hostname and the UTS mode host");
  }
  if (config.nano_cpus > 0 && (config.cpu_period > 0 || config.cpu_quota > 0)) {
    return errorf(ErrorKind::kInvalid, "conflicting options: --cpus and --cpu-period or --cpu-quota");
  }
  if (config.memory_swap != 0 && config.memory == 0) {
    return errorf(ErrorKind::kInvalid,
                  "you should always set the memory limit when using the memoryswap limit: give "
                  "--memory too");
  }
  if (config.memory_swap > 0 && config.memory_swap < config.memory) {
    return errorf(ErrorKind::kInvalid,
                  "minimum memoryswap limit should be larger than memory limit: --memory-swap is "
                  "memory and swap together");
  }
  if (config.memory > 0 && config.memory < (6 << 20)) {
    return errorf(ErrorKind::kInvalid, "minimum memory limit allowed is 6MB");
  }
  if (config.memory > 0 && config.memory_reservation > config.memory) {
    return errorf(ErrorKind::kInvalid, "minimum memory limit can not be less than memory reservation limit");
  }
  for (size_t i = 0; i < config.mounts.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (config.mounts[i].target == config.mounts[j].target) {
        return errorf(ErrorKind::kInvalid, "duplicate mount point: {}", config.mounts[i].target);
      }
    }
  }
  return {};
}

}  // namespace

Result<RunOptions> parse_run_options(const Parsed& parsed) {
  RunOptions options;
  for (const Parsed::Given& given : parsed.given) {
    if (given.flag->set == nullptr) continue;
    auto set = given.flag->set(options, given.value);
    if (!set.ok()) {
      return std::move(set).error().context(
          fmt::format("invalid argument \"{:.80}\" for \"--{}\" flag", given.value, given.flag->name));
    }
  }
  Config& config = options.config;
  if (!parsed.arguments.empty()) {
    config.image = parsed.arguments[0];
    config.cmd.assign(parsed.arguments.begin() + 1, parsed.arguments.end());
  }
  if (config.image.empty()) return errorf(ErrorKind::kInvalid, "the image's name is empty");
  TRY_ASSIGN(config.env, merged_env(options));
  TRY_ASSIGN(config.labels, merged_labels(options));
  const auto attached = [&](View stream) {
    return std::find(options.attach.begin(), options.attach.end(), stream) != options.attach.end();
  };
  config.attach_stdin = config.open_stdin || attached("stdin");
  if (attached("stdin")) config.open_stdin = true;
  config.attach_stdout = options.attach.empty() || attached("stdout");
  config.attach_stderr = options.attach.empty() || attached("stderr");
  if (options.detach) config.attach_stdin = config.attach_stdout = config.attach_stderr = false;
  TRY(check_conflicts(options));
  if (options.no_healthcheck) config.healthcheck.emplace().test = {"NONE"};
  return options;
}

}  // namespace hull::cli
