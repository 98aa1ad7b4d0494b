#pragma once
// Waiting until a container is what others need it to be. Nothing polls: the engine's events say when to look again.

#include <chrono>
#include <optional>
#include <string>

#include "compose/model.h"
#include "engine/engine.h"

namespace hull::compose {

enum class Goal : uint8_t {
  kStarted,
  kHealthy,    // by its health check, which it must have
  kCompleted,  // ended with exit code 0
  kReady,      // healthy when it has a health check, else running
};

/// kConflict with the reason when the container can't get there any more; kTimeout.
Result<void> wait_for(engine::Engine& engine, const std::string& id, const std::string& name, Goal goal,
                      std::optional<std::chrono::seconds> timeout);

}  // namespace hull::compose
