#pragma once
// One registry as the distribution specification 1.1 has it: authentication, manifests, blobs, uploads.

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "oci/image_spec.h"
#include "oci/reference.h"
#include "store/registry/credentials.h"
#include "store/registry/http.h"
#include "store/registry/settings.h"

namespace hull::store {

/// An address at which a registry's content can be asked for.
struct Endpoint {
  std::string registry;    ///< as references name it; keys of credentials and settings
  std::string base;        ///< "https://registry-1.docker.io"
  bool try_plain = false;  ///< insecure: plain HTTP when TLS does not answer
  bool is_mirror = false;
  TlsOptions tls;
};

/// Mirrors first (not for pushing), then the registry itself.
Result<std::vector<Endpoint>> endpoints_of(const std::string& registry, const RegistrySettings& settings,
                                           bool for_push);

/// A manifest or index, verified against its digest.
struct ManifestAnswer {
  std::string body;
  std::string content_type;
  Digest digest;
};

/// A conversation with one endpoint. Safe to use from several threads.
class RegistrySession {
 public:
  /// Asks /v2/ to learn the scheme and the way to authenticate. With `credentials` empty everything is anonymous.
  static Result<std::shared_ptr<RegistrySession>> connect(HttpEngine& http, const RegistrySettings& settings,
                                                          const Endpoint& endpoint, Credentials credentials);

  const Endpoint& endpoint() const { return endpoint_; }
  HttpEngine& http() { return http_; }
  const RegistrySettings& settings() const { return settings_; }

  /// Verifies that the credentials are taken (`login`). A registry that hands out a refresh token has it stored in
  /// identity_token.
  Result<void> log_in(std::string* identity_token);

  /// GET /v2/<repository>/manifests/<tag or digest>. kNotFound, kPermission, kCorrupt.
  Result<ManifestAnswer> manifest(const std::string& repository, const std::string& reference);
  /// A small blob (an image config), verified.
  Result<std::string> small_blob(const std::string& repository, const oci::Descriptor& descriptor, size_t limit);
  Result<std::vector<std::string>> tags(const std::string& repository);
  /// Repositories that the registry has (GET /v2/_catalog), at most `limit`. Many registries don't tell.
  Result<std::vector<std::string>> catalogue(size_t limit);

  /// Size of a blob that the registry has; nullopt when it has not.
  Result<std::optional<uint64_t>> blob_exists(const std::string& repository, const Digest& digest);
  /// Mounts a blob of another repository of this registry; true when that worked. Otherwise an upload was begun, whose
  /// address is in *upload_url (or empty).
  Result<bool> mount_blob(const std::string& repository, const Digest& digest, const std::string& from,
                          std::string* upload_url);
  Result<std::string> begin_upload(const std::string& repository);
  Result<void> upload_small(const std::string& repository, const Digest& digest, const std::string& data);
  /// PUT /v2/<repository>/manifests/<reference>.
  Result<void> put_manifest(const std::string& repository, const std::string& reference, const std::string& media_type,
                            const std::string& body, const Digest& digest);

  /// A request to this endpoint with everything filled in but the body's handling: for streamed transfers. `stale` is
  /// the authorization that was just refused with 401, or empty.
  Result<HttpRequest> prepare(const std::string& method, const std::string& url, const std::string& scope,
                              const std::string& stale);
  /// Sends and answers, with authentication and retries (idempotent requests only when `retry`).
  Result<HttpAnswer> send(HttpRequest request, const std::string& scope, bool retry);
  std::string url(const std::string& repository, const std::string& rest) const;
  /// Takes note of a 401's challenge. False when it can't help.
  bool note_challenge(const HttpAnswer& answer);
  /// The Error for an answer that is no success: the registry's own words and what the user can do.
  Error answer_error(const HttpAnswer& answer, std::string_view what) const;
  bool has_credentials() const { return !credentials_.empty(); }

  static std::string pull_scope(const std::string& repository) { return "repository:" + repository + ":pull"; }
  static std::string push_scope(const std::string& repository) { return "repository:" + repository + ":pull,push"; }

 private:
  RegistrySession(HttpEngine& http, const RegistrySettings& settings, Endpoint endpoint, Credentials credentials)
      : http_(http), settings_(settings), endpoint_(std::move(endpoint)), credentials_(std::move(credentials)) {}
  Result<std::string> authorization(const std::string& scope, const std::string& stale);
  Result<std::string> fetch_token(const std::string& scope, std::string* refresh_token);
  /// A list in pages that link to the next one: each page's body goes to `take`, which says whether to go on.
  Result<void> pages(std::string next, const std::string& scope, const std::string& what,
                     const std::function<Result<bool>(const std::string& body)>& take);
  Result<HttpAnswer> send_with_retries(const HttpRequest& request, int retries);

  HttpEngine& http_;
  const RegistrySettings& settings_;
  Endpoint endpoint_;
  Credentials credentials_;

  enum class Scheme { kNone, kBasic, kBearer };
  struct Token {
    std::string value;
    std::chrono::steady_clock::time_point good_until;
  };
  std::mutex mutex_;
  Scheme scheme_ = Scheme::kNone;
  std::string realm_, service_;
  std::map<std::string, Token> tokens_;
};

/// The wait before attempt number `attempt` (from 1): what the server asked for, else 0.25 s doubling to 8 s with
/// jitter.
std::chrono::milliseconds backoff(int attempt, std::string_view retry_after);

}  // namespace hull::store
