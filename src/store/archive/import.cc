#include "store/archive/import.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error_format.h"
#include "store/ingest/ingest.h"
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

/// ["a", "b"] or a line for the shell.
Result<std::vector<std::string>> command_of(std::string_view instruction, std::string_view text) {
  if (text.starts_with('[')) {
    const Json json = text.size() < 65536 ? Json::parse(text, nullptr, false) : Json();
    if (json.is_array() && std::all_of(json.begin(), json.end(), [](const Json& one) { return one.is_string(); })) {
      return json.get<std::vector<std::string>>();
    }
    return bad(instruction, "expected a JSON list of strings");
  }
  if (text.empty()) return std::vector<std::string>();
  return std::vector<std::string>{"/bin/sh", "-c", std::string(text)};
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

}  // namespace

Result<void> apply_change(std::string_view instruction, oci::ImageRunConfig* config) {
  const std::string_view line = trimmed(instruction);
  if (line.find_first_of(std::string_view("\n\0", 2)) != std::string_view::npos) {
    return bad(instruction, "one instruction is one line");
  }
  const size_t space = line.find_first_of(" \t");
  std::string verb(line.substr(0, space));
  for (char& c : verb) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  const std::string_view rest = space == std::string_view::npos ? std::string_view() : trimmed(line.substr(space));
  const bool may_be_empty = verb == "CMD" || verb == "ENTRYPOINT";
  if (rest.empty() && !may_be_empty) return bad(instruction, "it has no argument");
  if (verb == "CMD") {
    TRY_ASSIGN(config->cmd, command_of(instruction, rest));
  } else if (verb == "ENTRYPOINT") {
    TRY_ASSIGN(config->entrypoint, command_of(instruction, rest));
  } else if (verb == "ENV") {
    TRY_ASSIGN(const auto pairs, pairs_of(instruction, rest));
    for (const auto& [name, value] : pairs) {
      std::erase_if(config->env, [&](const std::string& one) { return one.starts_with(name + "="); });
      config->env.push_back(name + "=" + value);
    }
  } else if (verb == "LABEL") {
    TRY_ASSIGN(const auto pairs, pairs_of(instruction, rest));
    for (const auto& [name, value] : pairs) config->labels[name] = value;
  } else if (verb == "EXPOSE") {
    TRY_ASSIGN(const std::vector<std::string> words, split_words(instruction, rest));
    for (const std::string& word : words) TRY(expose(instruction, word, config));
  } else if (verb == "VOLUME") {
    std::vector<std::string> words;
    if (rest.starts_with('[')) {
      TRY_ASSIGN(words, command_of(instruction, rest));
    } else {
      TRY_ASSIGN(words, split_words(instruction, rest));
    }
    for (std::string& word : words) {
      if (!word.starts_with('/')) return bad(instruction, "a volume is an absolute path");
      add_unique(&config->volumes, std::move(word));
    }
  } else if (verb == "USER") {
    config->user = rest;
  } else if (verb == "WORKDIR") {
    if (!rest.starts_with('/')) return bad(instruction, "expected an absolute path");
    config->working_dir = rest;
  } else if (verb == "STOPSIGNAL") {
    config->stop_signal = rest;
  } else if (verb == "ONBUILD" || verb == "HEALTHCHECK" || verb == "SHELL") {
    return errorf(ErrorKind::kUnsupported, "change \"{}\": {} is not supported by import",
                  printable_line(instruction, 200), verb);
  } else {
    return bad(instruction,
               "known instructions are CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR");
  }
  return {};
}

Result<Digest> import_image(ImageWriter& writer, ByteSource& tar, const ImportOptions& options) {
  oci::ImageConfig config;
  for (const std::string& change : options.changes) TRY(apply_change(change, &config.config));
  TRY_ASSIGN(const LayerInfo layer, ingest_unknown(writer, tar, options.limits));
  config.created = options.created;
  config.platform = options.platform.value_or(oci::host_platform());
  config.diff_ids.push_back(layer.diff_id);
  oci::HistoryEntry history;
  history.created = options.created;
  history.comment = options.message.empty() ? "Imported from " + options.source : options.message;
  config.history.push_back(std::move(history));

  NewImage image;
  image.config_json = oci::to_json(config);
  image.id = sha256_of(image.config_json);
  image.diff_ids = config.diff_ids;
  if (options.name) image.tags.push_back(*options.name);
  oci::Manifest manifest;
  manifest.config.media_type = oci::kMediaTypeConfig;
  manifest.config.digest = image.id;
  manifest.config.size = static_cast<int64_t>(image.config_json.size());
  oci::Descriptor descriptor;
  descriptor.media_type = oci::kMediaTypeLayer;
  descriptor.digest = layer.diff_id;
  descriptor.size = static_cast<int64_t>(layer.tar_size);
  manifest.layers.push_back(std::move(descriptor));
  image.manifest_json = oci::to_json(manifest);
  image.manifest_digest = sha256_of(image.manifest_json);
  TRY(writer.commit_image(image));
  return image.id;
}

}  // namespace hull::store
