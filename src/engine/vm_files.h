#pragma once
// Files into and out of a running virtual machine. Its disk is the machine's alone (nothing of the host's kernel ever
// mounts what a guest has written), so the workload's own tar, stat and readlink do the work inside, as `hull exec`
// would start them; an image without them can't be copied from or to. What comes out is as hostile as the workload:
// the archive is unpacked by the host's rules.

#include <string>
#include <string_view>

#include "engine/engine.h"

namespace hull::engine {

Result<PathStat> vm_path_stat(Engine& engine, const std::string& id, std::string_view path);
Result<void> vm_archive_get(Engine& engine, const std::string& id, std::string_view path,
                            const std::function<Result<void>(const PathStat&)>& on_stat, const ByteTaker& sink);
Result<void> vm_archive_put(Engine& engine, const std::string& id, std::string_view path, const PutOptions& options,
                            const ByteGiver& source);

}  // namespace hull::engine
