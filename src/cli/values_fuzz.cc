// Environment files, mounts and the other grammars of values.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cli/text.h"
#include "cli/values.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const hull::cli::Lookup lookup = [](const std::string& name) -> std::optional<std::string> {
    if (name.size() % 2 == 0) return "value";
    return std::nullopt;
  };
  const auto lines = hull::cli::parse_env_file(text, lookup);
  if (lines.ok()) {
    for (const auto& line : *lines) {
      if (line.find('=') == std::string::npos || line.find('\n') != std::string::npos) std::abort();
    }
  }
  const auto mount = hull::cli::parse_volume(text);
  if (mount.ok() && !mount->target.starts_with('/')) std::abort();
  const auto other = hull::cli::parse_mount(text);
  if (other.ok() && !other->target.starts_with('/')) std::abort();
  hull::ignore_result(hull::cli::parse_label_file(text));
  hull::ignore_result(hull::cli::parse_tmpfs(text));
  hull::ignore_result(hull::cli::parse_publish(text));
  hull::ignore_result(hull::cli::parse_ulimit(text));
  hull::ignore_result(hull::cli::parse_device(text));
  hull::ignore_result(hull::cli::parse_cpus(text));
  hull::ignore_result(hull::cli::parse_extra_host(text));
  hull::ignore_result(hull::cli::parse_time(text, {}));
  if (!hull::cli::valid_utf8(hull::cli::printable(text))) std::abort();
  return 0;
}
