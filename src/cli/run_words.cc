#include "cli/run_words.h"

#include <algorithm>

#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/run_options.h"
#include "cli/value.h"
#include "engine/merge.h"

namespace hull::cli {
namespace {

using engine::Config;
using engine::MountRequest;

class Words {
 public:
  void flag(std::string_view name, const std::string& value) {
    words_.push_back(fmt::format("--{}", name));
    words_.push_back(value);
  }
  void text(std::string_view name, const std::string& value) {
    if (!value.empty()) flag(name, value);
  }
  void on(std::string_view name, bool value) {
    if (value) words_.push_back(fmt::format("--{}", name));
  }
  template <typename T>
  void number(std::string_view name, T value, T standard = 0) {
    if (value != standard) flag(name, std::to_string(value));
  }
  template <typename T>
  void optional(std::string_view name, const std::optional<T>& value) {
    if (value) flag(name, std::to_string(*value));
  }
  void list(std::string_view name, const std::vector<std::string>& values) {
    for (const std::string& value : values) flag(name, value);
  }
  void pairs(std::string_view name, const std::map<std::string, std::string>& values) {
    for (const auto& [key, value] : values) flag(name, key + "=" + value);
  }
  std::vector<std::string> take() && { return std::move(words_); }
  void add(std::string word) { words_.push_back(std::move(word)); }

 private:
  std::vector<std::string> words_;
};

std::string duration(int64_t ns) { return fmt::format("{}ms", ns / 1'000'000); }

void put_mount(Words& out, const MountRequest& m) {
  if (m.type == MountRequest::Type::kTmpfs && !m.tmpfs_options.empty()) {
    out.flag("tmpfs", fmt::format("{}:{}", m.target, fmt::join(m.tmpfs_options, ",")));
    return;
  }
  if (m.type == MountRequest::Type::kBind && m.create_source) {
    std::string options = m.read_only ? ":ro" : "";
    if (!m.propagation.empty()) options += (options.empty() ? ":" : ",") + m.propagation;
    out.flag("volume", m.source + ":" + m.target + options);
    return;
  }
  const char* const kind = m.type == MountRequest::Type::kBind     ? "bind"
                           : m.type == MountRequest::Type::kVolume ? "volume"
                                                                   : "tmpfs";
  std::string text = fmt::format("type={},target={}", kind, m.target);
  const bool anonymous = m.volume_labels.contains("com.docker.volume.anonymous");
  if (!m.source.empty() && !anonymous) text += ",source=" + m.source;
  if (m.read_only) text += ",readonly";
  if (!m.propagation.empty()) text += ",bind-propagation=" + m.propagation;
  if (m.no_copy) text += ",volume-nocopy";
  if (m.tmpfs_size) text += fmt::format(",tmpfs-size={}", *m.tmpfs_size);
  if (m.tmpfs_mode) text += fmt::format(",tmpfs-mode={:o}", *m.tmpfs_mode);
  for (const auto& [key, value] : m.volume_options) text += fmt::format(",volume-opt={}={}", key, value);
  out.flag("mount", text);
}

void put_port(Words& out, const engine::PortRequest& port) {
  std::string text;
  if (!port.host_ip.empty()) {
    text = port.host_ip.find(':') == std::string::npos ? port.host_ip + ":" : "[" + port.host_ip + "]:";
  }
  if (port.host_port != 0 || !text.empty()) {
    if (port.host_port != 0) text += std::to_string(port.host_port);
    if (port.host_port_last > port.host_port) text += fmt::format("-{}", port.host_port_last);
    text += ":";
  }
  out.flag("publish", fmt::format("{}{}/{}", text, port.container_port, port.protocol));
}

void put_health(Words& out, const Config& c) {
  out.text("health-on-failure", c.health_on_failure);
  if (!c.healthcheck) return;
  const oci::HealthConfig& health = *c.healthcheck;
  if (!health.test.empty() && health.test[0] == "NONE") {
    out.on("no-healthcheck", true);
    return;
  }
  if (health.test.size() == 2 && health.test[0] == "CMD-SHELL") out.flag("health-cmd", health.test[1]);
  if (health.interval_ns != 0) out.flag("health-interval", duration(health.interval_ns));
  if (health.timeout_ns != 0) out.flag("health-timeout", duration(health.timeout_ns));
  if (health.start_period_ns != 0) out.flag("health-start-period", duration(health.start_period_ns));
  if (health.start_interval_ns != 0) out.flag("health-start-interval", duration(health.start_interval_ns));
  out.number("health-retries", health.retries);
}

void put_limits(Words& out, const Config& c) {
  out.number("memory", c.memory);
  out.number("memory-swap", c.memory_swap);
  out.number("memory-reservation", c.memory_reservation);
  out.optional("memory-swappiness", c.memory_swappiness);
  out.on("oom-kill-disable", c.oom_kill_disable);
  out.optional("oom-score-adj", c.oom_score_adj);
  if (c.nano_cpus != 0)
    out.flag("cpus", fmt::format("{}.{:09}", c.nano_cpus / 1'000'000'000, c.nano_cpus % 1'000'000'000));
  out.number("cpu-shares", c.cpu_shares);
  out.number("cpu-period", c.cpu_period);
  out.number("cpu-quota", c.cpu_quota);
  out.number("cpu-rt-period", c.cpu_rt_period);
  out.number("cpu-rt-runtime", c.cpu_rt_runtime);
  out.text("cpuset-cpus", c.cpuset_cpus);
  out.text("cpuset-mems", c.cpuset_mems);
  out.number("pids-limit", c.pids_limit);
  if (c.blkio_weight != 0) out.flag("blkio-weight", std::to_string(c.blkio_weight));
  const auto rates = [&](std::string_view name, const std::vector<Config::DeviceRate>& all) {
    for (const Config::DeviceRate& rate : all) out.flag(name, fmt::format("{}:{}", rate.path, rate.rate));
  };
  rates("blkio-weight-device", c.blkio_weight_device);
  rates("device-read-bps", c.device_read_bps);
  rates("device-write-bps", c.device_write_bps);
  rates("device-read-iops", c.device_read_iops);
  rates("device-write-iops", c.device_write_iops);
  for (const engine::Ulimit& limit : c.ulimits) {
    out.flag("ulimit", fmt::format("{}={}:{}", limit.name, limit.soft, limit.hard));
  }
}

void put_place(Words& out, const Config& c) {
  out.text("network", c.network == "bridge" ? std::string() : c.network);
  for (const engine::PortRequest& port : c.ports) put_port(out, port);
  out.on("publish-all", c.publish_all);
  out.list("expose", c.exposed_ports);
  out.list("dns", c.dns);
  out.list("dns-search", c.dns_search);
  out.list("dns-option", c.dns_options);
  out.list("add-host", c.extra_hosts);
  out.text("ip", c.ip);
  out.text("ip6", c.ip6);
  out.text("mac-address", c.mac_address);
  out.text("hostname", c.hostname);
  out.text("domainname", c.domainname);
  out.text("ipc", c.ipc_mode);
  out.text("pid", c.pid_mode);
  out.text("uts", c.uts_mode);
  out.text("userns", c.userns_mode);
  out.text("cgroupns", c.cgroupns_mode);
  out.text("cgroup-parent", c.cgroup_parent);
  out.pairs("sysctl", c.sysctls);
}

/// Takes away what merging with the image gives back.
Config without_image(Config c, const oci::ImageRunConfig& image) {
  std::erase_if(c.env, [&](const std::string& entry) {
    return std::find(image.env.begin(), image.env.end(), entry) != image.env.end();
  });
  for (const auto& [key, value] : image.labels) {
    const auto it = c.labels.find(key);
    if (it != c.labels.end() && it->second == value) c.labels.erase(it);
  }
  std::erase_if(c.exposed_ports, [&](const std::string& port) {
    return std::find(image.exposed_ports.begin(), image.exposed_ports.end(), port) != image.exposed_ports.end();
  });
  if (c.user == image.user) c.user.clear();
  if (c.stop_signal == image.stop_signal) c.stop_signal.clear();
  if (c.working_dir == (image.working_dir.empty() ? "/" : image.working_dir)) c.working_dir.clear();
  const bool same_entry = c.entrypoint.value_or(std::vector<std::string>()) == image.entrypoint;
  if (same_entry) c.entrypoint.reset();
  if (same_entry && c.cmd == image.cmd) c.cmd.clear();
  if (image.healthcheck && c.healthcheck) {
    oci::HealthConfig& ours = *c.healthcheck;
    const oci::HealthConfig& theirs = *image.healthcheck;
    if (ours.test == theirs.test) ours.test.clear();
    if (ours.interval_ns == theirs.interval_ns) ours.interval_ns = 0;
    if (ours.timeout_ns == theirs.timeout_ns) ours.timeout_ns = 0;
    if (ours.start_period_ns == theirs.start_period_ns) ours.start_period_ns = 0;
    if (ours.start_interval_ns == theirs.start_interval_ns) ours.start_interval_ns = 0;
    if (ours.retries == theirs.retries) ours.retries = 0;
  }
  return c;
}

/// What differs between two documents, as a path of members; "" when nothing does.
std::string difference(const Value& a, const Value& b, const std::string& path) {
  const auto* left = a.if_object();
  const auto* right = b.if_object();
  if (left == nullptr || right == nullptr) return a == b ? std::string() : path;
  const auto compare = [&](const Value::Object& members, const Value& other) -> std::string {
    for (const auto& [name, value] : members) {
      const std::string here = path.empty() ? name : path + "." + name;
      const Value* found = other.find(name);
      if (found == nullptr) return here;
      if (std::string inner = difference(value, *found, here); !inner.empty()) return inner;
    }
    return {};
  };
  std::string found = compare(*left, b);
  return found.empty() ? compare(*right, a) : found;
}

/// The parts that a stored request has and a new one gets by itself.
void normalize(Config* c) {
  c->name.clear();
  c->attach_stdin = c->attach_stdout = c->attach_stderr = false;
  c->auto_remove = false;
  c->restart = {};
  if (c->log_driver.empty()) c->log_driver = "json-file";
  std::sort(c->env.begin(), c->env.end());
  std::sort(c->exposed_ports.begin(), c->exposed_ports.end());
  for (MountRequest& mount : c->mounts) {
    if (mount.volume_labels.erase("com.docker.volume.anonymous") > 0) mount.source.clear();
  }
  std::sort(c->mounts.begin(), c->mounts.end(),
            [](const MountRequest& a, const MountRequest& b) { return a.target < b.target; });
}

}  // namespace

Result<std::vector<std::string>> run_words(const Config& stored, const oci::ImageRunConfig& image) {
  Config whole = stored;
  // A host name that was made of the id.
  const bool made =
      whole.hostname.size() == 12 && whole.hostname.find_first_not_of("0123456789abcdef") == std::string::npos;
  if (made) whole.hostname.clear();
  const Config c = without_image(whole, image);
  Words out;
  if (c.isolation == engine::Isolation::kVm) out.on("vm", true);
  out.text("hypervisor", c.hypervisor);
  out.text("platform", c.platform);
  out.text("runtime", c.runtime);
  out.pairs("storage-opt", c.storage_opt);
  out.pairs("label", c.labels);
  out.pairs("annotation", c.annotations);
  out.list("env", c.env);
  out.text("user", c.user);
  out.list("group-add", c.groups_add);
  out.text("workdir", c.working_dir);
  out.text("stop-signal", c.stop_signal);
  out.optional("stop-timeout", c.stop_timeout_s);
  out.on("tty", c.tty);
  out.on("interactive", c.open_stdin);
  out.on("init", c.init);
  for (const MountRequest& mount : c.mounts) put_mount(out, mount);
  out.list("volumes-from", c.volumes_from);
  out.on("read-only", c.read_only_rootfs);
  if (c.shm_size != 64 << 20) out.flag("shm-size", std::to_string(c.shm_size));
  out.on("privileged", c.privileged);
  out.list("cap-add", c.cap_add);
  out.list("cap-drop", c.cap_drop);
  out.list("security-opt", c.security_opt);
  for (const engine::DeviceMapping& d : c.devices) {
    out.flag("device", fmt::format("{}:{}:{}", d.host_path, d.container_path, d.permissions));
  }
  out.list("device-cgroup-rule", c.device_cgroup_rules);
  put_place(out, c);
  put_limits(out, c);
  put_health(out, c);
  out.text("log-driver", c.log_driver == "json-file" ? std::string() : c.log_driver);
  out.pairs("log-opt", c.log_options);
  // An entry point of several words: the first is the flag's, the others lead the command.
  std::vector<std::string> command = c.cmd;
  if (c.entrypoint) {
    out.flag("entrypoint", c.entrypoint->empty() ? std::string() : c.entrypoint->front());
    if (c.entrypoint->size() > 1) command.insert(command.begin(), c.entrypoint->begin() + 1, c.entrypoint->end());
  }
  out.add(c.image);
  for (std::string& word : command) out.add(std::move(word));
  std::vector<std::string> words = std::move(out).take();

  const std::vector<std::string_view> views(words.begin(), words.end());
  TRY_ASSIGN(const Parsed parsed, parse_flags(kRun.flags, views, {.stop_at_first_argument = true}));
  TRY_ASSIGN(RunOptions options, parse_run_options(parsed));
  TRY_ASSIGN(Config again, engine::merge_image(options.config, image));
  // Cut at the same place, so that "program" and "its first word" compare whole.
  for (Config* side : {&whole, &again}) {
    normalize(side);
    side->cmd = engine::full_command(*side);
    side->entrypoint.reset();
  }
  TRY_ASSIGN(const Value left, Value::parse(engine::to_json(whole)));
  TRY_ASSIGN(const Value right, Value::parse(engine::to_json(again)));
  if (const std::string what = difference(left, right, ""); !what.empty()) {
    return errorf(ErrorKind::kUnsupported, "the command line can't say what this workload has in {}", what);
  }
  return words;
}

}  // namespace hull::cli
