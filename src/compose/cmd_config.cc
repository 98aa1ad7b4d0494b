// config, version: what needs no engine.
#include "compose/commands.h"
#include "compose/environment.h"
#include "compose/files.h"
#include "compose/service_config.h"
#include "compose/yaml.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

std::string lines(const std::vector<std::string>& all) {
  std::string out;
  for (const std::string& one : all) out += one + "\n";
  return out;
}

/// So that what is printed reads back as the same: "$" begins a variable.
void escape_dollars(Node& node) {
  for (size_t at = node.text.find('$'); at != std::string::npos; at = node.text.find('$', at + 2))
    node.text.insert(at, 1, '$');
  for (Member& member : node.members) escape_dollars(member.value);
  for (Node& element : node.list) escape_dollars(element);
}

/// `environment` whole, as the containers will have it, instead of files.
Result<Node> resolved_document(const Model& model, bool interpolated) {
  Node document = printed_document(model);
  if (!interpolated) return document;
  for (const Service& service : model.services) {
    TRY_ASSIGN(const auto environment, service_environment(*model.project, service));
    Node& node = *document.find("services")->find(service.name);
    node.erase("env_file");
    if (environment.empty()) {
      node.erase("environment");
      continue;
    }
    Node all = Node::make_map();
    for (const auto& [name, value] : environment) all.set(name, Node::scalar(value));
    node.set("environment", std::move(all));
  }
  escape_dollars(document);
  return document;
}

Result<std::string> hashes(const Model& model, const std::string& wanted) {
  std::string out;
  TRY_ASSIGN(const auto settings, engine::Settings::load());
  for (const Service& service : model.services) {
    if (wanted != "*" && wanted != service.name) continue;
    TRY_ASSIGN(const auto files, service_files(model, service, settings.data_root, false));
    TRY_ASSIGN(const std::string hash, config_hash(model, service, files));
    out += fmt::format("{} {}\n", service.name, hash);
  }
  if (out.empty()) return errorf(ErrorKind::kNotFound, "there is no service \"{:.100}\"", wanted);
  return out;
}

/// What is asked for instead of the document; nothing when nothing is.
Result<std::optional<std::string>> one_list(const cli::Parsed& flags, const Project& project, const Model& model) {
  std::vector<std::string> out;
  if (flags.on("services")) {
    for (const Service& service : model.services) out.push_back(service.name);
  } else if (flags.on("images")) {
    std::set<std::string> images;
    for (const Service& service : model.services) {
      if (!service.image.empty()) images.insert(service.image);
    }
    out.assign(images.begin(), images.end());
  } else if (flags.on("volumes")) {
    for (const auto& [key, resource] : model.volumes) out.push_back(key);
  } else if (flags.on("networks")) {
    for (const auto& [key, resource] : model.networks) out.push_back(key);
  } else if (flags.on("profiles")) {
    std::set<std::string> profiles;
    for (const Member& service : project.document.value("services")->members) {
      if (const Node* own = service.value.value("profiles")) {
        for (const Node& one : own->list) profiles.insert(one.text);
      }
    }
    out.assign(profiles.begin(), profiles.end());
  } else if (flags.on("environment")) {
    for (const auto& [name, value] : project.variables) out.push_back(fmt::format("{}={}", name, value));
  } else {
    return std::optional<std::string>();
  }
  return std::optional(lines(out));
}

/// Everything that `up` would find wrong before it changes anything.
Result<void> check_services(const Model& model) {
  ServiceRequest request;
  request.container_of = [](const std::string& service) -> Result<std::string> { return service; };
  for (const Service& service : model.services) TRY(make_config(model, service, request, {}));
  return {};
}

}  // namespace

Result<int> run_config(App& app, const cli::Parsed& flags) {
  const std::string_view format = flags.value("format", "yaml");
  if (format != "yaml" && format != "json") return errorf(ErrorKind::kInvalid, "--format: expected yaml or json");
  app.load_options().interpolate = !flags.on("no-interpolate");
  TRY_ASSIGN(const Project* project, app.project());
  TRY_ASSIGN(Model model, build_model(*project, flags.arguments));
  if (app.load_options().interpolate) TRY(check_services(model));
  if (!flags.arguments.empty()) {
    TRY_ASSIGN(const auto chosen, select_services(model, flags.arguments, true));
    std::erase_if(model.services, [&](const Service& one) {
      return std::find(chosen.begin(), chosen.end(), one.name) == chosen.end();
    });
  }
  if (flags.on("quiet")) return 0;
  std::string text;
  TRY_ASSIGN(const auto list, one_list(flags, *project, model));
  if (list) {
    text = *list;
  } else if (flags.has("hash")) {
    TRY_ASSIGN(text, hashes(model, std::string(flags.value("hash"))));
  } else {
    TRY_ASSIGN(const Node document, resolved_document(model, app.load_options().interpolate));
    text = format == "json" ? print_json(document, 2) + "\n" : print_yaml(document);
  }
  if (flags.has("output")) {
    TRY(sys::replace_file(std::string(flags.value("output")), text, 0644, false));
  } else {
    app.context().out.write(text);
  }
  return 0;
}

Result<int> run_version(App& app, const cli::Parsed& flags) {
  if (flags.on("short")) {
    app.context().out.print("{}\n", HULL_VERSION);
  } else if (flags.value("format") == "json") {
    app.context().out.print("{{\"version\":\"{}\"}}\n", HULL_VERSION);
  } else {
    app.context().out.print("Hull Compose version {}\n", HULL_VERSION);
  }
  return 0;
}

}  // namespace hull::compose
