#include "api/audit.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>

#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/log.h"
#include "base/units.h"
#include "sys/file.h"

namespace hull::api {

Result<AuditLog> AuditLog::open(const std::string& path, bool all) {
  TRY_ASSIGN(UniqueFd fd, sys::open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0600));
  return AuditLog(std::move(fd), all);
}

void AuditLog::write(const AuditEntry& entry) {
  if (entry.looks_only && !all_) return;
  JsonWriter w;
  w.object([&] {
    w.member("time", format_rfc3339(std::chrono::system_clock::now()));
    w.member("who", entry.who);
    w.member("role", entry.role);
    w.member("method", entry.method);
    w.member("path", entry.path);
    w.member_opt("subject", entry.subject);
    w.member("status", entry.status);
    w.member_opt("error", entry.error);
  });
  const std::string line = std::move(w).take() + "\n";
  if (::write(fd_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    log_error("audit log: {}", errno_error("write").message());
  }
}

}  // namespace hull::api
