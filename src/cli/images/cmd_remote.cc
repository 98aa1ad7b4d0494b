// What is asked of a registry without moving images: distribution inspect, credentials, search.
#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"
#include "cli/images/images_app.h"
#include "cli/images/progress_view.h"
#include "cli/table.h"
#include "store/registry/client.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

constexpr size_t kMaxAuth = 64 << 10;

Result<std::shared_ptr<store::RegistrySession>> session_with(ImagesApp& app, const std::string& registry,
                                                             bool for_push) {
  TRY_ASSIGN(const auto endpoints, store::endpoints_of(registry, app.settings(), for_push));
  TRY_ASSIGN(store::Credentials credentials, app.credentials().find(registry));
  return store::RegistrySession::connect(app.http(), app.settings(), endpoints.back(), std::move(credentials));
}

void write_platform(JsonWriter& w, const oci::Platform& platform) {
  w.object([&] {
    w.member("architecture", platform.architecture);
    w.member("os", platform.os);
    w.member_opt("variant", platform.variant);
  });
}

Result<std::vector<oci::Platform>> platforms_of(store::RegistrySession& session, const oci::Reference& reference,
                                                const store::ManifestAnswer& answer) {
  std::vector<oci::Platform> platforms;
  TRY_ASSIGN(const bool many, oci::is_index(answer.body, answer.content_type));
  if (many) {
    TRY_ASSIGN(const oci::Index index, oci::parse_index(answer.body));
    for (const oci::Descriptor& one : index.manifests) {
      if (one.platform && one.platform->os != "unknown") platforms.push_back(*one.platform);
    }
    return platforms;
  }
  TRY_ASSIGN(const oci::Manifest manifest, oci::parse_manifest(answer.body));
  TRY_ASSIGN(const std::string text, session.small_blob(reference.repository, manifest.config, oci::kMaxConfigBytes));
  TRY_ASSIGN(const oci::ImageConfig config, oci::parse_image_config(text));
  platforms.push_back(config.platform);
  return platforms;
}

constexpr Column kColumns[] = {
    {"Name", "NAME"}, {"Description", "DESCRIPTION"}, {"StarCount", "STARS"}, {"IsOfficial", "OFFICIAL"}};

}  // namespace

/// Docker's AuthConfig.
Result<std::string> ImagesApp::use_credentials(const std::string& file, std::string registry) {
  TRY_ASSIGN(const std::string text, sys::read_file(file, kMaxAuth));
  store::Credentials found;
  std::string server, joined, bearer;
  JsonReader r(text);
  r.object([&](std::string_view key) {
    if (key == "username") return r.value(found.username);
    if (key == "password") return r.value(found.password);
    if (key == "identitytoken") return r.value(found.identity_token);
    if (key == "serveraddress") return r.value(server);
    if (key == "auth") return r.value(joined);
    if (key == "registrytoken") return r.value(bearer);
    return false;
  });
  TRY(r.finish().context("registry authentication"));
  if (!bearer.empty()) {
    return errorf(ErrorKind::kUnsupported,
                  "registry authentication by registrytoken: give a user and a password, or an identity token");
  }
  if (found.username.empty() && !joined.empty()) {
    const auto plain = store::base64_decode(joined);
    const size_t colon = plain ? plain->find(':') : std::string::npos;
    if (colon == std::string::npos)
      return errorf(ErrorKind::kInvalid, "registry authentication: \"auth\" is no user and password");
    found.username = plain->substr(0, colon);
    found.password = plain->substr(colon + 1);
  }
  if (registry.empty()) {
    for (const std::string_view scheme : {"https://", "http://"}) {
      if (server.starts_with(scheme)) server.erase(0, scheme.size());
    }
    server.resize(std::min(server.find('/'), server.size()));
    const bool hub = server.empty() || server == "index.docker.io" || server == "registry-1.docker.io";
    registry = hub ? settings_.default_registry : server;
  }
  credentials_ = store::CredentialStore::fixed(registry, std::move(found));
  return registry;
}

Result<void> run_remote_inspect(ImagesApp& app, const Parsed& flags) {
  TRY_ASSIGN(const oci::Reference reference, oci::parse_reference(flags.arguments[0], app.settings().default_registry));
  if (flags.has("auth-file")) TRY(app.use_credentials(std::string(flags.value("auth-file")), reference.registry));
  TRY_ASSIGN(const auto session, session_with(app, reference.registry, false));
  TRY_ASSIGN(
      const store::ManifestAnswer answer,
      session->manifest(reference.repository, reference.digest.empty() ? reference.tag : reference.digest.str()));
  TRY_ASSIGN(const std::vector<oci::Platform> platforms, platforms_of(*session, reference, answer));
  JsonWriter w;
  w.object([&] {
    w.object("Descriptor", [&] {
      w.member("mediaType", answer.content_type);
      w.member("digest", answer.digest.str());
      w.member("size", answer.body.size());
    });
    w.array("Platforms", [&] {
      for (const oci::Platform& platform : platforms) write_platform(w, platform);
    });
  });
  return sys::write_all(STDOUT_FILENO, std::move(w).take() + "\n");
}

Result<void> run_check_login(ImagesApp& app, const Parsed& flags) {
  if (!flags.has("auth-file")) return errorf(ErrorKind::kInvalid, "check-login needs --auth-file");
  TRY_ASSIGN(const std::string registry, app.use_credentials(std::string(flags.value("auth-file")), ""));
  TRY_ASSIGN(const auto session, session_with(app, registry, true));
  std::string token;
  TRY(session->log_in(&token));
  JsonWriter w;
  w.object([&] {
    w.member("Status", "Login Succeeded");
    w.member("IdentityToken", token);
  });
  return sys::write_all(STDOUT_FILENO, std::move(w).take() + "\n");
}

Result<void> run_search(ImagesApp& app, const Parsed& flags) {
  int64_t limit = flags.number("limit").value_or(25);
  if (limit < 1 || limit > 100) return errorf(ErrorKind::kInvalid, "Limit {} is outside the range of [1, 100]", limit);
  // "host:port/part", or "part" at the default registry.
  std::string term = flags.arguments[0];
  std::string registry = app.settings().default_registry;
  if (const size_t slash = term.find('/'); slash != std::string::npos) {
    const std::string first = term.substr(0, slash);
    if (first.find_first_of(".:") != std::string::npos || first == "localhost") {
      registry = first;
      term.erase(0, slash + 1);
    }
  }
  if (flags.has("auth-file")) TRY(app.use_credentials(std::string(flags.value("auth-file")), registry));
  TRY_ASSIGN(const auto session, session_with(app, registry, false));
  constexpr size_t kMostRead = 100'000;
  auto all = session->catalogue(kMostRead);
  if (!all.ok()) return std::move(all).error().context(fmt::format("search in {}", registry));
  std::vector<Value> rows;
  for (const std::string& name : *all) {
    if (name.find(term) == std::string::npos || rows.size() >= static_cast<size_t>(limit)) continue;
    Value row = Value::object();
    row.set("Name", registry == app.settings().default_registry ? name : registry + "/" + name);
    row.set("Description", "").set("StarCount", "0").set("IsOfficial", "");
    rows.push_back(std::move(row));
  }
  if (json_output()) {
    JsonWriter w;
    w.array([&] {
      for (const Value& row : rows) {
        w.object([&] {
          w.member("star_count", 0);
          w.member("is_official", false);
          w.member("is_automated", false);
          w.member("name", *row.find("Name")->if_string());
          w.member("description", "");
        });
      }
    });
    return sys::write_all(STDOUT_FILENO, std::move(w).take() + "\n");
  }
  Output out(STDOUT_FILENO);
  const Listing listing = {kColumns, {"Name", "Description", "StarCount", "IsOfficial"}, "Name"};
  return print_rows(out, listing, flags.value("format"), false, flags.on("no-trunc"), rows);
}

}  // namespace hull::cli
