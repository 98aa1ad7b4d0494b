#pragma once
// Changes to one workload, one at a time: made, started, cleaned up, removed.
//
// A change holds an flock on a file <run>/changes/<id> that exists only meanwhile. So idle workloads cost nothing, and
// a file there that nobody holds tells every later command, without looking at any other workload, that somebody was
// killed in the middle of a change of this one.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "engine/paths.h"

namespace hull::engine {

class Change {
 public:
  /// Waits for other changes of this workload; wait=false: kConflict instead.
  static Result<Change> begin(const Paths& paths, std::string_view id, bool wait = true);
  Change(Change&& other) noexcept = default;
  Change& operator=(Change&&) = delete;
  ~Change();
  const std::string& id() const { return id_; }
  /// What a later repair has to know about this change, one word a line.
  Result<void> note(std::string_view word) const;
  /// What a cut-off change had noted.
  std::vector<std::string> notes() const;

 private:
  Change(std::string path, std::string id, UniqueFd fd)
      : path_(std::move(path)), id_(std::move(id)), fd_(std::move(fd)) {}
  std::string path_, id_;
  UniqueFd fd_;
};

/// Ids of changes that are under way or were cut off.
std::vector<std::string> changes_on_record(const Paths& paths);

/// 64 lower-case hex digits.
bool is_workload_id(std::string_view text);

}  // namespace hull::engine
