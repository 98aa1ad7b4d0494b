// down, rm.
#include <algorithm>

#include "compose/commands.h"
#include "compose/converge.h"
#include "compose/files.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

class Down {
 public:
  Down(App& app, const cli::Parsed& flags) : app_(app), flags_(flags) {}

  Result<int> run() {
    TRY(find_project());
    TRY_ASSIGN(auto settings, engine::Settings::load());
    TRY_ASSIGN(const sys::FileLock lock, lock_project(settings, name_));
    std::vector<Container> containers;
    {
      TRY_ASSIGN(const auto engine, App::open_engine());
      TRY_ASSIGN(containers, project_containers(*engine, name_));
    }
    std::vector<Container> orphans;
    std::erase_if(containers, [&](const Container& one) {
      if (!is_meant(one, orphans)) return true;
      images_.insert(one.image);
      return false;
    });
    if (!orphans.empty()) {
      std::vector<std::string> names;
      for (const Container& one : orphans) names.push_back(one.name);
      app_.context().warn(
          fmt::format("containers of services that the file no longer has stay: {} (--remove-orphans "
                      "removes them)",
                      fmt::join(names, ", ")));
    }
    TakeDown how;
    how.volumes = flags_.on("volumes");
    if (const auto timeout = flags_.number("timeout")) how.timeout_s = static_cast<int>(*timeout);
    TRY(take_down(app_, model_ ? &*model_ : nullptr, containers, how));
    if (!flags_.arguments.empty()) return 0;
    TRY_ASSIGN(const auto engine, App::open_engine());
    TRY(remove_networks(*engine));
    if (flags_.on("volumes")) TRY(remove_volumes(*engine));
    if (flags_.has("rmi")) TRY(remove_images(*engine));
    if (orphans.empty()) TRY(sys::remove_tree(project_folder(settings.data_root, name_)));
    return 0;
  }

 private:
  /// A name is enough; with a file, it is read, and what is wrong in it is told.
  Result<void> find_project() {
    const bool only_name = !app_.load_options().project_name.empty() && app_.load_options().files.empty();
    // Every profile's services are meant.
    app_.load_options().profiles.emplace_back("*");
    auto project = app_.project();
    if (!project.ok()) {
      if (!only_name || project.error().kind() != ErrorKind::kNotFound) return std::move(project).error();
      TRY_ASSIGN(name_, project_name_only(app_.load_options()));
      return {};
    }
    name_ = (*project)->name;
    TRY_ASSIGN(model_, build_model(**project, {}));
    for (const std::string& service : flags_.arguments) {
      if (model_->find(service) == nullptr)
        return errorf(ErrorKind::kNotFound, "there is no service \"{:.100}\"", service);
    }
    return {};
  }

  bool is_meant(const Container& one, std::vector<Container>& orphans) const {
    if (!flags_.arguments.empty()) {
      return std::find(flags_.arguments.begin(), flags_.arguments.end(), one.service) != flags_.arguments.end();
    }
    if (!model_ || model_->find(one.service) != nullptr || flags_.on("remove-orphans")) return true;
    orphans.push_back(one);
    return false;
  }

  Result<void> remove_networks(engine::Engine& engine) {
    TRY_ASSIGN(const auto networks, engine.network_list({{"label", fmt::format("{}={}", kLabelProject, name_)}}));
    for (const auto& one : networks) {
      auto removed = engine.network_remove(one.network.id);
      if (removed.ok()) {
        app_.step("Network", one.network.name, "Removed");
      } else if (removed.error().kind() == ErrorKind::kConflict) {
        app_.context().warn(fmt::format("the network {} stays: {}", one.network.name, removed.error().message()));
      } else if (removed.error().kind() != ErrorKind::kNotFound) {
        return std::move(removed).error();
      }
    }
    return {};
  }

  Result<void> remove_volumes(engine::Engine& engine) {
    TRY_ASSIGN(const auto volumes, engine.volume_list({{"label", fmt::format("{}={}", kLabelProject, name_)}}));
    for (const auto& one : volumes) {
      auto removed = engine.volume_remove(one.name, false);
      if (removed.ok()) {
        app_.step("Volume", one.name, "Removed");
      } else if (removed.error().kind() == ErrorKind::kConflict) {
        app_.context().warn(fmt::format("the volume {} stays: {}", one.name, removed.error().message()));
      } else if (removed.error().kind() != ErrorKind::kNotFound) {
        return std::move(removed).error();
      }
    }
    return {};
  }

  Result<void> remove_images(engine::Engine& engine) {
    const std::string_view which = flags_.value("rmi");
    if (which != "all" && which != "local") return errorf(ErrorKind::kInvalid, "--rmi: expected all or local");
    // Images without a name of their own are those that are built; there are none yet.
    if (which == "local") return {};
    if (model_) {
      for (const Service& service : model_->services) images_.insert(service.image);
    }
    for (const std::string& image : images_) {
      auto removed = engine.images().remove(image, false);
      if (removed.ok()) {
        app_.step("Image", image, "Removed");
      } else if (removed.error().kind() != ErrorKind::kNotFound) {
        app_.context().warn(fmt::format("the image {} stays: {}", image, removed.error().message()));
      }
    }
    return {};
  }

  App& app_;
  const cli::Parsed& flags_;
  std::string name_;
  std::optional<Model> model_;
  std::set<std::string> images_;
};

}  // namespace

Result<int> run_down(App& app, const cli::Parsed& flags) {
  if (flags.has("rmi") && flags.value("rmi") != "all" && flags.value("rmi") != "local") {
    return errorf(ErrorKind::kInvalid, "--rmi: expected all or local");
  }
  return Down(app, flags).run();
}

Result<int> run_remove(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Model model, app.model(flags.arguments));
  TRY_ASSIGN(auto settings, engine::Settings::load());
  TRY_ASSIGN(const sys::FileLock lock, lock_project(settings, model.project->name));
  std::vector<Container> containers;
  {
    TRY_ASSIGN(const auto engine, App::open_engine());
    TRY_ASSIGN(containers, project_containers(*engine, model.project->name));
  }
  std::erase_if(containers, [&](const Container& one) {
    const bool named = flags.arguments.empty() ||
                       std::find(flags.arguments.begin(), flags.arguments.end(), one.service) != flags.arguments.end();
    return !named || (one.is_running() && !flags.on("stop"));
  });
  if (containers.empty()) {
    app.context().err.write("No stopped containers\n");
    return 0;
  }
  if (!flags.on("force")) {
    std::string names;
    for (const Container& one : containers) names += (names.empty() ? "" : ", ") + one.name;
    TRY_ASSIGN(const bool agreed, cli::confirm(app.context(), "Going to remove " + names));
    if (!agreed) return 0;
  }
  TRY(take_down(app, &model, containers, {std::nullopt, true, true, flags.on("volumes")}));
  return 0;
}

}  // namespace hull::compose
