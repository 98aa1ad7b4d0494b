#include "sys/syscall_counter.h"

#include <fcntl.h>
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/file.h"
#include "sys/mount_api.h"

namespace hull::sys {
namespace {

/// The tracepoint's number; tracefs is mounted for nobody but us where it is not mounted.
Result<uint64_t> tracepoint_id() {
  constexpr const char* kFile = "events/raw_syscalls/sys_enter/id";
  auto text = read_file(std::string("/sys/kernel/tracing/") + kFile, 64);
  if (!text.ok()) {
    TRY_ASSIGN(const UniqueFd tracefs, make_mount("tracefs", "tracefs", {}, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID));
    text = read_file_at(tracefs.get(), kFile, 64);
  }
  if (!text.ok()) return std::move(text).error();
  const std::string_view line = std::string_view(*text).substr(0, text->find('\n'));
  TRY_ASSIGN(const int64_t id, parse_int(line, 1, INT64_MAX));
  return static_cast<uint64_t>(id);
}

Result<UniqueFd> open_counter(uint64_t id, bool with_children) {
  perf_event_attr attr{};
  attr.type = PERF_TYPE_TRACEPOINT;
  attr.size = sizeof attr;
  attr.config = id;
  attr.inherit = with_children ? 1 : 0;
  UniqueFd fd(static_cast<int>(::syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)));
  if (!fd) return errno_error("count system calls");
  return fd;
}

Result<uint64_t> value_of(const UniqueFd& fd) {
  uint64_t value = 0;
  if (::read(fd.get(), &value, sizeof value) != sizeof value) return errno_error("read the count of system calls");
  return value;
}

}  // namespace

Result<SyscallCounter> SyscallCounter::start() {
  auto id = tracepoint_id();
  if (!id.ok()) return std::move(id).error().as(ErrorKind::kUnsupported).context("this kernel counts no system calls");
  TRY_ASSIGN(UniqueFd own, open_counter(*id, false));
  TRY_ASSIGN(UniqueFd tree, open_counter(*id, true));
  return SyscallCounter(std::move(tree), std::move(own));
}

Result<uint64_t> SyscallCounter::count() const {
  // The tree's first: the read of it is one call of our own, so that the difference errs by a call or two.
  TRY_ASSIGN(const uint64_t tree, value_of(tree_));
  TRY_ASSIGN(const uint64_t own, value_of(own_));
  return tree > own ? tree - own : 0;
}

}  // namespace hull::sys
