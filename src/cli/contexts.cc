#include "cli/contexts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"
#include "cli/text.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

constexpr size_t kMostBytes = 64 << 10;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

Result<std::string> folder_or_error() {
  std::string folder = context_folder();
  if (folder.empty())
    return errorf(ErrorKind::kInvalid, "there is no home folder (HOME) that contexts could be kept in");
  return folder;
}

/// Of the caller only.
Result<std::string> read_own(const std::string& path) {
  TRY_ASSIGN(const UniqueFd fd, sys::open(path, O_RDONLY | O_NOFOLLOW));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return errnof("{}", path);
  if (!S_ISREG(info.st_mode) || info.st_uid != ::geteuid()) {
    return errorf(ErrorKind::kPermission, "{} is not a file of the user that runs hull: it is not used", path);
  }
  return sys::read_all(fd.get(), kMostBytes);
}

std::string file_of(const std::string& folder, std::string_view name) {
  return fmt::format("{}/contexts/{}.json", folder, name);
}

}  // namespace

std::string context_folder() {
  if (const std::string home = variable("XDG_CONFIG_HOME"); home.starts_with('/')) return home + "/hull";
  const std::string home = variable("HOME");
  return home.starts_with('/') ? home + "/.config/hull" : "";
}

Result<void> check_context_name(std::string_view name) {
  constexpr size_t kMostLength = 100;
  bool good = !name.empty() && name.size() <= kMostLength && name[0] != '.' && name[0] != '-';
  for (const char c : name) {
    good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                    c == '.' || c == '+' || c == '-');
  }
  if (good) return {};
  return errorf(
      ErrorKind::kInvalid,
      "\"{:.100}\" is no name of a context: letters, digits, \"_\", \".\", \"+\" and \"-\", beginning with a letter "
      "or digit",
      name);
}

Result<NamedContext> read_context(std::string_view name) {
  TRY(check_context_name(name));
  NamedContext context;
  context.name = name;
  if (name == kDefaultContext) {
    context.description = "What flags, environment and hull.toml say";
    return context;
  }
  TRY_ASSIGN(const std::string folder, folder_or_error());
  const std::string path = file_of(folder, name);
  auto text = read_own(path);
  if (!text.ok()) {
    if (text.error().error_number() != ENOENT) return std::move(text).error();
    return errorf(ErrorKind::kNotFound, "there is no context \"{}\": 'hull context ls' lists them", name);
  }
  JsonReader reader(*text);
  reader.object([&](std::string_view key) {
    if (key == "Description") return reader.value(context.description);
    if (key == "Config") return reader.value(context.config);
    if (key == "Root") return reader.value(context.root);
    if (key == "RunRoot") return reader.value(context.run_root);
    return false;
  });
  TRY(reader.finish().context(path));
  return context;
}

Result<void> write_context(const NamedContext& context) {
  TRY_ASSIGN(const std::string folder, folder_or_error());
  TRY(sys::make_dirs(folder + "/contexts", 0700));
  JsonWriter json(2);
  json.object([&] {
    json.member_opt("Description", context.description);
    json.member_opt("Config", context.config);
    json.member_opt("Root", context.root);
    json.member_opt("RunRoot", context.run_root);
  });
  return sys::replace_file(file_of(folder, context.name), std::move(json).take() + "\n");
}

Result<void> remove_context(std::string_view name) {
  if (name == kDefaultContext) return errorf(ErrorKind::kInvalid, "the context \"default\" can't be removed");
  TRY(read_context(name));
  TRY_ASSIGN(const std::string folder, folder_or_error());
  const std::string path = file_of(folder, name);
  if (::unlink(path.c_str()) != 0) return errnof("remove {}", path);
  return {};
}

Result<std::vector<NamedContext>> list_contexts() {
  std::vector<NamedContext> out;
  TRY_ASSIGN(NamedContext first, read_context(kDefaultContext));
  out.push_back(std::move(first));
  const std::string folder = context_folder() + "/contexts";
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), ::closedir);
  if (!listing) return out;
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string_view file = entry->d_name;
    if (file.ends_with(".json") && file[0] != '.') names.emplace_back(file.substr(0, file.size() - 5));
  }
  std::sort(names.begin(), names.end());
  for (const std::string& name : names) {
    if (name == kDefaultContext || !check_context_name(name).ok()) continue;
    TRY_ASSIGN(NamedContext one, read_context(name));
    out.push_back(std::move(one));
  }
  return out;
}

Result<std::string> current_context() {
  if (const std::string named = variable("HULL_CONTEXT"); !named.empty()) return named;
  const std::string folder = context_folder();
  if (folder.empty()) return std::string(kDefaultContext);
  auto text = read_own(folder + "/context");
  if (!text.ok()) {
    if (text.error().error_number() == ENOENT || text.error().error_number() == EACCES)
      return std::string(kDefaultContext);
    return std::move(text).error();
  }
  const std::string name(trim(*text));
  return name.empty() ? std::string(kDefaultContext) : name;
}

Result<void> choose_context(std::string_view name) {
  TRY(read_context(name));
  TRY_ASSIGN(const std::string folder, folder_or_error());
  TRY(sys::make_dirs(folder, 0700));
  const std::string path = folder + "/context";
  if (name == kDefaultContext) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errnof("remove {}", path);
    return {};
  }
  return sys::replace_file(path, fmt::format("{}\n", name));
}

Result<void> apply_context(std::optional<std::string> flag) {
  std::string name = flag.value_or(variable("HULL_CONTEXT"));
  if (name.empty()) {
    for (const char* where : {"HULL_CONFIG", "HULL_ROOT", "HULL_RUN"}) {
      if (std::getenv(where) != nullptr) return {};
    }
    TRY_ASSIGN(name, current_context());
  }
  if (name == kDefaultContext) return {};
  auto context = read_context(name);
  if (!context.ok()) {
    if (flag || context.error().kind() != ErrorKind::kNotFound) return std::move(context).error();
    return std::move(context).error().context("the chosen context (see 'hull --context default context ls')");
  }
  const auto set = [](const char* where, const std::string& value) {
    if (!value.empty()) ::setenv(where, value.c_str(), 1);
  };
  set("HULL_CONFIG", context->config);
  set("HULL_ROOT", context->root);
  set("HULL_RUN", context->run_root);
  return {};
}

}  // namespace hull::cli
