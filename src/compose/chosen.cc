#include "compose/chosen.h"

#include <algorithm>

namespace hull::compose {

Result<Chosen> choose(App& app, const std::vector<std::string>& services, bool one_offs) {
  Chosen out;
  std::optional<Model> model;
  const bool only_name = !app.load_options().project_name.empty() && app.load_options().files.empty();
  auto project = app.project();
  if (project.ok()) {
    out.project = (*project)->name;
    // Containers of services that profiles leave out are there all the same.
    const Node* all = (*project)->document.value("services");
    for (const std::string& name : services) {
      if (all == nullptr || all->find(name) == nullptr) {
        return errorf(ErrorKind::kNotFound, "there is no service \"{:.100}\"", name);
      }
    }
  } else if (only_name && project.error().kind() == ErrorKind::kNotFound) {
    TRY_ASSIGN(out.project, project_name_only(app.load_options()));
  } else {
    return std::move(project).error();
  }
  TRY_ASSIGN(const auto engine, App::open_engine());
  TRY_ASSIGN(out.containers, project_containers(*engine, out.project));
  std::erase_if(out.containers, [&](const Container& one) {
    if (one.one_off && !one_offs) return true;
    return !services.empty() && std::find(services.begin(), services.end(), one.service) == services.end();
  });
  return out;
}

Result<Container> choose_one(App& app, const std::string& service, const cli::Parsed& flags, bool any) {
  TRY_ASSIGN(const Chosen chosen, choose(app, {service}));
  const auto index = flags.number("index");
  const Container* best = nullptr;
  for (const Container& one : chosen.containers) {
    if (index && one.number != *index) continue;
    if (best == nullptr || (!best->is_running() && one.is_running())) best = &one;
  }
  if (best == nullptr) {
    return errorf(ErrorKind::kNotFound, "the service {} has no container{}: 'hull compose up' makes it", service,
                  index ? fmt::format(" number {}", *index) : "");
  }
  if (!any && !best->is_running()) {
    return errorf(ErrorKind::kConflict, "the container {} of the service {} is not running", best->name, service);
  }
  return *best;
}

}  // namespace hull::compose
