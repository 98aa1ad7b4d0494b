#pragma once

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::sys {

/// The network namespace of the calling thread.
Result<UniqueFd> current_netns();

/// The calling thread is inside another network namespace while this lives. Coming back can't fail for a reason that a
/// caller could handle, so a failure ends the process. Other threads are not touched.
class ScopedNetns {
 public:
  /// Enters the namespace of `netns_fd`. kInvalid when it is no network namespace; kPermission without CAP_SYS_ADMIN
  /// in the user namespace that owns it.
  static Result<ScopedNetns> enter(int netns_fd);
  /// The same with a descriptor of the current namespace at hand (one open less); it must outlive the scope.
  static Result<ScopedNetns> enter(int netns_fd, int home_fd);
  ScopedNetns(ScopedNetns&& other) noexcept;
  ScopedNetns& operator=(ScopedNetns&&) = delete;
  ~ScopedNetns();

 private:
  ScopedNetns(UniqueFd owned, int home_fd) : owned_(std::move(owned)), home_fd_(home_fd) {}
  UniqueFd owned_;
  int home_fd_;
};

}  // namespace hull::sys
