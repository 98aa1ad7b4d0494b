#include "compose/waiting.h"

#include "compose/state.h"

namespace hull::compose {
namespace {

/// True: reached. An error: never will be.
Result<bool> look(engine::Engine& engine, const std::string& id, const std::string& name, Goal goal) {
  TRY_ASSIGN(const Facts facts, container_facts(engine, id));
  const bool alive = facts.running || facts.restarting;
  const bool checked = !facts.health.empty() && facts.health != "none";
  switch (goal) {
    case Goal::kStarted:
      return true;
    case Goal::kCompleted:
      if (alive) return false;
      if (facts.exit_code == 0) return true;
      return errorf(ErrorKind::kConflict, "{} did not complete: it ended with exit code {}", name, facts.exit_code);
    case Goal::kReady:
      if (!checked && facts.running) return true;
      if (!alive && facts.exit_code == 0 && !checked) return true;  // did its work already
      break;
    case Goal::kHealthy:
      if (alive && !checked) {
        return errorf(ErrorKind::kConflict, "{} has no health check, so it never becomes healthy: give its service one",
                      name);
      }
      break;
  }
  if (!alive) {
    return errorf(ErrorKind::kConflict, "{} ended with exit code {} before it was healthy: see 'hull logs {}'", name,
                  facts.exit_code, name);
  }
  if (facts.health == "unhealthy") {
    return errorf(ErrorKind::kConflict, "{} is unhealthy: 'hull inspect {}' shows what its health check said", name,
                  name);
  }
  return facts.health == "healthy";
}

}  // namespace

Result<void> wait_for(engine::Engine& engine, const std::string& id, const std::string& name, Goal goal,
                      std::optional<std::chrono::seconds> timeout) {
  engine::EventFilter filter;
  const auto now = std::chrono::system_clock::now();
  // What happens between the look and the listening is on record.
  filter.since = now;
  if (timeout) filter.until = now + *timeout;
  filter.filters = {{"type", "container"}, {"container", id}};
  TRY_ASSIGN(bool reached, look(engine, id, name, goal));
  if (reached) return {};
  std::optional<Error> problem;
  auto ended = engine.events(filter, [&](const engine::Event&) -> Result<void> {
    auto seen = look(engine, id, name, goal);
    if (seen.ok() && !*seen) return {};
    if (!seen.ok()) problem = std::move(seen).error();
    reached = true;
    return Error(ErrorKind::kConflict, "enough");  // ends the listening
  });
  if (problem) return std::move(*problem);
  if (reached) return {};
  TRY(std::move(ended));
  return errorf(ErrorKind::kTimeout, "{}: not ready after {} s", name, timeout ? timeout->count() : 0);
}

}  // namespace hull::compose
