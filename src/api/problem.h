#pragma once
// From an Error to what a client of the Docker API sees: the one place where kinds become HTTP statuses.

#include <string>
#include <string_view>

#include "base/error.h"

namespace hull::api {

/// 400 invalid, 403 permission, 404 not found, 409 exists or conflict, 501 unsupported, 503 unavailable, else 500.
int status_of(const Error& error);
/// {"message": "..."}, the body of every error of the API.
std::string problem_json(std::string_view message);
/// The phrase of a status line.
std::string_view reason_of(int status);

}  // namespace hull::api
