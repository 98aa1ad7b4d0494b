#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_UNRELEASED_FEATURES 0
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wundef"
#include <toml++/toml.h>
#pragma GCC diagnostic pop

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

/// The folder of the running program, "/usr/bin".
std::string program_folder() {
  char path[4096];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof path);
  const std::string_view whole(path, length > 0 ? static_cast<size_t>(length) : 0);
  const size_t slash = whole.rfind('/');
  return slash == std::string_view::npos ? std::string("/usr/bin") : std::string(whole.substr(0, slash));
}

std::string first_that_exists(std::initializer_list<std::string> paths) {
  for (const std::string& path : paths) {
    if (::access(path.c_str(), X_OK) == 0) return path;
  }
  return *paths.begin();
}

Error wrong(const std::string& file, const toml::node& node, std::string_view key, std::string_view expected) {
  return errorf(ErrorKind::kInvalid, "{}:{}: {}: expected {}", file, node.source().begin.line, key, expected);
}

/// One key of hull.toml and what takes its value; false when the value has the wrong type or makes no sense.
struct Key {
  std::string_view name;
  std::string_view expected;
  std::function<bool(const toml::node&)> take;
};

Key text_key(std::string_view name, std::string* target) {
  return {name, "a text", [target](const toml::node& node) {
            const auto value = node.value_exact<std::string>();
            if (value) *target = *value;
            return value.has_value();
          }};
}

Key number_key(std::string_view name, int* target, int lowest, int highest) {
  return {name, "a whole number in range", [=](const toml::node& node) {
            const auto value = node.value_exact<int64_t>();
            if (!value || *value < lowest || *value > highest) return false;
            *target = static_cast<int>(*value);
            return true;
          }};
}

Key size_key(std::string_view name, int64_t* target) {
  return {name, "a size such as \"10m\"", [target](const toml::node& node) {
            if (const auto number = node.value_exact<int64_t>()) {
              *target = *number;
              return true;
            }
            const auto text = node.value_exact<std::string>();
            if (!text) return false;
            const auto size = parse_size(*text);
            if (size.ok()) *target = *size;
            return size.ok();
          }};
}

struct Section {
  std::string_view name;
  std::vector<Key> keys;
};

/// What hull-images and hulld read: its values are checked there, here a key must only not be a typing error. A table
/// in [registry] is one registry's, in [api] one client's.
struct ForeignSection {
  std::string_view name;
  std::vector<std::string_view> keys;
  std::vector<std::string_view> table_keys;
};
const std::vector<ForeignSection>& foreign_sections() {
  static const std::vector<ForeignSection> sections = {
      {"registry",
       {"default", "parallel_layers", "parallel_ranges", "retries", "stall_timeout"},
       {"insecure", "mirrors", "ca", "client_cert", "client_key"}},
      {"api",
       {"hosts", "dashboard", "group", "mode", "plain_tcp", "tls_ca", "tls_cert", "tls_key", "audit_log", "audit_reads",
        "max_connections", "max_connections_per_user"},
       {"role", "labels"}},
      {"limits", {"max_layer_bytes", "max_image_bytes", "max_ratio", "max_entries"}, {}}};
  return sections;
}

Error unknown_key(const std::string& file, const toml::key& key, std::string_view section, std::string_view known) {
  return errorf(ErrorKind::kInvalid, "{}:{}: unknown key \"{}\"{}{}; known are: {}", file, key.source().begin.line,
                key.str(), section.empty() ? "" : " in section ", section, known);
}

Result<void> check_foreign(const std::string& file, const toml::table& table, const ForeignSection& section,
                           const std::vector<std::string_view>& keys) {
  for (const auto& [key, node] : table) {
    if (node.is_table() && &keys == &section.keys && !section.table_keys.empty()) {
      TRY(check_foreign(file, *node.as_table(), section, section.table_keys));
      continue;
    }
    if (std::find(keys.begin(), keys.end(), key.str()) != keys.end()) continue;
    return unknown_key(file, key, section.name, fmt::format("{}", fmt::join(keys, ", ")));
  }
  return {};
}

Result<void> take_document(const std::string& file, std::string_view text, Settings* s) {
  const toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return errorf(ErrorKind::kInvalid, "{}:{}: {}", file, error.source().begin.line, error.description());
  }
  const std::vector<Section> sections = {
      {"",
       {text_key("data_root", &s->data_root), text_key("run_root", &s->run_root), text_key("runtime", &s->runtime),
        text_key("libexec", &s->libexec), text_key("cgroup_manager", &s->cgroup_manager),
        text_key("cgroup_parent", &s->cgroup_parent)}},
      {"network",
       {text_key("bridge", &s->bridge_name), text_key("subnet", &s->bridge_subnet),
        text_key("subnet6", &s->bridge_subnet6), number_key("mtu", &s->bridge_mtu, 576, 65535)}},
      {"log",
       {text_key("driver", &s->log_driver), text_key("journal_socket", &s->journal_socket),
        size_key("max_size", &s->log_max_size), number_key("max_files", &s->log_max_files, 1, 1000)}},
      {"vm",
       {size_key("memory", &s->vm_memory), number_key("vcpus", &s->vm_vcpus, 1, 64),
        text_key("hypervisor", &s->vm_hypervisor), text_key("kernel", &s->vm_kernel),
        text_key("runtime", &s->vm_runtime)}},
  };
  const auto take_keys = [&](const toml::table& table, const Section& section, bool top) -> Result<void> {
    for (const auto& [key, node] : table) {
      const std::string_view name = key.str();
      if (top && node.is_table()) continue;
      const auto found =
          std::find_if(section.keys.begin(), section.keys.end(), [&](const Key& known) { return known.name == name; });
      if (found == section.keys.end()) {
        std::string known;
        for (const Key& one : section.keys) known += (known.empty() ? "" : ", ") + std::string(one.name);
        return unknown_key(file, key, section.name, known);
      }
      if (!found->take(node)) return wrong(file, node, name, found->expected);
    }
    return {};
  };
  const toml::table& top = parsed.table();
  TRY(take_keys(top, sections[0], true));
  for (const auto& [key, node] : top) {
    if (!node.is_table()) continue;
    const std::string_view name = key.str();
    const auto& others = foreign_sections();
    const auto other =
        std::find_if(others.begin(), others.end(), [&](const ForeignSection& known) { return known.name == name; });
    if (other != others.end()) {
      const toml::table& table = *node.as_table();
      TRY(check_foreign(file, table, *other, other->keys));
      if (name == "registry") {
        if (const auto value = table["default"].value<std::string>()) s->default_registry = *value;
      }
      continue;
    }
    const auto section =
        std::find_if(sections.begin() + 1, sections.end(), [&](const Section& known) { return known.name == name; });
    if (section == sections.end()) {
      return errorf(ErrorKind::kInvalid, "{}:{}: unknown section \"{}\"", file, key.source().begin.line, name);
    }
    TRY(take_keys(*node.as_table(), *section, false));
  }
  return {};
}

constexpr int64_t kLeastVmMemory = 64 << 20;

Result<void> check(const Settings& s) {
  for (const auto& [name, path] : {std::pair<const char*, const std::string&>("data_root", s.data_root),
                                   std::pair<const char*, const std::string&>("run_root", s.run_root)}) {
    // overlayfs takes these characters for separators of its options.
    if (!path.starts_with('/') || path.find_first_of(":,\\\"\n") != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "{} \"{}\": expected an absolute path without : , \\ and quotes", name, path);
    }
  }
  if (s.vm_memory < kLeastVmMemory) {
    return errorf(ErrorKind::kInvalid, "[vm] memory {}: a guest needs {} or more",
                  format_size_binary(static_cast<uint64_t>(s.vm_memory)), format_size_binary(kLeastVmMemory));
  }
  if (s.vm_hypervisor != "auto" && s.vm_hypervisor != "kvm" && s.vm_hypervisor != "qemu") {
    return errorf(ErrorKind::kInvalid, "[vm] hypervisor \"{}\": expected auto, kvm or qemu", s.vm_hypervisor);
  }
  if (s.cgroup_manager != "cgroupfs" && s.cgroup_manager != "systemd") {
    return errorf(ErrorKind::kInvalid, "cgroup_manager \"{}\": expected cgroupfs or systemd", s.cgroup_manager);
  }
  return {};
}

}  // namespace

Result<Settings> Settings::load() {
  Settings settings;
  const char* chosen = std::getenv("HULL_CONFIG");
  const std::string file = chosen != nullptr ? chosen : "/etc/hull/hull.toml";
  if (chosen != nullptr || sys::exists(file)) {
    auto text = sys::read_file(file, 1 << 20);
    if (!text.ok()) return std::move(text).error().context("read the configuration");
    TRY(take_document(file, *text, &settings));
  }
  if (const char* data = std::getenv("HULL_ROOT")) settings.data_root = data;
  if (const char* run = std::getenv("HULL_RUN")) settings.run_root = run;
  const std::string here = program_folder();
  if (const char* libexec = std::getenv("HULL_LIBEXEC")) {
    settings.libexec = libexec;
  } else if (settings.libexec.empty()) {
    // Installed, or the build tree, where all programs are together.
    settings.libexec = sys::exists(here + "/hull-monitor") ? here : here + "/../libexec/hull";
  }
  if (settings.runtime.empty()) {
    settings.runtime = first_that_exists(
        {here + "/hull-oci", settings.libexec + "/hull-oci", settings.libexec + "/../../bin/hull-oci"});
  }
  if (const char* runtime = std::getenv("HULL_RUNTIME")) settings.runtime = runtime;
  if (settings.vm_runtime.empty()) {
    settings.vm_runtime = first_that_exists(
        {here + "/hull-oci-vm", settings.libexec + "/hull-oci-vm", settings.libexec + "/../../bin/hull-oci-vm"});
  }
  TRY(check(settings));
  return settings;
}

}  // namespace hull::engine
