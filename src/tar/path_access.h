#pragma once
// One path of a workload, as `cp` names it: looked at, packed, and unpacked into. The same code on the host
// (containers) and inside a virtual machine.

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "sys/root.h"
#include "tar/tar_writer.h"
#include "tar/unpack.h"

namespace hull::tar {

/// One file of a workload, not followed when it is a link.
struct PathStat {
  std::string name;  // last component
  uint64_t size = 0;
  uint32_t mode = 0;  // st_mode
  std::chrono::system_clock::time_point modified;
  std::string link_target;  // of a link: the absolute path that it leads to inside the workload
  bool is_folder() const { return (mode & 0170000) == 0040000; }
  bool is_link() const { return (mode & 0170000) == 0120000; }
};

// `whose` is the workload's name, for messages. kNotFound when nothing is at the path; kInvalid when something on the
// way is no folder.

Result<PathStat> path_stat(const sys::Root& root, std::string_view path, const std::string& whose);
/// Tells first what is there, then gives the archive.
Result<void> path_get(const sys::Root& root, std::string_view path, const std::string& whose,
                      const std::function<Result<void>(const PathStat&)>& on_stat, const ByteSink& sink);
/// Unpacks below the folder `path`.
Result<void> path_put(const sys::Root& root, std::string_view path, const std::string& whose, UnpackOptions options,
                      const ByteSource& source);

}  // namespace hull::tar
