#include "compose/environment.h"

#include "compose/dotenv.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

constexpr size_t kMostBytes = 1 << 20;

Result<void> add_file(std::map<std::string, std::string>& all, const Project& project, const Node& file) {
  const Node& path = *file.find("path");
  const Node* required = file.find("required");
  const std::string_view format = file.text_of("format");
  if (!format.empty() && format != "raw") {
    return errorf_at(file.mark, "env_file: the format \"{:.40}\" is not known (there is raw)", format);
  }
  if (required != nullptr && !to_bool(*required).value_or(true) && !sys::exists(path.text)) return {};
  auto text = sys::read_file(path.text, kMostBytes);
  if (!text.ok()) return errorf_at(path.mark, "env_file: {}", text.error().message());
  // The project's variables count before what stands in the files above.
  const VariableLookup lookup = [&](std::string_view name) -> std::optional<std::string> {
    if (const auto found = project.variables.find(name); found != project.variables.end()) return found->second;
    const auto known = all.find(std::string(name));
    if (known == all.end()) return std::nullopt;
    return known->second;
  };
  const std::string* name = intern_file(path.text);
  auto entries = format == "raw" ? parse_raw_env(*text, name, lookup) : parse_dotenv(*text, name, lookup);
  if (!entries.ok()) return std::move(entries).error();
  for (EnvEntry& entry : *entries) {
    if (entry.value) all.insert_or_assign(std::move(entry.name), std::move(*entry.value));
  }
  return {};
}

}  // namespace

Result<std::map<std::string, std::string>> service_environment(const Project& project, const Service& service) {
  std::map<std::string, std::string> all;
  if (const Node* files = service.node->value("env_file")) {
    for (const Node& file : files->list) TRY(add_file(all, project, file));
  }
  if (const Node* environment = service.node->value("environment")) {
    for (const Member& member : environment->members) {
      if (!member.value.is_null()) {
        all.insert_or_assign(member.key, member.value.text);
        continue;
      }
      const auto found = project.variables.find(member.key);
      if (found != project.variables.end()) {
        all.insert_or_assign(member.key, found->second);
      } else {
        all.erase(member.key);
      }
    }
  }
  return all;
}

Result<std::map<std::string, std::string>> service_labels(const Service& service) {
  std::map<std::string, std::string> all;
  if (const Node* files = service.node->value("label_file")) {
    for (const Node& file : files->list) {
      auto text = sys::read_file(file.text, kMostBytes);
      if (!text.ok()) return errorf_at(file.mark, "label_file: {}", text.error().message());
      const VariableLookup nothing = [](std::string_view) { return std::nullopt; };
      TRY_ASSIGN(auto entries, parse_raw_env(*text, intern_file(file.text), nothing));
      for (EnvEntry& entry : entries) all.insert_or_assign(std::move(entry.name), entry.value.value_or(""));
    }
  }
  if (const Node* labels = service.node->value("labels")) {
    for (const Member& member : labels->members) all.insert_or_assign(member.key, member.value.text);
  }
  for (const auto& [key, value] : all) {
    if (key.starts_with("com.docker.compose.")) {
      return errorf_at(service.node->mark, "services.{}: the label {:.100} is compose's own", service.name, key);
    }
  }
  return all;
}

}  // namespace hull::compose
