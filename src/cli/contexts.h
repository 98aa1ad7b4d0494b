#pragma once
// Contexts: named sets of folders that hull works with. Hull has no daemon, so a context says where the data, the state
// and the configuration are on this machine; there is no context for another machine.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::cli {

struct NamedContext {
  std::string name, description;
  std::string config, root, run_root;  // absolute paths; empty: the default one
};

/// The context without a file: what flags, environment and hull.toml say.
inline constexpr std::string_view kDefaultContext = "default";

/// Where the caller's contexts are: $XDG_CONFIG_HOME/hull or ~/.config/hull; "" without a home.
std::string context_folder();
/// kInvalid unless it is a name: letters, digits, "_", ".", "+" and "-".
Result<void> check_context_name(std::string_view name);
/// kNotFound. A file that another user owns is refused: it could lead root to folders of a stranger.
Result<NamedContext> read_context(std::string_view name);
Result<void> write_context(const NamedContext& context);
Result<void> remove_context(std::string_view name);
Result<std::vector<NamedContext>> list_contexts();

/// The one that `hull context use` chose, "default" when none.
Result<std::string> current_context();
Result<void> choose_context(std::string_view name);

/// Puts the context's folders into the environment (HULL_CONFIG, HULL_ROOT, HULL_RUN), where the engine and Hull's
/// other programs look. `flag`: --context. Then HULL_CONTEXT counts, then the chosen one; variables that say where
/// things are count before the chosen one.
Result<void> apply_context(std::optional<std::string> flag);

}  // namespace hull::cli
