#pragma once
// Prometheus' text format (version 0.0.4).

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hull::api {

/// Metrics gathered one by one; samples of one name stand together, as the format wants them.
class Metrics {
 public:
  using MetricLabels = std::vector<std::pair<std::string_view, std::string_view>>;
  /// type: counter or gauge.
  void add(std::string_view name, std::string_view type, std::string_view help, const MetricLabels& labels,
           double value);
  std::string text() const;

 private:
  struct Family {
    std::string name, head, samples;
  };
  std::vector<Family> families_;
};

/// The lines of a pressure file (/proc/pressure/cpu, a control group's cpu.pressure) as
/// PREFIX_pressure_waiting_seconds_total and PREFIX_pressure_share, labelled with resource, kind (some, full), window.
void add_pressure(Metrics& metrics, std::string_view prefix, std::string_view resource, std::string_view file,
                  const Metrics::MetricLabels& labels);

}  // namespace hull::api
