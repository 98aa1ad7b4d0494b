#pragma once
// Docker's credential store: ~/.docker/config.json (or $DOCKER_CONFIG/config.json) and docker-credential-* programs.

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace hull::store {

struct Credentials {
  std::string username, password;
  std::string identity_token;  ///< OAuth2 refresh token; then username and password are not used
  bool empty() const { return username.empty() && password.empty() && identity_token.empty(); }
};

class CredentialStore {
 public:
  /// `folder` holds config.json; it need not exist.
  explicit CredentialStore(std::string folder) : folder_(std::move(folder)) {}
  /// $DOCKER_CONFIG, else $HOME/.docker.
  static CredentialStore from_environment();
  /// Only these, for this registry, and nothing for any other; nothing is stored.
  static CredentialStore fixed(std::string registry, Credentials credentials);

  /// What is stored for a registry host ("docker.io", "localhost:5000"); empty when nothing is. A helper program that
  /// is named and can't be run is an error.
  Result<Credentials> find(const std::string& registry) const;
  /// Through the helper that the file names for this registry, else into the file (mode 0600, other members kept).
  /// Returns where it went, for the warning about plain text.
  struct Stored {
    std::string file;    ///< set when the password lies in this file
    std::string helper;  ///< set when a helper took it
  };
  Result<Stored> store(const std::string& registry, const Credentials& credentials) const;
  /// False when there was nothing.
  Result<bool> erase(const std::string& registry) const;

  std::string file() const { return folder_ + "/config.json"; }

 private:
  std::string folder_;
  std::optional<std::pair<std::string, Credentials>> fixed_;
};

/// The key under which Docker files a registry: docker.io has a historical one.
std::string credential_key(const std::string& registry);

std::string base64_encode(std::string_view data);
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace hull::store
