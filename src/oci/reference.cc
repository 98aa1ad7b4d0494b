#include "oci/reference.h"

#include <algorithm>

#include "base/error_format.h"

// The grammar is distribution's (reference/reference.go as documentation): a name is an optional host and path
// components; a tag follows ':', a digest '@'. Every check is a scan over at most kMaxText bytes.

namespace hull::oci {
namespace {

constexpr size_t kMaxName = 255;
constexpr size_t kMaxTag = 128;
constexpr size_t kMaxText = kMaxName + 1 + kMaxTag + 1 + 7 + 128;
constexpr std::string_view kDockerHub = "docker.io";
constexpr std::string_view kOfficial = "library/";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_alnum(char c) { return is_digit(c) || is_lower(c) || is_upper(c); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

/// What a person sees of hostile text: control characters and bytes over 127 as \xNN.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 160)) {
    if (c >= 0x20 && c < 0x7f) {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > 160) out += "...";
  return out;
}

Error bad(std::string_view text, std::string_view why) {
  return errorf(ErrorKind::kInvalid, "image reference \"{}\": {}", printable(text), why);
}

bool valid_port(std::string_view port) {
  return !port.empty() && port.size() <= 5 && std::all_of(port.begin(), port.end(), is_digit) &&
         std::stoi(std::string(port)) <= 65535;
}

/// host[:port], [ipv6][:port]
bool valid_host(std::string_view host) {
  if (host.empty()) return false;
  if (host.front() == '[') {
    const size_t end = host.find(']');
    if (end == std::string_view::npos || end < 3) return false;
    const std::string_view address = host.substr(1, end - 1);
    if (!std::all_of(address.begin(), address.end(),
                     [](char c) { return is_hex(c) || (c >= 'A' && c <= 'F') || c == ':' || c == '.'; })) {
      return false;
    }
    const std::string_view rest = host.substr(end + 1);
    return rest.empty() || (rest.front() == ':' && valid_port(rest.substr(1)));
  }
  const size_t colon = host.find(':');
  if (colon != std::string_view::npos && !valid_port(host.substr(colon + 1))) return false;
  std::string_view name = host.substr(0, colon);
  while (true) {
    const size_t dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || label.front() == '-' || label.back() == '-') return false;
    if (!std::all_of(label.begin(), label.end(), [](char c) { return is_alnum(c) || c == '-'; })) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

/// One path component: runs of a-z0-9 joined by '.', '_', '__' or any number of '-'.
bool valid_component(std::string_view part) {
  size_t i = 0;
  while (true) {
    const size_t run = i;
    while (i < part.size() && (is_lower(part[i]) || is_digit(part[i]))) ++i;
    if (i == run) return false;
    if (i == part.size()) return true;
    if (part[i] == '.') {
      ++i;
    } else if (part[i] == '_') {
      ++i;
      if (i < part.size() && part[i] == '_') ++i;
    } else if (part[i] == '-') {
      while (i < part.size() && part[i] == '-') ++i;
    } else {
      return false;
    }
  }
}

bool valid_tag(std::string_view tag) {
  if (tag.empty() || tag.size() > kMaxTag || tag.front() == '.' || tag.front() == '-') return false;
  return std::all_of(tag.begin(), tag.end(), [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

/// Whether the part before the first '/' is a host: it has a dot, a port or an upper-case letter, or is localhost.
bool looks_like_host(std::string_view part) {
  return part == "localhost" || part.find_first_of(".:[") != std::string_view::npos ||
         std::any_of(part.begin(), part.end(), is_upper);
}

Result<void> check_repository(std::string_view text, std::string_view repository) {
  std::string_view rest = repository;
  while (true) {
    const size_t slash = rest.find('/');
    const std::string_view part = rest.substr(0, slash);
    if (part.empty()) return bad(text, "it has an empty path component");
    if (!valid_component(part)) {
      if (std::any_of(part.begin(), part.end(), is_upper)) {
        return bad(text, fmt::format("the repository name must be lower case, \"{}\" is not", printable(part)));
      }
      return bad(text, fmt::format("\"{}\" is not a repository name (a-z, 0-9, and '.', '_', '-' between them)",
                                   printable(part)));
    }
    if (slash == std::string_view::npos) return {};
    rest.remove_prefix(slash + 1);
  }
}

}  // namespace

Result<Reference> parse_reference(std::string_view text, std::string_view default_registry) {
  if (text.empty()) return errorf(ErrorKind::kInvalid, "image reference: it is empty");
  if (text.size() > kMaxText) return bad(text, fmt::format("it is longer than {} characters", kMaxText));
  Reference ref;
  std::string_view name = text;
  if (const size_t at = name.find('@'); at != std::string_view::npos) {
    auto digest = Digest::parse(name.substr(at + 1));
    if (!digest.ok()) return bad(text, std::move(digest).error().message());
    ref.digest = std::move(digest).value();
    name = name.substr(0, at);
  }
  // A ':' after the last '/' starts the tag; before it, it is the host's port.
  const size_t last_slash = name.rfind('/');
  const size_t colon = name.find(':', last_slash == std::string_view::npos ? 0 : last_slash + 1);
  if (colon != std::string_view::npos) {
    const std::string_view tag = name.substr(colon + 1);
    if (!valid_tag(tag)) {
      return bad(text, fmt::format("\"{}\" is not a tag (letters, digits, '_', '.', '-', at most {} characters)",
                                   printable(tag), kMaxTag));
    }
    ref.tag = tag;
    name = name.substr(0, colon);
  }
  if (name.empty()) return bad(text, "it has no repository name");

  const size_t slash = name.find('/');
  if (slash != std::string_view::npos && looks_like_host(name.substr(0, slash))) {
    ref.registry = name.substr(0, slash);
    name = name.substr(slash + 1);
    if (!valid_host(ref.registry)) {
      // An upper-case first part that can't be a host is a badly written repository.
      return bad(text, fmt::format("\"{}\" is not a registry host", printable(ref.registry)));
    }
    if (ref.registry == "index.docker.io") ref.registry = kDockerHub;
  } else {
    ref.registry = default_registry;
  }
  if (name.size() == 64 && std::all_of(name.begin(), name.end(), is_hex)) {
    return bad(text, "64 hex digits are an image id, not a repository name");
  }
  TRY(check_repository(text, name));
  ref.repository = name;
  if (ref.registry == kDockerHub && name.find('/') == std::string_view::npos) {
    ref.repository = std::string(kOfficial) + std::string(name);
  }
  if (ref.registry.size() + 1 + ref.repository.size() > kMaxName) {
    return bad(text, fmt::format("the name is longer than {} characters", kMaxName));
  }
  if (ref.tag.empty() && ref.digest.empty()) ref.tag = "latest";
  return ref;
}

namespace {
std::string with_suffix(std::string name, const Reference& ref) {
  if (!ref.tag.empty()) name += ":" + ref.tag;
  if (!ref.digest.empty()) name += "@" + ref.digest.str();
  return name;
}
}  // namespace

std::string Reference::canonical() const { return with_suffix(registry + "/" + repository, *this); }

std::string Reference::familiar_name() const {
  if (registry != kDockerHub) return registry + "/" + repository;
  if (repository.starts_with(kOfficial)) {
    const std::string rest = repository.substr(kOfficial.size());
    // "library/localhost" without its host would read as a host again; library/a/b is no official image.
    if (rest.find('/') == std::string::npos) return rest;
  }
  return repository;
}

std::string Reference::familiar() const { return with_suffix(familiar_name(), *this); }

}  // namespace hull::oci
