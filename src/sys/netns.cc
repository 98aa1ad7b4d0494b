#include "sys/netns.h"

#include <fcntl.h>
#include <sched.h>

#include <cstdlib>

#include "base/error_format.h"
#include "base/log.h"
#include "sys/file.h"

namespace hull::sys {

Result<UniqueFd> current_netns() { return open("/proc/thread-self/ns/net", O_RDONLY); }

Result<ScopedNetns> ScopedNetns::enter(int netns_fd) {
  TRY_ASSIGN(UniqueFd home, current_netns());
  const int home_fd = home.get();
  if (::setns(netns_fd, CLONE_NEWNET) != 0) return errnof("enter a network namespace");
  return ScopedNetns(std::move(home), home_fd);
}

Result<ScopedNetns> ScopedNetns::enter(int netns_fd, int home_fd) {
  if (::setns(netns_fd, CLONE_NEWNET) != 0) return errnof("enter a network namespace");
  return ScopedNetns(UniqueFd(), home_fd);
}

ScopedNetns::ScopedNetns(ScopedNetns&& other) noexcept
    : owned_(std::move(other.owned_)), home_fd_(std::exchange(other.home_fd_, -1)) {}

ScopedNetns::~ScopedNetns() {
  if (home_fd_ >= 0 && ::setns(home_fd_, CLONE_NEWNET) != 0) {
    log_error("go back to the host's network namespace: {}", errno);
    std::abort();
  }
}

}  // namespace hull::sys
