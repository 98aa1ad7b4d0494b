#include "engine/config_json_parts.h"

namespace hull::engine {

void write_health(oci::JsonWriter& w, const Config& c) {
  if (!c.healthcheck && c.health_on_failure.empty()) return;
  const oci::HealthConfig health = c.healthcheck.value_or(oci::HealthConfig{});
  w.object("Healthcheck", [&] {
    w.member_opt("Test", health.test);
    w.member_opt("Interval", health.interval_ns);
    w.member_opt("Timeout", health.timeout_ns);
    w.member_opt("StartPeriod", health.start_period_ns);
    w.member_opt("StartInterval", health.start_interval_ns);
    w.member_opt("Retries", health.retries);
    w.member_opt("OnFailure", c.health_on_failure);  // not Docker's: what an unhealthy workload gets
  });
}

bool read_health(oci::JsonReader& r, Config& c) {
  oci::HealthConfig& health = c.healthcheck.emplace();
  r.object([&](std::string_view key) {
    if (key == "Test") return r.value(health.test);
    if (key == "Interval") return r.value(health.interval_ns);
    if (key == "Timeout") return r.value(health.timeout_ns);
    if (key == "StartPeriod") return r.value(health.start_period_ns);
    if (key == "StartInterval") return r.value(health.start_interval_ns);
    if (key == "Retries") return r.value(health.retries);
    if (key == "OnFailure") return r.value(c.health_on_failure);
    r.fail("unknown member");
    return true;
  });
  return true;
}

}  // namespace hull::engine
