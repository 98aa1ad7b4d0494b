#pragma once
// `hull-oci-vm files`: the engine's way to a machine's files. Nothing of the host's kernel ever mounts what a guest has
// written: the agent inside does the work, and what it sends is bounded in time, never trusted, and passed on as bytes.
//
//   hull-oci-vm files --report N [--user U] [--keep-kinds] [--pause] stat|get|put|export|changes|layer ID [PATH]
//
// Archives (and changes: for each 'C', 'A' or 'D', the path, a NUL) leave by standard output and come by standard
// input. The report is a SOCK_SEQPACKET socket: an outcome when the work has begun, with `stat` and `get` what is at
// the path (encode_stat), and an outcome when it has ended.

#include <string>
#include <string_view>

#include "base/error.h"
#include "runtime/command/commands.h"
#include "tar/path_access.h"

namespace hull::vm {

Result<int> files_command(const runtime::command::Global& global, const runtime::command::Words& words);

std::string encode_stat(const tar::PathStat& stat);
/// kCorrupt when it is none.
Result<tar::PathStat> decode_stat(std::string_view text);

}  // namespace hull::vm
