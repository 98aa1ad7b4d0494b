// context create, inspect, ls, rm, show, use.
#include <cstdlib>
#include <memory>

#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/contexts.h"
#include "cli/documents.h"
#include "cli/filters.h"
#include "cli/table.h"

namespace hull::cli {
namespace {

constexpr Flag path_flag(std::string_view name, std::string_view metavar, std::string_view help, Complete complete) {
  return {.name = name, .kind = ValueKind::kText, .metavar = metavar, .help = help, .complete = complete};
}
constexpr Flag kCreateFlags[] = {
    path_flag("config", "FILE", "Read this configuration", Complete::kFile),
    {.name = "description", .kind = ValueKind::kText, .metavar = "TEXT", .help = "What it is for"},
    {.name = "docker",
     .kind = ValueKind::kText,
     .metavar = "host=ADDRESS",
     .help = "Docker's way to name a daemon: refused, since Hull works without one",
     .hidden = true},
    {.name = "from", .kind = ValueKind::kText, .metavar = "CONTEXT", .help = "Begin with what this context says"},
    path_flag("root", "FOLDER", "Keep images, volumes and workloads here", Complete::kFolder),
    path_flag("run-root", "FOLDER", "Keep the state of this boot here", Complete::kFolder),
};
constexpr std::span<const Flag> kCreateTables[] = {kCreateFlags};

std::string absolute(std::string_view path) {
  if (path.starts_with('/')) return std::string(path);
  const std::unique_ptr<char, decltype(&std::free)> here(::realpath(".", nullptr), &std::free);
  return fmt::format("{}/{}", here ? here.get() : "", path);
}

Result<int> create_main(Context& context, const Parsed& parsed) {
  const std::string& name = parsed.arguments[0];
  TRY(check_context_name(name));
  if (parsed.has("docker")) {
    return errorf(
        ErrorKind::kUnsupported,
        "hull works on this machine, without a daemon, so a context can't lead to another one: run hulld there, and "
        "use the docker command with its address (docker context create --docker host=...)");
  }
  if (name == kDefaultContext || read_context(name).ok()) {
    return errorf(ErrorKind::kExists, "the context \"{}\" is there already", name);
  }
  NamedContext made;
  if (parsed.has("from")) {
    TRY_ASSIGN(made, read_context(parsed.value("from")));
  }
  made.name = name;
  if (parsed.has("description") || !parsed.has("from")) made.description = parsed.value("description");
  const auto take = [&](std::string_view flag, std::string& out) -> Result<void> {
    if (!parsed.has(flag)) return {};
    if (parsed.value(flag).empty()) return errorf(ErrorKind::kInvalid, "--{} needs a path", flag);
    out = absolute(parsed.value(flag));
    return {};
  };
  TRY(take("config", made.config));
  TRY(take("root", made.root));
  TRY(take("run-root", made.run_root));
  if (made.root.empty() != made.run_root.empty()) {
    return errorf(ErrorKind::kInvalid, "--root and --run-root belong together: what runs must be found with its data");
  }
  TRY(write_context(made));
  context.out.print("{}\n", name);
  return 0;
}

Value document_of(const NamedContext& one) {
  Value out = Value::object();
  out.set("Name", one.name);
  out.set("Description", one.description);
  out.set("Config", one.config);
  out.set("Root", one.root);
  out.set("RunRoot", one.run_root);
  return out;
}

constexpr Flag kInspectFlags[] = {kDocumentFormatFlag};
constexpr std::span<const Flag> kInspectTables[] = {kInspectFlags};

Result<int> inspect_main(Context& context, const Parsed& parsed) {
  std::vector<std::string> names = parsed.arguments;
  if (names.empty()) {
    TRY_ASSIGN(std::string name, current_context());
    names.push_back(std::move(name));
  }
  std::vector<Value> documents;
  int code = 0;
  for (const std::string& name : names) {
    auto one = read_context(name);
    if (one.ok()) {
      documents.push_back(document_of(*one));
    } else {
      context.report(one.error());
      code = 1;
    }
  }
  TRY(print_inspected(context.out, parsed.value("format"), documents));
  return code;
}

constexpr Flag kListFlags[] = {kFormatFlag, {.name = "quiet", .short_name = 'q', .help = "Print only names"}};
constexpr std::span<const Flag> kListTables[] = {kListFlags};
constexpr Column kColumns[] = {{"Name", "NAME"},        {"Description", "DESCRIPTION"}, {"Root", "ROOT"},
                               {"RunRoot", "RUN ROOT"}, {"Config", "CONFIG"},           {"Current", "CURRENT"}};

Result<int> list_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const auto all, list_contexts());
  TRY_ASSIGN(const std::string current, current_context());
  const bool plain = parsed.on("quiet") || parsed.has("format");
  std::vector<Value> rows;
  for (const NamedContext& one : all) {
    Value row = document_of(one);
    row.set("Current", one.name == current);
    if (!plain && one.name == current) row.set("Name", one.name + " *");
    rows.push_back(std::move(row));
  }
  const Listing listing = {kColumns, {"Name", "Description", "Root", "Config"}, "Name"};
  TRY(print_rows(context.out, listing, parsed.value("format"), parsed.on("quiet"), false, rows));
  return 0;
}

constexpr Flag kRemoveFlags[] = {{.name = "force", .short_name = 'f', .help = "Remove the current one too"}};
constexpr std::span<const Flag> kRemoveTables[] = {kRemoveFlags};

Result<int> remove_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const std::string current, current_context());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    if (name == current && !parsed.on("force")) {
      return errorf(ErrorKind::kConflict,
                    "the context \"{}\" is in use: add --force, or 'hull context use default' first", name);
    }
    TRY(remove_context(name));
    if (name == current) TRY(choose_context(kDefaultContext));
    context.out.print("{}\n", name);
    return {};
  });
}

Result<int> show_main(Context& context, const Parsed& /*parsed*/) {
  TRY_ASSIGN(const std::string name, current_context());
  context.out.print("{}\n", name);
  return 0;
}

Result<int> use_main(Context& context, const Parsed& parsed) {
  TRY(choose_context(parsed.arguments[0]));
  context.out.print("{}\n", parsed.arguments[0]);
  for (const char* where : {"HULL_CONTEXT", "HULL_CONFIG", "HULL_ROOT", "HULL_RUN"}) {
    if (const char* value = std::getenv(where); value != nullptr && *value != '\0') {
      context.warn(fmt::format("the variable {} is set, and counts before the context", where));
      break;
    }
  }
  return 0;
}

}  // namespace

constinit const Command kContextCreate = {
    .path = "context create",
    .arguments = "NAME",
    .summary = "Make a context",
    .description =
        "A context is a name for where Hull keeps things on this machine: its data, the state of this boot, its "
        "configuration. 'hull --context NAME', the variable HULL_CONTEXT or 'hull context use NAME' choose one. Two "
        "contexts with folders of their own share nothing. Hull has no daemon, so there is no context for another "
        "machine.\n\nContexts are kept in ~/.config/hull/contexts.",
    .examples =
        "hull context create lab --root /srv/lab --run-root /run/hull-lab   # make one\n"
        "hull context use lab                                               # from now on\n",
    .flags = kCreateTables,
    .least = 1,
    .most = 1,
    .section = Section::kSystem,
    .run = create_main};
constinit const Command kContextInspect = {.path = "context inspect",
                                           .arguments = "[NAME...]",
                                           .summary = "Tell all about contexts",
                                           .flags = kInspectTables,
                                           .most = -1,
                                           .section = Section::kSystem,
                                           .run = inspect_main};
constinit const Command kContextList = {.path = "context ls",
                                        .aliases = "context list",
                                        .summary = "List contexts",
                                        .flags = kListTables,
                                        .section = Section::kSystem,
                                        .run = list_main};
constinit const Command kContextRemove = {.path = "context rm",
                                          .aliases = "context remove",
                                          .arguments = "NAME...",
                                          .summary = "Remove contexts; the folders that they name stay",
                                          .flags = kRemoveTables,
                                          .least = 1,
                                          .most = -1,
                                          .section = Section::kSystem,
                                          .run = remove_main};
constinit const Command kContextShow = {.path = "context show",
                                        .summary = "Print the name of the current context",
                                        .section = Section::kSystem,
                                        .run = show_main};
constinit const Command kContextUse = {.path = "context use",
                                       .arguments = "NAME",
                                       .summary = "Choose the current context",
                                       .least = 1,
                                       .most = 1,
                                       .section = Section::kSystem,
                                       .run = use_main};

}  // namespace hull::cli
