// start, stop, restart, kill, pause, unpause, wait.
#include <algorithm>

#include "compose/chosen.h"
#include "compose/commands.h"
#include "compose/converge.h"
#include "compose/follow.h"

namespace hull::compose {
namespace {

using Work = std::function<Result<std::string>(engine::Engine& engine, const Container& container)>;

/// The work on each container, several at a time. `order`: dependencies first, or dependent ones first.
enum class Order : uint8_t { kNone, kStart, kStop };
Result<void> on_each(App& app, const std::vector<Container>& containers, Order order, const Work& work) {
  const auto dependencies = recorded_dependencies(containers);
  const auto needs = [&](const Container& one, const Container& other) {
    const auto& all = dependencies.at(one.service);
    return one.service != other.service && std::find(all.begin(), all.end(), other.service) != all.end();
  };
  std::vector<Task> tasks(containers.size());
  for (size_t i = 0; i < containers.size(); ++i) {
    const Container& one = containers[i];
    tasks[i].name = fmt::format("container {}", one.name);
    for (size_t j = 0; j < containers.size(); ++j) {
      if (order == Order::kStart && needs(one, containers[j])) tasks[i].after.push_back(j);
      if (order == Order::kStop && needs(containers[j], one)) tasks[i].after.push_back(j);
    }
    tasks[i].work = [&one, &work]() -> Result<std::string> {
      TRY_ASSIGN(const auto engine, App::open_engine());
      return work(*engine, one);
    };
    tasks[i].done = [&app, &one](const std::string& done) {
      if (!done.empty()) app.step("Container", one.name, done);
    };
  }
  return run_tasks(tasks, app.parallel(), true);
}

std::optional<int> timeout_of(const cli::Parsed& flags) {
  const auto timeout = flags.number("timeout");
  return timeout ? std::optional(static_cast<int>(*timeout)) : std::nullopt;
}

}  // namespace

Result<int> run_start(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Model model, app.model(flags.arguments));
  TRY_ASSIGN(const Chosen chosen, choose(app, flags.arguments));
  if (chosen.containers.empty()) {
    return errorf(ErrorKind::kNotFound, "there is nothing to start: 'hull compose up' makes the containers");
  }
  const Work work = [&](engine::Engine& engine, const Container& one) -> Result<std::string> {
    if (one.is_running()) return std::string();
    // What it depends on is started by now; conditions are waited for as by up.
    if (const Service* service = model.find(one.service)) {
      for (const Dependency& dependency : service->depends_on) {
        if (dependency.condition == Condition::kStarted) continue;
        TRY_ASSIGN(const auto all, project_containers(engine, chosen.project));
        for (const Container& other : all) {
          if (other.service != dependency.service || other.one_off) continue;
          auto waited =
              wait_for(engine, other.id, other.name,
                       dependency.condition == Condition::kHealthy ? Goal::kHealthy : Goal::kCompleted, std::nullopt);
          if (!waited.ok() && dependency.required) return std::move(waited).error();
        }
      }
    }
    TRY(engine.start(one.id, false, false));
    if (const Service* service = model.find(one.service)) TRY(run_hooks(engine, one.id, service->post_start));
    return std::string("Started");
  };
  TRY(on_each(app, chosen.containers, Order::kStart, work));
  return 0;
}

Result<int> run_stop(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Chosen chosen, choose(app, flags.arguments));
  std::optional<Model> model;
  if (auto project = app.project(); project.ok()) {
    app.load_options().profiles.emplace_back("*");
    if (auto built = build_model(**project, {}); built.ok()) model = std::move(*built);
  }
  TakeDown how;
  how.timeout_s = timeout_of(flags);
  how.remove = false;
  TRY(take_down(app, model ? &*model : nullptr, chosen.containers, how));
  return 0;
}

Result<int> run_restart(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Model model, app.model(flags.arguments));
  std::vector<std::string> services = flags.arguments;
  // Those that want to be restarted with them.
  if (!flags.on("no-deps")) {
    for (size_t i = 0; i < services.size(); ++i) {
      for (const Service& other : model.services) {
        for (const Dependency& dependency : other.depends_on) {
          if (!dependency.restart || dependency.service != services[i]) continue;
          if (std::find(services.begin(), services.end(), other.name) == services.end()) services.push_back(other.name);
        }
      }
    }
  }
  TRY_ASSIGN(const Chosen chosen, choose(app, services));
  if (chosen.containers.empty()) return errorf(ErrorKind::kNotFound, "there is nothing to restart");
  const auto timeout = timeout_of(flags);
  const Work work = [&](engine::Engine& engine, const Container& one) -> Result<std::string> {
    TRY(engine.restart(one.id, timeout, {}));
    return std::string("Restarted");
  };
  TRY(on_each(app, chosen.containers, Order::kStart, work));
  return 0;
}

Result<int> run_kill(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(Chosen chosen, choose(app, flags.arguments));
  std::erase_if(chosen.containers, [](const Container& one) { return !one.is_running(); });
  if (flags.on("remove-orphans")) {
    TRY_ASSIGN(const Project* project, app.project());
    TRY_ASSIGN(const auto engine, App::open_engine());
    TRY_ASSIGN(const auto all, project_containers(*engine, chosen.project));
    const Node* services = project->document.value("services");
    for (const Container& one : all) {
      if (services->find(one.service) == nullptr) TRY(engine->remove(one.id, true, false));
    }
  }
  const std::string signal(flags.value("signal", "SIGKILL"));
  const Work work = [&](engine::Engine& engine, const Container& one) -> Result<std::string> {
    TRY(engine.kill(one.id, signal));
    return std::string(signal == "SIGKILL" || signal == "KILL" || signal == "9" ? "Killed" : "Signalled");
  };
  TRY(on_each(app, chosen.containers, Order::kNone, work));
  return 0;
}

Result<int> run_pause(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(Chosen chosen, choose(app, flags.arguments));
  std::erase_if(chosen.containers, [](const Container& one) { return one.summary.status != engine::Status::kRunning; });
  const Work work = [](engine::Engine& engine, const Container& one) -> Result<std::string> {
    TRY(engine.pause(one.id));
    return std::string("Paused");
  };
  TRY(on_each(app, chosen.containers, Order::kStop, work));
  return 0;
}

Result<int> run_unpause(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(Chosen chosen, choose(app, flags.arguments));
  std::erase_if(chosen.containers, [](const Container& one) { return one.summary.status != engine::Status::kPaused; });
  const Work work = [](engine::Engine& engine, const Container& one) -> Result<std::string> {
    TRY(engine.unpause(one.id));
    return std::string("Unpaused");
  };
  TRY(on_each(app, chosen.containers, Order::kStart, work));
  return 0;
}

Result<int> run_wait(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Chosen chosen, choose(app, flags.arguments));
  if (chosen.containers.empty()) return errorf(ErrorKind::kNotFound, "there is nothing to wait for");
  Followers followers;
  for (const Container& one : chosen.containers) TRY(followers.add(one, "", {}, false, true));
  int code = 0;
  while (const auto ended = followers.next(-1)) {
    code = ended->code.value_or(1);
    app.context().out.print("container \"{}\" exited with code {}\n", ended->container.name, code);
    app.context().out.flush();
    if (!flags.on("down-project")) continue;
    TRY_ASSIGN(const cli::Parsed nothing, cli::parse_flags({}, {}, {}));
    TRY(run_down(app, nothing));
    break;
  }
  return code;
}

}  // namespace hull::compose
