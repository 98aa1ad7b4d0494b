#include "compose/loader.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "cli/text.h"
#include "compose/canonical.h"
#include "compose/dotenv.h"
#include "compose/merge.h"
#include "compose/schema.h"
#include "compose/yaml.h"
#include "sys/file.h"

extern char** environ;

namespace hull::compose {
namespace {

constexpr size_t kMostBytes = 1 << 20;
constexpr size_t kMostFiles = 200;
constexpr size_t kMostNesting = 16;

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

bool is_remote(std::string_view path) {
  return path.find("://") != std::string_view::npos || path.starts_with("git@") || path.starts_with("oci:");
}

/// Reads files, each one with the way that led to it, so that circles are found.
class FileLoader {
 public:
  FileLoader(bool interpolate, Notices& notices) : interpolate_(interpolate), notices_(notices) {}

  /// Every file merged, in order, `include` done.
  Result<Node> load(const std::vector<std::string>& paths, const std::string& folder, const Variables& variables) {
    Node merged = Node::make_map();
    for (const std::string& path : paths) {
      TRY_ASSIGN(Node document, read(path, folder, variables));
      TRY(extend_services(document, path, folder, variables));
      merge_documents(merged, std::move(document));
    }
    TRY(include(merged, folder, variables));
    drop_resets(merged);
    return merged;
  }

 private:
  Result<std::string> text_of(const std::string& path) {
    if (++files_ > kMostFiles)
      return errorf(ErrorKind::kInvalid, "more than {} files belong to the project", kMostFiles);
    if (path == "-") return sys::read_all(STDIN_FILENO, kMostBytes).context("standard input");
    // A named pipe, as <(...) of a shell makes one, is fine; a device is not read.
    auto text = sys::read_file(path, kMostBytes);
    if (!text.ok()) return std::move(text).error().context(fmt::format("{}", path));
    return text;
  }

  /// Checked and canonical; several documents of one file are merged as files are.
  Result<Node> read(const std::string& path, const std::string& folder, const Variables& variables) {
    TRY_ASSIGN(const std::string text, text_of(path));
    const std::string* name = intern_file(shown(path));
    TRY_ASSIGN(std::vector<Node> documents, parse_yaml(text, name));
    Node merged = Node::make_map({name, 1});
    bool any = false;
    for (Node& document : documents) {
      if (document.is_null()) continue;
      any = true;
      if (interpolate_) TRY(interpolate_document(document, variables));
      TRY(check_schema(document));
      TRY(make_canonical(document, folder, notices_));
      merge_documents(merged, std::move(document));
    }
    if (!any) return errorf(ErrorKind::kInvalid, "{}: the file is empty", *name);
    return merged;
  }

  /// As the user would name it: below the folder it is called from without the way there.
  static std::string shown(const std::string& path) {
    if (path == "-") return "standard input";
    const std::unique_ptr<char, decltype(&std::free)> here(::getcwd(nullptr, 0), &std::free);
    if (here) {
      const std::string start = std::string(here.get()) + "/";
      if (path.starts_with(start) && start.size() > 1) return path.substr(start.size());
    }
    return path;
  }

  Result<void> interpolate_document(Node& document, const Variables& variables) {
    const VariableLookup lookup = lookup_in(variables);
    return interpolate_tree(document, lookup, [&](std::string_view name) {
      notices_.add(fmt::format("the variable {:.100} is not set: an empty text stands in its place", name));
    });
  }

  // ---- extends

  struct Extending {
    std::string file, service;
    bool operator==(const Extending&) const = default;
  };

  Result<void> extend_services(Node& document, const std::string& path, const std::string& folder,
                               const Variables& variables) {
    Node* services = document.find("services");
    if (services == nullptr) return {};
    for (Member& member : services->members) {
      std::vector<Extending> way = {{path, member.key}};
      TRY(extend(member.value, document, path, folder, variables, way));
    }
    return {};
  }

  /// Puts what `service` extends below it. `document` is the file it stands in.
  Result<void> extend(Node& service, const Node& document, const std::string& path, const std::string& folder,
                      const Variables& variables, std::vector<Extending>& way) {
    const Node* extends = service.find("extends");
    if (extends == nullptr || extends->is_null() || extends->tag == Node::Tag::kReset) return {};
    const Mark mark = extends->mark;
    const Node* file = extends->value("file");
    Extending next = {path, std::string(extends->text_of("service"))};
    std::string next_folder = folder;
    if (file != nullptr) {
      if (is_remote(file->text)) return refuse_remote(*file, "extends");
      next.file = absolute_path(file->text, folder);
      next_folder = folder_of(next.file);
      notice_escape(notices_, file->mark, "extends", file->text, next.file, folder);
    }
    if (std::find(way.begin(), way.end(), next) != way.end()) {
      return errorf_at(mark, "the service \"{}\" extends itself", next.service);
    }
    if (way.size() >= kMostNesting) return errorf_at(mark, "extends more than {} services in a row", kMostNesting);
    Node loaded;
    const Node* source = &document;
    if (next.file != path) {
      auto read_file = read(next.file, next_folder, variables);
      if (!read_file.ok()) return std::move(read_file).error().context(mark.str() + ": extends");
      loaded = std::move(*read_file);
      source = &loaded;
    }
    const Node* services = source->find("services");
    const Node* found = services == nullptr ? nullptr : services->find(next.service);
    if (found == nullptr) {
      return errorf_at(mark, "extends: there is no service \"{:.100}\" in {}", next.service, shown(next.file));
    }
    Node base = *found;
    way.push_back(next);
    TRY(extend(base, *source, next.file, next_folder, variables, way));
    way.pop_back();
    service.erase("extends");
    base.erase("extends");
    drop_resets(base);
    merge_service(base, std::move(service));
    service = std::move(base);
    return {};
  }

  static Error refuse_remote(const Node& node, std::string_view what) {
    return errorf_at(node.mark, "{}: {:.200} is not on this machine: fetch it and name the local file", what,
                     node.text);
  }

  // ---- include

  Result<void> include(Node& document, const std::string& folder, const Variables& variables) {
    Node* found = document.find("include");
    if (found == nullptr) return {};
    const Node all = std::move(*found);
    document.erase("include");
    for (const Node& entry : all.list) TRY(include_one(document, entry, folder, variables));
    return {};
  }

  static std::vector<const Node*> scalars_of(const Node* node) {
    std::vector<const Node*> out;
    if (node == nullptr) return out;
    if (node->is_scalar()) out.push_back(node);
    for (const Node& element : node->list) out.push_back(&element);
    return out;
  }

  Result<void> include_one(Node& document, const Node& entry, const std::string& folder, const Variables& variables) {
    const Node* path_node = entry.is_map() ? entry.find("path") : &entry;
    std::vector<std::string> paths;
    for (const Node* node : scalars_of(path_node)) {
      if (is_remote(node->text)) return refuse_remote(*node, "include");
      paths.push_back(absolute_path(node->text, folder));
      notice_escape(notices_, node->mark, "include", node->text, paths.back(), folder);
    }
    if (paths.empty()) return errorf_at(entry.mark, "include: no path");
    std::string own_folder = folder_of(paths.front());
    if (const Node* named = entry.value("project_directory")) own_folder = absolute_path(named->text, folder);
    if (std::find(including_.begin(), including_.end(), paths.front()) != including_.end()) {
      return errorf_at(entry.mark, "include: {} includes itself", shown(paths.front()));
    }
    if (including_.size() >= kMostNesting) return errorf_at(entry.mark, "include: nested too deep");
    // The file's own .env gives defaults; the project's variables count before it.
    Variables own = variables;
    std::vector<std::string> env_files;
    for (const Node* node : scalars_of(entry.value("env_file"))) {
      env_files.push_back(absolute_path(node->text, folder));
      notice_escape(notices_, node->mark, "include: env_file", node->text, env_files.back(), folder);
    }
    const bool named = !env_files.empty();
    if (!named && sys::exists(own_folder + "/.env")) env_files.push_back(own_folder + "/.env");
    for (const std::string& file : env_files) {
      auto loaded = add_env_file(own, file, variables);
      if (!loaded.ok()) return std::move(loaded).error().context(entry.mark.str());
    }
    including_.push_back(paths.front());
    auto loaded = load(paths, own_folder, own);
    including_.pop_back();
    if (!loaded.ok()) return std::move(loaded).error().context(entry.mark.str() + ": include");
    return take_over(document, std::move(*loaded), entry);
  }

  /// An included resource must not meet another one of its name, unless they are the same.
  static Result<void> take_over(Node& document, Node included, const Node& entry) {
    for (Member& section : included.members) {
      if (!section.value.is_map() || section.key.starts_with("x-")) continue;
      Node* known = document.find(section.key);
      if (known == nullptr || known->is_null()) known = &document.set(section.key, Node::make_map(section.mark));
      for (Member& member : section.value.members) {
        const Node* other = known->find(member.key);
        if (other != nullptr && print_json(*other) != print_json(member.value)) {
          return errorf_at(entry.mark, "include: {}.{} is defined on {} too, and is not the same", section.key,
                           member.key, other->mark.str());
        }
        if (other == nullptr) known->set(member.key, std::move(member.value), member.mark);
      }
    }
    return {};
  }

 public:
  /// Variables of a file that are not set yet.
  static Result<void> add_env_file(Variables& variables, const std::string& path, const Variables& before) {
    auto text = sys::read_file(path, kMostBytes);
    if (!text.ok()) return std::move(text).error();
    const VariableLookup lookup = lookup_in(variables);
    TRY_ASSIGN(const auto entries, parse_dotenv(*text, intern_file(path), lookup));
    for (const EnvEntry& entry : entries) {
      if (entry.value && !before.contains(entry.name)) variables.insert_or_assign(entry.name, *entry.value);
    }
    return {};
  }

 private:
  bool interpolate_;
  Notices& notices_;
  size_t files_ = 0;
  std::vector<std::string> including_;
};

std::string variable(const Variables& variables, std::string_view name) {
  const auto found = variables.find(name);
  return found == variables.end() ? std::string() : found->second;
}

std::vector<std::string> split_list(std::string_view text, char separator) {
  std::vector<std::string> out;
  for (const std::string_view part : cli::split(text, separator)) {
    if (!cli::trim(part).empty()) out.emplace_back(cli::trim(part));
  }
  return out;
}

constexpr std::string_view kNames[] = {"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"};
constexpr std::string_view kOverrides[] = {"compose.override.yaml", "compose.override.yml",
                                           "docker-compose.override.yml", "docker-compose.override.yaml"};

/// The default file here or in a folder above, with its override.
std::vector<std::string> find_files(std::string folder) {
  for (;;) {
    for (const std::string_view name : kNames) {
      const std::string path = fmt::format("{}/{}", folder == "/" ? "" : folder, name);
      if (!sys::exists(path)) continue;
      std::vector<std::string> files = {path};
      for (const std::string_view other : kOverrides) {
        std::string beside = fmt::format("{}/{}", folder == "/" ? "" : folder, other);
        if (sys::exists(beside)) {
          files.push_back(std::move(beside));
          break;
        }
      }
      return files;
    }
    if (folder == "/") return {};
    folder = folder_of(folder);
  }
}

struct Place {
  std::vector<std::string> files;
  std::string folder;
  Variables variables;
};

Result<void> add_env_files(Place& place, const LoadOptions& options, const std::string& folder) {
  std::vector<std::string> files = options.env_files;
  if (files.empty()) files = split_list(variable(options.environment, "COMPOSE_ENV_FILES"), ',');
  const bool named = !files.empty();
  const std::string off = variable(options.environment, "COMPOSE_DISABLE_ENV_FILE");
  if (!named && (off == "1" || off == "true")) return {};
  if (!named) files.push_back(folder + "/.env");
  for (const std::string& file : files) {
    const std::string path = absolute_path(file, named ? options.current_folder : folder);
    if (!named && !sys::exists(path)) continue;
    auto added = FileLoader::add_env_file(place.variables, path, options.environment);
    if (!added.ok()) return std::move(added).error().context(named ? "--env-file " + file : file);
  }
  return {};
}

/// Files, folder and variables; no file is read but .env.
Result<Place> find_place(const LoadOptions& options) {
  Place place;
  place.variables = options.environment;
  std::string folder;
  if (!options.project_directory.empty()) {
    folder = absolute_path(options.project_directory, options.current_folder);
  }
  std::vector<std::string> named = options.files;
  // COMPOSE_FILE may stand in the .env of the folder that the command was called in.
  const std::string first_folder = folder.empty() ? options.current_folder : folder;
  if (named.empty()) {
    TRY(add_env_files(place, options, first_folder));
    const std::string separator = variable(place.variables, "COMPOSE_PATH_SEPARATOR");
    named = split_list(variable(place.variables, "COMPOSE_FILE"), separator.empty() ? ':' : separator[0]);
  }
  for (const std::string& file : named) {
    place.files.push_back(file == "-" ? file : absolute_path(file, options.current_folder));
  }
  if (place.files.empty()) place.files = find_files(first_folder);
  if (folder.empty()) {
    folder =
        place.files.empty() || place.files.front() == "-" ? options.current_folder : folder_of(place.files.front());
  }
  place.folder = folder;
  if (!options.files.empty() || folder != first_folder) TRY(add_env_files(place, options, folder));
  return place;
}

Result<std::string> choose_name(const LoadOptions& options, const Place& place, const Node* document) {
  std::string name = options.project_name;
  std::string_view source = "--project-name";
  if (name.empty()) {
    name = variable(place.variables, "COMPOSE_PROJECT_NAME");
    source = "COMPOSE_PROJECT_NAME";
  }
  if (name.empty() && document != nullptr && document->value("name") != nullptr) {
    const Node& node = *document->value("name");
    if (!is_project_name(node.text)) {
      return errorf_at(node.mark,
                       "name: \"{:.80}\": a project's name has lower-case letters, digits, \"-\" and \"_\" "
                       "only, and begins with a letter or digit",
                       node.text);
    }
    return node.text;
  }
  if (name.empty()) {
    name = project_name_from(place.folder);
    if (name.empty()) {
      return errorf(ErrorKind::kInvalid, "the folder {} gives the project no name: give one with --project-name",
                    place.folder);
    }
    return name;
  }
  if (!is_project_name(name)) {
    return errorf(ErrorKind::kInvalid,
                  "{}: \"{:.80}\": a project's name has lower-case letters, digits, \"-\" and \"_\" "
                  "only, and begins with a letter or digit",
                  source, name);
  }
  return name;
}

}  // namespace

Variables process_environment() {
  Variables out;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals != std::string_view::npos) out.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

bool is_project_name(std::string_view name) {
  if (name.empty() || name.size() > 63) return false;
  for (const char c : name) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')) return false;
  }
  return name[0] != '-' && name[0] != '_';
}

std::string project_name_from(std::string_view folder) {
  std::string name;
  for (const char c : cli::lower(folder.substr(folder.rfind('/') + 1))) {
    if (name.size() >= 63) break;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    if (letter || (!name.empty() && (c == '-' || c == '_'))) name += c;
  }
  return name;
}

Result<std::string> project_name_only(const LoadOptions& options) {
  TRY_ASSIGN(const Place place, find_place(options));
  return choose_name(options, place, nullptr);
}

Result<Project> load_project(const LoadOptions& options) {
  Project project;
  TRY_ASSIGN(Place place, find_place(options));
  if (place.files.empty()) {
    return errorf(ErrorKind::kNotFound, "there is no {} in {} or a folder above: name a file with -f",
                  fmt::join(kNames, ", "), options.current_folder);
  }
  project.folder = place.folder;
  project.files = place.files;
  // The name may be used as a variable, so it is needed before the files are read, where it may be given.
  const bool named = place.variables.contains("COMPOSE_PROJECT_NAME");
  if (auto name = choose_name(options, place, nullptr); name.ok()) {
    place.variables.insert_or_assign("COMPOSE_PROJECT_NAME", *name);
  }
  FileLoader loader(options.interpolate, project.notices);
  TRY_ASSIGN(project.document, loader.load(place.files, place.folder, place.variables));
  if (!named) place.variables.erase("COMPOSE_PROJECT_NAME");
  TRY_ASSIGN(project.name, choose_name(options, place, &project.document));
  place.variables.insert_or_assign("COMPOSE_PROJECT_NAME", project.name);
  project.variables = std::move(place.variables);
  std::vector<std::string> profiles = options.profiles;
  if (profiles.empty()) profiles = split_list(variable(project.variables, "COMPOSE_PROFILES"), ',');
  project.profiles.insert(profiles.begin(), profiles.end());
  if (project.document.find("version") != nullptr) {
    project.document.erase("version");  // means nothing any more
  }
  return project;
}

}  // namespace hull::compose
