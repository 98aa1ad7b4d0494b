#include "oci/image_spec.h"

#include <sys/utsname.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error_format.h"
#include "base/json_nesting.h"

// image-spec 1.1 (descriptor.md, manifest.md, image-index.md, config.md) and Docker's image spec 1.2/1.3. The bytes
// come from registries and archives: every count is bounded before anything is built from it, nesting is bounded
// before the parser runs, and a member of the wrong type is an error that names it.

namespace hull::oci {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxIndexEntries = 4096;
constexpr size_t kMaxListEntries = 16384;
constexpr size_t kMaxHistory = 4096;

Error bad(std::string_view where, std::string_view why) { return errorf(ErrorKind::kInvalid, "{}: {}", where, why); }

/// Parses text whose nesting is bounded, so that "[[[[…" costs nothing.
Result<Json> parse_bounded(std::string_view what, std::string_view text, size_t limit) {
  if (text.size() > limit) {
    return errorf(ErrorKind::kInvalid, "{}: it has {} bytes, the limit is {}", what, text.size(), limit);
  }
  if (!json_nests_within(text, kMaxDepth)) {
    return bad(what, fmt::format("it is nested deeper than {} levels", kMaxDepth));
  }
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) {
    const size_t first = text.find_first_not_of(" \t\r\n");
    if (first != std::string_view::npos && text[first] == '<') return bad(what, "it is HTML or XML, not JSON");
    return bad(what, "it is not JSON");
  }
  if (!json.is_object()) return bad(what, "it is not a JSON object");
  return json;
}

/// The value of a member, or null when it is absent.
const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  const auto it = object.find(key);
  return it == object.end() ? kNull : *it;
}

Result<std::string> text_of(const Json& value, std::string_view where) {
  if (value.is_null()) return std::string();
  if (!value.is_string()) return bad(where, "expected a string");
  const auto& text = value.get_ref<const std::string&>();
  if (text.find('\0') != std::string::npos) return bad(where, "it holds a NUL character");
  return text;
}

Result<std::string> text_member(const Json& object, const char* key, std::string_view where) {
  return text_of(member(object, key), fmt::format("{}.{}", where, key));
}

Result<int64_t> integer_member(const Json& object, const char* key, std::string_view where) {
  const Json& value = member(object, key);
  if (value.is_null()) return 0;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return bad(fmt::format("{}.{}", where, key), "the number does not fit");
  }
  if (!value.is_number_integer()) return bad(fmt::format("{}.{}", where, key), "expected a whole number");
  return value.get<int64_t>();
}

Result<std::vector<std::string>> list_member(const Json& object, const char* key, std::string_view where) {
  const Json& value = member(object, key);
  const std::string here = fmt::format("{}.{}", where, key);
  std::vector<std::string> out;
  if (value.is_null()) return out;
  if (value.is_string()) {  // Docker before 1.0 wrote one string for Cmd and Entrypoint
    TRY_ASSIGN(std::string one, text_of(value, here));
    out.push_back(std::move(one));
    return out;
  }
  if (!value.is_array()) return bad(here, "expected a list of strings");
  if (value.size() > kMaxListEntries) return bad(here, fmt::format("more than {} entries", kMaxListEntries));
  out.reserve(value.size());
  for (const Json& entry : value) {
    if (!entry.is_string()) return bad(here, "expected a list of strings");
    TRY_ASSIGN(std::string one, text_of(entry, here));
    out.push_back(std::move(one));
  }
  return out;
}

Result<std::map<std::string, std::string>> map_member(const Json& object, const char* key, std::string_view where) {
  const Json& value = member(object, key);
  const std::string here = fmt::format("{}.{}", where, key);
  std::map<std::string, std::string> out;
  if (value.is_null()) return out;
  if (!value.is_object()) return bad(here, "expected an object of strings");
  if (value.size() > kMaxListEntries) return bad(here, fmt::format("more than {} entries", kMaxListEntries));
  for (const auto& [name, entry] : value.items()) {
    TRY_ASSIGN(std::string one, text_of(entry, here + "." + name.substr(0, 80)));
    out.emplace(name, std::move(one));
  }
  return out;
}

/// The keys of an object of empty objects (ExposedPorts, Volumes).
Result<std::vector<std::string>> set_member(const Json& object, const char* key, std::string_view where) {
  const Json& value = member(object, key);
  const std::string here = fmt::format("{}.{}", where, key);
  std::vector<std::string> out;
  if (value.is_null()) return out;
  if (!value.is_object()) return bad(here, "expected an object");
  if (value.size() > kMaxListEntries) return bad(here, fmt::format("more than {} entries", kMaxListEntries));
  for (const auto& [name, entry] : value.items()) {
    if (name.find('\0') != std::string::npos) return bad(here, "a key holds a NUL character");
    out.push_back(name);
  }
  return out;
}

Result<Platform> platform_of(const Json& object, std::string_view where) {
  Platform platform;
  TRY_ASSIGN(platform.os, text_member(object, "os", where));
  TRY_ASSIGN(platform.architecture, text_member(object, "architecture", where));
  TRY_ASSIGN(platform.variant, text_member(object, "variant", where));
  return platform;
}

Result<Descriptor> descriptor_of(const Json& value, const std::string& where) {
  if (!value.is_object()) return bad(where, "expected a descriptor (an object with mediaType, digest and size)");
  Descriptor out;
  TRY_ASSIGN(out.media_type, text_member(value, "mediaType", where));
  TRY_ASSIGN(const std::string digest, text_member(value, "digest", where));
  auto parsed = Digest::parse(digest);
  if (!parsed.ok()) return std::move(parsed).error().context(where);
  out.digest = std::move(parsed).value();
  if (!member(value, "size").is_number_integer()) return bad(where + ".size", "expected a whole number");
  TRY_ASSIGN(out.size, integer_member(value, "size", where));
  if (out.size < 0) return bad(where + ".size", "it is negative");
  TRY_ASSIGN(out.urls, list_member(value, "urls", where));
  TRY_ASSIGN(out.annotations, map_member(value, "annotations", where));
  const Json& platform = member(value, "platform");
  if (!platform.is_null()) {
    if (!platform.is_object()) return bad(where + ".platform", "expected an object");
    TRY_ASSIGN(out.platform, platform_of(platform, where + ".platform"));
  }
  return out;
}

bool is_index_type(std::string_view type) { return type == kMediaTypeIndex || type == kMediaTypeDockerList; }
bool is_manifest_type(std::string_view type) { return type == kMediaTypeManifest || type == kMediaTypeDockerManifest; }

/// Media type, and that the document is not two things at once (a manifest that is an index too would be read
/// differently by two clients; GHSA-77vh-xpmg-72qh).
Result<std::string> document_type(const Json& json, std::string_view what) {
  TRY_ASSIGN(std::string type, text_member(json, "mediaType", what));
  const bool has_index = json.contains("manifests");
  const bool has_manifest = json.contains("layers") || json.contains("config");
  if (has_index && has_manifest) {
    return bad(what, "it has both \"manifests\" and \"config\" or \"layers\": ambiguous, refused");
  }
  if (json.contains("fsLayers") || member(json, "schemaVersion") == Json(1)) {
    return errorf(ErrorKind::kUnsupported,
                  "{}: it is a Docker schema 1 manifest, which was given up in 2020; ask the image's publisher to push "
                  "it again with a current tool",
                  what);
  }
  const Json& version = member(json, "schemaVersion");
  if (version != Json(2)) return bad(fmt::format("{}.schemaVersion", what), "expected 2");
  return type;
}

Result<std::vector<Descriptor>> descriptors(const Json& json, const char* key, std::string_view what, size_t limit) {
  const Json& list = member(json, key);
  if (!list.is_array()) return bad(fmt::format("{}.{}", what, key), "expected a list of descriptors");
  if (list.size() > limit) return bad(fmt::format("{}.{}", what, key), fmt::format("more than {} entries", limit));
  std::vector<Descriptor> out;
  out.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    TRY_ASSIGN(Descriptor one, descriptor_of(list[i], fmt::format("{}.{}[{}]", what, key, i)));
    out.push_back(std::move(one));
  }
  return out;
}

std::string normal_architecture(std::string_view name, std::string* variant) {
  if (name == "x86_64" || name == "x86-64") return "amd64";
  if (name == "aarch64") return "arm64";
  if (name == "i386" || name == "i686") return "386";
  if (name == "armv7l" || name == "armhf") {
    if (variant->empty()) *variant = "v7";
    return "arm";
  }
  if (name == "armv6l" || name == "armel") {
    if (variant->empty()) *variant = "v6";
    return "arm";
  }
  return std::string(name);
}

/// arm64 without a variant is v8, arm without one is v7 (image-index.md, "Platform Variants").
std::string effective_variant(const Platform& platform) {
  if (!platform.variant.empty()) return platform.variant;
  if (platform.architecture == "arm64") return "v8";
  if (platform.architecture == "arm") return "v7";
  return "";
}

Result<std::optional<HealthConfig>> health_of(const Json& config, std::string_view where) {
  const Json& value = member(config, "Healthcheck");
  if (value.is_null()) return std::optional<HealthConfig>();
  const std::string here = fmt::format("{}.Healthcheck", where);
  if (!value.is_object()) return bad(here, "expected an object");
  HealthConfig out;
  TRY_ASSIGN(out.test, list_member(value, "Test", here));
  TRY_ASSIGN(out.interval_ns, integer_member(value, "Interval", here));
  TRY_ASSIGN(out.timeout_ns, integer_member(value, "Timeout", here));
  TRY_ASSIGN(out.start_period_ns, integer_member(value, "StartPeriod", here));
  TRY_ASSIGN(out.start_interval_ns, integer_member(value, "StartInterval", here));
  TRY_ASSIGN(const int64_t retries, integer_member(value, "Retries", here));
  if (retries < 0 || retries > INT32_MAX) return bad(here + ".Retries", "it is out of range");
  out.retries = static_cast<int>(retries);
  return std::optional<HealthConfig>(std::move(out));
}

Result<ImageRunConfig> run_config_of(const Json& value, std::string_view where) {
  ImageRunConfig out;
  if (value.is_null()) return out;
  if (!value.is_object()) return bad(where, "expected an object");
  TRY_ASSIGN(out.user, text_member(value, "User", where));
  TRY_ASSIGN(out.exposed_ports, set_member(value, "ExposedPorts", where));
  TRY_ASSIGN(out.env, list_member(value, "Env", where));
  TRY_ASSIGN(out.entrypoint, list_member(value, "Entrypoint", where));
  TRY_ASSIGN(out.cmd, list_member(value, "Cmd", where));
  TRY_ASSIGN(out.volumes, set_member(value, "Volumes", where));
  TRY_ASSIGN(out.working_dir, text_member(value, "WorkingDir", where));
  TRY_ASSIGN(out.labels, map_member(value, "Labels", where));
  TRY_ASSIGN(out.stop_signal, text_member(value, "StopSignal", where));
  TRY_ASSIGN(out.shell, list_member(value, "Shell", where));
  TRY_ASSIGN(out.on_build, list_member(value, "OnBuild", where));
  TRY_ASSIGN(out.healthcheck, health_of(value, where));
  return out;
}

OrderedJson json_of(const std::map<std::string, std::string>& map) {
  OrderedJson out = OrderedJson::object();
  for (const auto& [key, value] : map) out[key] = value;
  return out;
}

OrderedJson json_of(const Descriptor& descriptor) {
  OrderedJson out;
  out["mediaType"] = descriptor.media_type;
  out["digest"] = descriptor.digest.str();
  out["size"] = descriptor.size;
  if (!descriptor.urls.empty()) out["urls"] = descriptor.urls;
  if (!descriptor.annotations.empty()) out["annotations"] = json_of(descriptor.annotations);
  if (descriptor.platform) {
    OrderedJson platform;
    platform["architecture"] = descriptor.platform->architecture;
    platform["os"] = descriptor.platform->os;
    if (!descriptor.platform->variant.empty()) platform["variant"] = descriptor.platform->variant;
    out["platform"] = std::move(platform);
  }
  return out;
}

OrderedJson json_of(const std::vector<Descriptor>& list) {
  OrderedJson out = OrderedJson::array();
  for (const Descriptor& one : list) out.push_back(json_of(one));
  return out;
}

/// Bytes that are not UTF-8 (they can come from command lines) become U+FFFD instead of an exception.
std::string dump(const OrderedJson& json) { return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

OrderedJson key_set(const std::vector<std::string>& keys) {
  OrderedJson out = OrderedJson::object();
  for (const std::string& key : keys) out[key] = OrderedJson::object();
  return out;
}

OrderedJson json_of(const ImageRunConfig& config) {
  OrderedJson out = OrderedJson::object();
  if (!config.user.empty()) out["User"] = config.user;
  if (!config.exposed_ports.empty()) out["ExposedPorts"] = key_set(config.exposed_ports);
  if (!config.env.empty()) out["Env"] = config.env;
  if (!config.entrypoint.empty()) out["Entrypoint"] = config.entrypoint;
  if (!config.cmd.empty()) out["Cmd"] = config.cmd;
  if (config.healthcheck) {
    const HealthConfig& health = *config.healthcheck;
    OrderedJson h = OrderedJson::object();
    if (!health.test.empty()) h["Test"] = health.test;
    if (health.interval_ns != 0) h["Interval"] = health.interval_ns;
    if (health.timeout_ns != 0) h["Timeout"] = health.timeout_ns;
    if (health.start_period_ns != 0) h["StartPeriod"] = health.start_period_ns;
    if (health.start_interval_ns != 0) h["StartInterval"] = health.start_interval_ns;
    if (health.retries != 0) h["Retries"] = health.retries;
    out["Healthcheck"] = std::move(h);
  }
  if (!config.volumes.empty()) out["Volumes"] = key_set(config.volumes);
  if (!config.working_dir.empty()) out["WorkingDir"] = config.working_dir;
  if (!config.labels.empty()) out["Labels"] = json_of(config.labels);
  if (!config.stop_signal.empty()) out["StopSignal"] = config.stop_signal;
  if (!config.shell.empty()) out["Shell"] = config.shell;
  if (!config.on_build.empty()) out["OnBuild"] = config.on_build;
  return out;
}

}  // namespace

std::string Platform::str() const {
  std::string out = os + "/" + architecture;
  if (!variant.empty()) out += "/" + variant;
  return out;
}

Result<Platform> parse_platform(std::string_view text) {
  const auto invalid = [&] {
    return errorf(ErrorKind::kInvalid,
                  "platform \"{:.64}\": expected os/architecture or os/architecture/variant, as linux/amd64", text);
  };
  if (text.empty() || text.size() > 64) return invalid();
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == '/') {
      parts.emplace_back();
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
               c == '.') {
      parts.back() += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    } else {
      return invalid();
    }
  }
  for (const std::string& part : parts) {
    if (part.empty()) return invalid();
  }
  Platform out;
  if (parts.size() == 1) {
    if (parts[0] == "linux") {
      out = host_platform();
    } else {
      out.architecture = normal_architecture(parts[0], &out.variant);
    }
  } else if (parts.size() <= 3) {
    out.os = parts[0];
    if (parts.size() == 3) out.variant = parts[2];
    out.architecture = normal_architecture(parts[1], &out.variant);
  } else {
    return invalid();
  }
  return out;
}

Platform host_platform() {
  Platform out;
  utsname names{};
  if (::uname(&names) == 0) out.architecture = normal_architecture(names.machine, &out.variant);
  return out;
}

Result<Index> parse_index(std::string_view text) {
  TRY_ASSIGN(const Json json, parse_bounded("image index", text, kMaxManifestBytes));
  Index out;
  TRY_ASSIGN(out.media_type, document_type(json, "image index"));
  if (!out.media_type.empty() && !is_index_type(out.media_type)) {
    return errorf(ErrorKind::kUnsupported, "image index: media type \"{:.100}\" is not known", out.media_type);
  }
  if (out.media_type.empty()) out.media_type = kMediaTypeIndex;
  TRY_ASSIGN(out.manifests, descriptors(json, "manifests", "image index", kMaxIndexEntries));
  TRY_ASSIGN(out.annotations, map_member(json, "annotations", "image index"));
  return out;
}

Result<Manifest> parse_manifest(std::string_view text) {
  TRY_ASSIGN(const Json json, parse_bounded("image manifest", text, kMaxManifestBytes));
  Manifest out;
  TRY_ASSIGN(out.media_type, document_type(json, "image manifest"));
  if (!out.media_type.empty() && !is_manifest_type(out.media_type)) {
    return errorf(ErrorKind::kUnsupported, "image manifest: media type \"{:.100}\" is not known", out.media_type);
  }
  if (out.media_type.empty()) out.media_type = kMediaTypeManifest;
  TRY_ASSIGN(out.config, descriptor_of(member(json, "config"), "image manifest.config"));
  if (out.config.media_type != kMediaTypeConfig && out.config.media_type != kMediaTypeDockerConfig) {
    return errorf(ErrorKind::kUnsupported,
                  "image manifest: its config has the media type \"{:.100}\", so it is an artifact, not an image that "
                  "can be run",
                  out.config.media_type);
  }
  TRY_ASSIGN(out.layers, descriptors(json, "layers", "image manifest", kMaxLayers));
  TRY_ASSIGN(out.annotations, map_member(json, "annotations", "image manifest"));
  return out;
}

Result<ImageConfig> parse_image_config(std::string_view text) {
  TRY_ASSIGN(const Json json, parse_bounded("image config", text, kMaxConfigBytes));
  ImageConfig out;
  TRY_ASSIGN(out.created, text_member(json, "created", "image config"));
  TRY_ASSIGN(out.author, text_member(json, "author", "image config"));
  TRY_ASSIGN(out.platform, platform_of(json, "image config"));
  if (out.platform.os.empty()) out.platform.os = "linux";
  TRY_ASSIGN(out.config, run_config_of(member(json, "config"), "image config.config"));

  const Json& rootfs = member(json, "rootfs");
  if (!rootfs.is_object()) return bad("image config.rootfs", "expected an object with the layers' diff_ids");
  TRY_ASSIGN(const std::string type, text_member(rootfs, "type", "image config.rootfs"));
  if (type != "layers") return bad("image config.rootfs.type", "expected \"layers\"");
  TRY_ASSIGN(const std::vector<std::string> ids, list_member(rootfs, "diff_ids", "image config.rootfs"));
  if (ids.size() > kMaxLayers) {
    return bad("image config.rootfs.diff_ids", fmt::format("more than {} layers", kMaxLayers));
  }
  for (const std::string& id : ids) {
    auto digest = Digest::parse(id);
    if (!digest.ok()) return std::move(digest).error().context("image config.rootfs.diff_ids");
    out.diff_ids.push_back(std::move(digest).value());
  }

  const Json& history = member(json, "history");
  if (!history.is_null()) {
    if (!history.is_array()) return bad("image config.history", "expected a list");
    if (history.size() > kMaxHistory) {
      return bad("image config.history", fmt::format("more than {} entries", kMaxHistory));
    }
    for (const Json& entry : history) {
      constexpr std::string_view kWhere = "image config.history[]";
      if (!entry.is_object()) return bad(kWhere, "expected an object");
      HistoryEntry one;
      TRY_ASSIGN(one.created, text_member(entry, "created", kWhere));
      TRY_ASSIGN(one.created_by, text_member(entry, "created_by", kWhere));
      TRY_ASSIGN(one.author, text_member(entry, "author", kWhere));
      TRY_ASSIGN(one.comment, text_member(entry, "comment", kWhere));
      const Json& empty = member(entry, "empty_layer");
      if (!empty.is_null() && !empty.is_boolean())
        return bad("image config.history[].empty_layer", "expected a boolean");
      one.empty_layer = empty.is_boolean() && empty.get<bool>();
      out.history.push_back(std::move(one));
    }
  }
  return out;
}

std::string to_json(const Index& index) {
  OrderedJson out;
  out["schemaVersion"] = 2;
  out["mediaType"] = index.media_type.empty() ? std::string(kMediaTypeIndex) : index.media_type;
  out["manifests"] = json_of(index.manifests);
  if (!index.annotations.empty()) out["annotations"] = json_of(index.annotations);
  return dump(out);
}

std::string to_json(const Manifest& manifest) {
  OrderedJson out;
  out["schemaVersion"] = 2;
  out["mediaType"] = manifest.media_type.empty() ? std::string(kMediaTypeManifest) : manifest.media_type;
  out["config"] = json_of(manifest.config);
  out["layers"] = json_of(manifest.layers);
  if (!manifest.annotations.empty()) out["annotations"] = json_of(manifest.annotations);
  return dump(out);
}

std::string to_json(const ImageConfig& config) {
  OrderedJson out;
  if (!config.created.empty()) out["created"] = config.created;
  if (!config.author.empty()) out["author"] = config.author;
  out["architecture"] = config.platform.architecture;
  if (!config.platform.variant.empty()) out["variant"] = config.platform.variant;
  out["os"] = config.platform.os;
  out["config"] = json_of(config.config);
  OrderedJson ids = OrderedJson::array();
  for (const Digest& id : config.diff_ids) ids.push_back(id.str());
  out["rootfs"] = {{"type", "layers"}, {"diff_ids", std::move(ids)}};
  if (!config.history.empty()) {
    OrderedJson history = OrderedJson::array();
    for (const HistoryEntry& entry : config.history) {
      OrderedJson one = OrderedJson::object();
      if (!entry.created.empty()) one["created"] = entry.created;
      if (!entry.created_by.empty()) one["created_by"] = entry.created_by;
      if (!entry.author.empty()) one["author"] = entry.author;
      if (!entry.comment.empty()) one["comment"] = entry.comment;
      if (entry.empty_layer) one["empty_layer"] = true;
      history.push_back(std::move(one));
    }
    out["history"] = std::move(history);
  }
  return dump(out);
}

Result<bool> is_index(std::string_view text, std::string_view content_type) {
  TRY_ASSIGN(const Json json, parse_bounded("manifest", text, kMaxManifestBytes));
  TRY_ASSIGN(std::string type, document_type(json, "manifest"));
  // Parameters of the header ("; charset=utf-8") do not count.
  content_type = content_type.substr(0, content_type.find(';'));
  while (!content_type.empty() && content_type.back() == ' ') content_type.remove_suffix(1);
  const bool header_known = is_index_type(content_type) || is_manifest_type(content_type);
  if (header_known && !type.empty() && type != content_type) {
    return bad("manifest",
               fmt::format("the registry calls it \"{}\", it calls itself \"{:.100}\"", content_type, type));
  }
  if (type.empty() && header_known) type = content_type;
  if (is_index_type(type) || (type.empty() && json.contains("manifests"))) {
    if (!json.contains("manifests")) return bad("manifest", "it is named an index and has no \"manifests\"");
    return true;
  }
  if (is_manifest_type(type) || (type.empty() && json.contains("config"))) {
    if (!json.contains("config")) return bad("manifest", "it is named an image manifest and has no \"config\"");
    return false;
  }
  return bad("manifest", fmt::format("media type \"{:.100}\" is neither an image manifest nor an index", type));
}

Result<Descriptor> choose_platform(const Index& index, const Platform& wanted) {
  const Descriptor* loose = nullptr;
  std::string available;
  for (const Descriptor& entry : index.manifests) {
    if (!entry.media_type.empty() && !is_manifest_type(entry.media_type) && !is_index_type(entry.media_type)) continue;
    if (!entry.platform) {
      // One entry and no platform: it is what there is (skopeo and buildah write such layouts).
      if (index.manifests.size() == 1) return entry;
      continue;
    }
    const Platform& has = *entry.platform;
    if (has.os == "unknown") continue;  // attestations
    if (available.size() < 1000) available += (available.empty() ? "" : ", ") + has.str().substr(0, 64);
    if (has.os != wanted.os || has.architecture != wanted.architecture) continue;
    if (effective_variant(has) == effective_variant(wanted)) return entry;
    // An older variant runs on a newer processor; without a wish any variant of the architecture will do.
    const bool runs = wanted.variant.empty() || effective_variant(has) < effective_variant(wanted);
    if (runs && (loose == nullptr || effective_variant(*loose->platform) < effective_variant(has))) loose = &entry;
  }
  if (loose != nullptr) return *loose;
  return errorf(ErrorKind::kNotFound, "no image for platform {}; there are: {}", wanted.str(),
                available.empty() ? "none with a platform" : available);
}

}  // namespace hull::oci
