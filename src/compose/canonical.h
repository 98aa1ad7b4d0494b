#pragma once
// One form for everything: the short syntaxes of a Compose file become the long ones, lists of KEY=VALUE become maps,
// and relative paths become absolute. What comes after (merging, extends, the model) knows the long forms only.

#include "compose/paths.h"

namespace hull::compose {

/// `folder` is what relative paths are taken from. The document has passed check_schema.
Result<void> make_canonical(Node& document, const std::string& folder, Notices& notices);

/// A command line as a shell would split it: blanks, quotes and backslashes; no variables, no globs.
Result<std::vector<std::string>> split_command(std::string_view text);

}  // namespace hull::compose
