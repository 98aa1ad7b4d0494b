#include "store/registry/client.h"

#include <sys/random.h>

#include <algorithm>

#include "base/error_format.h"
#include "store/layer/hasher.h"
#include "store/layout.h"
#include "store/registry/http_answers.h"
#include "sys/file.h"

namespace hull::store {
namespace {

constexpr std::string_view kAcceptManifests[] = {oci::kMediaTypeIndex, oci::kMediaTypeManifest,
                                                 oci::kMediaTypeDockerList, oci::kMediaTypeDockerManifest};
constexpr std::chrono::milliseconds kUploadStall{300000};
constexpr size_t kMaxTokenAnswer = 1 << 20;
constexpr int kMaxTagPages = 1000;

Digest digest_of(std::string_view algorithm, std::string_view data) {
  auto hasher = Hasher::create(algorithm);
  if (!hasher.ok()) return {};
  hasher->update(std::as_bytes(std::span(data)));
  return hasher->finish();
}

/// The CAs and client certificate of a host: hull.toml's, and those in /etc/docker/certs.d and /etc/hull/certs.d.
Result<TlsOptions> tls_for(const std::string& host, const RegistryHost& config) {
  TlsOptions tls;
  tls.verify = !config.insecure;
  tls.client_cert = config.client_cert;
  tls.client_key = config.client_key;
  if (!config.ca.empty()) {
    auto pem = sys::read_file(config.ca, 4 << 20);
    if (!pem.ok()) return std::move(pem).error().context(fmt::format("CA of registry {}", host));
    tls.ca_pem += *pem + "\n";
    // Who names a CA wants it checked, also for localhost.
    tls.verify = true;
  }
  for (const char* root : {"/etc/hull/certs.d/", "/etc/docker/certs.d/"}) {
    const std::string folder = root + host;
    auto names = folder_entries(folder);
    if (!names.ok()) continue;
    std::sort(names->begin(), names->end());
    for (const std::string& name : *names) {
      const std::string path = folder + "/" + name;
      if (name.ends_with(".crt")) {
        TRY_ASSIGN(const std::string pem, sys::read_file(path, 4 << 20));
        tls.ca_pem += pem + "\n";
      } else if (name.ends_with(".cert") && tls.client_cert.empty()) {
        const std::string key = path.substr(0, path.size() - 5) + ".key";
        if (sys::exists(key)) {
          tls.client_cert = path;
          tls.client_key = key;
        }
      }
    }
  }
  return tls;
}

Result<Endpoint> endpoint_for(const std::string& registry, const std::string& address, const RegistrySettings& settings,
                              bool mirror) {
  Endpoint out;
  out.is_mirror = mirror;
  std::string host = address;
  std::string scheme;
  if (const size_t at = address.find("://"); at != std::string::npos) {
    scheme = address.substr(0, at);
    host = address.substr(at + 3);
  }
  const RegistryHost config = settings.host(host);
  out.registry = mirror ? host : registry;
  TRY_ASSIGN(out.tls, tls_for(host, config));
  if (scheme == "http") {
    out.base = "http://" + host;
    return out;
  }
  out.base = "https://" + (host == "docker.io" ? std::string("registry-1.docker.io") : host);
  out.try_plain = config.insecure && scheme.empty();
  return out;
}

}  // namespace

std::chrono::milliseconds backoff(int attempt, std::string_view retry_after) {
  if (const auto asked = parse_retry_after(retry_after, std::chrono::system_clock::now())) {
    return std::min(std::chrono::milliseconds(*asked), std::chrono::milliseconds(120000));
  }
  const int64_t base = std::min<int64_t>(8000, 250LL << std::clamp(attempt - 1, 0, 10));
  unsigned jitter = 0;
  if (::getrandom(&jitter, sizeof jitter, GRND_NONBLOCK) != sizeof jitter) jitter = 0;
  return std::chrono::milliseconds(base + static_cast<int64_t>(jitter % static_cast<unsigned>(base / 4 + 1)));
}

Result<std::vector<Endpoint>> endpoints_of(const std::string& registry, const RegistrySettings& settings,
                                           bool for_push) {
  std::vector<Endpoint> out;
  if (!for_push) {
    for (const std::string& mirror : settings.host(registry).mirrors) {
      TRY_ASSIGN(Endpoint endpoint, endpoint_for(registry, mirror, settings, true));
      out.push_back(std::move(endpoint));
    }
  }
  TRY_ASSIGN(Endpoint own, endpoint_for(registry, registry, settings, false));
  out.push_back(std::move(own));
  return out;
}

Result<std::shared_ptr<RegistrySession>> RegistrySession::connect(HttpEngine& http, const RegistrySettings& settings,
                                                                  const Endpoint& endpoint, Credentials credentials) {
  std::shared_ptr<RegistrySession> session(new RegistrySession(http, settings, endpoint, std::move(credentials)));
  const auto ping = [&](int retries) {
    HttpRequest request;
    request.url = session->endpoint_.base + "/v2/";
    request.tls = session->endpoint_.tls;
    request.stall_timeout = settings.stall_timeout;
    request.max_body = 1 << 20;
    return session->send_with_retries(request, retries);
  };
  auto answer = ping(endpoint.try_plain ? 0 : std::min(settings.retries, 2));
  if (!answer.ok() && endpoint.try_plain && !http.interrupted()) {
    session->endpoint_.base = "http://" + endpoint.base.substr(endpoint.base.find("://") + 3);
    auto plain = ping(std::min(settings.retries, 2));
    if (plain.ok()) {
      answer = std::move(plain);
    } else {
      // A TLS failure tells more than the refusal to speak plain HTTP on a TLS port, a refused connection less.
      session->endpoint_.base = endpoint.base;
      if (answer.error().kind() != ErrorKind::kPermission) answer = std::move(plain);
    }
  }
  if (!answer.ok()) return std::move(answer).error().context(fmt::format("registry {}", endpoint.registry));
  if (answer->status == 401) {
    if (!session->note_challenge(*answer)) {
      return errorf(ErrorKind::kUnavailable,
                    "registry {}: it asks for authentication and names no way that is known (basic, bearer)",
                    endpoint.registry);
    }
  } else if (is_transient_status(answer->status)) {
    return session->answer_error(*answer, "ask for /v2/");
  }
  return session;
}

bool RegistrySession::note_challenge(const HttpAnswer& answer) {
  const std::lock_guard guard(mutex_);
  const auto [first, last] = answer.headers.equal_range("www-authenticate");
  bool basic = false;
  for (auto it = first; it != last; ++it) {
    for (const AuthChallenge& challenge : parse_www_authenticate(it->second)) {
      if (challenge.scheme == "bearer") {
        const auto realm = challenge.parameters.find("realm");
        if (realm == challenge.parameters.end()) continue;
        auto address = resolve_url("", realm->second);
        if (!address.ok()) continue;
        // Passwords don't go to a plain HTTP address that a TLS registry names.
        if (endpoint_.base.starts_with("https://") && endpoint_.tls.verify && address->starts_with("http://")) continue;
        const auto service = challenge.parameters.find("service");
        realm_ = *std::move(address);
        service_ = service == challenge.parameters.end() ? "" : service->second;
        scheme_ = Scheme::kBearer;
        return true;
      }
      if (challenge.scheme == "basic") basic = true;
    }
  }
  if (basic) scheme_ = Scheme::kBasic;
  return basic;
}

Result<std::string> RegistrySession::fetch_token(const std::string& scope, std::string* refresh_token) {
  // Same host: the same CAs and client certificate. Another host: what its own settings say.
  TlsOptions tls = endpoint_.tls;
  if (origin_of(realm_) != origin_of(endpoint_.base)) {
    const std::string rest = realm_.substr(realm_.find("://") + 3);
    const std::string host = rest.substr(0, rest.find_first_of("/?"));
    const std::string bare_host = host.substr(0, host.rfind(':') == std::string::npos ? host.size() : host.rfind(':'));
    const bool known = settings_.hosts.contains(host) || settings_.hosts.contains(bare_host);
    TRY_ASSIGN(TlsOptions other, tls_for(known && !settings_.hosts.contains(host) ? bare_host : host,
                                         settings_.host(settings_.hosts.contains(host) ? host : bare_host)));
    // A registry that is not verified vouches for nothing, so its token server on the same machine is treated alike.
    const std::string own = endpoint_.base.substr(endpoint_.base.find("://") + 3);
    if (!known && own.substr(0, own.rfind(':')) == bare_host) {
      other.verify = tls.verify;
      other.ca_pem = tls.ca_pem;
    }
    tls = std::move(other);
  }
  std::string query;
  const auto add = [&query](std::string_view name, std::string_view value) {
    if (value.empty()) return;
    query += (query.empty() ? "" : "&") + std::string(name) + "=" + url_encode(value);
  };
  HttpRequest request;
  request.tls = std::move(tls);
  request.stall_timeout = settings_.stall_timeout;
  request.max_body = kMaxTokenAnswer;

  Result<HttpAnswer> answer = errorf(ErrorKind::kInternal, "no token request was made");
  bool asked = false;
  if (!credentials_.identity_token.empty() || refresh_token != nullptr) {
    // OAuth 2 (distribution's docs/spec/auth/oauth.md).
    add("grant_type", credentials_.identity_token.empty() ? "password" : "refresh_token");
    add("service", service_);
    add("client_id", "hull");
    add("scope", scope);
    if (credentials_.identity_token.empty()) {
      add("access_type", "offline");
      add("username", credentials_.username);
      add("password", credentials_.password);
    } else {
      add("refresh_token", credentials_.identity_token);
    }
    request.method = "POST";
    request.url = realm_;
    request.body = query;
    request.headers = {"Content-Type: application/x-www-form-urlencoded"};
    answer = send_with_retries(request, settings_.retries);
    asked = !answer.ok() || (answer->status != 404 && answer->status != 405) || credentials_.password.empty();
  }
  if (!asked) {
    query.clear();
    add("service", service_);
    // Several scopes are several parameters.
    for (size_t begin = 0; begin < scope.size();) {
      const size_t end = std::min(scope.find(' ', begin), scope.size());
      add("scope", std::string_view(scope).substr(begin, end - begin));
      begin = end + 1;
    }
    if (!credentials_.username.empty()) add("account", credentials_.username);
    request.method = "GET";
    request.body.clear();
    request.headers.clear();
    request.url = realm_ + (realm_.find('?') == std::string::npos ? "?" : "&") + query;
    if (!credentials_.username.empty()) {
      request.authorization = "Basic " + base64_encode(credentials_.username + ":" + credentials_.password);
    }
    answer = send_with_retries(request, settings_.retries);
  }
  if (!answer.ok()) return std::move(answer).error().context(fmt::format("token for registry {}", endpoint_.registry));
  if (answer->status < 200 || answer->status > 299) {
    return answer_error(*answer, "get a token");
  }
  TRY_ASSIGN(TokenAnswer token, parse_token_answer(answer->body));
  if (refresh_token != nullptr) *refresh_token = token.refresh_token;
  // A tenth of its life is left for the request that carries it.
  tokens_[scope] = Token{"Bearer " + token.token, std::chrono::steady_clock::now() + token.lifetime * 9 / 10};
  return tokens_[scope].value;
}

Result<std::string> RegistrySession::authorization(const std::string& scope, const std::string& stale) {
  const std::lock_guard guard(mutex_);
  switch (scheme_) {
    case Scheme::kNone:
      return std::string();
    case Scheme::kBasic:
      if (credentials_.username.empty()) return std::string();
      return "Basic " + base64_encode(credentials_.username + ":" + credentials_.password);
    case Scheme::kBearer:
      break;
  }
  const auto it = tokens_.find(scope);
  if (it != tokens_.end() && it->second.value != stale && it->second.good_until > std::chrono::steady_clock::now()) {
    return it->second.value;
  }
  // Under the lock: threads that want the same token wait for one request.
  return fetch_token(scope, nullptr);
}

std::string RegistrySession::url(const std::string& repository, const std::string& rest) const {
  return endpoint_.base + "/v2/" + repository + "/" + rest;
}

Result<HttpRequest> RegistrySession::prepare(const std::string& method, const std::string& address,
                                             const std::string& scope, const std::string& stale) {
  HttpRequest request;
  request.method = method;
  request.url = address;
  request.tls = endpoint_.tls;
  request.stall_timeout = settings_.stall_timeout;
  // An upload may be told to go to another host (object storage): it gets no credentials of ours.
  if (origin_of(address) == origin_of(endpoint_.base)) {
    TRY_ASSIGN(request.authorization, authorization(scope, stale));
  } else {
    request.tls.client_cert.clear();
    request.tls.client_key.clear();
  }
  return request;
}

Result<HttpAnswer> RegistrySession::send_with_retries(const HttpRequest& request, int retries) {
  for (int attempt = 1;; ++attempt) {
    auto answer = http_.perform(request);
    const bool again = answer.ok() ? is_transient_status(answer->status) : is_transient(answer.error());
    if (!again || attempt > retries) return answer;
    if (!http_.wait_for(backoff(attempt, answer.ok() ? answer->header("retry-after") : ""))) return answer;
  }
}

Result<HttpAnswer> RegistrySession::send(HttpRequest request, const std::string& scope, bool retry) {
  std::string stale;
  for (int round = 0;; ++round) {
    TRY_ASSIGN(HttpRequest full, prepare(request.method, request.url, scope, stale));
    full.headers = request.headers;
    full.body = request.body;
    full.max_body = request.max_body;
    if (request.method != "GET" && request.method != "HEAD") full.stall_timeout = kUploadStall;
    TRY_ASSIGN(HttpAnswer answer, send_with_retries(full, retry ? settings_.retries : 0));
    // One more try with a fresh token; a second refusal is an answer, not a reason to go on asking.
    if (answer.status != 401 || round > 0) return answer;
    if (!note_challenge(answer)) return answer;
    stale = full.authorization;
  }
}

Error RegistrySession::answer_error(const HttpAnswer& answer, std::string_view what) const {
  const ErrorAnswer told = parse_error_answer(answer.body, answer.header("content-type"));
  std::string words = told.message.empty() ? told.code : told.message;
  if (told.html) {
    words = words.empty() ? "an HTML page instead of a registry's answer"
                          : fmt::format("an HTML page (\"{}\") instead of a registry's answer", words);
  }
  const std::string suffix = words.empty() ? "" : ": " + words;
  const auto make = [&](ErrorKind kind, std::string_view advice) {
    return errorf(kind, "registry {}: {}: it answered {}{}{}", endpoint_.registry, what, answer.status, suffix, advice);
  };
  switch (answer.status) {
    case 401:
      return credentials_.empty() ? make(ErrorKind::kPermission,
                                         fmt::format("; log in with 'hull login{}'",
                                                     endpoint_.registry == "docker.io" ? "" : " " + endpoint_.registry))
                                  : make(ErrorKind::kPermission,
                                         "; the stored credentials are not accepted, log in again with 'hull login'");
    case 403:
      return make(ErrorKind::kPermission, "; this account may not do that");
    case 404:
      return make(ErrorKind::kNotFound, "");
    case 413:
      return make(ErrorKind::kNoSpace, "");
    case 429:
      return make(ErrorKind::kUnavailable, "; too many requests, try again later or log in");
    default:
      if (answer.status >= 500) return make(ErrorKind::kUnavailable, "; try again later");
      return make(told.html ? ErrorKind::kUnavailable : ErrorKind::kInvalid, "");
  }
}

Result<void> RegistrySession::log_in(std::string* identity_token) {
  if (scheme_ == Scheme::kBearer) {
    const std::lock_guard guard(mutex_);
    if (credentials_.identity_token.empty()) {
      // A server without the OAuth form answers 404 or 405, and the plain form is used.
      TRY(fetch_token("", identity_token));
    } else {
      TRY(fetch_token("", nullptr));
    }
  }
  HttpRequest request;
  request.url = endpoint_.base + "/v2/";
  TRY_ASSIGN(const HttpAnswer answer, send(std::move(request), "", true));
  if (answer.status == 401 || answer.status == 403) {
    return errorf(ErrorKind::kPermission, "registry {}: user name or password is wrong", endpoint_.registry);
  }
  if (answer.status < 200 || answer.status > 299) return answer_error(answer, "log in");
  return {};
}

Result<ManifestAnswer> RegistrySession::manifest(const std::string& repository, const std::string& reference) {
  HttpRequest request;
  request.url = url(repository, "manifests/" + reference);
  for (const std::string_view type : kAcceptManifests) request.headers.push_back("Accept: " + std::string(type));
  request.max_body = oci::kMaxManifestBytes;
  const std::string name = repository + (reference.find(':') == std::string::npos ? ":" : "@") + reference;
  TRY_ASSIGN(HttpAnswer answer, send(std::move(request), pull_scope(repository), true));
  if (answer.status == 404) {
    return answer_error(answer, fmt::format("manifest of {}", name)).as(ErrorKind::kNotFound);
  }
  if (answer.status < 200 || answer.status > 299) return answer_error(answer, fmt::format("manifest of {}", name));
  ManifestAnswer out;
  out.content_type = answer.header("content-type");
  out.body = std::move(answer.body);
  // The digest that was asked for, or the one that the registry names, must be the digest of what came.
  std::string want = reference.find(':') != std::string::npos ? reference : answer.header("docker-content-digest");
  std::string algorithm = "sha256";
  if (auto parsed = Digest::parse(want); parsed.ok()) {
    algorithm = parsed->algorithm();
  } else {
    want.clear();
  }
  out.digest = digest_of(algorithm, out.body);
  if (!want.empty() && out.digest.str() != want) {
    if (parse_error_answer(out.body, out.content_type).html) {
      return errorf(ErrorKind::kUnavailable, "registry {}: manifest of {}: an HTML page came instead",
                    endpoint_.registry, name);
    }
    return errorf(ErrorKind::kCorrupt, "registry {}: manifest of {}: its digest is {}, not {}", endpoint_.registry,
                  name, out.digest.str(), want);
  }
  return out;
}

Result<std::string> RegistrySession::small_blob(const std::string& repository, const oci::Descriptor& descriptor,
                                                size_t limit) {
  const std::string what = fmt::format("blob {} of {}", descriptor.digest.short_hex(), repository);
  if (descriptor.size < 0 || static_cast<uint64_t>(descriptor.size) > limit) {
    return errorf(ErrorKind::kInvalid, "{}: it has {} bytes, the limit is {}", what, descriptor.size, limit);
  }
  HttpRequest request;
  request.url = url(repository, "blobs/" + descriptor.digest.str());
  request.max_body = static_cast<size_t>(descriptor.size);
  TRY_ASSIGN(HttpAnswer answer, send(std::move(request), pull_scope(repository), true));
  if (answer.status < 200 || answer.status > 299) return answer_error(answer, what);
  const Digest got = digest_of(descriptor.digest.algorithm(), answer.body);
  if (got != descriptor.digest || answer.body.size() != static_cast<size_t>(descriptor.size)) {
    return errorf(ErrorKind::kCorrupt, "registry {}: {}: {} bytes with digest {} came, not {} bytes with {}",
                  endpoint_.registry, what, answer.body.size(), got.str(), descriptor.size, descriptor.digest.str());
  }
  return std::move(answer.body);
}

Result<void> RegistrySession::pages(std::string next, const std::string& scope, const std::string& what,
                                    const std::function<Result<bool>(const std::string& body)>& take) {
  std::set<std::string> seen;
  while (!next.empty()) {
    if (!seen.insert(next).second || seen.size() > kMaxTagPages) {
      return errorf(ErrorKind::kUnavailable, "registry {}: {} does not end", endpoint_.registry, what);
    }
    HttpRequest request;
    request.url = next;
    TRY_ASSIGN(const HttpAnswer answer, send(std::move(request), scope, true));
    if (answer.status < 200 || answer.status > 299) return answer_error(answer, what);
    TRY_ASSIGN(const bool go_on, take(answer.body));
    const std::string link = go_on ? parse_link_next(answer.header("link")) : std::string();
    next.clear();
    if (!link.empty()) {
      TRY_ASSIGN(next, resolve_url(answer.url, link));
      if (origin_of(next) != origin_of(endpoint_.base)) {
        return errorf(ErrorKind::kUnavailable, "registry {}: {} goes on at another host", endpoint_.registry, what);
      }
    }
  }
  return {};
}

Result<std::vector<std::string>> RegistrySession::tags(const std::string& repository) {
  std::vector<std::string> out;
  TRY(pages(url(repository, "tags/list?n=1000"), pull_scope(repository), fmt::format("the tag list of {}", repository),
            [&](const std::string& body) -> Result<bool> {
              TRY_ASSIGN(std::vector<std::string> page, parse_tag_list(body));
              for (std::string& tag : page) {
                // What is no tag can't be asked for.
                if (oci::parse_reference("x:" + tag).ok()) out.push_back(std::move(tag));
              }
              return true;
            }));
  return out;
}

Result<std::vector<std::string>> RegistrySession::catalogue(size_t limit) {
  std::vector<std::string> out;
  TRY(pages(endpoint_.base + "/v2/_catalog?n=1000", "registry:catalog:*", "the catalogue",
            [&](const std::string& body) -> Result<bool> {
              TRY_ASSIGN(std::vector<std::string> page, parse_catalogue(body));
              for (std::string& name : page) {
                if (out.size() < limit && oci::parse_reference("x.example/" + name).ok())
                  out.push_back(std::move(name));
              }
              return out.size() < limit;
            }));
  return out;
}

Result<std::optional<uint64_t>> RegistrySession::blob_exists(const std::string& repository, const Digest& digest) {
  HttpRequest request;
  request.method = "HEAD";
  request.url = url(repository, "blobs/" + digest.str());
  TRY_ASSIGN(const HttpAnswer answer, send(std::move(request), push_scope(repository), true));
  if (answer.status == 404) return std::optional<uint64_t>();
  if (answer.status < 200 || answer.status > 299) {
    return answer_error(answer, fmt::format("look for blob {} in {}", digest.short_hex(), repository));
  }
  const std::string length = answer.header("content-length");
  uint64_t size = 0;
  for (const char c : length.substr(0, 18)) {
    if (c >= '0' && c <= '9') size = size * 10 + static_cast<uint64_t>(c - '0');
  }
  return std::optional<uint64_t>(size);
}

Result<bool> RegistrySession::mount_blob(const std::string& repository, const Digest& digest, const std::string& from,
                                         std::string* upload_url) {
  HttpRequest request;
  request.method = "POST";
  request.url = url(repository, "blobs/uploads/?mount=" + url_encode(digest.str()) + "&from=" + url_encode(from));
  upload_url->clear();
  TRY_ASSIGN(const HttpAnswer answer, send(std::move(request), push_scope(repository) + " " + pull_scope(from), false));
  if (answer.status == 201) return true;
  if (answer.status == 202) {
    TRY_ASSIGN(*upload_url, resolve_url(answer.url, answer.header("location")));
    return false;
  }
  // No right to read there, or not supported: upload it.
  if (answer.status == 401 || answer.status == 403 || answer.status == 404 || answer.status == 405) return false;
  return answer_error(answer, fmt::format("mount blob {} from {}", digest.short_hex(), from));
}

Result<std::string> RegistrySession::begin_upload(const std::string& repository) {
  HttpRequest request;
  request.method = "POST";
  request.url = url(repository, "blobs/uploads/");
  TRY_ASSIGN(const HttpAnswer answer, send(std::move(request), push_scope(repository), true));
  if (answer.status != 202) return answer_error(answer, fmt::format("begin an upload to {}", repository));
  const std::string location = answer.header("location");
  if (location.empty()) {
    return errorf(ErrorKind::kUnavailable, "registry {}: it began an upload and did not say where", endpoint_.registry);
  }
  return resolve_url(answer.url, location);
}

Result<void> RegistrySession::upload_small(const std::string& repository, const Digest& digest,
                                           const std::string& data) {
  TRY_ASSIGN(std::string address, begin_upload(repository));
  HttpRequest request;
  request.method = "PUT";
  request.url = address + (address.find('?') == std::string::npos ? "?" : "&") + "digest=" + url_encode(digest.str());
  request.headers = {"Content-Type: application/octet-stream"};
  request.body = data;
  TRY_ASSIGN(const HttpAnswer answer, send(std::move(request), push_scope(repository), false));
  if (answer.status != 201 && answer.status != 204) {
    return answer_error(answer, fmt::format("upload blob {} to {}", digest.short_hex(), repository));
  }
  return {};
}

Result<void> RegistrySession::put_manifest(const std::string& repository, const std::string& reference,
                                           const std::string& media_type, const std::string& body,
                                           const Digest& digest) {
  HttpRequest request;
  request.method = "PUT";
  request.url = url(repository, "manifests/" + reference);
  request.headers = {"Content-Type: " + media_type};
  request.body = body;
  TRY_ASSIGN(const HttpAnswer answer, send(std::move(request), push_scope(repository), true));
  if (answer.status < 200 || answer.status > 299) {
    return answer_error(answer, fmt::format("put the manifest of {}:{}", repository, reference));
  }
  const std::string told = answer.header("docker-content-digest");
  if (!told.empty() && told != digest.str()) {
    return errorf(ErrorKind::kCorrupt, "registry {}: it took the manifest of {}:{} as {}, it is {}", endpoint_.registry,
                  repository, reference, printable_line(told, 100), digest.str());
  }
  return {};
}

}  // namespace hull::store
