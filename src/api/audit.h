#pragma once
// Who did what: one JSON object a line, appended, never rewritten.

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::api {

struct AuditEntry {
  std::string who;
  std::string_view role;
  std::string method, path;
  std::string subject;  // what a create made, or what the path doesn't tell
  bool looks_only = false;
  int status = 0;
  std::string error;
};

/// One write(2) for each entry to a file that was opened O_APPEND, so that lines of several processes never mix. What
/// only looks is left out unless `all` is set; what was refused is always written.
class AuditLog {
 public:
  static Result<AuditLog> open(const std::string& path, bool all);
  void write(const AuditEntry& entry);

 private:
  AuditLog(UniqueFd fd, bool all) : fd_(std::move(fd)), all_(all) {}
  UniqueFd fd_;
  bool all_;
};

}  // namespace hull::api
