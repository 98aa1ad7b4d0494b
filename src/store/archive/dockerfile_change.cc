// The Dockerfile instructions that change an image's configuration.

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/error_format.h"
#include "base/units.h"
#include "store/archive/import.h"
#include "store/registry/http_answers.h"

namespace hull::store {
namespace {

using Json = nlohmann::json;

Error bad(std::string_view instruction, std::string_view why) {
  return errorf(ErrorKind::kInvalid, "change \"{}\": {}", printable_line(instruction, 200), why);
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Words, with quotes and backslashes as in a Dockerfile.
Result<std::vector<std::string>> split_words(std::string_view instruction, std::string_view text) {
  std::vector<std::string> out;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote == 0 && (c == ' ' || c == '\t')) {
      in_word = false;
      continue;
    }
    if (!in_word) out.emplace_back();
    in_word = true;
    if (c == '\\' && quote != '\'' && i + 1 < text.size()) {
      out.back() += text[++i];
    } else if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    } else {
      out.back() += c;
    }
  }
  if (quote != 0) return bad(instruction, "a quote is not closed");
  return out;
}

/// ["a", "b"].
Result<std::vector<std::string>> list_of(std::string_view instruction, std::string_view text) {
  const Json json = text.size() < 65536 ? Json::parse(text, nullptr, false) : Json();
  if (json.is_array() && std::all_of(json.begin(), json.end(), [](const Json& one) { return one.is_string(); })) {
    return json.get<std::vector<std::string>>();
  }
  return bad(instruction, "expected a JSON list of strings");
}

/// A list, or a line for the shell.
Result<std::vector<std::string>> command_of(std::string_view instruction, std::string_view text,
                                            const oci::ImageRunConfig& config) {
  if (text.starts_with('[')) return list_of(instruction, text);
  if (text.empty()) return std::vector<std::string>();
  std::vector<std::string> out = config.shell.empty() ? std::vector<std::string>{"/bin/sh", "-c"} : config.shell;
  out.emplace_back(text);
  return out;
}

/// A=1 B="x y", or the old form "A rest of line".
Result<std::vector<std::pair<std::string, std::string>>> pairs_of(std::string_view instruction, std::string_view text) {
  std::vector<std::pair<std::string, std::string>> out;
  const size_t space = text.find_first_of(" \t");
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos || (space != std::string_view::npos && space < equals)) {
    if (space == std::string_view::npos) return bad(instruction, "expected NAME=VALUE");
    out.emplace_back(std::string(text.substr(0, space)), std::string(trimmed(text.substr(space))));
    return out;
  }
  TRY_ASSIGN(const std::vector<std::string> words, split_words(instruction, text));
  for (const std::string& word : words) {
    const size_t at = word.find('=');
    if (at == std::string::npos || at == 0) return bad(instruction, "expected NAME=VALUE");
    out.emplace_back(word.substr(0, at), word.substr(at + 1));
  }
  return out;
}

void add_unique(std::vector<std::string>* list, std::string value) {
  if (std::find(list->begin(), list->end(), value) == list->end()) list->push_back(std::move(value));
}

Result<void> expose(std::string_view instruction, const std::string& word, oci::ImageRunConfig* config) {
  const size_t slash = word.find('/');
  const std::string port = word.substr(0, slash);
  const std::string protocol = slash == std::string::npos ? "tcp" : word.substr(slash + 1);
  const bool digits = !port.empty() && port.size() <= 5 &&
                      std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || std::stoi(port) < 1 || std::stoi(port) > 65535 ||
      (protocol != "tcp" && protocol != "udp" && protocol != "sctp")) {
    return bad(instruction, fmt::format("\"{}\" is not PORT or PORT/PROTOCOL", printable_line(word, 60)));
  }
  add_unique(&config->exposed_ports, port + "/" + protocol);
  return {};
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return out;
}

/// The first word in capitals, and what follows it.
std::pair<std::string, std::string_view> split_verb(std::string_view line) {
  const size_t space = line.find_first_of(" \t");
  if (space == std::string_view::npos) return {upper(line), {}};
  return {upper(line.substr(0, space)), trimmed(line.substr(space))};
}

Result<void> change_env(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  TRY_ASSIGN(const auto pairs, pairs_of(instruction, rest));
  for (const auto& [name, value] : pairs) {
    std::erase_if(config->env, [&](const std::string& one) { return one.starts_with(name + "="); });
    config->env.push_back(name + "=" + value);
  }
  return {};
}

Result<void> change_label(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  TRY_ASSIGN(const auto pairs, pairs_of(instruction, rest));
  for (const auto& [name, value] : pairs) config->labels[name] = value;
  return {};
}

Result<void> change_expose(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  TRY_ASSIGN(const std::vector<std::string> words, split_words(instruction, rest));
  for (const std::string& word : words) TRY(expose(instruction, word, config));
  return {};
}

Result<void> change_volume(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  TRY_ASSIGN(std::vector<std::string> words,
             rest.starts_with('[') ? list_of(instruction, rest) : split_words(instruction, rest));
  for (std::string& word : words) {
    if (!word.starts_with('/')) return bad(instruction, "a volume is an absolute path");
    add_unique(&config->volumes, std::move(word));
  }
  return {};
}

/// Kept for the build that starts from this image; nothing runs it here.
Result<void> change_onbuild(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  const std::string verb = split_verb(rest).first;
  if (verb == "ONBUILD" || verb == "FROM" || verb == "MAINTAINER") {
    return bad(instruction, fmt::format("{} can't be a trigger", verb));
  }
  config->on_build.emplace_back(rest);
  return {};
}

Result<void> change_shell(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  TRY_ASSIGN(config->shell, list_of(instruction, rest));
  if (config->shell.empty()) return bad(instruction, "expected a program");
  return {};
}

/// One --name=value of HEALTHCHECK.
Result<void> health_option(std::string_view instruction, std::string_view word, oci::HealthConfig* health) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return bad(instruction, "expected --NAME=VALUE before CMD");
  const std::string_view name = word.substr(2, equals - 2);
  const std::string_view value = word.substr(equals + 1);
  if (name == "retries") {
    int retries = 0;
    const auto [end, code] = std::from_chars(value.data(), value.data() + value.size(), retries);
    if (code != std::errc() || end != value.data() + value.size() || retries < 0) {
      return bad(instruction, "retries is a whole number");
    }
    health->retries = retries;
    return {};
  }
  int64_t* const target = name == "interval"         ? &health->interval_ns
                          : name == "timeout"        ? &health->timeout_ns
                          : name == "start-period"   ? &health->start_period_ns
                          : name == "start-interval" ? &health->start_interval_ns
                                                     : nullptr;
  if (target == nullptr) {
    return bad(instruction, "known options are interval, timeout, start-period, start-interval, retries");
  }
  const auto time = parse_duration(value);
  // Docker takes no time between 0 and a millisecond.
  if (!time.ok() || time->count() < 0 || (time->count() > 0 && time->count() < 1'000'000)) {
    return bad(instruction, fmt::format("{} is a time of a millisecond or more, such as 30s", name));
  }
  *target = time->count();
  return {};
}

/// NONE, or [--interval=30s ...] CMD command.
Result<void> change_healthcheck(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  oci::HealthConfig health;
  while (rest.starts_with("--")) {
    const size_t space = std::min(rest.find_first_of(" \t"), rest.size());
    TRY(health_option(instruction, rest.substr(0, space), &health));
    rest = trimmed(rest.substr(space));
  }
  const auto [kind, command] = split_verb(rest);
  if (kind == "NONE" && command.empty()) {
    health.test = {"NONE"};
  } else if (kind == "CMD" && command.starts_with('[')) {
    TRY_ASSIGN(health.test, list_of(instruction, command));
    if (health.test.empty()) return bad(instruction, "CMD needs a command");
    health.test.insert(health.test.begin(), "CMD");
  } else if (kind == "CMD" && !command.empty()) {
    health.test = {"CMD-SHELL", std::string(command)};
  } else {
    return bad(instruction, "expected NONE, or CMD and a command");
  }
  config->healthcheck = std::move(health);
  return {};
}

Result<void> change_cmd(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  TRY_ASSIGN(config->cmd, command_of(instruction, rest, *config));
  return {};
}

Result<void> change_entrypoint(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  TRY_ASSIGN(config->entrypoint, command_of(instruction, rest, *config));
  return {};
}

Result<void> change_user(std::string_view, std::string_view rest, oci::ImageRunConfig* config) {
  config->user = rest;
  return {};
}

Result<void> change_workdir(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config) {
  if (!rest.starts_with('/')) return bad(instruction, "expected an absolute path");
  config->working_dir = rest;
  return {};
}

Result<void> change_stop_signal(std::string_view, std::string_view rest, oci::ImageRunConfig* config) {
  config->stop_signal = rest;
  return {};
}

struct Verb {
  std::string_view name;
  Result<void> (*change)(std::string_view instruction, std::string_view rest, oci::ImageRunConfig* config);
  bool may_be_empty = false;
};

constexpr Verb kVerbs[] = {{"CMD", change_cmd, true},
                           {"ENTRYPOINT", change_entrypoint, true},
                           {"ENV", change_env},
                           {"EXPOSE", change_expose},
                           {"HEALTHCHECK", change_healthcheck},
                           {"LABEL", change_label},
                           {"ONBUILD", change_onbuild},
                           {"SHELL", change_shell},
                           {"STOPSIGNAL", change_stop_signal},
                           {"USER", change_user},
                           {"VOLUME", change_volume},
                           {"WORKDIR", change_workdir}};

}  // namespace

Result<void> apply_change(std::string_view instruction, oci::ImageRunConfig* config) {
  const std::string_view line = trimmed(instruction);
  if (line.find_first_of(std::string_view("\n\0", 2)) != std::string_view::npos) {
    return bad(instruction, "one instruction is one line");
  }
  const auto [name, rest] = split_verb(line);
  for (const Verb& verb : kVerbs) {
    if (verb.name != name) continue;
    if (rest.empty() && !verb.may_be_empty) return bad(instruction, "it has no argument");
    return verb.change(instruction, rest, config);
  }
  std::string known;
  for (const Verb& verb : kVerbs) known += (known.empty() ? "" : ", ") + std::string(verb.name);
  return bad(instruction, "known instructions are " + known);
}

}  // namespace hull::store
