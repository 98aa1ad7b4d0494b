#include "api/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace hull::api {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void Metrics::add(std::string_view name, std::string_view type, std::string_view help, const MetricLabels& labels,
                  double value) {
  auto family = std::find_if(families_.begin(), families_.end(), [&](const Family& one) { return one.name == name; });
  if (family == families_.end()) {
    families_.push_back({std::string(name), fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type), ""});
    family = families_.end() - 1;
  }
  std::string text;
  for (const auto& [key, what] : labels) {
    text += fmt::format("{}{}=\"{}\"", text.empty() ? "" : ",", key, escaped(what));
  }
  family->samples +=
      text.empty() ? fmt::format("{} {}\n", name, value) : fmt::format("{}{{{}}} {}\n", name, text, value);
}

std::string Metrics::text() const {
  std::string out;
  for (const Family& family : families_) out += family.head + family.samples;
  return out;
}

void add_pressure(Metrics& metrics, std::string_view prefix, std::string_view resource, std::string_view file,
                  const Metrics::MetricLabels& labels) {
  // "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"
  while (!file.empty()) {
    const size_t end = std::min(file.find('\n'), file.size());
    std::string_view line = file.substr(0, end);
    file.remove_prefix(std::min(end + 1, file.size()));
    const std::string_view kind = line.substr(0, line.find(' '));
    if (kind != "some" && kind != "full") continue;
    while (line.find(' ') != std::string_view::npos) {
      line.remove_prefix(line.find(' ') + 1);
      const std::string_view word = line.substr(0, line.find(' '));
      const size_t equals = word.find('=');
      if (equals == std::string_view::npos) continue;
      const double value = std::strtod(std::string(word.substr(equals + 1)).c_str(), nullptr);
      Metrics::MetricLabels all = labels;
      all.emplace_back("resource", resource);
      all.emplace_back("kind", kind);
      if (word.starts_with("avg")) {
        all.emplace_back("window", word.substr(3, equals - 3));
        metrics.add(fmt::format("{}_pressure_share", prefix), "gauge",
                    "Share of the last seconds (window) in which tasks waited for the resource", all, value / 100);
      } else if (word.starts_with("total")) {
        metrics.add(fmt::format("{}_pressure_waiting_seconds_total", prefix), "counter",
                    "Time in which tasks waited for the resource", all, value / 1e6);
      }
    }
  }
}

}  // namespace hull::api
