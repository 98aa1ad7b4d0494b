#pragma once
// How hulld is set up: section [api] of hull.toml, and the command line, which goes before it.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/access.h"
#include "base/error.h"

namespace hull::api {

/// One place to listen at.
struct Address {
  enum class Kind { kUnix, kTcp };
  Kind kind = Kind::kUnix;
  std::string path;  // kUnix
  std::string host;  // kTcp: a numeric address
  uint16_t port = 0;
  std::string text;  // as it was written
  bool is_loopback() const { return kind == Kind::kUnix || host.starts_with("127.") || host == "::1"; }
};
/// unix:///run/hull/docker.sock, tcp://127.0.0.1:2375, tcp://[::1]:2376. kInvalid says what is wrong.
Result<Address> parse_address(std::string_view text);

struct Client {
  Role role = Role::kViewer;
  Labels scope;
};

struct ApiSettings {
  std::vector<Address> hosts;
  std::optional<Address> dashboard;  // the page's own port, on loopback
  std::string group;                 // of unix sockets; "": the process's own
  unsigned mode = 0;                 // of unix sockets; 0: 0660 with a group, else 0600
  bool plain_tcp = false;            // TCP without TLS, on loopback addresses only
  std::string tls_ca, tls_cert, tls_key;
  std::string audit_log;     // "": none
  bool audit_reads = false;  // requests that only look, too
  int max_connections = 1024;
  int max_connections_per_user = 512;
  /// By the common name of a client's certificate. Empty: each certificate of the authority is an admin, as Docker
  /// has it; else one that is not here is refused.
  std::map<std::string, Client, std::less<>> clients;
  std::vector<std::string> notes;  // what a person should know, printed once

  bool has_tls() const { return !tls_cert.empty(); }
  /// From hull.toml (HULL_CONFIG, else /etc/hull/hull.toml when it exists).
  static Result<ApiSettings> load();
};

/// Applies hulld's own flags. Returns the text to print and end with for --help and --version.
Result<std::optional<std::string>> take_arguments(const std::vector<std::string>& arguments, ApiSettings* settings);
/// What can't be: plain TCP off loopback or not asked for, half of a TLS set.
Result<void> check(const ApiSettings& settings);

}  // namespace hull::api
