// up, create, scale.
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/units.h"
#include "compose/commands.h"
#include "compose/converge.h"
#include "compose/follow.h"

namespace hull::compose {
namespace {

Result<std::map<std::string, int>> parse_scale(const std::vector<std::string>& words) {
  std::map<std::string, int> scale;
  constexpr int kMost = 1000;
  for (const std::string& word : words) {
    const size_t equals = word.find('=');
    const auto count =
        parse_int(equals == std::string::npos ? "" : std::string_view(word).substr(equals + 1), 0, kMost);
    if (equals == 0 || !count.ok()) {
      return errorf(ErrorKind::kInvalid, "--scale {:.80}: expected SERVICE=NUMBER, up to {}", word, kMost);
    }
    scale.insert_or_assign(word.substr(0, equals), static_cast<int>(*count));
  }
  return scale;
}

Result<UpOptions> options_of(const cli::Parsed& flags) {
  UpOptions options;
  options.services = flags.arguments;
  TRY_ASSIGN(options.scale, parse_scale(flags.values("scale")));
  options.force_recreate = flags.on("force-recreate");
  options.no_recreate = flags.on("no-recreate");
  options.recreate_dependencies = flags.on("always-recreate-deps");
  options.no_deps = flags.on("no-deps");
  options.start = !flags.on("no-start");
  options.renew_volumes = flags.on("renew-anon-volumes");
  options.quiet_pull = flags.on("quiet-pull");
  options.remove_orphans = flags.on("remove-orphans");
  options.pull = flags.value("pull");
  options.wait = flags.on("wait");
  if (const auto timeout = flags.number("timeout")) options.timeout_s = static_cast<int>(*timeout);
  if (const auto timeout = flags.number("wait-timeout")) options.wait_timeout = std::chrono::seconds(*timeout);
  if (!options.pull.empty() && options.pull != "always" && options.pull != "missing" && options.pull != "never") {
    return errorf(ErrorKind::kInvalid, "--pull: expected always, missing or never");
  }
  if (options.no_recreate && (options.force_recreate || options.recreate_dependencies)) {
    return errorf(ErrorKind::kInvalid, "--no-recreate and --force-recreate exclude each other");
  }
  return options;
}

/// The part of `up` after everything has started: shows output until all have ended or somebody ends it.
class Foreground {
 public:
  Foreground(App& app, const Model& model, const cli::Parsed& flags, const std::vector<std::string>& services)
      : app_(app), model_(model), flags_(flags), services_(services) {}

  Result<int> run(int signal_fd, engine::TimePoint since) {
    {
      TRY_ASSIGN(const auto engine, App::open_engine());
      TRY_ASSIGN(const auto all, project_containers(*engine, model_.project->name));
      for (const Container& one : all) {
        if (!one.one_off && std::find(services_.begin(), services_.end(), one.service) != services_.end()) {
          containers_.push_back(one);
        }
      }
    }
    FollowOptions options;
    options.prefix = !flags_.on("no-log-prefix");
    options.colours = !flags_.on("no-color") && app_.colours(app_.context().out);
    options.log.follow = true;
    options.log.timestamps = flags_.on("timestamps");
    options.log.since = since;
    const Prefixes prefixes(containers_, model_.project->name, options);
    for (const Container& one : containers_) {
      TRY(followers_.add(one, prefixes.of(one), options.log, is_shown(one), true));
    }
    while (const auto ended = followers_.next(signal_fd)) {
      app_.context().err.print("{} exited with code {}\n", prefixes.short_name(ended->container),
                               ended->code ? std::to_string(*ended->code) : "unknown");
      app_.context().err.flush();
      TRY_ASSIGN(const bool stop, take(*ended));
      if (stop) {
        TRY(stop_all(signal_fd));
        return code_;
      }
    }
    if (!followers_.interrupted()) return code_;
    app_.context().err.write("Stopping... (press Ctrl+C again to kill)\n");
    app_.context().err.flush();
    TRY(stop_all(signal_fd));
    return exit_from().empty() ? 128 + SIGINT : code_;
  }

 private:
  std::string_view exit_from() const { return flags_.value("exit-code-from"); }

  bool is_shown(const Container& one) const {
    const auto named = [&](std::string_view flag) {
      const auto values = flags_.values(flag);
      return std::find(values.begin(), values.end(), one.service) != values.end();
    };
    if (flags_.has("attach")) return named("attach");
    const Service* service = model_.find(one.service);
    return !named("no-attach") && (service == nullptr || service->attach);
  }

  /// Whether this end ends everything.
  Result<bool> take(const Followers::Ended& ended) {
    const int code = ended.code.value_or(1);
    if (!exit_from().empty()) {
      if (ended.container.service == exit_from()) code_ = code;
      return true;
    }
    if (flags_.on("abort-on-container-exit") || (flags_.on("abort-on-container-failure") && code != 0)) {
      code_ = code;
      return true;
    }
    return false;
  }

  Result<void> stop_all(int signal_fd) {
    std::vector<Container> running;
    {
      TRY_ASSIGN(const auto engine, App::open_engine());
      TRY_ASSIGN(const auto all, project_containers(*engine, model_.project->name));
      for (const Container& one : all) {
        const bool ours = std::any_of(containers_.begin(), containers_.end(),
                                      [&](const Container& known) { return known.id == one.id; });
        if (ours && one.is_running()) running.push_back(one);
      }
    }
    // A process of its own stops them, so that a second Ctrl-C is heard.
    TakeDown how;
    how.remove = false;
    if (const auto timeout = flags_.number("timeout")) how.timeout_s = static_cast<int>(*timeout);
    std::vector<Task> tasks(1);
    tasks[0].name = "stop";
    tasks[0].work = [&]() -> Result<std::string> {
      TRY(take_down(app_, &model_, running, how));
      return std::string();
    };
    return run_interruptible(tasks, signal_fd, running);
  }

  Result<void> run_interruptible(const std::vector<Task>& tasks, int signal_fd, const std::vector<Container>& running) {
    // Watches for the second signal beside the work.
    const pid_t watcher = ::fork();
    if (watcher == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      pollfd wait = {signal_fd, POLLIN, 0};
      while (::poll(&wait, 1, -1) < 0 && errno == EINTR) {
      }
      auto engine = App::open_engine();
      for (const Container& one : running) {
        if (engine.ok()) ignore_result((*engine)->kill(one.id, "SIGKILL"));
      }
      ::_exit(0);
    }
    auto done = run_tasks(tasks, 1);
    if (watcher > 0) {
      ::kill(watcher, SIGKILL);
      ::waitpid(watcher, nullptr, 0);
    }
    // Codes of those that were stopped; the one that was asked for may be among them.
    while (const auto ended = followers_.next(-1)) {
      if (!exit_from().empty() && ended->container.service == exit_from() && ended->code) code_ = *ended->code;
    }
    return done;
  }

  App& app_;
  const Model& model_;
  const cli::Parsed& flags_;
  const std::vector<std::string>& services_;
  std::vector<Container> containers_;
  Followers followers_;
  int code_ = 0;
};

}  // namespace

Result<int> run_up(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const UpOptions options, options_of(flags));
  TRY_ASSIGN(const Model model, app.model(flags.arguments));
  const std::string exit_from(flags.value("exit-code-from"));
  if (!exit_from.empty() && model.find(exit_from) == nullptr) {
    return errorf(ErrorKind::kNotFound, "--exit-code-from: there is no service \"{:.100}\"", exit_from);
  }
  const bool detached = flags.on("detach") || options.wait || !options.start;
  const bool ends_all =
      !exit_from.empty() || flags.on("abort-on-container-exit") || flags.on("abort-on-container-failure");
  if (detached && ends_all) {
    return errorf(ErrorKind::kInvalid, "--detach and what ends everything with a container exclude each other");
  }
  const auto since = std::chrono::system_clock::now();
  TRY(bring_up(app, model, options));
  if (detached) return 0;
  TRY_ASSIGN(const auto shown, select_services(model, flags.arguments, true));
  TRY_ASSIGN(const UniqueFd signals, catch_signals());
  return Foreground(app, model, flags, shown).run(signals.get(), since);
}

Result<int> run_create(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(UpOptions options, options_of(flags));
  options.start = false;
  TRY_ASSIGN(const Model model, app.model(flags.arguments));
  TRY(bring_up(app, model, options));
  return 0;
}

Result<int> run_scale(App& app, const cli::Parsed& flags) {
  UpOptions options;
  TRY_ASSIGN(options.scale, parse_scale(flags.arguments));
  for (const auto& [service, count] : options.scale) options.services.push_back(service);
  options.no_deps = flags.on("no-deps");
  options.no_recreate = true;
  TRY_ASSIGN(const Model model, app.model(options.services));
  TRY(bring_up(app, model, options));
  return 0;
}

}  // namespace hull::compose
