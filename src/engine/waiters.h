#pragma once
// Who waits for a workload to be started: an attachment or a wait that was asked for before the start. A waiter leaves
// a listening socket in `<run>/waiters/ID`; whoever starts the workload (any process) finds it there and hands over
// the stream ends and a connection to the monitor, before the program runs. A waiter that died is skipped.

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "engine/engine.h"
#include "engine/paths.h"

namespace hull::engine {

/// The waiting side. Its socket goes with it.
class Waiter {
 public:
  enum class Kind { kAttach, kWait };
  static Result<Waiter> leave(const Paths& paths, std::string_view id, Kind kind, bool input);
  Waiter(Waiter&& other) noexcept;
  Waiter& operator=(Waiter&&) = delete;
  ~Waiter();
  /// Readable when the workload was started.
  int fd() const { return listener_.get(); }
  /// What the starter handed over. For kWait only `control`.
  Result<Attachment> take();

 private:
  Waiter(std::string folder, std::string path, UniqueFd listener)
      : folder_(std::move(folder)), path_(std::move(path)), listener_(std::move(listener)) {}
  std::string folder_, path_;
  UniqueFd listener_;
};

/// The starter's side, with the monitor in place and the program not running yet: serves everyone who waits. Costs one
/// system call when nobody does.
void serve_waiters(const Paths& paths, std::string_view id, bool tty, bool open_stdin);
/// When the workload is removed.
void forget_waiters(const Paths& paths, std::string_view id);

}  // namespace hull::engine
