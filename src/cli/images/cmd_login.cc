#include <termios.h>
#include <unistd.h>

#include "base/error_format.h"
#include "cli/images/images_app.h"
#include "store/registry/client.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

constexpr size_t kMaxPassword = 64 << 10;

/// "https://host/" and Docker Hub's historical names are the host.
Result<std::string> registry_name(const ImagesApp& app, const Parsed& flags) {
  std::string name = flags.arguments.empty() ? app.settings().default_registry : flags.arguments.front();
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (name.starts_with(scheme)) name = name.substr(scheme.size());
  }
  name = name.substr(0, name.find('/'));
  if (name == "index.docker.io" || name == "registry-1.docker.io") name = "docker.io";
  if (name.empty() || !oci::parse_reference(name + "/x").ok()) {
    return errorf(ErrorKind::kInvalid, "\"{:.100}\" is not a registry host", flags.arguments.front());
  }
  return name;
}

/// One line from the terminal; without echo for a password. The terminal's state comes back whatever happens.
Result<std::string> ask(std::string_view question, bool echo) {
  if (::isatty(STDIN_FILENO) == 0) {
    return errorf(ErrorKind::kInvalid, "standard input is not a terminal: use --username and --password-stdin");
  }
  TRY(sys::write_all(STDOUT_FILENO, question));
  termios before{};
  const bool changed = !echo && ::tcgetattr(STDIN_FILENO, &before) == 0;
  if (changed) {
    termios silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  std::string line;
  bool failed = false;
  while (line.size() < kMaxPassword) {
    char c = 0;
    const ssize_t got = ::read(STDIN_FILENO, &c, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      failed = line.empty();
      break;
    }
    if (c == '\n') break;
    if (c != '\r') line += c;
  }
  if (changed) {
    ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    ignore_result(sys::write_all(STDOUT_FILENO, "\n"));
  }
  if (failed) return errorf(ErrorKind::kInvalid, "nothing was entered");
  return line;
}

}  // namespace

Result<void> run_login(ImagesApp& app, const Parsed& flags) {
  TRY_ASSIGN(const std::string registry, registry_name(app, flags));
  store::Credentials credentials;
  credentials.username = flags.value("username");
  if (flags.on("password-stdin")) {
    if (flags.has("password")) return errorf(ErrorKind::kInvalid, "--password and --password-stdin exclude each other");
    if (credentials.username.empty()) return errorf(ErrorKind::kInvalid, "--password-stdin needs --username");
    TRY_ASSIGN(credentials.password, sys::read_all(STDIN_FILENO, kMaxPassword));
    while (!credentials.password.empty() &&
           (credentials.password.back() == '\n' || credentials.password.back() == '\r')) {
      credentials.password.pop_back();
    }
  } else {
    credentials.password = flags.value("password");
    if (flags.has("password")) app.warn("a password on the command line can be seen by others; use --password-stdin");
  }
  const bool interactive = credentials.username.empty() || credentials.password.empty();
  if (interactive && credentials.username.empty() && credentials.password.empty()) {
    // Stored credentials that still work need no questions.
    TRY_ASSIGN(const store::Credentials stored, app.credentials().find(registry));
    if (!stored.empty()) credentials = stored;
  }
  if (credentials.empty() || (credentials.identity_token.empty() && credentials.password.empty())) {
    if (credentials.username.empty()) {
      TRY_ASSIGN(credentials.username, ask(fmt::format("Username for {}: ", registry), true));
    }
    TRY_ASSIGN(credentials.password, ask("Password: ", false));
  }
  if (credentials.identity_token.empty() && (credentials.username.empty() || credentials.password.empty())) {
    return errorf(ErrorKind::kInvalid, "user name and password must not be empty");
  }
  if (credentials.username.find(':') != std::string::npos) {
    return errorf(ErrorKind::kInvalid, "a user name can't hold a colon");
  }
  TRY_ASSIGN(const auto endpoints, store::endpoints_of(registry, app.settings(), true));
  TRY_ASSIGN(const auto session,
             store::RegistrySession::connect(app.http(), app.settings(), endpoints.front(), credentials));
  std::string identity_token;
  TRY(session->log_in(&identity_token));
  if (!identity_token.empty()) {
    credentials.identity_token = identity_token;
    credentials.password.clear();
  }
  TRY_ASSIGN(const store::CredentialStore::Stored stored, app.credentials().store(registry, credentials));
  if (!stored.file.empty()) {
    app.warn(fmt::format("the credentials are kept unencrypted in {}; a credential helper (credsStore) avoids that",
                         stored.file));
  }
  app.print("Login Succeeded");
  return {};
}

Result<void> run_logout(ImagesApp& app, const Parsed& flags) {
  TRY_ASSIGN(const std::string registry, registry_name(app, flags));
  TRY_ASSIGN(const bool found, app.credentials().erase(registry));
  app.print(found ? fmt::format("Removing login credentials for {}", registry)
                  : fmt::format("Not logged in to {}", registry));
  return {};
}

}  // namespace hull::cli
