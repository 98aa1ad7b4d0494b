// kube play, kube down.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "compose/commands.h"
#include "compose/kube_pod.h"
#include "compose/waiting.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

constexpr size_t kMostBytes = 1 << 20;

Result<std::string> text_of(const std::string& path) {
  if (path == "-") return sys::read_all(STDIN_FILENO, kMostBytes).context("standard input");
  if (path.find("://") != std::string::npos) {
    return errorf(ErrorKind::kUnsupported, "{}: only files of this machine are read: fetch it first", path);
  }
  auto text = sys::read_file(path, kMostBytes);
  if (!text.ok()) return std::move(text).error().context(path);
  return text;
}

Result<KubeFile> read_file(const std::string& path, const std::vector<std::string>& config_maps) {
  TRY_ASSIGN(const std::string text, text_of(path));
  std::vector<std::pair<std::string, const std::string*>> more;
  for (const std::string& other : config_maps) {
    TRY_ASSIGN(std::string content, text_of(other));
    more.emplace_back(std::move(content), intern_file(other));
  }
  return read_kube_file(text, intern_file(path == "-" ? "standard input" : path), more);
}

Result<std::vector<engine::WorkloadSummary>> members_of(engine::Engine& engine, const std::string& pod) {
  engine::ListFilter filter;
  filter.all = true;
  filter.filters.emplace("label", fmt::format("{}={}", kLabelPod, pod));
  return engine.list(filter);
}

/// The container that holds the network goes last, since the others share its namespaces.
Result<bool> remove_pod(engine::Engine& engine, const std::string& pod, const std::string& data_root) {
  TRY_ASSIGN(auto members, members_of(engine, pod));
  const auto is_infra = [](const engine::WorkloadSummary& one) {
    const auto role = one.labels.find(std::string(kLabelRole));
    return role != one.labels.end() && role->second == "infra";
  };
  std::stable_partition(members.begin(), members.end(), [&](const auto& one) { return !is_infra(one); });
  for (const auto& one : members) {
    const bool runs = one.status == engine::Status::kRunning || one.status == engine::Status::kPaused;
    if (runs) {
      auto stopped = engine.stop(one.id, std::nullopt, {});
      if (!stopped.ok() && stopped.error().kind() != ErrorKind::kNotFound) return std::move(stopped).error();
    }
    auto removed = engine.remove(one.id, true, true);
    if (!removed.ok() && removed.error().kind() != ErrorKind::kNotFound) return std::move(removed).error();
  }
  TRY_ASSIGN(const auto volumes, engine.volume_list({{"label", fmt::format("{}={}", kLabelEmptyDir, pod)}}));
  for (const auto& volume : volumes) {
    auto removed = engine.volume_remove(volume.name, false);
    if (!removed.ok() && removed.error().kind() != ErrorKind::kNotFound) return std::move(removed).error();
  }
  TRY(sys::remove_tree(fmt::format("{}/kube/{}", data_root, pod)));
  return !members.empty();
}

Result<void> write_files(const PodPlan& plan) {
  for (const PodFile& file : plan.files) {
    const std::string folder = file.path.substr(0, file.path.rfind('/'));
    TRY(sys::make_dirs(folder, 0755));
    if (file.path.ends_with('/')) continue;
    TRY(sys::replace_file(file.path, file.content, file.mode));
    if (::chmod(file.path.c_str(), file.mode) != 0) return errnof("{}", file.path);
  }
  return {};
}

class Player {
 public:
  Player(App& app, const cli::Parsed& flags) : app_(app), flags_(flags) {}

  Result<int> run() {
    TRY_ASSIGN(KubeFile file, read_file(flags_.arguments[0], flags_.values("configmap")));
    if (file.pods.empty() && file.claims.empty()) {
      return errorf(ErrorKind::kInvalid, "{}: there is no Pod, Deployment or PersistentVolumeClaim in it",
                    flags_.arguments[0]);
    }
    TRY_ASSIGN(const auto settings, engine::Settings::load());
    data_root_ = settings.data_root;
    std::vector<PodPlan> plans;
    for (const KubePod& pod : file.pods) {
      TRY_ASSIGN(PodPlan plan, plan_pod(pod, file, flags_.values("network"), data_root_));
      plans.push_back(std::move(plan));
    }
    for (const std::string& line : file.notices.lines()) app_.context().warn(line);
    TRY_ASSIGN(engine_, App::open_engine());
    TRY(check_new(plans));
    for (const KubeClaim& claim : file.claims) TRY(make_volume({claim.name, {}, claim.labels}));
    if (!plans.empty() && flags_.values("network").empty()) TRY(make_network());
    for (const PodPlan& plan : plans) {
      auto played = play(plan);
      if (!played.ok()) return std::move(played).error().context(fmt::format("pod {}", plan.name));
    }
    return 0;
  }

 private:
  Result<void> check_new(const std::vector<PodPlan>& plans) {
    for (const PodPlan& plan : plans) {
      TRY_ASSIGN(const auto members, members_of(*engine_, plan.name));
      if (members.empty()) continue;
      if (!flags_.on("replace")) {
        return errorf(ErrorKind::kExists, "the pod {} is there already: add --replace, or use 'hull kube down'",
                      plan.name);
      }
      TRY(remove_pod(*engine_, plan.name, data_root_));
    }
    return {};
  }

  Result<void> make_network() {
    if (engine_->network_inspect(kKubeNetwork).ok()) return {};
    net::NetworkRequest request;
    request.name = kKubeNetwork;
    auto made = engine_->network_create(request);
    if (!made.ok() && made.error().kind() != ErrorKind::kExists) return std::move(made).error();
    return {};
  }

  Result<void> make_volume(const PodVolume& volume) {
    if (engine_->volume_inspect(volume.name).ok()) return {};
    auto made = engine_->volume_create(volume.name, "local", volume.options, volume.labels);
    if (!made.ok() && made.error().kind() != ErrorKind::kExists) return std::move(made).error();
    return {};
  }

  Result<std::string> create(const PodContainer& one) {
    engine::Config config = one.config;
    config.quiet_pull = flags_.on("quiet-pull");
    auto created = engine_->create(config, one.pull);
    if (!created.ok()) return std::move(created).error().context(config.name);
    return created->id;
  }

  Result<void> play(const PodPlan& plan) {
    const bool start = !flags_.has("start") || flags_.on("start");
    app_.context().out.print("Pod:\n{}\n", plan.name);
    app_.context().out.flush();
    TRY(write_files(plan));
    for (const PodVolume& volume : plan.volumes) TRY(make_volume(volume));
    if (plan.infra) {
      TRY_ASSIGN(const std::string id, create(*plan.infra));
      if (start) TRY(engine_->start(id, false, false));
    }
    for (const PodContainer& one : plan.init) {
      TRY_ASSIGN(const std::string id, create(one));
      if (!start) continue;
      TRY(engine_->start(id, false, false));
      TRY_ASSIGN(const engine::ExitInfo ended, engine_->wait(id, "not-running"));
      if (ended.code != 0) {
        return errorf(ErrorKind::kConflict, "the init container {} ended with exit code {}: see 'hull logs {}'",
                      one.config.name, ended.code, one.config.name);
      }
    }
    std::string made;
    for (const PodContainer& one : plan.containers) {
      TRY_ASSIGN(const std::string id, create(one));
      if (start) TRY(engine_->start(id, false, false));
      made += one.config.name + "\n";
    }
    app_.context().out.print("Container{}:\n{}\n", plan.containers.size() == 1 ? "" : "s", made);
    app_.context().out.flush();
    return {};
  }

  App& app_;
  const cli::Parsed& flags_;
  std::string data_root_;
  std::unique_ptr<engine::Engine> engine_;
};

}  // namespace

Result<int> run_play(App& app, const cli::Parsed& flags) { return Player(app, flags).run(); }

Result<int> run_kube_down(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const KubeFile file, read_file(flags.arguments[0], {}));
  TRY_ASSIGN(const auto settings, engine::Settings::load());
  TRY_ASSIGN(const auto engine, App::open_engine());
  app.context().out.write("Pods removed:\n");
  for (const KubePod& pod : file.pods) {
    TRY_ASSIGN(const bool any, remove_pod(*engine, pod.name, settings.data_root));
    if (any) app.context().out.print("{}\n", pod.name);
    app.context().out.flush();
  }
  if (flags.on("force")) {
    for (const KubeClaim& claim : file.claims) {
      auto removed = engine->volume_remove(claim.name, false);
      if (!removed.ok() && removed.error().kind() != ErrorKind::kNotFound) return std::move(removed).error();
    }
  }
  // The network goes with the last pod on it.
  engine::ListFilter filter;
  filter.all = true;
  filter.filters.emplace("label", std::string(kLabelPod));
  TRY_ASSIGN(const auto left, engine->list(filter));
  if (!left.empty()) return 0;
  auto removed = engine->network_remove(kKubeNetwork);
  if (!removed.ok() && removed.error().kind() != ErrorKind::kNotFound &&
      removed.error().kind() != ErrorKind::kConflict) {
    return std::move(removed).error();
  }
  return 0;
}

}  // namespace hull::compose
