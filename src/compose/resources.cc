// Networks, volumes and images of a project.
#include <sys/wait.h>
#include <unistd.h>

#include "base/units.h"
#include "cli/command.h"
#include "cli/text.h"
#include "compose/converge.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

std::map<std::string, std::string> labels_of(const Model& model, const Resource& resource, std::string_view kind) {
  std::map<std::string, std::string> labels;
  if (resource.node != nullptr) {
    if (const Node* own = resource.node->value("labels")) {
      for (const Member& one : own->members) labels.insert_or_assign(one.key, one.value.text);
    }
  }
  labels.insert_or_assign(std::string(kLabelProject), model.project->name);
  labels.insert_or_assign(std::string(kind), resource.key);
  labels.insert_or_assign(std::string(kLabelVersion), "hull");
  return labels;
}

Result<net::IpamPool> pool_of(const Node& node) {
  net::IpamPool pool;
  const auto place = [&](std::string_view key, const Error& error) {
    return errorf_at(node.value(key)->mark, "ipam.config.{}: {}", key, error.message());
  };
  if (const Node* subnet = node.value("subnet")) {
    auto parsed = net::Subnet::parse(subnet->text);
    if (!parsed.ok()) return place("subnet", parsed.error());
    pool.subnet = *parsed;
  }
  if (const Node* range = node.value("ip_range")) {
    auto parsed = net::Subnet::parse(range->text);
    if (!parsed.ok()) return place("ip_range", parsed.error());
    pool.range = *parsed;
  }
  if (const Node* gateway = node.value("gateway")) {
    auto parsed = net::IpAddress::parse(gateway->text);
    if (!parsed.ok()) return place("gateway", parsed.error());
    pool.gateway = *parsed;
  }
  if (const Node* others = node.value("aux_addresses")) {
    for (const Member& one : others->members) {
      auto parsed = net::IpAddress::parse(one.value.text);
      if (!parsed.ok()) return place("aux_addresses", parsed.error());
      pool.taken.emplace(one.key, *parsed);
    }
  }
  return pool;
}

Result<net::NetworkRequest> network_request(const Model& model, const Resource& resource) {
  net::NetworkRequest request;
  request.name = resource.name;
  request.labels = labels_of(model, resource, kLabelNetwork);
  if (resource.node == nullptr) return request;
  const Node& node = *resource.node;
  if (const Node* driver = node.value("driver"); driver != nullptr && driver->text != "default") {
    request.driver = driver->text;
  }
  const auto is_on = [&](std::string_view key, bool otherwise) {
    const Node* flag = node.value(key);
    return flag == nullptr ? otherwise : to_bool(*flag).value_or(otherwise);
  };
  request.internal = is_on("internal", false);
  request.attachable = is_on("attachable", false);
  request.ipv4 = is_on("enable_ipv4", true);
  request.ipv6 = is_on("enable_ipv6", false);
  if (const Node* options = node.value("driver_opts")) {
    for (const Member& one : options->members) request.options.emplace(one.key, one.value.text);
  }
  const Node* ipam = node.value("ipam");
  if (ipam == nullptr) return request;
  if (const Node* driver = ipam->value("driver")) request.ipam_driver = driver->text;
  if (const Node* options = ipam->value("options")) {
    for (const Member& one : options->members) request.ipam_options.emplace(one.key, one.value.text);
  }
  if (const Node* pools = ipam->value("config")) {
    for (const Node& pool : pools->list) {
      TRY_ASSIGN(net::IpamPool parsed, pool_of(pool));
      request.pools.push_back(std::move(parsed));
    }
  }
  return request;
}

Error at(const Resource& resource, std::string_view section, const Error& error) {
  const Mark mark = resource.node != nullptr ? resource.node->mark : Mark{};
  return error_at(mark, fmt::format("{}.{}: {}", section, resource.key, error.message())).as(error.kind());
}

Result<void> make_network(App& app, engine::Engine& engine, const Model& model, const Resource& resource) {
  const auto known = engine.network_inspect(resource.name);
  if (known.ok()) return {};
  if (known.error().kind() != ErrorKind::kNotFound) return at(resource, "networks", known.error());
  if (resource.external) {
    return at(
        resource, "networks",
        errorf(ErrorKind::kNotFound, "the external network {} is not there: make it with 'hull network create {}'",
               resource.name, resource.name));
  }
  TRY_ASSIGN(const net::NetworkRequest request, network_request(model, resource));
  auto made = engine.network_create(request);
  if (!made.ok() && made.error().kind() != ErrorKind::kExists) return at(resource, "networks", made.error());
  app.step("Network", resource.name, "Created");
  return {};
}

Result<void> make_volume(App& app, engine::Engine& engine, const Model& model, const Resource& resource) {
  const auto known = engine.volume_inspect(resource.name);
  if (known.ok()) {
    const auto project = known->labels.find(std::string(kLabelProject));
    if (!resource.external && (project == known->labels.end() || project->second != model.project->name)) {
      app.context().warn(
          fmt::format("the volume {} was not made for this project: use external: true if it is meant", resource.name));
    }
    return {};
  }
  if (known.error().kind() != ErrorKind::kNotFound) return at(resource, "volumes", known.error());
  if (resource.external) {
    return at(resource, "volumes",
              errorf(ErrorKind::kNotFound, "the external volume {} is not there: make it with 'hull volume create {}'",
                     resource.name, resource.name));
  }
  std::string driver = "local";
  std::map<std::string, std::string> options;
  if (resource.node != nullptr) {
    if (const Node* named = resource.node->value("driver")) driver = named->text;
    if (const Node* given = resource.node->value("driver_opts")) {
      for (const Member& one : given->members) options.emplace(one.key, one.value.text);
    }
  }
  auto made = engine.volume_create(resource.name, driver, options, labels_of(model, resource, kLabelVolume));
  if (!made.ok() && made.error().kind() != ErrorKind::kExists) return at(resource, "volumes", made.error());
  app.step("Volume", resource.name, "Created");
  return {};
}

/// Runs 'hull-images pull' and waits; what it prints goes where standard error goes.
Result<std::string> pull_one(const std::string& image, const std::string& platform, bool quiet) {
  const pid_t pid = ::fork();
  if (pid < 0) return errnof("start a process to pull {}", image);
  if (pid == 0) {
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    std::vector<std::string_view> words = {"pull"};
    if (quiet) words.emplace_back("--quiet");
    if (!platform.empty()) {
      words.emplace_back("--platform");
      words.emplace_back(platform);
    }
    words.emplace_back(image);
    const Error error = cli::exec_program("hull-images", words);
    ignore_result(sys::write_all(STDERR_FILENO, error.message() + "\n"));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::string();
  return errorf(ErrorKind::kUnavailable, "the image could not be pulled");
}

struct PullPlan {
  bool pull = false, required = true;
};

/// every_12h, daily, weekly; how old an image is decides nothing that its registry does not know better, so these ask.
Result<PullPlan> plan_of(const Service& service, const std::string& asked, bool is_here) {
  const std::string policy = asked.empty() ? service.pull_policy : asked;
  if (policy == "always") return PullPlan{true, true};
  if (policy == "never") {
    if (!is_here) {
      return errorf(ErrorKind::kNotFound, "services.{}: the image {} is not here, and its pull policy is never",
                    service.name, service.image);
    }
    return PullPlan{};
  }
  if (policy.empty() || policy == "missing" || policy == "if_not_present" || policy == "build") {
    return PullPlan{!is_here, true};
  }
  if (policy == "daily" || policy == "weekly" || policy.starts_with("every_")) return PullPlan{true, !is_here};
  return errorf_at(service.node->find("pull_policy")->mark,
                   "services.{}.pull_policy: expected always, missing, never, daily, weekly or every_TIME",
                   service.name);
}

}  // namespace

Result<sys::FileLock> lock_project(const engine::Settings& settings, std::string_view project) {
  const std::string folder = settings.run_root + "/compose";
  TRY(sys::make_dirs(folder, 0700));
  return sys::FileLock::acquire(fmt::format("{}/{}.lock", folder, project), true, true);
}

Result<void> make_resources(App& app, engine::Engine& engine, const Model& model) {
  for (const auto& [key, network] : model.networks) TRY(make_network(app, engine, model, network));
  for (const auto& [key, volume] : model.volumes) TRY(make_volume(app, engine, model, volume));
  return {};
}

Result<void> pull_images(App& app, const Model& model, const std::vector<std::string>& services, const PullWish& wish) {
  std::vector<Task> tasks;
  std::set<std::string> seen;
  {
    TRY_ASSIGN(const auto engine, App::open_engine());
    for (const std::string& name : services) {
      const Service& service = *model.find(name);
      const std::string platform(service.node->text_of("platform"));
      if (service.image.empty()) continue;
      const bool is_here = engine->images().find(service.image).ok();
      TRY_ASSIGN(const PullPlan plan, plan_of(service, wish.policy, is_here));
      if (!plan.pull || !seen.insert(service.image + "\n" + platform).second) continue;
      Task task;
      task.name = fmt::format("image {}", service.image);
      task.work = [image = service.image, platform, quiet = wish.quiet || app.parallel() > 1,
                   required = plan.required]() -> Result<std::string> {
        auto pulled = pull_one(image, platform, quiet);
        if (!pulled.ok() && !required) return std::string("kept");
        return pulled;
      };
      task.done = [&app, image = service.image](const std::string& result) {
        app.step("Image", image, result.empty() ? "Pulled" : "Kept as it is, the registry can't be reached");
      };
      tasks.push_back(std::move(task));
    }
  }
  if (tasks.empty()) return {};
  constexpr int kMostPulls = 3;
  return run_tasks(tasks, std::min(app.parallel(), kMostPulls), wish.keep_going);
}

}  // namespace hull::compose
