#pragma once

#include <fmt/format.h>

#include "base/error.h"

namespace hull {

namespace detail {
/// A format string that remembers where it was written, so that Error::where() names the caller.
template <typename... Args>
struct LocatedFormat {
  fmt::format_string<Args...> format;
  std::source_location where;
  template <typename S>
  consteval LocatedFormat(const S& text,  // NOLINT(google-explicit-constructor)
                          std::source_location location = std::source_location::current())
      : format(text), where(location) {}
};
}  // namespace detail

/// An Error with a formatted message: errorf(ErrorKind::kInvalid, "flag --{}: ...", name).
template <typename... Args>
Error errorf(ErrorKind kind, detail::LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  return {kind, fmt::format(format.format, std::forward<Args>(args)...), format.where};
}

/// The error of the system call that just failed: "<message>: <strerror(errno)>".
template <typename... Args>
Error errnof(detail::LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  const int saved = errno;
  return Error::from_errno(saved, fmt::format(format.format, std::forward<Args>(args)...), format.where);
}

}  // namespace hull
