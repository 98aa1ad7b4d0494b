#include "api/settings.h"

#include <arpa/inet.h>

#include <cstdlib>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_ENABLE_UNRELEASED_FEATURES 0
#include <toml++/toml.h>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/file.h"

namespace hull::api {
namespace {

constexpr std::string_view kHelp =
    "Usage: hulld [FLAGS]\n"
    "\n"
    "Serves the Docker Engine API. Settings are in section [api] of hull.toml; flags go before them.\n"
    "\n"
    "  -H, --host ADDRESS          Where to listen: unix://PATH or tcp://ADDRESS:PORT (repeatable)\n"
    "  -G, --group GROUP           Group that may use the unix sockets\n"
    "      --plain-tcp             Serve tcp:// addresses on loopback without TLS\n"
    "      --tlscacert FILE        Authority whose client certificates are accepted\n"
    "      --tlscert FILE          The server's certificate\n"
    "      --tlskey FILE           Its key\n"
    "      --dashboard ADDRESS     Serve the dashboard at tcp://127.0.0.1:PORT; 'hull dashboard' tells the way in\n"
    "      --audit-log FILE        Append one JSON object for each request that changes something\n"
    "      --help                  Print this\n"
    "      --version               Print the version\n";

struct Place {
  const std::string& file;
  std::string key;
  const toml::node& node;
  Error bad(std::string_view why) const {
    return errorf(ErrorKind::kInvalid, "{}:{}: {}: {}", file, node.source().begin.line, key, why);
  }
};

Result<void> take(const Place& place, std::string* out) {
  const auto text = place.node.value_exact<std::string>();
  if (!text) return place.bad("expected a text");
  *out = *text;
  return {};
}
Result<void> take(const Place& place, bool* out) {
  const auto value = place.node.value_exact<bool>();
  if (!value) return place.bad("expected true or false");
  *out = *value;
  return {};
}
Result<void> take(const Place& place, int* out) {
  const auto value = place.node.value_exact<int64_t>();
  if (!value || *value < 1 || *value > 65536) return place.bad("expected a whole number from 1 to 65536");
  *out = static_cast<int>(*value);
  return {};
}
Result<std::vector<std::string>> texts(const Place& place) {
  const toml::array* list = place.node.as_array();
  if (list == nullptr) return place.bad("expected a list of texts");
  std::vector<std::string> out;
  for (const toml::node& item : *list) {
    const auto text = item.value_exact<std::string>();
    if (!text) return place.bad("expected a list of texts");
    out.push_back(*text);
  }
  return out;
}

Result<void> take_mode(const Place& place, unsigned* out) {
  std::string text;
  TRY(take(place, &text));
  char* end = nullptr;
  const unsigned long mode = std::strtoul(text.c_str(), &end, 8);
  if (text.empty() || *end != 0 || mode == 0 || mode > 0777) return place.bad("expected a mode such as \"0660\"");
  *out = static_cast<unsigned>(mode);
  return {};
}

Result<void> take_client(const std::string& file, const std::string& name, const toml::table& table, Client* out) {
  bool has_role = false;
  for (const auto& [key, node] : table) {
    const Place place{file, fmt::format("api.\"{}\".{}", name, key.str()), node};
    if (key.str() == "role") {
      std::string role;
      TRY(take(place, &role));
      has_role = true;
      if (role == "admin") {
        out->role = Role::kAdmin;
      } else if (role == "operator") {
        out->role = Role::kOperator;
      } else if (role == "viewer") {
        out->role = Role::kViewer;
      } else {
        return place.bad("expected admin, operator or viewer");
      }
    } else if (key.str() == "labels") {
      TRY_ASSIGN(const std::vector<std::string> labels, texts(place));
      for (const std::string& label : labels) {
        const size_t equals = label.find('=');
        if (label.empty() || equals == 0) return place.bad("expected labels such as \"team=blue\"");
        out->scope[label.substr(0, equals)] = equals == std::string::npos ? "" : label.substr(equals + 1);
      }
      if (out->scope.empty()) return place.bad("an empty list confines to nothing; leave it out");
    } else {
      return place.bad("unknown key; known are role, labels");
    }
  }
  if (!has_role) {
    return errorf(ErrorKind::kInvalid, "{}:{}: api.\"{}\": a role is missing", file, table.source().begin.line, name);
  }
  if (out->role == Role::kAdmin && !out->scope.empty()) {
    return errorf(ErrorKind::kInvalid, "{}:{}: api.\"{}\": an admin can't be confined to labels", file,
                  table.source().begin.line, name);
  }
  return {};
}

/// The token crosses this port in clear, so it stays on this machine.
Result<Address> parse_dashboard(std::string_view text) {
  TRY_ASSIGN(Address address, parse_address(text));
  if (address.kind != Address::Kind::kTcp || !address.is_loopback()) {
    return errorf(ErrorKind::kInvalid,
                  "{}: the dashboard's own port is on loopback: tcp://127.0.0.1:PORT. From other "
                  "machines it is reached through an address with TLS (hosts), at /dashboard/",
                  text);
  }
  return address;
}

Result<void> take_section(const std::string& file, const toml::table& table, ApiSettings* s) {
  for (const auto& [key_node, node] : table) {
    const std::string key(key_node.str());
    const Place place{file, "api." + key, node};
    if (const toml::table* client = node.as_table()) {
      TRY(take_client(file, key, *client, &s->clients[key]));
    } else if (key == "hosts") {
      TRY_ASSIGN(const std::vector<std::string> hosts, texts(place));
      for (const std::string& host : hosts) {
        auto address = parse_address(host);
        if (!address.ok()) return place.bad(address.error().message());
        s->hosts.push_back(std::move(*address));
      }
    } else if (key == "dashboard") {
      std::string text;
      TRY(take(place, &text));
      auto address = parse_dashboard(text);
      if (!address.ok()) return place.bad(address.error().message());
      s->dashboard = std::move(*address);
    } else if (key == "group") {
      TRY(take(place, &s->group));
    } else if (key == "mode") {
      TRY(take_mode(place, &s->mode));
    } else if (key == "plain_tcp") {
      TRY(take(place, &s->plain_tcp));
    } else if (key == "tls_ca") {
      TRY(take(place, &s->tls_ca));
    } else if (key == "tls_cert") {
      TRY(take(place, &s->tls_cert));
    } else if (key == "tls_key") {
      TRY(take(place, &s->tls_key));
    } else if (key == "audit_log") {
      TRY(take(place, &s->audit_log));
    } else if (key == "audit_reads") {
      TRY(take(place, &s->audit_reads));
    } else if (key == "max_connections") {
      TRY(take(place, &s->max_connections));
    } else if (key == "max_connections_per_user") {
      TRY(take(place, &s->max_connections_per_user));
    } else {
      return place.bad("unknown key");
    }
  }
  return {};
}

}  // namespace

Result<Address> parse_address(std::string_view text) {
  Address out;
  out.text = std::string(text);
  if (text.starts_with("unix://")) {
    out.path = std::string(text.substr(7));
    if (!out.path.starts_with('/')) return errorf(ErrorKind::kInvalid, "{}: expected unix:///absolute/path", text);
    if (out.path.size() > 107) return errorf(ErrorKind::kInvalid, "{}: longer than the 107 bytes of a socket's", text);
    return out;
  }
  if (!text.starts_with("tcp://")) return errorf(ErrorKind::kInvalid, "{}: expected unix://... or tcp://...", text);
  out.kind = Address::Kind::kTcp;
  const std::string_view rest = text.substr(6);
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return errorf(ErrorKind::kInvalid, "{}: a port is missing", text);
  const auto port = parse_int(rest.substr(colon + 1), 1, 65535);
  if (!port.ok()) return errorf(ErrorKind::kInvalid, "{}: the port has to be a number from 1 to 65535", text);
  out.port = static_cast<uint16_t>(*port);
  std::string_view host = rest.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  out.host = host == "localhost" ? "127.0.0.1" : std::string(host);
  in6_addr ignored{};
  if (::inet_pton(AF_INET, out.host.c_str(), &ignored) != 1 && ::inet_pton(AF_INET6, out.host.c_str(), &ignored) != 1) {
    return errorf(ErrorKind::kInvalid, "{}: expected a numeric address", text);
  }
  return out;
}

Result<ApiSettings> ApiSettings::load() {
  ApiSettings out;
  const char* chosen = std::getenv("HULL_CONFIG");
  const std::string file = chosen != nullptr ? chosen : "/etc/hull/hull.toml";
  if (chosen == nullptr && !sys::exists(file)) return out;
  TRY_ASSIGN(const std::string text, sys::read_file(file, 1 << 20));
  const toml::parse_result parsed = toml::parse(text, file);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return errorf(ErrorKind::kInvalid, "{}:{}: {}", file, error.source().begin.line, error.description());
  }
  if (const toml::table* section = parsed.table()["api"].as_table()) TRY(take_section(file, *section, &out));
  return out;
}

Result<std::optional<std::string>> take_arguments(const std::vector<std::string>& arguments, ApiSettings* s) {
  bool own_hosts = false;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string name = arguments[i];
    std::optional<std::string> value;
    if (const size_t equals = name.find('='); name.starts_with("--") && equals != std::string::npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    if (name == "--help" || name == "-h") return std::optional<std::string>(kHelp);
    if (name == "--version" || name == "-v") return std::optional<std::string>("hulld " HULL_VERSION "\n");
    if (name == "--plain-tcp" && !value) {
      s->plain_tcp = true;
      continue;
    }
    std::string host, page;
    std::string* target = name == "--host" || name == "-H"    ? &host
                          : name == "--group" || name == "-G" ? &s->group
                          : name == "--tlscacert"             ? &s->tls_ca
                          : name == "--tlscert"               ? &s->tls_cert
                          : name == "--tlskey"                ? &s->tls_key
                          : name == "--audit-log"             ? &s->audit_log
                          : name == "--dashboard"             ? &page
                                                              : nullptr;
    if (target == nullptr) return errorf(ErrorKind::kInvalid, "unknown argument {}: see 'hulld --help'", arguments[i]);
    if (!value && i + 1 < arguments.size()) value = arguments[++i];
    if (!value || value->empty()) return errorf(ErrorKind::kInvalid, "{} needs a value", name);
    *target = *value;
    if (target == &page) {
      TRY_ASSIGN(s->dashboard, parse_dashboard(page));
    }
    if (target == &host) {
      if (!own_hosts) s->hosts.clear();
      own_hosts = true;
      TRY_ASSIGN(Address address, parse_address(host));
      s->hosts.push_back(std::move(address));
    }
  }
  return std::optional<std::string>();
}

Result<void> check(const ApiSettings& s) {
  const int given = !s.tls_ca.empty() + !s.tls_cert.empty() + !s.tls_key.empty();
  if (given != 0 && given != 3) {
    return errorf(ErrorKind::kInvalid, "TLS needs tls_ca, tls_cert and tls_key: clients are known by certificates");
  }
  for (const Address& address : s.hosts) {
    if (address.kind == Address::Kind::kUnix || s.has_tls()) continue;
    if (!address.is_loopback()) {
      return errorf(ErrorKind::kInvalid,
                    "{}: TCP without TLS would give this machine to whoever reaches it: set tls_ca, tls_cert and "
                    "tls_key",
                    address.text);
    }
    if (!s.plain_tcp) {
      return errorf(ErrorKind::kInvalid,
                    "{}: TCP without TLS gives every user of this machine root's rights: ask for it with --plain-tcp, "
                    "or set tls_ca, tls_cert and tls_key",
                    address.text);
    }
  }
  return {};
}

}  // namespace hull::api
