#pragma once
// Shell completion. The scripts are thin: they hand over the words and get the candidates, so that what a shell
// offers is always what this program takes.

#include <string>
#include <vector>

#include "cli/command.h"

namespace hull::cli {

/// `words` after "hull", the last one (may be empty) being typed. Lines "candidate<TAB>description"; the single lines
/// ":file" and ":folder" ask the shell to complete paths. Looks names up in the engine; says nothing on failure.
std::vector<std::string> complete(Context& context, const std::vector<std::string>& words);

}  // namespace hull::cli
