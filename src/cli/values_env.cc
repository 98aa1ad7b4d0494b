// Environment and label files.
#include <cstdlib>

#include "base/error_format.h"
#include "cli/text.h"
#include "cli/values.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

constexpr size_t kMaxLine = 64 * 1024;
constexpr size_t kMaxFile = 4 << 20;

/// Calls `take` with each line that holds a pair, its leading white space removed.
Result<void> for_each_line(std::string_view content, const std::function<Result<void>(std::string_view)>& take) {
  if (content.starts_with("\xEF\xBB\xBF")) content.remove_prefix(3);
  size_t number = 0;
  for (std::string_view line : split(content, '\n')) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() > kMaxLine) return errorf(ErrorKind::kInvalid, "line {} is longer than 64 KiB", number);
    if (!valid_utf8(line)) return errorf(ErrorKind::kInvalid, "line {} is not valid UTF-8", number);
    if (line.find('\0') != std::string_view::npos) {
      return errorf(ErrorKind::kInvalid, "line {} holds a NUL character", number);
    }
    line.remove_prefix(std::min(line.find_first_not_of(" \t\v\f\r"), line.size()));
    if (line.empty() || line[0] == '#') continue;
    const std::string_view name = line.substr(0, line.find('='));
    if (name.empty()) return errorf(ErrorKind::kInvalid, "line {}: no variable name on line '{:.80}'", number, line);
    if (name.find_first_of(" \t") != std::string_view::npos) {
      return errorf(ErrorKind::kInvalid, "line {}: variable '{:.80}' contains whitespaces", number, name);
    }
    TRY(take(line));
  }
  return {};
}

}  // namespace

std::optional<std::string> lookup_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return value;
}

Result<std::string> parse_env(std::string_view text, const Lookup& lookup) {
  const size_t equals = text.find('=');
  if (text.empty() || equals == 0) return errorf(ErrorKind::kInvalid, "invalid environment variable: \"{}\"", text);
  if (equals != std::string_view::npos) return std::string(text);
  std::string name(text);
  if (auto value = lookup(name)) return name + "=" + *value;
  return name;
}

Result<std::vector<std::string>> parse_env_file(std::string_view content, const Lookup& lookup) {
  std::vector<std::string> lines;
  TRY(for_each_line(content, [&](std::string_view line) -> Result<void> {
    if (line.find('=') != std::string_view::npos) {
      lines.emplace_back(line);
    } else if (auto value = lookup(std::string(line))) {
      lines.push_back(std::string(line) + "=" + *value);
    }
    return {};
  }));
  return lines;
}

Result<std::vector<std::string>> parse_label_file(std::string_view content) {
  std::vector<std::string> lines;
  TRY(for_each_line(content, [&](std::string_view line) -> Result<void> {
    lines.emplace_back(line);
    return {};
  }));
  return lines;
}

Result<std::string> read_value_file(const std::string& path) {
  if (path.empty()) return errorf(ErrorKind::kInvalid, "open : no such file or directory");
  auto content = sys::read_file(path, kMaxFile);
  if (!content.ok()) return std::move(content).error().as(ErrorKind::kInvalid);
  return content;
}

Result<std::pair<std::string, std::string>> parse_pair(std::string_view text) {
  const size_t equals = text.find('=');
  const std::string_view key = text.substr(0, equals);
  if (trim(key).empty()) return errorf(ErrorKind::kInvalid, "invalid pair \"{:.80}\": the key is empty", text);
  return std::pair(std::string(key),
                   equals == std::string_view::npos ? std::string() : std::string(text.substr(equals + 1)));
}

}  // namespace hull::cli
