#include "store/registry/credentials.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/error_format.h"
#include "store/registry/http_answers.h"
#include "sys/file.h"

namespace hull::store {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxConfig = 4 << 20;
constexpr size_t kMaxHelperAnswer = 1 << 20;
constexpr std::chrono::seconds kHelperTimeout{60};

/// The document, {} when there is no file.
Result<Json> load(const std::string& path) {
  auto text = sys::read_file(path, kMaxConfig);
  if (!text.ok()) {
    if (text.error().kind() == ErrorKind::kNotFound) return Json::object();
    return std::move(text).error();
  }
  Json json = Json::parse(*text, nullptr, false);
  if (!json.is_object()) {
    return errorf(ErrorKind::kInvalid, "{}: it is not a JSON object; repair or remove it", path);
  }
  return json;
}

std::string text_of(const Json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

/// "https://host/v1/" -> "host"
std::string host_of(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  return std::string(key.substr(0, key.find('/')));
}

bool same_registry(std::string_view key, const std::string& registry) {
  if (key == credential_key(registry) || key == registry) return true;
  const std::string host = host_of(key);
  return host == registry || (registry == "docker.io" && (host == "index.docker.io" || host == "docker.io"));
}

/// The helper for a registry: credHelpers first, then credsStore.
std::string helper_for(const Json& config, const std::string& registry) {
  const auto helpers = config.find("credHelpers");
  if (helpers != config.end() && helpers->is_object()) {
    for (const auto& [key, value] : helpers->items()) {
      if (same_registry(key, registry) && value.is_string()) return value.get<std::string>();
    }
  }
  return text_of(config, "credsStore");
}

struct HelperAnswer {
  int exit_code = 0;
  std::string output;
};

/// Runs docker-credential-<name> <verb> with `input` on its standard input (docker-credential-helpers' protocol).
Result<HelperAnswer> run_helper(const std::string& name, const char* verb, const std::string& input) {
  const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
  });
  if (!plain || name.size() > 100) {
    return errorf(ErrorKind::kInvalid, "credential helper \"{}\": not a program name", printable_line(name, 100));
  }
  const std::string program = "docker-credential-" + name;
  TRY_ASSIGN(sys::Pipe to, sys::make_pipe());
  TRY_ASSIGN(sys::Pipe from, sys::make_pipe());
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, to.read_end.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, from.write_end.get(), STDOUT_FILENO);
  std::string verb_text = verb;
  std::string program_text = program;
  char* const argv[] = {program_text.data(), verb_text.data(), nullptr};
  pid_t pid = -1;
  const int failed = ::posix_spawnp(&pid, program.c_str(), &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    return Error::from_errno(failed,
                             fmt::format("credential helper {}: it is named in Docker's config.json and can't be "
                                         "run (install it, or take its name out)",
                                         program));
  }
  to.read_end.reset();
  from.write_end.reset();
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  // The input is far smaller than a pipe's buffer; a helper that has ended already must not kill us.
  const auto old_handler = ::signal(SIGPIPE, SIG_IGN);
  ignore_result(sys::write_all(to.write_end.get(), input));
  ::signal(SIGPIPE, old_handler);
  to.write_end.reset();

  HelperAnswer answer;
  const auto deadline = std::chrono::steady_clock::now() + kHelperTimeout;
  bool late = false;
  while (answer.output.size() <= kMaxHelperAnswer) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wait{from.read_end.get(), POLLIN, 0};
    const int ready = ::poll(&wait, 1, static_cast<int>(std::max<int64_t>(0, left.count())));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      late = true;
      break;
    }
    char buffer[4096];
    const ssize_t got = ::read(from.read_end.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    answer.output.append(buffer, static_cast<size_t>(got));
  }
  const bool too_long = answer.output.size() > kMaxHelperAnswer;
  if (late || too_long) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (late) return errorf(ErrorKind::kTimeout, "credential helper {}: no answer in 60 s", program);
  if (too_long) return errorf(ErrorKind::kInvalid, "credential helper {}: its answer is too long", program);
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return answer;
}

Error helper_failed(const std::string& name, const char* verb, const HelperAnswer& answer) {
  return errorf(ErrorKind::kUnavailable, "docker-credential-{} {}: {}", name, verb, printable_line(answer.output, 200));
}

Result<Credentials> from_helper(const std::string& name, const std::string& registry) {
  TRY_ASSIGN(const HelperAnswer answer, run_helper(name, "get", credential_key(registry)));
  if (answer.exit_code != 0) {
    if (answer.output.find("credentials not found") != std::string::npos) return Credentials();
    return helper_failed(name, "get", answer);
  }
  const Json json = Json::parse(answer.output, nullptr, false);
  if (!json.is_object()) {
    return errorf(ErrorKind::kUnavailable, "docker-credential-{} get: its answer is not JSON", name);
  }
  Credentials out;
  out.username = text_of(json, "Username");
  const std::string secret = text_of(json, "Secret");
  if (out.username == "<token>") {
    out.username.clear();
    out.identity_token = secret;
  } else {
    out.password = secret;
  }
  return out;
}

Credentials from_entry(const Json& entry) {
  Credentials out;
  if (!entry.is_object()) return out;
  out.identity_token = text_of(entry, "identitytoken");
  out.username = text_of(entry, "username");
  out.password = text_of(entry, "password");
  if (const auto pair = base64_decode(text_of(entry, "auth")); pair && !pair->empty()) {
    const size_t colon = pair->find(':');
    out.username = pair->substr(0, colon);
    if (colon != std::string::npos) out.password = pair->substr(colon + 1);
    while (!out.password.empty() && out.password.back() == '\0') out.password.pop_back();
  }
  return out;
}

Result<void> save(const std::string& folder, const std::string& file, const Json& config) {
  TRY(sys::make_dirs(folder, 0700).context("credentials"));
  // A linked config.json (dotfile managers) stays a link.
  std::string target = file;
  if (const std::unique_ptr<char, void (*)(void*)> real(::realpath(file.c_str(), nullptr), ::free); real != nullptr) {
    target = real.get();
  }
  return sys::replace_file(target, config.dump(1, '\t', false, Json::error_handler_t::replace) + "\n", 0600);
}

}  // namespace

std::string base64_encode(std::string_view data) {
  std::string out((data.size() + 2) / 3 * 4 + 1, '\0');
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(data.data()), static_cast<int>(data.size()));
  out.resize(static_cast<size_t>(size));
  return out;
}

std::optional<std::string> base64_decode(std::string_view text) {
  if (text.empty() || text.size() > (1 << 20) || text.size() % 4 != 0) return std::nullopt;
  std::string out(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  // EVP_DecodeBlock counts the padding as zero bytes.
  size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
  out.resize(static_cast<size_t>(size) - padding);
  return out;
}

std::string credential_key(const std::string& registry) {
  return registry == "docker.io" ? "https://index.docker.io/v1/" : registry;
}

CredentialStore CredentialStore::from_environment() {
  if (const char* folder = ::getenv("DOCKER_CONFIG"); folder != nullptr && *folder != '\0') {
    return CredentialStore(folder);
  }
  const char* home = ::getenv("HOME");
  return CredentialStore(std::string(home != nullptr && *home != '\0' ? home : "/root") + "/.docker");
}

CredentialStore CredentialStore::fixed(std::string registry, Credentials credentials) {
  CredentialStore store{std::string()};
  store.fixed_.emplace(std::move(registry), std::move(credentials));
  return store;
}

Result<Credentials> CredentialStore::find(const std::string& registry) const {
  if (fixed_) return registry == fixed_->first ? fixed_->second : Credentials();
  TRY_ASSIGN(const Json config, load(file()));
  if (const std::string helper = helper_for(config, registry); !helper.empty()) {
    auto found = from_helper(helper, registry);
    if (!found.ok() || !found->empty()) return found;
  }
  const auto auths = config.find("auths");
  if (auths == config.end() || !auths->is_object()) return Credentials();
  // The exact key wins over one that only names the same host.
  for (const std::string& key : {credential_key(registry), registry}) {
    if (const auto it = auths->find(key); it != auths->end()) {
      Credentials found = from_entry(*it);
      if (!found.empty()) return found;
    }
  }
  for (const auto& [key, entry] : auths->items()) {
    if (!same_registry(key, registry)) continue;
    Credentials found = from_entry(entry);
    if (!found.empty()) return found;
  }
  return Credentials();
}

Result<CredentialStore::Stored> CredentialStore::store(const std::string& registry,
                                                       const Credentials& credentials) const {
  TRY_ASSIGN(Json config, load(file()));
  const std::string key = credential_key(registry);
  const bool has_token = !credentials.identity_token.empty();
  if (const std::string helper = helper_for(config, registry); !helper.empty()) {
    const Json request = {{"ServerURL", key},
                          {"Username", has_token ? "<token>" : credentials.username},
                          {"Secret", has_token ? credentials.identity_token : credentials.password}};
    TRY_ASSIGN(const HelperAnswer answer, run_helper(helper, "store", request.dump()));
    if (answer.exit_code != 0) return helper_failed(helper, "store", answer);
    // Docker keeps an empty entry, so that other programs see which registries there are.
    if (!config["auths"].is_object()) config["auths"] = Json::object();
    config["auths"][key] = Json::object();
    TRY(save(folder_, file(), config));
    return Stored{"", helper};
  }
  Json entry = Json::object();
  entry["auth"] = base64_encode(credentials.username + ":" + (has_token ? std::string() : credentials.password));
  if (has_token) entry["identitytoken"] = credentials.identity_token;
  if (!config["auths"].is_object()) config["auths"] = Json::object();
  config["auths"][key] = std::move(entry);
  TRY(save(folder_, file(), config));
  return Stored{file(), ""};
}

Result<bool> CredentialStore::erase(const std::string& registry) const {
  TRY_ASSIGN(Json config, load(file()));
  bool found = false;
  if (const std::string helper = helper_for(config, registry); !helper.empty()) {
    TRY_ASSIGN(const HelperAnswer answer, run_helper(helper, "erase", credential_key(registry)));
    if (answer.exit_code == 0) {
      found = true;
    } else if (answer.output.find("credentials not found") == std::string::npos) {
      return helper_failed(helper, "erase", answer);
    }
  }
  const auto auths = config.find("auths");
  if (auths == config.end() || !auths->is_object()) return found;
  std::vector<std::string> keys;
  for (const auto& [key, entry] : auths->items()) {
    if (same_registry(key, registry)) keys.push_back(key);
  }
  for (const std::string& key : keys) auths->erase(key);
  if (!keys.empty()) TRY(save(folder_, file(), config));
  return found || !keys.empty();
}

}  // namespace hull::store
