// exec, run, cp, stats: hull's own commands do the work once the container is known.
#include <unistd.h>

#include <random>

#include "base/units.h"
#include "cli/text.h"
#include "cli/values.h"
#include "compose/canonical.h"
#include "compose/chosen.h"
#include "compose/commands.h"
#include "compose/converge.h"

namespace hull::compose {
namespace {

/// Unless it is asked for --interactive=false.
bool keeps_input(const cli::Parsed& flags) { return !flags.has("interactive") || flags.on("interactive"); }

/// `hull WORDS…` in this process. Nothing is executed: the command line is linked in.
int call_hull(App& app, const std::vector<std::string>& words) {
  const std::vector<std::string_view> views(words.begin(), words.end());
  return cli::hull_main(app.context(), views);
}

void pass(const cli::Parsed& flags, std::string_view name, std::vector<std::string>& words) {
  for (const std::string& value : flags.values(name)) words.push_back(fmt::format("--{}={}", name, value));
}

std::string random_digits() {
  std::random_device random;
  return fmt::format("{:08x}{:04x}", random(), random() & 0xffff);
}

Result<std::pair<std::string, std::string>> pair_of(const std::string& text) { return cli::parse_pair(text); }

class OneOff {
 public:
  OneOff(App& app, const cli::Parsed& flags) : app_(app), flags_(flags) {}

  Result<int> run() {
    const std::string& name = flags_.arguments[0];
    TRY_ASSIGN(const Model model, app_.model({name}));
    const Service* service = model.find(name);
    if (service == nullptr) return errorf(ErrorKind::kNotFound, "there is no service \"{:.100}\"", name);
    TRY(start_dependencies(model, *service));
    TRY_ASSIGN(const engine::Config config, request(model, *service));
    std::string id;
    {
      TRY_ASSIGN(const auto engine, App::open_engine());
      TRY_ASSIGN(const auto created, engine->create(config, engine::PullPolicy::kNever));
      id = created.id;
    }
    if (flags_.on("detach")) {
      TRY_ASSIGN(const auto engine, App::open_engine());
      TRY(engine->start(id, false, false));
      app_.context().out.print("{}\n", config.name);
      return 0;
    }
    // With --rm the engine removes it when it ends, whoever is still there to see it.
    return call_hull(app_, {"start", "--attach", "--interactive", id});
  }

 private:
  Result<void> start_dependencies(const Model& model, const Service& service) {
    UpOptions options;
    for (const Dependency& one : service.depends_on) options.services.push_back(one.service);
    options.pull = flags_.value("pull");
    options.quiet_pull = flags_.on("quiet-pull");
    TRY(pull_images(app_, model, {service.name}, {options.pull, options.quiet_pull, false}));
    if (!flags_.on("no-deps") && !options.services.empty()) {
      TRY(bring_up(app_, model, options));
      return wait_for_conditions(model, service);
    }
    TRY_ASSIGN(const auto engine, App::open_engine());
    return make_resources(app_, *engine, model);
  }

  Result<void> wait_for_conditions(const Model& model, const Service& service) {
    TRY_ASSIGN(const auto engine, App::open_engine());
    TRY_ASSIGN(const auto containers, project_containers(*engine, model.project->name));
    for (const Dependency& dependency : service.depends_on) {
      if (dependency.condition == Condition::kStarted) continue;
      const Goal goal = dependency.condition == Condition::kHealthy ? Goal::kHealthy : Goal::kCompleted;
      for (const Container& one : containers) {
        if (one.service != dependency.service || one.one_off) continue;
        auto waited = wait_for(*engine, one.id, one.name, goal, std::nullopt);
        if (!waited.ok() && dependency.required) return waited;
      }
    }
    return make_resources(app_, *engine, model);
  }

  Result<engine::Config> request(const Model& model, const Service& service) {
    TRY_ASSIGN(const auto settings, engine::Settings::load());
    TRY_ASSIGN(const auto files, service_files(model, service, settings.data_root, true));
    TRY_ASSIGN(const auto engine, App::open_engine());
    ServiceRequest request;
    request.number = flags_.on("service-ports") || flags_.on("use-aliases") ? 1 : 0;
    request.name = flags_.value("name");
    if (request.name.empty())
      request.name = fmt::format("{}-{}-run-{}", model.project->name, service.name, random_digits());
    request.container_of = [&](const std::string& other) {
      return running_container_of(*engine, model.project->name, other);
    };
    TRY_ASSIGN(engine::Config config, make_config(model, service, request, files));
    if (!flags_.on("service-ports")) config.ports.clear();
    if (!flags_.on("use-aliases")) {
      for (auto& network : config.networks) network.aliases.clear();
    }
    config.restart = {};
    config.labels.insert_or_assign(std::string(kLabelOneOff), "True");
    config.auto_remove = flags_.on("rm");
    config.open_stdin = !flags_.on("detach") && keeps_input(flags_);
    config.attach_stdin = config.open_stdin;
    config.attach_stdout = config.attach_stderr = !flags_.on("detach");
    config.tty = !flags_.on("no-TTY") && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
    TRY(apply_flags(config));
    return config;
  }

  Result<void> apply_flags(engine::Config& config) const {
    if (flags_.has("entrypoint")) {
      TRY_ASSIGN(config.entrypoint, split_command(flags_.value("entrypoint")));
      config.cmd.clear();
    }
    if (flags_.arguments.size() > 1) config.cmd.assign(flags_.arguments.begin() + 1, flags_.arguments.end());
    if (flags_.has("user")) config.user = flags_.value("user");
    if (flags_.has("workdir")) config.working_dir = flags_.value("workdir");
    for (const std::string& entry : flags_.values("env")) {
      TRY_ASSIGN(std::string parsed, cli::parse_env(entry, cli::lookup_environment));
      const std::string_view name = std::string_view(parsed).substr(0, parsed.find('='));
      std::erase_if(config.env, [&](const std::string& known) {
        return std::string_view(known).substr(0, known.find('=')) == name;
      });
      config.env.push_back(std::move(parsed));
    }
    for (const std::string& label : flags_.values("label")) {
      TRY_ASSIGN(auto pair, pair_of(label));
      config.labels.insert_or_assign(std::move(pair.first), std::move(pair.second));
    }
    for (const std::string& mount : flags_.values("volume")) {
      TRY_ASSIGN(auto parsed, cli::parse_volume(mount));
      std::erase_if(config.mounts, [&](const engine::MountRequest& known) { return known.target == parsed.target; });
      config.mounts.push_back(std::move(parsed));
    }
    for (const std::string& ports : flags_.values("publish")) {
      TRY_ASSIGN(const auto parsed, cli::parse_publish(ports));
      config.ports.insert(config.ports.end(), parsed.begin(), parsed.end());
    }
    for (const std::string& capability : flags_.values("cap-add")) config.cap_add.push_back(capability);
    for (const std::string& capability : flags_.values("cap-drop")) config.cap_drop.push_back(capability);
    return {};
  }

  App& app_;
  const cli::Parsed& flags_;
};

}  // namespace

Result<int> run_exec(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Container one, choose_one(app, flags.arguments[0], flags));
  std::vector<std::string> words = {"exec"};
  if (flags.on("detach")) {
    words.emplace_back("--detach");
  } else {
    if (keeps_input(flags)) words.emplace_back("--interactive");
    const bool terminal = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1;
    if (terminal && !flags.on("no-tty")) words.emplace_back("--tty");
  }
  if (flags.on("privileged")) words.emplace_back("--privileged");
  for (const std::string_view name : {"env", "user", "workdir"}) pass(flags, name, words);
  words.push_back(one.id);
  words.insert(words.end(), flags.arguments.begin() + 1, flags.arguments.end());
  return call_hull(app, words);
}

Result<int> run_run(App& app, const cli::Parsed& flags) { return OneOff(app, flags).run(); }

Result<int> run_cp(App& app, const cli::Parsed& flags) {
  std::vector<std::string> words = {"cp"};
  if (flags.on("archive")) words.emplace_back("--archive");
  if (flags.on("follow-link")) words.emplace_back("--follow-link");
  int services = 0;
  for (const std::string& argument : flags.arguments) {
    const size_t colon = argument.find(':');
    if (colon == std::string::npos || colon == 0 || argument[0] == '/' || argument[0] == '.') {
      words.push_back(argument);
      continue;
    }
    ++services;
    TRY_ASSIGN(const Container one, choose_one(app, argument.substr(0, colon), flags, true));
    words.push_back(one.id + argument.substr(colon));
  }
  if (services != 1) return errorf(ErrorKind::kInvalid, "one of the two must be SERVICE:PATH, the other a path here");
  return call_hull(app, words);
}

Result<int> run_stats(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Chosen chosen, choose(app, flags.arguments));
  std::vector<std::string> words = {"stats"};
  for (const std::string_view name : {"all", "no-stream", "no-trunc"}) {
    if (flags.on(name)) words.push_back(fmt::format("--{}", name));
  }
  pass(flags, "format", words);
  const size_t before = words.size();
  for (const Container& one : chosen.containers) {
    if (one.is_running() || flags.on("all")) words.push_back(one.id);
  }
  if (words.size() == before) return errorf(ErrorKind::kNotFound, "no container of the project is running");
  return call_hull(app, words);
}

}  // namespace hull::compose
