#include "cli/images/images_app.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error_format.h"
#include "cli/command.h"
#include "cli/image_transfer_flags.h"
#include "cli/images/progress_view.h"
#include "engine/events.h"
#include "engine/paths.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

constexpr std::chrono::seconds kGrace{3};

std::string from_environment(const char* name, const char* otherwise) {
  const char* value = ::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

std::atomic<bool> g_interrupted{false};
std::mutex g_engine_mutex;
store::HttpEngine* g_engine = nullptr;  // what a signal ends

/// Waits for signals on a thread of its own, so that no handler runs anywhere. The first one ends transfers, and the
/// command unwinds and removes what it staged; a command that is stuck in a lock is ended after a grace (nothing of it
/// is visible, and the next sweep takes its staged files).
class SignalWatch {
 public:
  SignalWatch() {
    sigemptyset(&set_);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) sigaddset(&set_, number);
    ::pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    thread_ = std::thread([this] { watch(); });
  }
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
  ~SignalWatch() {
    {
      const std::lock_guard guard(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    ::pthread_kill(thread_.native_handle(), SIGUSR1);  // wakes sigwait
    thread_.join();
  }
  int number() const { return number_; }

 private:
  void watch() {
    int number = 0;
    while (::sigwait(&set_, &number) != 0 || number == SIGUSR1) {
      const std::lock_guard guard(mutex_);
      if (done_) return;
    }
    number_ = number;
    g_interrupted = true;
    {
      const std::lock_guard guard(g_engine_mutex);
      if (g_engine != nullptr) g_engine->interrupt();
    }
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kGrace, [this] { return done_; })) ::_exit(128 + number);
  }

  sigset_t set_{};
  std::atomic<int> number_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_;
};

constexpr Flag kCheckFlags[] = {
    {.name = "deep", .help = "Compare the content of every layer with its digest"},
    {.name = "repair", .help = "Remove leftovers, and what can't be used any more"},
};
constexpr std::span<const Flag> kCheckTables[] = {kCheckFlags};
constinit const Command kCheck = {.path = "check",
                                  .summary = "Verify the image store (the images' part of 'hull system check')",
                                  .flags = kCheckTables,
                                  .section = Section::kInternal};

constexpr Flag kCommitFlags[] = {
    {.name = "config", .kind = ValueKind::kText, .metavar = "FILE", .help = "The image's configuration"},
    {.name = "message", .kind = ValueKind::kText, .metavar = "TEXT", .help = "For the history"},
    {.name = "change",
     .kind = ValueKind::kText,
     .metavar = "INSTRUCTION",
     .help = "Of a Dockerfile",
     .repeatable = true},
};
constexpr std::span<const Flag> kCommitTables[] = {kCommitFlags};
constinit const Command kCommitLayer = {.path = "commit",
                                        .arguments = "PARENT [NAME]",
                                        .summary = "Make an image of a layer on standard input",
                                        .flags = kCommitTables,
                                        .least = 1,
                                        .most = 2};
constexpr Flag kAuthFlags[] = {
    {.name = "auth-file", .kind = ValueKind::kText, .metavar = "FILE", .help = "Docker's AuthConfig document"},
    {.name = "json-progress", .help = "Tell errors as JSON"},
};
constexpr std::span<const Flag> kAuthTables[] = {kAuthFlags};
constinit const Command kRemoteInspect = {.path = "remote-inspect",
                                          .arguments = "NAME",
                                          .summary = "Tell what a registry has under a name",
                                          .flags = kAuthTables,
                                          .least = 1,
                                          .most = 1};
constinit const Command kCheckLogin = {
    .path = "check-login", .summary = "Ask a registry whether it takes credentials", .flags = kAuthTables};
constinit const Command kVerifyLayer = {.path = "verify-layer",
                                        .arguments = "DIGEST FOLDER",
                                        .summary = "Compare the content of one layer with its digest",
                                        .least = 2,
                                        .most = 2,
                                        .section = Section::kInternal};

struct Entry {
  const Command* command;
  Result<void> (*run)(ImagesApp& app, const Parsed& flags);
};
constexpr Entry kEntries[] = {
    {&kPull, run_pull},
    {&kPush, run_push},
    {&kLogin, run_login},
    {&kLogout, run_logout},
    {&kLoad, run_load},
    {&kSave, run_save},
    {&kImport, run_import},
    {&kCheck, run_check},
    {&kVerifyLayer, run_verify_layer},
    {&kCommitLayer, run_commit},
    {&kRemoteInspect, run_remote_inspect},
    {&kCheckLogin, run_check_login},
    {&kSearch, run_search},
};

void complain(std::string_view command, const Error& error) {
  if (json_output()) return print_json_error(error);
  ignore_result(sys::write_all(STDERR_FILENO, fmt::format("hull: {}: {}\n", command, error.message())));
}

void print_usage() {
  std::string text = "Usage: hull-images COMMAND …\n\nThe part of hull that moves images. Use 'hull' instead.\n\n";
  for (const Entry& entry : kEntries) text += fmt::format("  {:<8} {}\n", entry.command->path, entry.command->summary);
  ignore_result(sys::write_all(STDOUT_FILENO, text));
}

void print_usage_of(const Command& command) {
  std::string text = fmt::format("Usage: hull {} [FLAGS] {}\n\n{}\n", command.path, command.arguments, command.summary);
  for (const auto& table : command.flags) {
    for (const Flag& flag : table) {
      if (flag.hidden) continue;
      const std::string dash = flag.short_name != 0 ? fmt::format("-{}, ", flag.short_name) : "    ";
      text += fmt::format("  {}--{:<24} {}\n", dash,
                          std::string(flag.name) + (flag.metavar.empty() ? "" : " " + std::string(flag.metavar)),
                          flag.help);
    }
  }
  ignore_result(sys::write_all(STDOUT_FILENO, text));
}

int exit_code_for(const Error& error) {
  // As Docker: whatever went wrong is 1; a command line that can't be read is 125.
  static_cast<void>(error);
  return 1;
}

}  // namespace

Result<std::unique_ptr<ImagesApp>> ImagesApp::create() {
  std::unique_ptr<ImagesApp> app(new ImagesApp());
  // A file that was named must be there; the default one need not be.
  const char* named = ::getenv("HULL_CONFIG");
  const std::string config = named != nullptr ? named : "/etc/hull/hull.toml";
  if (named != nullptr && !sys::exists(config)) {
    return errorf(ErrorKind::kNotFound, "configuration {} (HULL_CONFIG): it does not exist", config);
  }
  TRY_ASSIGN(app->settings_, store::load_registry_settings(config));
  app->paths_.data = from_environment("HULL_ROOT", app->settings_.data_root.c_str());
  app->paths_.run = from_environment("HULL_RUN", app->settings_.run_root.c_str());
  app->paths_.default_registry = app->settings_.default_registry;
  return app;
}

store::HttpEngine& ImagesApp::http() {
  const std::lock_guard guard(g_engine_mutex);
  if (!http_) {
    http_ = std::make_unique<store::HttpEngine>();
    g_engine = http_.get();
    if (g_interrupted) http_->interrupt();
  }
  return *http_;
}

void ImagesApp::emit(std::string_view action, const std::string& actor, const std::string& name) const {
  const engine::EventLog log(engine::Paths{paths_.data, paths_.run}.events());
  ignore_result(log.write({"image", std::string(action), actor, {{"name", name}}}));
}

bool ImagesApp::interrupted() const { return g_interrupted; }

void ImagesApp::print(std::string_view line) const {
  if (json_output()) return print_json("status", line);
  ignore_result(sys::write_all(STDOUT_FILENO, fmt::format("{}\n", line)));
}
void ImagesApp::warn(std::string_view line) const {
  ignore_result(sys::write_all(STDERR_FILENO, fmt::format("hull: {}\n", line)));
}

int images_main(std::span<const std::string_view> words) {
  ::signal(SIGPIPE, SIG_IGN);
  if (const auto code = log_main(words)) return *code;
  // "hull image pull" is "hull pull".
  if (words.size() > 1 && words[0] == "image") words = words.subspan(1);
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_usage();
    return words.empty() ? 125 : 0;
  }
  const auto entry = std::find_if(std::begin(kEntries), std::end(kEntries),
                                  [&](const Entry& one) { return one.command->path == words[0]; });
  if (entry == std::end(kEntries)) {
    complain("images", errorf(ErrorKind::kInvalid, "unknown command \"{:.60}\"; see 'hull help'", words[0]));
    return 125;
  }
  const Command& command = *entry->command;
  auto flags = parse_flags(command.flags, words.subspan(1), {});
  if (flags.ok() && flags->help) {
    print_usage_of(command);
    return 0;
  }
  if (flags.ok()) {
    const auto count = static_cast<int>(flags->arguments.size());
    if (count < command.least || (command.most >= 0 && count > command.most)) {
      flags =
          errorf(ErrorKind::kInvalid, "{} arguments given; usage: hull {} {}", count, command.path, command.arguments);
    }
  }
  if (!flags.ok()) {
    complain(command.path, flags.error());
    return 125;
  }

  if (flags->on("json-progress")) set_json_output();
  const SignalWatch watch;
  int code = 0;
  {
    auto app = ImagesApp::create();
    auto outcome = app.ok() ? entry->run(**app, *flags) : Result<void>(std::move(app).error());
    if (!outcome.ok()) {
      code = exit_code_for(outcome.error());
      if (watch.number() == 0) complain(command.path, outcome.error());
    }
    const std::lock_guard guard(g_engine_mutex);
    g_engine = nullptr;
  }
  if (watch.number() != 0 && code != 0) {
    complain(command.path, errorf(ErrorKind::kConflict, "interrupted"));
    code = 128 + watch.number();
  }
  return code;
}

}  // namespace hull::cli
