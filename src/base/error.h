#pragma once
// How a function fails. Nothing in Hull throws: what can fail returns Result<T>, and std::bad_alloc ends the process.

#include <cerrno>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace hull {

/// What went wrong, as a caller acts on it. Exit codes and HTTP statuses are chosen from it in one place each.
enum class ErrorKind {
  kInvalid,      ///< the request itself is wrong (bad flag, bad JSON, bad reference)
  kNotFound,     ///< the named object does not exist
  kExists,       ///< the name is taken
  kConflict,     ///< the object is in a state or in use so that this can't be done now
  kPermission,   ///< not allowed
  kUnsupported,  ///< this kernel, host or build can't do it
  kUnavailable,  ///< a peer (registry, monitor) can't be reached or answers nonsense; trying again may help
  kTimeout,      ///< it took longer than was allowed
  kCorrupt,      ///< stored or received data does not match its digest or its format
  kNoSpace,      ///< the disk, an address range or another bounded resource is full
  kIo,           ///< a system call failed in a way that none of the above says
  kInternal,     ///< a fault of Hull
};

std::string_view to_string(ErrorKind kind);

/// The kind that an errno stands for where the call site knows nothing better.
ErrorKind kind_of_errno(int error_number);

/// A failure: what was tried, on what, what went wrong, and (where one exists) what the user can do.
class [[nodiscard]] Error {
 public:
  Error(ErrorKind kind, std::string message, std::source_location where = std::source_location::current())
      : kind_(kind), message_(std::move(message)), where_(where) {}

  /// From a failed system call: "<what>: <strerror>".
  static Error from_errno(int error_number, std::string_view what,
                          std::source_location where = std::source_location::current());

  ErrorKind kind() const { return kind_; }
  /// The errno behind it, or 0.
  int error_number() const { return error_number_; }
  const std::string& message() const { return message_; }
  const std::source_location& where() const { return where_; }

  /// The same failure, told from one level up: "<what>: <message>".
  Error context(std::string_view what) &&;
  /// The same failure with another kind.
  Error as(ErrorKind kind) && {
    kind_ = kind;
    return std::move(*this);
  }

 private:
  ErrorKind kind_;
  int error_number_ = 0;
  std::string message_;
  std::source_location where_;
};

/// Either a T or an Error. `Result<void>` is success or an Error.
template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)
  template <typename U>
    requires(std::is_convertible_v<U, T> && !std::is_same_v<std::remove_cvref_t<U>, T> &&
             !std::is_same_v<std::remove_cvref_t<U>, Error> && !std::is_same_v<std::remove_cvref_t<U>, Result>)
  Result(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return *std::get_if<0>(&state_); }
  const T& value() const& { return *std::get_if<0>(&state_); }
  T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T value_or(T other) && { return ok() ? std::move(*this).value() : std::move(other); }
  Error& error() & { return *std::get_if<1>(&state_); }
  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }
  /// The same result, its error told from one level up.
  Result context(std::string_view what) && {
    if (ok()) return std::move(*this);
    return std::move(error()).context(what);
  }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  Error& error() & { return *error_; }
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }
  Result context(std::string_view what) && {
    if (ok()) return {};
    return std::move(*error_).context(what);
  }

 private:
  std::optional<Error> error_;
};

/// For a caller that has a reason to go on whatever happened (clean-up after a failure that is already reported).
template <typename T>
inline void ignore_result(Result<T>&&) {}

/// The failure of the system call that just returned.
inline Error errno_error(std::string_view what, std::source_location where = std::source_location::current()) {
  return Error::from_errno(errno, what, where);
}

}  // namespace hull

#define HULL_CONCAT_(a, b) a##b
#define HULL_CONCAT(a, b) HULL_CONCAT_(a, b)

/// TRY(expression): returns the Error of a failed Result from the enclosing function; the value is dropped.
#define TRY(...)                                                          \
  do {                                                                    \
    auto hull_try_result = (__VA_ARGS__);                                 \
    if (!hull_try_result.ok()) return std::move(hull_try_result).error(); \
  } while (0)

/// TRY_ASSIGN(auto name, expression): the same, and binds the value.
#define TRY_ASSIGN(target, ...) HULL_TRY_ASSIGN_(HULL_CONCAT(hull_try_, __COUNTER__), target, __VA_ARGS__)
#define HULL_TRY_ASSIGN_(result, target, ...)         \
  auto result = (__VA_ARGS__);                        \
  if (!result.ok()) return std::move(result).error(); \
  target = std::move(result).value()
