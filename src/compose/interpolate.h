#pragma once
// Variables in values, as the Compose specification has them (12-interpolation): $NAME, ${NAME}, ${NAME:-default},
// ${NAME-default}, ${NAME:?message}, ${NAME?message}, ${NAME:+other}, ${NAME+other}, each nested, and $$ for a dollar.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "compose/node.h"

namespace hull::compose {

using Variables = std::map<std::string, std::string, std::less<>>;
using VariableLookup = std::function<std::optional<std::string>(std::string_view name)>;
VariableLookup lookup_in(const Variables& variables);

/// Says that a variable was used which nobody set.
using MissingVariable = std::function<void(std::string_view name)>;

/// kInvalid for a "${" that is not well-formed, for a mandatory variable that is missing (with its message), and for
/// results over 1 MiB.
Result<std::string> interpolate(std::string_view text, const VariableLookup& lookup, const MissingVariable& missing);

/// Every scalar value of a tree; keys stay as they are.
Result<void> interpolate_tree(Node& node, const VariableLookup& lookup, const MissingVariable& missing);

}  // namespace hull::compose
