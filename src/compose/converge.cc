#include "compose/converge.h"

#include <algorithm>

#include "cli/text.h"
#include "compose/files.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

/// What is to become of one container.
struct Plan {
  const Service* service = nullptr;
  int number = 1;
  std::optional<Container> old;    // there is one with this number
  bool keep = false;               // the old one is as it should be
  bool restart = false;            // a dependency that asks for it is made anew
  std::vector<Container> surplus;  // others with the same number, left by a command that was killed
};

class UpPlanner {
 public:
  UpPlanner(App& app, const Model& model, const UpOptions& options) : app_(app), model_(model), options_(options) {}

  Result<void> run() {
    TRY(choose());
    TRY_ASSIGN(auto settings, engine::Settings::load());
    TRY_ASSIGN(const sys::FileLock lock, lock_project(settings, model_.project->name));
    data_root_ = settings.data_root;
    TRY(check());
    TRY(pull_images(app_, model_, selected_, {options_.pull, options_.quiet_pull, false}));
    {
      // Closed before processes are forked.
      TRY_ASSIGN(const auto engine, App::open_engine());
      TRY(make_resources(app_, *engine, model_));
      TRY(observe(*engine));
    }
    TRY(plan());
    TRY(take_away());
    return run_tasks(make_tasks(), app_.parallel());
  }

 private:
  Result<void> choose() {
    TRY_ASSIGN(selected_, select_services(model_, options_.services, !options_.no_deps));
    for (const auto& [name, count] : options_.scale) {
      const Service* service = model_.find(name);
      if (service == nullptr) return errorf(ErrorKind::kNotFound, "--scale: there is no service \"{:.100}\"", name);
      if (count > 1 && !service->container_name.empty()) {
        return errorf(ErrorKind::kInvalid, "--scale: the service {} has a container_name, so there can be one only",
                      name);
      }
    }
    return {};
  }

  /// Everything that can be wrong in a file is told before anything is changed.
  Result<void> check() const {
    ServiceRequest request;
    request.container_of = [](const std::string& other) -> Result<std::string> { return other; };
    for (const std::string& name : selected_) {
      const Service& service = *model_.find(name);
      TRY_ASSIGN(const auto files, service_files(model_, service, data_root_, false));
      TRY(make_config(model_, service, request, files));
    }
    return {};
  }

  int replicas_of(const Service& service) const {
    const auto asked = options_.scale.find(service.name);
    return asked != options_.scale.end() ? asked->second : service.replicas;
  }

  Result<void> observe(engine::Engine& engine) {
    TRY_ASSIGN(containers_, project_containers(engine, model_.project->name));
    for (const std::string& name : selected_) {
      const Service& service = *model_.find(name);
      TRY_ASSIGN(files_[name], service_files(model_, service, data_root_, true));
      TRY_ASSIGN(hashes_[name], config_hash(model_, service, files_[name]));
      auto image = engine.images().find(service.image);
      if (!image.ok()) return std::move(image).error().context(fmt::format("services.{}", name));
      image_ids_[name] = image->id.str();
    }
    return {};
  }

  bool may_recreate(const Service& service) const {
    const bool named = options_.services.empty() || std::find(options_.services.begin(), options_.services.end(),
                                                              service.name) != options_.services.end();
    return options_.force_recreate && (named || options_.recreate_dependencies);
  }

  bool is_current(const Plan& plan) const {
    if (options_.no_recreate) return true;
    if (may_recreate(*plan.service)) return false;
    if (options_.recreate_dependencies && !options_.services.empty() &&
        std::find(options_.services.begin(), options_.services.end(), plan.service->name) == options_.services.end()) {
      return false;
    }
    return plan.old->hash == hashes_.at(plan.service->name) && plan.old->image_id == image_ids_.at(plan.service->name);
  }

  bool shares_namespace_with_new(const Service& service) const {
    for (const std::string_view key : {"network_mode", "ipc", "pid"}) {
      const std::string_view mode = service.node->text_of(key);
      if (mode.starts_with("service:") && made_anew_.contains(std::string(mode.substr(8)))) return true;
    }
    return false;
  }

  Result<void> plan() {
    TRY_ASSIGN(const std::vector<size_t> order, start_order(model_));
    for (const size_t at : order) {
      const Service& service = model_.services[at];
      if (std::find(selected_.begin(), selected_.end(), service.name) == selected_.end()) continue;
      const int wanted = replicas_of(service);
      for (int number = 1; number <= wanted; ++number) plan_one(service, number);
      for (const Container& one : containers_) {
        if (one.service == service.name && !one.one_off && one.number > wanted) away_.push_back(one);
      }
    }
    for (const Container& one : containers_) {
      const Service* known = model_.find(one.service);
      if (known == nullptr && !one.one_off && !model_.disabled.contains(one.service)) orphans_.push_back(one);
    }
    return {};
  }

  void plan_one(const Service& service, int number) {
    Plan plan;
    plan.service = &service;
    plan.number = number;
    for (const Container& one : containers_) {
      if (one.service != service.name || one.one_off || one.number != number) continue;
      if (!plan.old) {
        plan.old = one;
      } else if (one.hash == hashes_.at(service.name) && plan.old->hash != one.hash) {
        plan.surplus.push_back(*plan.old);
        plan.old = one;
      } else {
        plan.surplus.push_back(one);
      }
    }
    plan.keep = plan.old && is_current(plan) && !shares_namespace_with_new(service);
    if (!plan.keep) made_anew_.insert(service.name);
    if (plan.keep) {
      for (const Dependency& dependency : service.depends_on) {
        if (dependency.restart && made_anew_.contains(dependency.service)) plan.restart = true;
      }
    }
    plans_.push_back(std::move(plan));
  }

  Result<void> take_away() {
    for (Plan& plan : plans_) away_.insert(away_.end(), plan.surplus.begin(), plan.surplus.end());
    if (!orphans_.empty() && options_.remove_orphans) {
      away_.insert(away_.end(), orphans_.begin(), orphans_.end());
    } else if (!orphans_.empty()) {
      std::vector<std::string> names;
      for (const Container& one : orphans_) names.push_back(one.name);
      app_.context().warn(
          fmt::format("containers of services that the file no longer has: {} (--remove-orphans removes "
                      "them)",
                      fmt::join(names, ", ")));
    }
    if (away_.empty()) return {};
    return take_down(app_, &model_, away_, {options_.timeout_s, true, true, false});
  }

  // ---- tasks

  std::vector<Task> make_tasks() {
    std::vector<Task> tasks;
    std::map<std::string, std::vector<size_t>> of_service;
    std::map<std::pair<std::string, Condition>, std::vector<size_t>> waits;
    for (const Plan& plan : plans_) {
      Task task = container_task(plan);
      if (options_.start) {
        for (const Dependency& dependency : plan.service->depends_on) {
          if (!of_service.contains(dependency.service)) continue;  // --no-deps
          const auto key = std::pair(dependency.service, dependency.condition);
          if (!waits.contains(key)) waits[key] = wait_tasks(tasks, of_service.at(dependency.service), dependency);
          task.after.insert(task.after.end(), waits[key].begin(), waits[key].end());
        }
      }
      of_service[plan.service->name].push_back(tasks.size());
      task_plans_[tasks.size()] = &plan;
      tasks.push_back(std::move(task));
    }
    if (!options_.wait || !options_.start) return tasks;
    const std::vector<std::pair<std::string, std::vector<size_t>>> all(of_service.begin(), of_service.end());
    for (const auto& [service, made] : all) {
      for (const size_t before : made) {
        tasks.push_back(wait_task(tasks[before], before, task_plans_.at(before)->number, service, Goal::kReady,
                                  options_.wait_timeout, true));
      }
    }
    return tasks;
  }

  std::vector<size_t> wait_tasks(std::vector<Task>& tasks, const std::vector<size_t>& made,
                                 const Dependency& dependency) {
    if (dependency.condition == Condition::kStarted) return made;
    std::vector<size_t> out;
    const Goal goal = dependency.condition == Condition::kHealthy ? Goal::kHealthy : Goal::kCompleted;
    for (const size_t before : made) {
      tasks.push_back(wait_task(tasks[before], before, task_plans_.at(before)->number, dependency.service, goal,
                                std::nullopt, dependency.required));
      out.push_back(tasks.size() - 1);
    }
    return out;
  }

  Task wait_task(const Task& before, size_t index, int number, const std::string& service, Goal goal,
                 std::optional<std::chrono::seconds> timeout, bool required) {
    Task task;
    task.name = before.name;
    task.after = {index};
    task.only_waits = true;
    const std::string name = container_name(model_, *model_.find(service), number);
    task.work = [this, service, number, name, goal, timeout, required]() -> Result<std::string> {
      TRY_ASSIGN(const auto engine, App::open_engine());
      TRY_ASSIGN(const auto containers, project_containers(*engine, model_.project->name));
      for (const Container& one : containers) {
        if (one.service != service || one.number != number || one.one_off) continue;
        auto waited = wait_for(*engine, one.id, one.name, goal, timeout);
        // A dependency that is not required must not keep others from starting.
        if (!waited.ok() && !required) return "is not as it should be: " + waited.error().message();
        TRY(std::move(waited));
      }
      return std::string();
    };
    const std::string_view what = goal == Goal::kCompleted ? "Completed" : goal == Goal::kReady ? "Ready" : "Healthy";
    task.done = [this, name, what](const std::string& problem) {
      app_.step("Container", name, problem.empty() ? what : problem);
    };
    return task;
  }

  Task container_task(const Plan& plan) {
    Task task;
    task.name = fmt::format("service {}", plan.service->name);
    task.work = [this, &plan] { return converge(plan); };
    const std::string name = container_name(model_, *plan.service, plan.number);
    task.done = [this, name](const std::string& done) {
      if (!done.empty()) app_.step("Container", name, done);
    };
    return task;
  }

  /// In a process of its own.
  Result<std::string> converge(const Plan& plan) const {
    TRY_ASSIGN(const auto engine, App::open_engine());
    if (plan.keep) return keep(*engine, plan);
    ServiceRequest request;
    request.number = plan.number;
    request.container_of = [&](const std::string& service) {
      return running_container_of(*engine, model_.project->name, service);
    };
    if (!options_.start) {
      // Nothing runs whose namespaces could be shared; its name leads there at the start.
      request.container_of = [&](const std::string& service) -> Result<std::string> {
        return container_name(model_, *model_.find(service), 1);
      };
    }
    const Service& service = *plan.service;
    TRY_ASSIGN(engine::Config config, make_config(model_, service, request, files_.at(service.name)));
    config.labels.insert_or_assign(std::string(kLabelHash), hashes_.at(service.name));
    config.labels.insert_or_assign(std::string(kLabelImage), image_ids_.at(service.name));
    if (plan.old) TRY(replace_old(*engine, plan, config));
    TRY_ASSIGN(const engine::Engine::Created created, engine->create(config, engine::PullPolicy::kNever));
    if (plan.old) TRY(engine->remove(plan.old->id, true, options_.renew_volumes));
    if (!options_.start) return std::string(plan.old ? "Recreated" : "Created");
    TRY(start(*engine, created.id, service));
    return std::string(plan.old ? "Recreated" : "Started");
  }

  Result<std::string> keep(engine::Engine& engine, const Plan& plan) const {
    if (!options_.start) return std::string();
    if (plan.restart && plan.old->is_running()) {
      TRY(engine.restart(plan.old->id, options_.timeout_s, {}));
      return std::string("Restarted");
    }
    if (plan.old->summary.status == engine::Status::kPaused) {
      TRY(engine.unpause(plan.old->id));
      return std::string("Unpaused");
    }
    if (plan.old->is_running()) return std::string("Running");
    // One that has done its work and that others only wait for stays as it ended.
    if (plan.old->summary.status == engine::Status::kExited && plan.old->summary.exit_code == 0 && is_one_time(plan)) {
      return std::string("Completed before");
    }
    TRY(start(engine, plan.old->id, *plan.service));
    return std::string("Started");
  }

  bool is_one_time(const Plan& plan) const {
    return std::any_of(model_.services.begin(), model_.services.end(), [&](const Service& other) {
      return std::any_of(other.depends_on.begin(), other.depends_on.end(), [&](const Dependency& dependency) {
        return dependency.service == plan.service->name && dependency.condition == Condition::kCompleted;
      });
    });
  }

  /// Its anonymous volumes go on to the new one.
  Result<void> replace_old(engine::Engine& engine, const Plan& plan, engine::Config& config) const {
    if (!options_.renew_volumes) {
      TRY_ASSIGN(const Facts facts, container_facts(engine, plan.old->id));
      for (const auto& [target, volume] : facts.anonymous_volumes) {
        const auto same = std::find_if(config.mounts.begin(), config.mounts.end(),
                                       [&](const engine::MountRequest& mount) { return mount.target == target; });
        if (same != config.mounts.end() &&
            !(same->type == engine::MountRequest::Type::kVolume && same->source.empty())) {
          continue;  // the file says what stands there now
        }
        if (same != config.mounts.end()) config.mounts.erase(same);
        engine::MountRequest mount;
        mount.type = engine::MountRequest::Type::kVolume;
        mount.source = volume;
        mount.target = target;
        config.mounts.push_back(std::move(mount));
      }
    }
    if (plan.old->is_running()) {
      TRY(run_hooks(engine, plan.old->id, plan.service->pre_stop));
      TRY(engine.stop(plan.old->id, options_.timeout_s, {}));
    }
    // Removed once the new one is there: until then it knows the anonymous volumes.
    const std::string aside = fmt::format("{}_{}", plan.old->id.substr(0, 12), config.name);
    if (plan.old->name == aside) return {};
    return engine.rename(plan.old->id, aside);
  }

  static Result<void> start(engine::Engine& engine, const std::string& id, const Service& service) {
    TRY(engine.start(id, false, false));
    return run_hooks(engine, id, service.post_start);
  }

  App& app_;
  const Model& model_;
  const UpOptions& options_;
  std::string data_root_;
  std::vector<std::string> selected_;
  std::vector<Container> containers_, away_, orphans_;
  std::map<std::string, std::vector<FileMount>> files_;
  std::map<std::string, std::string> hashes_, image_ids_;
  std::vector<Plan> plans_;
  std::set<std::string> made_anew_;
  std::map<size_t, const Plan*> task_plans_;
};

}  // namespace

Result<void> bring_up(App& app, const Model& model, const UpOptions& options) {
  return UpPlanner(app, model, options).run();
}

Result<std::string> running_container_of(engine::Engine& engine, const std::string& project,
                                         const std::string& service) {
  TRY_ASSIGN(const auto containers, project_containers(engine, project));
  for (const Container& one : containers) {
    if (one.service == service && !one.one_off && one.is_running()) return one.id;
  }
  return errorf(ErrorKind::kConflict, "no container of the service {} is running", service);
}

Result<void> run_hooks(engine::Engine& engine, const std::string& id, const std::vector<Hook>& hooks) {
  for (const Hook& hook : hooks) {
    engine::ExecConfig config;
    config.cmd = hook.command;
    config.env = hook.environment;
    config.user = hook.user;
    config.working_dir = hook.working_dir;
    config.privileged = hook.privileged;
    TRY_ASSIGN(engine::Engine::ExecHandle handle, engine.exec(id, config, std::nullopt));
    // What it says is only of use when it fails; both ends are read so that it never blocks.
    constexpr size_t kMostOutput = 1 << 20;
    auto output = sys::read_all(handle.streams.output.get(), kMostOutput);
    handle.streams.output.reset();
    auto errors = handle.streams.error ? sys::read_all(handle.streams.error.get(), kMostOutput)
                                       : Result<std::string>(std::string());
    handle.streams.error.reset();
    TRY_ASSIGN(const engine::ExitInfo info, engine.wait_exec(handle));
    if (info.code != 0) {
      return errorf(ErrorKind::kConflict, "the command {} ended with exit code {}: {}", fmt::join(hook.command, " "),
                    info.code, cli::trim(errors.ok() ? *errors : ""));
    }
  }
  return {};
}

Result<void> take_down(App& app, const Model* model, const std::vector<Container>& containers, const TakeDown& how) {
  const auto dependencies = recorded_dependencies(containers);
  std::vector<Task> tasks(containers.size());
  for (size_t i = 0; i < containers.size(); ++i) {
    const Container& one = containers[i];
    tasks[i].name = fmt::format("container {}", one.name);
    // Dependent services first.
    for (size_t j = 0; j < containers.size(); ++j) {
      const auto& needs = dependencies.at(containers[j].service);
      if (containers[j].service != one.service && std::find(needs.begin(), needs.end(), one.service) != needs.end()) {
        tasks[i].after.push_back(j);
      }
    }
    const Service* service = model == nullptr ? nullptr : model->find(one.service);
    tasks[i].work = [&one, &how, service]() -> Result<std::string> {
      TRY_ASSIGN(const auto engine, App::open_engine());
      std::string done;
      if (how.stop && one.is_running()) {
        // A hook that fails must not keep what is to end alive.
        if (service != nullptr) ignore_result(run_hooks(*engine, one.id, service->pre_stop));
        if (auto stopped = engine->stop(one.id, how.timeout_s, {}); !stopped.ok()) {
          if (stopped.error().kind() != ErrorKind::kNotFound) return std::move(stopped).error();
        }
        done = "Stopped";
      }
      if (!how.remove) return done;
      auto removed = engine->remove(one.id, true, how.volumes);
      if (!removed.ok() && removed.error().kind() != ErrorKind::kNotFound) return std::move(removed).error();
      return std::string("Removed");
    };
    tasks[i].done = [&app, &one](const std::string& done) {
      if (!done.empty()) app.step("Container", one.name, done);
    };
  }
  return run_tasks(tasks, app.parallel(), true);
}

}  // namespace hull::compose
