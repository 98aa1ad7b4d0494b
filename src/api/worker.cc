#include "api/worker.h"

#include <dirent.h>
#include <malloc.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "api/audit.h"
#include "api/tls.h"
#include "base/error_format.h"
#include "base/log.h"

namespace hull::api {
namespace {

constexpr int kHandshakeMs = 10'000;
/// After so many connections, or with a heap as large, a process ends: what might have gathered goes with it.
constexpr int kMostServed = 200;
constexpr size_t kLargeHeap = 4 << 20;

class KeptSession : public Session {
 public:
  explicit KeptSession(KeptEngine& kept) : kept_(kept) {}
  Result<engine::Engine*> engine() override { return kept_.get(); }
  const engine::Settings& settings() const override { return kept_.settings(); }

 private:
  KeptEngine& kept_;
};

ino_t inode_of(const std::string& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

bool has_entries(const std::string& folder) {
  DIR* const open = ::opendir(folder.c_str());
  if (open == nullptr) return false;
  int entries = 0;
  while (entries < 3 && ::readdir(open) != nullptr) ++entries;  // "." and ".." are no entries
  ::closedir(open);
  return entries > 2;
}

}  // namespace

Result<engine::Engine*> KeptEngine::get() {
  if (!engine_) {
    TRY_ASSIGN(engine_, engine::Engine::open(settings_));
    workloads_ = inode_of(settings_.data_root + "/engine.db");
    images_ = inode_of(settings_.data_root + "/index.db");
  }
  return engine_.get();
}

bool KeptEngine::in_place() const {
  return inode_of(settings_.data_root + "/engine.db") == workloads_ &&
         inode_of(settings_.data_root + "/index.db") == images_;
}

void KeptEngine::warm_up() {
  if (inode_of(settings_.data_root + "/engine.db") == 0 || inode_of(settings_.data_root + "/index.db") == 0) return;
  const auto engine = get();
  if (!engine.ok()) return;
  // Nothing is called so: both indexes are opened and searched.
  ignore_result((*engine)->inspect("_"));
  ignore_result((*engine)->images().find("warm-up.invalid/none:none"));
}

void KeptEngine::check() {
  if (engine_ && (!in_place() || has_entries(settings_.run_root + "/changes"))) engine_.reset();
}

std::string Worker::user_name(uid_t uid) {
  if (!last_user_ || last_user_->first != uid) {
    const passwd* found = ::getpwuid(uid);
    last_user_.emplace(uid, found == nullptr ? fmt::format("uid:{}", uid) : fmt::format("user:{}", found->pw_name));
  }
  return last_user_->second;
}

bool Worker::serve(Task task) {
  Stream stream(std::move(task.socket));
  Principal who;
  Result<void> known;
  if (task.is_unix) {
    who.name = user_name(task.uid);
  } else if (task.tls) {
    if (auto done = stream.start_tls(tls_, kHandshakeMs); !done.ok()) {
      log_warning("hulld: {}", done.error().message());
      return false;
    }
    auto name = client_name(stream.tls());
    if (!name.ok()) {
      known = std::move(name).error();
    } else {
      who.name = "cert:" + *name;
      if (const auto found = api_.clients.find(*name); found != api_.clients.end()) {
        who.role = found->second.role;
        who.scope = found->second.scope;
      } else if (!api_.clients.empty()) {
        known = errorf(ErrorKind::kPermission, "the client {} has no role here: name it in section [api] of hull.toml",
                       *name);
      }
    }
  } else {
    who.name = task.dashboard ? "dashboard" : "tcp:loopback";
  }
  std::optional<AuditLog> audit;
  if (!api_.audit_log.empty()) {
    auto opened = AuditLog::open(api_.audit_log, api_.audit_reads);
    if (opened.ok()) {
      audit.emplace(std::move(*opened));
    } else if (known.ok()) {
      // What can't be put on record does not happen.
      known = std::move(opened).error().context("the audit log can't be written");
    }
  }
  KeptSession session(kept_);
  Connection connection(stream, std::move(who), session, Router::all(), audit ? &*audit : nullptr, {},
                        !task.is_unix && !task.tls, task.dashboard ? dashboard_token_ : "", std::move(known));
  connection.serve();
  return task.is_unix && connection.only_looked();
}

void Worker::run(std::optional<Task> task, Spares& spares) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (!task) {
    kept_.warm_up();
    user_name(0);
  }
  for (int served = 0; served < kMostServed; ++served) {
    if (!task) {
      ::prctl(PR_SET_NAME, "hulld-idle");
      task = spares.wait_for_task();
      if (!task) break;
      kept_.check();
    }
    ::prctl(PR_SET_NAME, "hulld-conn");
    const bool as_fresh = serve(std::move(*task));
    task.reset();
    if (!as_fresh || ::mallinfo2().arena > kLargeHeap) break;
  }
  ::_exit(0);
}

}  // namespace hull::api
