#pragma once
// The commands that the program hull-images does (everything that speaks HTTP or decompresses): their tables, which
// hull shares for help, man pages and completion.

#include "cli/command.h"

namespace hull::cli {

extern const Command kSearch, kPull, kPush, kLogin, kLogout, kLoad, kSave, kImport;

}  // namespace hull::cli
