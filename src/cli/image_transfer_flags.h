#pragma once
// The commands that the program hull-images does (everything that speaks HTTP or decompresses): their tables, which
// hull shares for help, man pages and completion.

#include "cli/command.h"

namespace hull::cli {

extern const Command kSearch, kPull, kPush, kLogin, kLogout, kLoad, kSave, kImport;

/// Of what makes an image: import and commit.
inline constexpr Flag kChangeFlag = {
    .name = "change",
    .short_name = 'c',
    .kind = ValueKind::kText,
    .metavar = "INSTRUCTION",
    .help =
        "Apply a Dockerfile instruction to the image's configuration (CMD, ENTRYPOINT, ENV, EXPOSE, "
        "HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME, WORKDIR)",
    .repeatable = true};
inline constexpr Flag kMessageFlag = {.name = "message",
                                      .short_name = 'm',
                                      .kind = ValueKind::kText,
                                      .metavar = "TEXT",
                                      .help = "Comment for the image's history"};

}  // namespace hull::cli
