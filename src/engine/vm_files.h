#pragma once
// The files of a virtual machine. Its disk is the machine's alone: nothing of the host's kernel ever mounts what a
// guest has written. The agent inside does the work, and hull-oci-vm (vm/files.h) brings its bytes here, where they are
// as hostile as the workload: bounded, passed on to whoever asked, and unpacked by the host's rules.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "engine/files.h"
#include "engine/process.h"

namespace hull::engine {

class MachineFiles {
 public:
  /// `program`: hull-oci-vm and its global options. `user`: whom put gives files to when asked for. `disk_bytes`: the
  /// size of the machine's disk, by which endless answers are told.
  MachineFiles(std::vector<std::string> program, std::string id, std::string name, std::string user,
               uint64_t disk_bytes)
      : program_(std::move(program)),
        id_(std::move(id)),
        name_(std::move(name)),
        user_(std::move(user)),
        disk_bytes_(disk_bytes) {}

  Result<PathStat> stat(std::string_view path) const;
  Result<void> get(std::string_view path, const std::function<Result<void>(const PathStat&)>& on_stat,
                   const ByteTaker& sink) const;
  Result<void> put(std::string_view path, const PutOptions& options, const ByteGiver& source) const;
  Result<void> export_all(const ByteTaker& sink) const;
  Result<std::vector<FileChange>> changes() const;
  /// With `pause` the workload stands still meanwhile.
  Result<void> layer(bool pause, const ByteTaker& sink) const;

 private:
  class Run;
  Result<void> fetch(std::vector<std::string> words, const ByteTaker& sink) const;
  uint64_t most_bytes() const;
  Error told(Error error, std::string_view path) const;

  std::vector<std::string> program_;
  std::string id_, name_, user_;
  uint64_t disk_bytes_ = 0;
};

/// What a guest says it has changed: for each 'C', 'A' or 'D', the absolute path, and a NUL. Fed in pieces of any size.
class ChangeParser {
 public:
  static constexpr size_t kMaxBytes = 64 << 20;  ///< of all together
  Result<void> feed(std::string_view bytes);
  /// kCorrupt when the last one is not complete.
  Result<std::vector<FileChange>> finish();

 private:
  Result<void> add(std::string_view record);
  std::vector<FileChange> found_;
  std::string rest_;
  size_t total_ = 0;
};

}  // namespace hull::engine
