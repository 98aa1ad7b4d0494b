#include "store/registry/settings.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <functional>

#include "base/error_format.h"
#include "base/units.h"
#include "oci/reference.h"
#include "sys/file.h"

namespace hull::store {
namespace {

Error at(const std::string& file, const toml::node& node, std::string_view key, std::string_view why) {
  return errorf(ErrorKind::kInvalid, "{}:{}: {}: {}", file, node.source().begin.line, key, why);
}

struct Context {
  const std::string& file;
  std::string key;
  const toml::node& node;
  Error bad(std::string_view why) const { return at(file, node, key, why); }
};

Result<void> read_text(const Context& c, std::string* out) {
  const auto text = c.node.value_exact<std::string>();
  if (!text) return c.bad("expected a string");
  *out = *text;
  return {};
}
Result<void> read_bool(const Context& c, bool* out) {
  const auto value = c.node.value_exact<bool>();
  if (!value) return c.bad("expected true or false");
  *out = *value;
  return {};
}
template <typename T>
Result<void> read_number(const Context& c, int64_t lowest, int64_t highest, T* out) {
  const auto value = c.node.value_exact<int64_t>();
  if (!value || *value < lowest || *value > highest) {
    return c.bad(fmt::format("expected a whole number from {} to {}", lowest, highest));
  }
  *out = static_cast<T>(*value);
  return {};
}
Result<void> read_size(const Context& c, uint64_t* out) {
  if (const auto number = c.node.value_exact<int64_t>(); number && *number > 0) {
    *out = static_cast<uint64_t>(*number);
    return {};
  }
  const auto text = c.node.value_exact<std::string>();
  if (!text) return c.bad("expected a size as \"10GiB\"");
  auto size = parse_size(*text);
  if (!size.ok()) return c.bad(size.error().message());
  if (*size <= 0) return c.bad("expected a size above 0");
  *out = static_cast<uint64_t>(*size);
  return {};
}
Result<void> read_milliseconds(const Context& c, std::chrono::milliseconds* out) {
  const auto text = c.node.value_exact<std::string>();
  if (!text) return c.bad("expected a duration as \"30s\"");
  auto duration = parse_duration(*text);
  if (!duration.ok()) return c.bad(duration.error().message());
  *out = std::chrono::duration_cast<std::chrono::milliseconds>(*duration);
  if (out->count() < 100) return c.bad("expected at least 100ms");
  return {};
}

bool valid_host(const std::string& host) { return oci::parse_reference(host + "/x").ok(); }

Result<void> read_mirrors(const Context& c, std::vector<std::string>* out) {
  const toml::array* list = c.node.as_array();
  if (list == nullptr) return c.bad("expected a list of strings");
  for (const toml::node& entry : *list) {
    const auto text = entry.value_exact<std::string>();
    if (!text) return c.bad("expected a list of strings");
    std::string host = *text;
    for (const std::string_view scheme : {"https://", "http://"}) {
      if (host.starts_with(scheme)) host = host.substr(scheme.size());
    }
    while (host.ends_with('/')) host.pop_back();
    if (!valid_host(host)) return c.bad(fmt::format("\"{}\" is not a host or an http(s) address of one", *text));
    out->push_back(text->ends_with('/') ? text->substr(0, text->find_last_not_of('/') + 1) : *text);
  }
  return {};
}

Result<void> read_host(const std::string& file, const std::string& name, const toml::table& table, RegistryHost* out) {
  for (const auto& [key_node, node] : table) {
    const std::string key(key_node.str());
    const Context c{file, fmt::format("registry.\"{}\".{}", name, key), node};
    if (key == "insecure") {
      TRY(read_bool(c, &out->insecure));
    } else if (key == "mirrors") {
      TRY(read_mirrors(c, &out->mirrors));
    } else if (key == "ca") {
      TRY(read_text(c, &out->ca));
    } else if (key == "client_cert") {
      TRY(read_text(c, &out->client_cert));
    } else if (key == "client_key") {
      TRY(read_text(c, &out->client_key));
    } else {
      return c.bad("unknown key; known are insecure, mirrors, ca, client_cert, client_key");
    }
  }
  return {};
}

Result<void> read_registry(const std::string& file, const toml::table& table, RegistrySettings* out) {
  for (const auto& [key_node, node] : table) {
    const std::string key(key_node.str());
    const Context c{file, "registry." + key, node};
    if (const toml::table* host = node.as_table()) {
      const std::string name = key == "index.docker.io" ? "docker.io" : key;
      if (!valid_host(name)) return c.bad("it is not a registry host");
      RegistryHost entry = out->host(name);
      TRY(read_host(file, key, *host, &entry));
      out->hosts[name] = std::move(entry);
    } else if (key == "default") {
      TRY(read_text(c, &out->default_registry));
      if (!valid_host(out->default_registry)) return c.bad("it is not a registry host");
      if (out->default_registry == "index.docker.io") out->default_registry = "docker.io";
    } else if (key == "parallel_layers") {
      TRY(read_number(c, 1, 32, &out->parallel_layers));
    } else if (key == "parallel_ranges") {
      TRY(read_number(c, 1, 16, &out->parallel_ranges));
    } else if (key == "retries") {
      TRY(read_number(c, 0, 50, &out->retries));
    } else if (key == "stall_timeout") {
      TRY(read_milliseconds(c, &out->stall_timeout));
    } else {
      return c.bad(
          "unknown key; known are default, parallel_layers, parallel_ranges, retries, stall_timeout, and "
          "tables [registry.\"host\"]");
    }
  }
  return {};
}

Result<void> read_limits(const std::string& file, const toml::table& table, RegistrySettings* out) {
  for (const auto& [key_node, node] : table) {
    const std::string key(key_node.str());
    const Context c{file, "limits." + key, node};
    if (key == "max_layer_bytes") {
      TRY(read_size(c, &out->max_layer_bytes));
    } else if (key == "max_image_bytes") {
      TRY(read_size(c, &out->max_image_bytes));
    } else if (key == "max_ratio") {
      TRY(read_number(c, 1, 1000000, &out->max_ratio));
    } else if (key == "max_entries") {
      TRY(read_number(c, 1, UINT32_MAX, &out->max_entries));
    } else {
      return c.bad("unknown key; known are max_layer_bytes, max_image_bytes, max_ratio, max_entries");
    }
  }
  return {};
}

}  // namespace

bool is_loopback_host(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1) == "[::1]";
  const std::string_view name = host.substr(0, host.find(':'));
  if (name == "localhost") return true;
  if (!name.starts_with("127.")) return false;
  // 127.x.y.z and nothing else: 127.evil.example is a name.
  return std::all_of(name.begin(), name.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; }) &&
         std::count(name.begin(), name.end(), '.') == 3;
}

RegistryHost RegistrySettings::host(const std::string& name) const {
  const auto it = hosts.find(name);
  if (it != hosts.end()) return it->second;
  RegistryHost out;
  out.insecure = is_loopback_host(name);
  return out;
}

Result<RegistrySettings> parse_registry_settings(std::string_view text, const std::string& file_name) {
  RegistrySettings out;
  const toml::parse_result parsed = toml::parse(text, file_name);
  if (!parsed) {
    const toml::parse_error& failure = parsed.error();
    return errorf(ErrorKind::kInvalid, "{}:{}: {}", file_name, failure.source().begin.line, failure.description());
  }
  const toml::table& document = parsed.table();
  for (const auto& [key, target] : {std::pair("data_root", &out.data_root), std::pair("run_root", &out.run_root)}) {
    if (const toml::node* node = document.get(key)) TRY(read_text(Context{file_name, key, *node}, target));
  }
  if (const toml::node* registry = document.get("registry")) {
    if (!registry->is_table()) return at(file_name, *registry, "registry", "expected a table");
    TRY(read_registry(file_name, *registry->as_table(), &out));
  }
  if (const toml::node* limits = document.get("limits")) {
    if (!limits->is_table()) return at(file_name, *limits, "limits", "expected a table");
    TRY(read_limits(file_name, *limits->as_table(), &out));
  }
  return out;
}

Result<RegistrySettings> load_registry_settings(const std::string& path) {
  auto text = sys::read_file(path, 1 << 20);
  if (!text.ok()) {
    if (text.error().kind() == ErrorKind::kNotFound) return RegistrySettings();
    return std::move(text).error().context("configuration");
  }
  return parse_registry_settings(*text, path);
}

}  // namespace hull::store
