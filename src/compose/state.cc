#include "compose/state.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/text.h"

namespace hull::compose {
namespace {

using nlohmann::json;

std::string label_of(const engine::WorkloadSummary& summary, std::string_view key) {
  const auto found = summary.labels.find(std::string(key));
  return found == summary.labels.end() ? std::string() : found->second;
}

/// Docker and Hull name anonymous volumes by 64 hexadecimal digits.
bool is_anonymous(std::string_view name) {
  return name.size() == 64 && name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

template <typename T>
T member_or(const json& object, const char* key, T otherwise) {
  if (!object.is_object()) return otherwise;
  const auto found = object.find(key);
  if (found == object.end()) return otherwise;
  if constexpr (std::is_same_v<T, std::string>) {
    return found->is_string() ? found->template get<std::string>() : otherwise;
  } else if constexpr (std::is_same_v<T, bool>) {
    return found->is_boolean() ? found->template get<bool>() : otherwise;
  } else {
    return found->is_number_integer() ? found->template get<T>() : otherwise;
  }
}

}  // namespace

Result<std::vector<Container>> project_containers(engine::Engine& engine, std::string_view project) {
  engine::ListFilter filter;
  filter.all = true;
  filter.filters.emplace("label",
                         project.empty() ? std::string(kLabelProject) : fmt::format("{}={}", kLabelProject, project));
  TRY_ASSIGN(auto list, engine.list(filter));
  std::vector<Container> out;
  for (engine::WorkloadSummary& summary : list) {
    Container one;
    one.id = summary.id;
    one.name = summary.name;
    one.service = label_of(summary, kLabelService);
    one.hash = label_of(summary, kLabelHash);
    one.image = summary.image;
    one.image_id = summary.image_id.str();
    one.number = static_cast<int>(parse_int(label_of(summary, kLabelNumber), 1, 1'000'000).value_or(1));
    one.one_off = cli::lower(label_of(summary, kLabelOneOff)) == "true";
    one.summary = std::move(summary);
    if (!one.service.empty()) out.push_back(std::move(one));
  }
  std::sort(out.begin(), out.end(), [](const Container& a, const Container& b) {
    return std::tie(a.service, a.one_off, a.number, a.id) < std::tie(b.service, b.one_off, b.number, b.id);
  });
  return out;
}

std::map<std::string, std::vector<std::string>> recorded_dependencies(const std::vector<Container>& containers) {
  std::map<std::string, std::vector<std::string>> out;
  for (const Container& one : containers) {
    auto& known = out[one.service];
    const std::string text = label_of(one.summary, kLabelDepends);
    for (const std::string_view part : cli::split(text, ',')) {
      const std::string service(part.substr(0, part.find(':')));
      if (!service.empty() && std::find(known.begin(), known.end(), service) == known.end()) known.push_back(service);
    }
  }
  return out;
}

Result<Facts> container_facts(engine::Engine& engine, std::string_view id) {
  TRY_ASSIGN(const engine::WorkloadDetails details, engine.inspect(id));
  Facts facts;
  json document = json::parse(details.json, nullptr, false);
  if (document.is_array() && !document.empty()) document = json(document[0]);
  if (!document.is_object()) return errorf(ErrorKind::kInternal, "{}: its inspect document can't be read", id);
  const json state = document.value("State", json::object());
  facts.running = member_or(state, "Running", false);
  facts.restarting = member_or(state, "Restarting", false);
  facts.exit_code = member_or(state, "ExitCode", 0);
  if (const auto health = state.find("Health"); health != state.end()) {
    facts.health = member_or(*health, "Status", std::string());
  }
  facts.image_id = member_or(document, "Image", std::string());
  if (const auto mounts = document.find("Mounts"); mounts != document.end() && mounts->is_array()) {
    for (const json& mount : *mounts) {
      const std::string name = member_or(mount, "Name", std::string());
      if (member_or(mount, "Type", std::string()) == "volume" && is_anonymous(name)) {
        facts.anonymous_volumes.emplace(member_or(mount, "Destination", std::string()), name);
      }
    }
  }
  return facts;
}

}  // namespace hull::compose
