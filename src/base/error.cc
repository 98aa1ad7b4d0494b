#include "base/error.h"

#include <cstring>

namespace hull {

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kInvalid:
      return "invalid";
    case ErrorKind::kNotFound:
      return "not found";
    case ErrorKind::kExists:
      return "exists";
    case ErrorKind::kConflict:
      return "conflict";
    case ErrorKind::kPermission:
      return "permission denied";
    case ErrorKind::kUnsupported:
      return "unsupported";
    case ErrorKind::kUnavailable:
      return "unavailable";
    case ErrorKind::kTimeout:
      return "timeout";
    case ErrorKind::kCorrupt:
      return "corrupt";
    case ErrorKind::kNoSpace:
      return "no space";
    case ErrorKind::kIo:
      return "i/o";
    case ErrorKind::kInternal:
      return "internal";
  }
  return "unknown";
}

ErrorKind kind_of_errno(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
      return ErrorKind::kNotFound;
    case EEXIST:
      return ErrorKind::kExists;
    case EBUSY:
    case ENOTEMPTY:
      return ErrorKind::kConflict;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorKind::kPermission;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENODEV:
      return ErrorKind::kUnsupported;
    case ENOSPC:
    case EDQUOT:
      return ErrorKind::kNoSpace;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
      return ErrorKind::kInvalid;
    case ETIMEDOUT:
      return ErrorKind::kTimeout;
    case ECONNREFUSED:
    case ECONNRESET:
    case EHOSTUNREACH:
    case ENETUNREACH:
      return ErrorKind::kUnavailable;
    default:
      return ErrorKind::kIo;
  }
}

Error Error::from_errno(int error_number, std::string_view what, std::source_location where) {
  char buffer[128];
  std::string message(what);
  message += ": ";
  message += ::strerror_r(error_number, buffer, sizeof buffer);
  Error error(kind_of_errno(error_number), std::move(message), where);
  error.error_number_ = error_number;
  return error;
}

Error Error::context(std::string_view what) && {
  std::string message(what);
  message += ": ";
  message += message_;
  message_ = std::move(message);
  return std::move(*this);
}

}  // namespace hull
