#include "engine/log_config.h"

#include <regex.h>

#include <algorithm>
#include <memory>

#include "base/error_format.h"
#include "base/units.h"
#include "oci/json_writer.h"

namespace hull::engine {
namespace {

constexpr std::pair<std::string_view, LogDriver> kDrivers[] = {{"json-file", LogDriver::kJsonFile},
                                                               {"local", LogDriver::kLocal},
                                                               {"journald", LogDriver::kJournald},
                                                               {"none", LogDriver::kNone}};

constexpr std::string_view kOfFiles[] = {"max-size", "max-file", "compress"};
constexpr std::string_view kOfAttributes[] = {"labels", "labels-regex", "env", "env-regex", "tag"};
constexpr std::string_view kOfDelivery[] = {"mode", "max-buffer-size"};

/// What Docker's driver of that name rotates after when nothing is said.
constexpr int64_t kLocalMaxSize = 20 << 20;
constexpr int kLocalMaxFiles = 5;

template <size_t N>
bool among(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Result<bool> parse_switch(std::string_view name, std::string_view value) {
  if (value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return errorf(ErrorKind::kInvalid, "invalid value for log opt {}: {} (true or false)", name, value);
}

/// A POSIX extended regular expression: its matching takes time linear in the text.
class Pattern {
 public:
  static Result<Pattern> compile(const std::string& text) {
    Pattern made;
    made.compiled_ = std::make_unique<regex_t>();
    const int error = ::regcomp(made.compiled_.get(), text.c_str(), REG_EXTENDED | REG_NOSUB);
    if (error != 0) {
      char reason[200];
      ::regerror(error, made.compiled_.get(), reason, sizeof reason);
      made.compiled_.reset();
      return errorf(ErrorKind::kInvalid, "invalid regular expression {}: {}", text, reason);
    }
    return made;
  }
  bool matches(const std::string& text) const {
    return compiled_ && ::regexec(compiled_.get(), text.c_str(), 0, nullptr, 0) == 0;
  }
  Pattern() = default;
  Pattern(Pattern&&) = default;
  Pattern& operator=(Pattern&&) = default;
  ~Pattern() {
    if (compiled_) ::regfree(compiled_.get());
  }

 private:
  std::unique_ptr<regex_t> compiled_;
};

/// Which of `all` the options NAME (a list) and NAME-regex choose.
Result<void> choose(const Config& config, const std::string& option, const std::map<std::string, std::string>& all,
                    std::map<std::string, std::string>* chosen) {
  if (const auto it = config.log_options.find(option); it != config.log_options.end()) {
    std::string_view rest = it->second;
    while (!rest.empty()) {
      const size_t comma = rest.find(',');
      const auto found = all.find(std::string(rest.substr(0, comma)));
      if (found != all.end()) chosen->insert(*found);
      rest.remove_prefix(comma == std::string_view::npos ? rest.size() : comma + 1);
    }
  }
  if (const auto it = config.log_options.find(option + "-regex");
      it != config.log_options.end() && !it->second.empty()) {
    TRY_ASSIGN(const Pattern pattern, Pattern::compile(it->second));
    for (const auto& entry : all) {
      if (pattern.matches(entry.first)) chosen->insert(entry);
    }
  }
  return {};
}

Result<std::map<std::string, std::string>> chosen_attributes(const Config& config) {
  std::map<std::string, std::string> env, chosen;
  for (const std::string& entry : config.env) {
    const size_t equals = entry.find('=');
    if (equals != std::string::npos) env.insert_or_assign(entry.substr(0, equals), entry.substr(equals + 1));
  }
  TRY(choose(config, "labels", config.labels, &chosen));
  TRY(choose(config, "env", env, &chosen));
  return chosen;
}

/// A field of the journal: upper-case letters, digits, underscores, none in front (systemd.journal-fields(7)).
std::string field_name(std::string_view name) {
  std::string out;
  for (const char c : name) {
    const bool lower = c >= 'a' && c <= 'z';
    const bool good = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    const char put = lower ? static_cast<char>(c - 'a' + 'A') : good ? c : '_';
    if (out.empty() && (put == '_' || (put >= '0' && put <= '9'))) continue;
    if (out.size() < 64) out += put;
  }
  return out;
}

void add_field(std::string* out, std::string_view name, std::string_view value) {
  if (name.empty()) return;
  out->append(name);
  if (value.find('\n') == std::string_view::npos) {
    out->append("=").append(value).append("\n");
    return;
  }
  // With a newline in it: the length, eight bytes, little endian.
  out->append("\n");
  for (int i = 0; i < 8; ++i) out->push_back(static_cast<char>(value.size() >> (8 * i) & 0xff));
  out->append(value).append("\n");
}

Result<void> read_option(const std::string& name, const std::string& value, LogConfig* out) {
  if (name == "max-size") {
    if (value == "-1") {
      out->max_size = -1;
      return {};
    }
    const auto size = parse_size(value);
    if (!size.ok() || *size <= 0) return errorf(ErrorKind::kInvalid, "invalid value for max-size: {}", value);
    out->max_size = *size;
  } else if (name == "max-file") {
    const auto files = parse_int(value, 1, 1000);
    if (!files.ok()) return errorf(ErrorKind::kInvalid, "max-file cannot be less than 1: {}", value);
    out->max_files = static_cast<int>(*files);
  } else if (name == "compress") {
    TRY_ASSIGN(out->compress, parse_switch(name, value));
  } else if (name == "mode") {
    if (value != "blocking" && value != "non-blocking") {
      return errorf(ErrorKind::kInvalid, "logger: logging mode not supported: {} (blocking, non-blocking)", value);
    }
    out->blocking = value == "blocking";
  } else if (name == "max-buffer-size") {
    const auto size = parse_size(value);
    if (!size.ok() || *size <= 0) return errorf(ErrorKind::kInvalid, "invalid value for max-buffer-size: {}", value);
    out->buffer_size = *size;
  }
  return {};
}

}  // namespace

Result<void> check_log_driver(std::string_view name) {
  if (name.empty()) return {};
  for (const auto& driver : kDrivers) {
    if (driver.first == name) return {};
  }
  return errorf(ErrorKind::kInvalid,
                "logger: no log driver named '{:.80}' is registered: there are json-file, local, journald and none",
                name);
}

Result<void> check_log_mode(const Config& config, const LogDefaults& defaults) {
  TRY_ASSIGN(const LogConfig log, log_config(config, defaults));
  if (log.blocking || log.driver == LogDriver::kJournald) return {};
  // The monitor writes these files itself and has no room for what a disk that stands still does not take.
  return errorf(
      ErrorKind::kInvalid,
      "logger: mode=non-blocking is there for journald alone: with {} a line is in the file before the next is "
      "taken",
      log.driver == LogDriver::kLocal ? "local" : "json-file");
}

Result<LogConfig> log_config(const Config& config, const LogDefaults& defaults) {
  const std::string& name = config.log_driver.empty() ? defaults.driver : config.log_driver;
  TRY(check_log_driver(name));
  LogConfig out;
  for (const auto& driver : kDrivers) {
    if (driver.first == name) out.driver = driver.second;
  }
  const bool files = out.driver == LogDriver::kJsonFile || out.driver == LogDriver::kLocal;
  const bool attributes = out.driver == LogDriver::kJsonFile || out.driver == LogDriver::kJournald;
  if (files) {
    out.max_size = defaults.max_size;
    out.max_files = defaults.max_files;
    out.compress = out.driver == LogDriver::kLocal;
  }
  if (out.driver == LogDriver::kLocal) {
    if (out.max_size < 0) out.max_size = kLocalMaxSize;
    if (out.max_files <= 1) out.max_files = kLocalMaxFiles;
  }
  for (const auto& [option, value] : config.log_options) {
    const bool known = (files && among(kOfFiles, option)) || (attributes && among(kOfAttributes, option)) ||
                       (out.driver != LogDriver::kNone && among(kOfDelivery, option));
    if (!known) return errorf(ErrorKind::kInvalid, "unknown log opt '{}' for {} log driver", option, name);
    TRY(read_option(option, value, &out));
  }
  if (out.blocking && config.log_options.contains("max-buffer-size")) {
    return errorf(ErrorKind::kInvalid, "logger: max-buffer-size option is only supported with 'mode=non-blocking'");
  }
  const bool rotates = out.max_size > 0 && out.max_files > 1;
  if (out.compress && !rotates) {
    if (config.log_options.contains("compress")) {
      return errorf(ErrorKind::kInvalid, "compress cannot be true when max-file is less than 2 or max-size is not set");
    }
    out.compress = false;
  }
  TRY(log_attributes(config, {}));
  return out;
}

Result<std::string> expand_log_tag(std::string_view pattern, const LogSource& source) {
  const auto digest = [](std::string_view text) {
    return text.substr(text.find(':') == std::string_view::npos ? 0 : text.find(':') + 1);
  };
  const std::pair<std::string_view, std::string_view> known[] = {
      {".ID", std::string_view(source.id).substr(0, 12)},
      {".FullID", source.id},
      {".Name", source.name},
      {".ImageName", source.image},
      {".ImageID", digest(source.image_id).substr(0, 12)},
      {".ImageFullID", source.image_id},
      {".Command", source.command},
      {".DaemonName", "hull"},
  };
  std::string out;
  for (;;) {
    const size_t open = pattern.find("{{");
    out.append(pattern.substr(0, open));
    if (open == std::string_view::npos) return out;
    const size_t close = pattern.find("}}", open);
    if (close == std::string_view::npos)
      return errorf(ErrorKind::kInvalid, "log opt tag: unclosed {{{{ in {}", pattern);
    std::string_view field = pattern.substr(open + 2, close - open - 2);
    while (field.starts_with(' ')) field.remove_prefix(1);
    while (field.ends_with(' ')) field.remove_suffix(1);
    const auto found =
        std::find_if(std::begin(known), std::end(known), [&](const auto& k) { return k.first == field; });
    if (found == std::end(known)) {
      return errorf(ErrorKind::kInvalid,
                    "log opt tag: unknown field {{{{{}}}}}: there are .ID, .FullID, .Name, .ImageName, .ImageID, "
                    ".ImageFullID, .Command and .DaemonName",
                    field);
    }
    out.append(found->second);
    pattern.remove_prefix(close + 2);
  }
}

Result<std::map<std::string, std::string>> log_attributes(const Config& config, const LogSource& source) {
  TRY_ASSIGN(auto chosen, chosen_attributes(config));
  if (const auto it = config.log_options.find("tag"); it != config.log_options.end()) {
    TRY_ASSIGN(std::string tag, expand_log_tag(it->second, source));
    if (!tag.empty()) chosen.insert_or_assign("tag", std::move(tag));
  }
  return chosen;
}

Result<std::string> log_extra(const Config& config, LogDriver driver, const LogSource& source) {
  std::string out;
  if (driver == LogDriver::kJsonFile) {
    TRY_ASSIGN(const auto attributes, log_attributes(config, source));
    if (!attributes.empty()) {
      oci::JsonWriter w;
      w.object([&] { w.member("attrs", attributes); });
      const std::string text = std::move(w).take();
      out = text.substr(1, text.size() - 2);  // without the braces: a member of each record
    }
  } else if (driver == LogDriver::kJournald) {
    const auto it = config.log_options.find("tag");
    TRY_ASSIGN(const std::string tag,
               expand_log_tag(it == config.log_options.end() ? std::string_view("{{.ID}}") : it->second, source));
    add_field(&out, "CONTAINER_ID", std::string_view(source.id).substr(0, 12));
    add_field(&out, "CONTAINER_ID_FULL", source.id);
    add_field(&out, "CONTAINER_NAME", source.name);
    add_field(&out, "CONTAINER_TAG", tag);
    add_field(&out, "IMAGE_NAME", source.image);
    add_field(&out, "SYSLOG_IDENTIFIER", tag);
    TRY_ASSIGN(const auto attributes, chosen_attributes(config));
    for (const auto& [name, value] : attributes) add_field(&out, field_name(name), value);
  }
  if (out.size() > kMostLogExtra) {
    return errorf(ErrorKind::kInvalid, "log opts: labels, variables and tag are {} bytes together; at most {} fit",
                  out.size(), kMostLogExtra);
  }
  return out;
}

}  // namespace hull::engine
