#include "api/create_body.h"

#include <algorithm>
#include <array>

#include "api/json.h"
#include "base/error_format.h"
#include "base/units.h"

namespace hull::api {
namespace {

using engine::Config;
using engine::MountRequest;
using Type = Json::Type;
using Members = std::vector<std::pair<std::string, Json>>;

/// Of Windows, of other drivers, or of the client itself: they mean nothing here, whatever they say.
constexpr std::array kMeaningless = {"ArgsEscaped", "ContainerIDFile", "OnBuild",       "Shell",
                                     "CpuCount",    "CpuPercent",      "IOMaximumIOps", "IOMaximumBandwidth"};
/// What an endpoint of a running workload shows, which clients send back.
constexpr std::array kEndpointAnswers = {"NetworkID",         "EndpointID",          "Gateway",
                                         "IPAddress",         "IPPrefixLen",         "IPv6Gateway",
                                         "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames"};

template <typename List>
bool in(const List& list, std::string_view name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

Json text(std::string value) {
  Json out;
  out.type = Type::kText;
  out.text = std::move(value);
  return out;
}
Json object() {
  Json out;
  out.type = Type::kObject;
  return out;
}

Error bad(std::string_view what) { return errorf(ErrorKind::kInvalid, "{}", what); }

std::vector<std::string_view> split(std::string_view whole, char at) {
  std::vector<std::string_view> out;
  for (;;) {
    const size_t end = whole.find(at);
    out.push_back(whole.substr(0, end));
    if (end == std::string_view::npos) return out;
    whole.remove_prefix(end + 1);
  }
}

Result<void> take_bind_option(std::string_view option, std::string_view spec, MountRequest* mount) {
  static constexpr std::array kPropagation = {"rprivate", "private", "rshared", "shared", "rslave", "slave"};
  if (option == "ro" || option == "readonly") {
    mount->read_only = true;
  } else if (option == "rw" || option.empty() || option == "z" || option == "Z" || option == "consistent" ||
             option == "cached" || option == "delegated") {
    // Labels of SELinux and consistency of other systems' clients: nothing to do here.
  } else if (option == "nocopy") {
    mount->no_copy = true;
  } else if (in(kPropagation, option)) {
    mount->propagation = std::string(option);
  } else {
    return errorf(ErrorKind::kInvalid, "invalid volume specification: '{}': invalid mode: {}", spec, option);
  }
  return {};
}

/// "source:target[:options]", "target".
Result<MountRequest> read_bind(const std::string& spec) {
  const std::vector<std::string_view> parts = split(spec, ':');
  MountRequest out;
  if (parts.size() > 3 || parts.empty()) {
    return errorf(ErrorKind::kInvalid, "invalid volume specification: '{}'", spec);
  }
  out.target = std::string(parts.size() == 1 ? parts[0] : parts[1]);
  const std::string source(parts.size() == 1 ? "" : parts[0]);
  if (!out.target.starts_with('/') || (parts.size() > 1 && source.empty())) {
    return errorf(ErrorKind::kInvalid,
                  "invalid volume specification: '{}': invalid mount config: the destination has to "
                  "be an absolute path",
                  spec);
  }
  out.source = source;
  out.type = source.starts_with('/') ? MountRequest::Type::kBind : MountRequest::Type::kVolume;
  out.create_source = out.type == MountRequest::Type::kBind;
  if (out.type == MountRequest::Type::kVolume && (source.starts_with('.') || source.find('/') != std::string::npos)) {
    return errorf(ErrorKind::kInvalid,
                  "invalid volume specification: '{}': \"{}\" is neither an absolute path nor the "
                  "name of a volume",
                  spec, source);
  }
  if (parts.size() == 3) {
    for (const std::string_view option : split(parts[2], ',')) TRY(take_bind_option(option, spec, &out));
  }
  return out;
}

/// Everything that has another form on the wire than in the engine's own document; what is left is taken as it is.
/// A target without the slashes at its end.
std::string_view plain(std::string_view target) {
  while (target.size() > 1 && target.ends_with('/')) target.remove_suffix(1);
  return target;
}

class Translator {
 public:
  Translator(Json body, Version version) : body_(std::move(body)), version_(version) {}
  std::vector<std::string> warnings;

  Result<Config> run(std::string_view name, std::string_view platform) {
    TRY(top());
    TRY(host());
    TRY(networks());
    Json document = object();
    for (auto& member : body_.members) {
      if (member.first != "HostConfig" && member.first != "NetworkingConfig") {
        document.members.push_back(std::move(member));
      }
    }
    // A runtime or a label may ask for the other wall.
    document.members.emplace_back("HostConfig", std::move(host_));
    if (!endpoints_.members.empty()) {
      Json config = object();
      config.members.emplace_back("EndpointsConfig", std::move(endpoints_));
      document.members.emplace_back("NetworkingConfig", std::move(config));
    }
    auto parsed = engine::parse_config(to_text(document));
    if (!parsed.ok()) return std::move(parsed).error().context("invalid container configuration");
    Config config = std::move(*parsed);
    if (config.image.empty()) return bad("no command specified: no image is named");
    config.name = std::string(name);
    config.platform = std::string(platform);
    config.attach_stdin = attach_[0];
    config.attach_stdout = attach_[1];
    config.attach_stderr = attach_[2];
    config.console_size = console_size_;
    config.mounts.insert(config.mounts.end(), std::make_move_iterator(mounts_.begin()),
                         std::make_move_iterator(mounts_.end()));
    // Clients name what they mount among the volumes too; only what nothing else is mounted at gets a new one.
    for (MountRequest& volume : anonymous_) {
      const auto same = [&](const MountRequest& mount) { return plain(mount.target) == plain(volume.target); };
      if (std::none_of(config.mounts.begin(), config.mounts.end(), same)) config.mounts.push_back(std::move(volume));
    }
    if (const auto label = config.labels.find("io.hull.isolation"); label != config.labels.end()) {
      if (label->second == "vm") {
        config.isolation = engine::Isolation::kVm;
      } else if (label->second != "container") {
        return bad("the label io.hull.isolation has to be container or vm");
      }
    }
    if (vm_) config.isolation = engine::Isolation::kVm;
    return config;
  }

 private:
  /// A member taken off an object; null when it says nothing.
  static std::optional<Json> take(Members* members, std::string_view name) {
    const auto it = std::find_if(members->begin(), members->end(), [&](const auto& m) { return m.first == name; });
    if (it == members->end()) return {};
    Json out = std::move(it->second);
    members->erase(it);
    if (out.is(Type::kNull)) return {};
    return out;
  }

  /// Docker takes a text for a list of one, too.
  static Result<void> listen(Members* members, std::string_view name, bool keep_empty) {
    std::optional<Json> value = take(members, name);
    if (!value) return {};
    Json list;
    list.type = Type::kArray;
    if (value->is(Type::kText)) {
      list.items.push_back(std::move(*value));
    } else if (value->is(Type::kArray)) {
      list = std::move(*value);
    } else {
      return errorf(ErrorKind::kInvalid, "{}: expected a text or a list of texts", name);
    }
    if (!list.items.empty() || keep_empty) members->emplace_back(name, std::move(list));
    return {};
  }

  Result<void> top() {
    Members& m = body_.members;
    std::erase_if(m, [](const auto& member) { return in(kMeaningless, member.first); });
    for (const auto& [name, target] :
         {std::pair("AttachStdin", 0), std::pair("AttachStdout", 1), std::pair("AttachStderr", 2)}) {
      if (const auto value = take(&m, name)) attach_[static_cast<size_t>(target)] = value->flag;
    }
    TRY(listen(&m, "Cmd", false));
    TRY(listen(&m, "Entrypoint", true));
    if (const auto volumes = take(&m, "Volumes")) {
      for (const auto& [target, ignored] : volumes->members) {
        TRY_ASSIGN(MountRequest mount, read_bind(target));
        anonymous_.push_back(std::move(mount));
      }
    }
    if (version_ >= Version{1, 52}) {
      if (const auto mac = take(&m, "MacAddress"); mac && !mac->is_default()) {
        return bad("container-wide MAC address no longer supported; use endpoint-specific MAC address instead");
      }
    }
    if (const auto disabled = take(&m, "NetworkDisabled"); disabled && disabled->flag) network_disabled_ = true;
    std::erase_if(m, [](const auto& member) {
      // Where nothing and the default are different things.
      if (member.first == "StopTimeout" || member.first == "Entrypoint") return member.second.is(Type::kNull);
      if (member.first == "ExposedPorts" || member.first == "Cmd" || member.first == "Env" ||
          member.first == "Labels") {
        return member.second.is(Type::kNull) || (member.second.items.empty() && member.second.members.empty());
      }
      return member.first != "HostConfig" && member.first != "NetworkingConfig" && member.second.is_default();
    });
    return {};
  }

  Result<void> host() {
    host_ = take(&body_.members, "HostConfig").value_or(object());
    if (!host_.is(Type::kObject)) return bad("HostConfig: expected an object");
    Members& m = host_.members;
    std::erase_if(m, [](const auto& member) { return in(kMeaningless, member.first); });
    // Kernels no longer have this limit; the API ignores it from 1.52 on. Older clients are told that it is unknown.
    if (version_ >= Version{1, 52}) take(&m, "KernelMemoryTCP");
    TRY(paths(&m));
    if (const auto binds = take(&m, "Binds")) {
      for (const Json& bind : binds->items) {
        TRY_ASSIGN(MountRequest mount, read_bind(bind.text));
        mounts_.push_back(std::move(mount));
      }
    }
    if (const auto tmpfs = take(&m, "Tmpfs")) {
      for (const auto& [target, options] : tmpfs->members) {
        MountRequest mount;
        mount.type = MountRequest::Type::kTmpfs;
        mount.target = target;
        if (!options.text.empty()) {
          for (const std::string_view option : split(options.text, ',')) mount.tmpfs_options.emplace_back(option);
        }
        mounts_.push_back(std::move(mount));
      }
    }
    if (const auto driver = take(&m, "VolumeDriver"); driver && !driver->text.empty() && driver->text != "local") {
      return errorf(ErrorKind::kInvalid, "volume driver {} is not there: there is local", driver->text);
    }
    if (const auto size = take(&m, "ConsoleSize"); size && size->items.size() == 2 && size->items[0].integer > 0) {
      console_size_ = oci::Box{.height = static_cast<uint32_t>(size->items[0].integer),
                               .width = static_cast<uint32_t>(size->items[1].integer)};
    }
    if (const auto runtime = take(&m, "Runtime"); runtime && !runtime->text.empty()) {
      TRY(choose_runtime(runtime->text));
    }
    if (const auto swap = take(&m, "MemorySwappiness"); swap && swap->integer >= 0) {
      m.emplace_back("MemorySwappiness", *swap);
    }
    if (const auto pids = take(&m, "PidsLimit"); pids && pids->integer > 0) m.emplace_back("PidsLimit", *pids);
    if (const auto policy = take(&m, "RestartPolicy"); policy && policy->find("Name") != nullptr) {
      if (!policy->find("Name")->text.empty()) m.emplace_back("RestartPolicy", *policy);
    }
    TRY(port_bindings(&m));
    network_mode_ = "bridge";
    if (const auto mode = take(&m, "NetworkMode"); mode && !mode->text.empty() && mode->text != "default") {
      network_mode_ = mode->text;
    }
    if (network_disabled_) network_mode_ = "none";
    std::erase_if(m, [](const auto& member) { return member.second.is_default(); });
    for (auto& member : m) {
      // Drivers' settings that say nothing within what does.
      if (member.first == "Mounts") {
        for (Json& mount : member.second.items) drop_defaults(&mount);
      }
      if (member.first == "LogConfig") drop_defaults(&member.second);
    }
    m.emplace_back("NetworkMode", text(network_mode_));
    return {};
  }

  static void drop_defaults(Json* value) {
    for (auto& member : value->members) {
      if (member.second.is(Type::kObject)) drop_defaults(&member.second);
    }
    std::erase_if(value->members, [](const auto& member) { return member.second.is_default(); });
  }

  /// Lists of paths that are hidden or read-only: the usual ones, or none of them.
  Result<void> paths(Members* m) {
    bool unconfined = false;
    for (const char* name : {"MaskedPaths", "ReadonlyPaths"}) {
      const auto value = take(m, name);
      if (!value) continue;
      if (!value->items.empty()) {
        return errorf(ErrorKind::kUnsupported,
                      "{}: there is the usual list, or none of it (--security-opt "
                      "systempaths=unconfined)",
                      name);
      }
      unconfined = true;
    }
    if (!unconfined) return {};
    std::optional<Json> options = take(m, "SecurityOpt");
    if (!options) options.emplace().type = Type::kArray;
    options->items.push_back(text("systempaths=unconfined"));
    m->emplace_back("SecurityOpt", std::move(*options));
    return {};
  }

  Result<void> choose_runtime(const std::string& name) {
    if (name == "hull-vm" || name == "hull-oci-vm" || name == "io.hull.vm") {
      vm_ = true;
      return {};
    }
    static constexpr std::array kContainers = {"hull", "hull-oci", "runc", "io.containerd.runc.v2"};
    if (in(kContainers, name)) return {};
    return errorf(ErrorKind::kInvalid, "unknown or invalid runtime name: {}: there are hull and hull-vm", name);
  }

  /// A port without a binding is published at a free one.
  Result<void> port_bindings(Members* m) {
    std::optional<Json> ports = take(m, "PortBindings");
    if (!ports || ports->members.empty()) return {};
    std::string empty;
    for (auto& [port, bindings] : ports->members) {
      if (bindings.is(Type::kNull)) bindings.type = Type::kArray;
      if (!bindings.is(Type::kArray)) return errorf(ErrorKind::kInvalid, "PortBindings: {}: expected a list", port);
      if (!bindings.items.empty()) continue;
      bindings.items.push_back(object());
      empty += (empty.empty() ? "" : ", ") + port;
    }
    if (!empty.empty() && version_ >= Version{1, 52}) {
      warnings.push_back(
          fmt::format("Following container port(s) have an empty list of port-bindings: {}. Such bindings "
                      "will be discarded in a future version.",
                      empty));
    }
    m->emplace_back("PortBindings", std::move(*ports));
    return {};
  }

  Result<void> networks() {
    const auto config = take(&body_.members, "NetworkingConfig");
    endpoints_ = object();
    const bool own = engine::has_own_networks(network_mode_);
    if (!config || !own) return {};
    const Json* const given = config->find("EndpointsConfig");
    if (given == nullptr) return {};
    bool says_something = given->members.size() > 1;
    bool has_mode = false;
    for (const auto& [name, settings] : given->members) {
      Json endpoint = settings.is(Type::kObject) ? settings : object();
      drop_defaults(&endpoint);
      std::erase_if(endpoint.members, [](const auto& member) { return in(kEndpointAnswers, member.first); });
      const std::string network = name == "default" ? "bridge" : name;
      says_something = says_something || !endpoint.members.empty() || network != network_mode_;
      has_mode = has_mode || network == network_mode_;
      endpoints_.members.emplace_back(network, std::move(endpoint));
    }
    if (!says_something) endpoints_.members.clear();
    // The mode's own network is there although only others have settings.
    if (says_something && !has_mode && network_mode_ != "bridge") {
      endpoints_.members.emplace(endpoints_.members.begin(), network_mode_, object());
    }
    return {};
  }

  Json body_, host_, endpoints_;
  Version version_;
  std::array<bool, 3> attach_ = {false, false, false};
  std::vector<MountRequest> mounts_;
  std::vector<MountRequest> anonymous_;  // of the image's kind: a path alone
  std::optional<oci::Box> console_size_;
  std::string network_mode_;
  bool vm_ = false, network_disabled_ = false;
};

}  // namespace

Result<Config> read_create(std::string_view body, std::string_view name, std::string_view platform, Version version,
                           std::vector<std::string>* warnings) {
  TRY_ASSIGN(Json document, parse_json_object(body));
  if (document.members.empty()) return bad("the body of the request is empty: expected a container's configuration");
  Translator translator(std::move(document), version);
  TRY_ASSIGN(Config config, translator.run(name, platform));
  if (warnings != nullptr) *warnings = std::move(translator.warnings);
  return config;
}

}  // namespace hull::api
