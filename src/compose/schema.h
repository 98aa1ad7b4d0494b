#pragma once
// Which keys a Compose file may have where, and what kind of value each takes: the Compose specification's schema
// (schema/compose-spec.json) as one table. Keys that begin with "x-" are free everywhere the specification says so.

#include "compose/node.h"

namespace hull::compose {

/// A whole file, as it was written (short syntaxes and all). Errors are kInvalid and name file, line, the way to the
/// key, and for an unknown key the nearest known one.
Result<void> check_schema(const Node& document);

}  // namespace hull::compose
