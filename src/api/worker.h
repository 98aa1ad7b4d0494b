#pragma once
// The process of a connection. It may serve a further one when nothing but whole answers to questions has left it: no
// stream, no change, no error of its own. What it knows of one client is gone before the next.

#include <memory>
#include <string>

#include "api/connection.h"
#include "api/settings.h"
#include "api/spares.h"
#include "engine/engine.h"

typedef struct ssl_ctx_st SSL_CTX;

namespace hull::api {

/// The engine, kept from one connection to the next as long as the files that it has open are the ones in place.
class KeptEngine {
 public:
  explicit KeptEngine(const engine::Settings& settings) : settings_(settings) {}
  Result<engine::Engine*> get();
  const engine::Settings& settings() const { return settings_; }
  /// Opens the indexes before anybody asks, where this host has them already.
  void warm_up();
  /// Between two connections: drops it when its files were replaced, or when a command was killed in the middle of a
  /// change (opening it again clears up).
  void check();

 private:
  bool in_place() const;
  engine::Settings settings_;
  std::unique_ptr<engine::Engine> engine_;
  ino_t workloads_ = 0, images_ = 0;
};

class Worker {
 public:
  /// `tls` may be null; all of them outlive the worker.
  Worker(const ApiSettings& api, const engine::Settings& engine, SSL_CTX* tls, const std::string& dashboard_token)
      : api_(api), kept_(engine), tls_(tls), dashboard_token_(dashboard_token) {}
  /// Serves this connection (none: it waits for one first), then others while the accepting process has some.
  [[noreturn]] void run(std::optional<Task> task, Spares& spares);

 private:
  /// True: the process is as good as a fresh one.
  bool serve(Task task);
  std::string user_name(uid_t uid);

  const ApiSettings& api_;
  KeptEngine kept_;
  SSL_CTX* const tls_;
  const std::string& dashboard_token_;
  std::optional<std::pair<uid_t, std::string>> last_user_;
};

}  // namespace hull::api
