#pragma once
// The dashboard's own port: who may use it. The page itself is routes_dashboard.cc, its source is web/.
//
// Every user of this machine reaches a port on loopback, and so does every page that a browser shows, so what comes by
// it has to carry a token that only the owner of hulld can read. It goes in a header (or, for a websocket, in a
// protocol's name), never in a cookie: browsers send those to every port of a host.

#include <string>
#include <string_view>

#include "api/http_reader.h"
#include "api/settings.h"
#include "base/error.h"

namespace hull::api {

/// Where `hull dashboard` finds address and token: a file of two lines, readable by its owner alone.
std::string dashboard_file(const std::string& run_root);
/// Writes the file and returns the token: the one that it held before, so that open pages stay logged in when hulld
/// starts again, else a new one of 256 random bits.
Result<std::string> publish_dashboard(const std::string& run_root, const Address& address);

/// Whether the request carries the token; compared in constant time.
bool carries_token(const RequestHead& head, std::string_view token);
/// What is the same for everyone and needs no token: the files of the page.
bool is_dashboard_path(std::string_view path);

}  // namespace hull::api
