#include "engine/merge.h"

#include <algorithm>

#include "base/error_format.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

}  // namespace

std::vector<std::string> merge_environment(std::vector<std::string> base, const std::vector<std::string>& overrides) {
  for (const std::string& entry : overrides) {
    const std::string_view name = name_of(entry);
    const auto same = [&](const std::string& other) { return name_of(other) == name; };
    const auto found = std::find_if(base.begin(), base.end(), same);
    if (entry.find('=') == std::string::npos) {
      if (found != base.end()) base.erase(found);
    } else if (found != base.end()) {
      *found = entry;
    } else {
      base.push_back(entry);
    }
  }
  return base;
}

Result<Config> merge_image(Config config, const oci::ImageRunConfig& image) {
  if (config.entrypoint) {
    if (config.entrypoint->size() == 1 && config.entrypoint->front().empty()) config.entrypoint->clear();
  } else {
    if (config.cmd.empty()) config.cmd = image.cmd;
    if (!image.entrypoint.empty()) config.entrypoint = image.entrypoint;
  }
  if (config.cmd.empty() && (!config.entrypoint || config.entrypoint->empty())) {
    return errorf(ErrorKind::kInvalid, "no command specified: the image names none, give one after the image");
  }
  for (const std::string& entry : image.env) {
    const auto same = [&](const std::string& other) { return name_of(other) == name_of(entry); };
    if (std::none_of(config.env.begin(), config.env.end(), same)) config.env.push_back(entry);
  }
  if (config.working_dir.empty()) config.working_dir = image.working_dir;
  if (config.working_dir.empty()) config.working_dir = "/";
  if (!config.working_dir.starts_with('/')) {
    return errorf(ErrorKind::kInvalid, "the working directory '{}' is invalid, it needs to be an absolute path",
                  config.working_dir);
  }
  config.working_dir = "/" + sys::clean_path(config.working_dir);
  if (config.user.empty()) config.user = image.user;
  if (config.stop_signal.empty()) config.stop_signal = image.stop_signal;
  for (const auto& [name, value] : image.labels) config.labels.emplace(name, value);
  for (const std::string& port : image.exposed_ports) {
    if (std::find(config.exposed_ports.begin(), config.exposed_ports.end(), port) == config.exposed_ports.end()) {
      config.exposed_ports.push_back(port);
    }
  }
  if (image.healthcheck) {
    // Docker's rule: what is not said is the image's, member by member.
    const oci::HealthConfig& theirs = *image.healthcheck;
    oci::HealthConfig& ours = config.healthcheck ? *config.healthcheck : config.healthcheck.emplace();
    if (ours.test.empty()) ours.test = theirs.test;
    if (ours.interval_ns == 0) ours.interval_ns = theirs.interval_ns;
    if (ours.timeout_ns == 0) ours.timeout_ns = theirs.timeout_ns;
    if (ours.start_period_ns == 0) ours.start_period_ns = theirs.start_period_ns;
    if (ours.start_interval_ns == 0) ours.start_interval_ns = theirs.start_interval_ns;
    if (ours.retries == 0) ours.retries = theirs.retries;
  }
  for (const std::string& volume : image.volumes) {
    const std::string target = sys::clean_path(volume);
    if (target.empty()) continue;
    const auto same = [&](const MountRequest& m) { return sys::clean_path(m.target) == target; };
    if (std::any_of(config.mounts.begin(), config.mounts.end(), same)) continue;
    MountRequest mount;
    mount.type = MountRequest::Type::kVolume;
    mount.target = "/" + target;
    config.mounts.push_back(std::move(mount));
  }
  return config;
}

std::vector<std::string> full_command(const Config& config) {
  std::vector<std::string> args = config.entrypoint.value_or(std::vector<std::string>());
  args.insert(args.end(), config.cmd.begin(), config.cmd.end());
  return args;
}

std::vector<std::string> process_environment(const Config& merged, std::string_view hostname, std::string_view home) {
  std::vector<std::string> env = {std::string(kDefaultPath)};
  if (!hostname.empty()) env.push_back("HOSTNAME=" + std::string(hostname));
  if (merged.tty) env.emplace_back("TERM=xterm");
  env = merge_environment(std::move(env), merged.env);
  const auto is_home = [](const std::string& entry) { return entry.starts_with("HOME="); };
  if (!home.empty() && std::none_of(env.begin(), env.end(), is_home)) env.push_back("HOME=" + std::string(home));
  return env;
}

}  // namespace hull::engine
