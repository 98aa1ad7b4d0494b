#pragma once
// One connection: requests, one after the other, until the client closes it or is silent for long. Runs in a process
// of its own.

#include <chrono>
#include <memory>
#include <optional>

#include "api/access.h"
#include "api/audit.h"
#include "api/request.h"
#include "api/router.h"
#include "api/stream.h"

namespace hull::api {

struct ConnectionLimits {
  int head_timeout_ms = 30'000;   // from the first byte of a request to the end of its head
  int body_timeout_ms = 60'000;   // silence in the middle of a body
  int idle_timeout_ms = 300'000;  // between two requests
};

class Connection {
 public:
  /// `loopback_only`: the Host header has to name this machine (a web page that a browser shows must not reach a
  /// plain TCP port by a name of its own). `token`: what every request but those for the dashboard's files has to
  /// carry; "": none. `known`: an error that answers every request, of a client that has no role.
  Connection(Stream& stream, Principal who, Session& session, const Router& router, AuditLog* audit,
             ConnectionLimits limits, bool loopback_only, std::string token, Result<void> known);
  void serve();
  /// Nothing but whole answers to requests that change nothing left here.
  bool only_looked() const { return only_looked_; }

 private:
  Result<size_t> receive(char* data, size_t size);
  bool await_request();
  /// False: the connection is of no further use.
  bool answer();
  Result<void> dispatch(Request& request, Response& response);
  bool refuse(int status, std::string_view message);
  bool looks_only() const;
  bool host_is_local() const;
  bool origin_is_own() const;
  void record(const Request& request, const Response& response, const Result<void>& outcome);

  Stream& stream_;
  const Principal who_;
  Session& session_;
  const Router& router_;
  AuditLog* const audit_;
  const ConnectionLimits limits_;
  const bool loopback_only_;
  const std::string token_;
  const Result<void> known_;
  HttpReader reader_;
  const Route* route_ = nullptr;
  bool recorded_ = false, only_looked_ = true;
  /// When the head that is being read has to be complete; nothing while a body is.
  std::optional<std::chrono::steady_clock::time_point> head_deadline_;
};

}  // namespace hull::api
