#pragma once
// The commands that the program hull-compose does (everything that reads YAML): their tables, which hull shares for
// help, man pages and completion.

#include "cli/command.h"

namespace hull::cli {

/// Between "compose" and the command.
extern const FlagTables kComposeGroupFlags;

extern const Command kComposeConfig, kComposeCreate, kComposeCp, kComposeDown, kComposeEvents, kComposeExec,
    kComposeImages, kComposeKill, kComposeList, kComposeLogs, kComposePause, kComposePort, kComposePs, kComposePull,
    kComposeRemove, kComposeRestart, kComposeRun, kComposeScale, kComposeStart, kComposeStats, kComposeStop,
    kComposeTop, kComposeUnpause, kComposeUp, kComposeVersion, kComposeWait;
extern const Command kKubeDown, kKubeGenerate, kKubePlay;

}  // namespace hull::cli
