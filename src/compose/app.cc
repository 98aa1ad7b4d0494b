#include "compose/app.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "cli/compose_flags.h"
#include "compose/commands.h"
#include "compose/service_config.h"

namespace hull::compose {
namespace {

constexpr Entry kEntries[] = {
    {&cli::kComposeConfig, run_config},   {&cli::kComposeCp, run_cp},           {&cli::kComposeCreate, run_create},
    {&cli::kComposeDown, run_down},       {&cli::kComposeEvents, run_events},   {&cli::kComposeExec, run_exec},
    {&cli::kComposeImages, run_images},   {&cli::kComposeKill, run_kill},       {&cli::kComposeList, run_list},
    {&cli::kComposeLogs, run_logs},       {&cli::kComposePause, run_pause},     {&cli::kComposePort, run_port},
    {&cli::kComposePs, run_ps},           {&cli::kComposePull, run_pull},       {&cli::kComposeRemove, run_remove},
    {&cli::kComposeRestart, run_restart}, {&cli::kComposeRun, run_run},         {&cli::kComposeScale, run_scale},
    {&cli::kComposeStart, run_start},     {&cli::kComposeStats, run_stats},     {&cli::kComposeStop, run_stop},
    {&cli::kComposeTop, run_top},         {&cli::kComposeUnpause, run_unpause}, {&cli::kComposeUp, run_up},
    {&cli::kComposeVersion, run_version}, {&cli::kComposeWait, run_wait},       {&cli::kKubeDown, run_kube_down},
    {&cli::kKubeGenerate, run_generate},  {&cli::kKubePlay, run_play},
};

int refuse(cli::Context& context, const Error& error, std::string_view command) {
  context.report(error);
  context.err.print("See 'hull {} --help'.\n", command);
  return 125;
}

int run_entry(cli::Context& context, const cli::Parsed& group, const cli::Command& command,
              std::span<const std::string_view> words) {
  context.command = command.path;
  auto parsed = cli::parse_flags(command.flags, words, {.stop_at_first_argument = command.stop_at_first_argument});
  if (!parsed.ok()) return refuse(context, parsed.error(), command.path);
  if (parsed->help) {
    cli::print_command_help(context.out, command);
    return 0;
  }
  const int count = static_cast<int>(parsed->arguments.size());
  if (count < command.least || (command.most >= 0 && count > command.most)) {
    return refuse(context, errorf(ErrorKind::kInvalid, "usage: hull {} [OPTIONS] {}", command.path, command.arguments),
                  command.path);
  }
  App app(context, group);
  for (const Entry& entry : kEntries) {
    if (entry.command != &command) continue;
    auto code = entry.run(app, *parsed);
    context.out.flush();
    if (code.ok()) return *code;
    context.report(code.error());
    return 1;
  }
  return 1;
}

}  // namespace

std::span<const Entry> entries() { return kEntries; }

App::App(cli::Context& context, const cli::Parsed& group_flags) : context_(context) {
  options_.environment = process_environment();
  options_.files = group_flags.values("file");
  options_.project_directory = group_flags.value("project-directory");
  options_.project_name = group_flags.value("project-name");
  options_.profiles = group_flags.values("profile");
  options_.env_files = group_flags.values("env-file");
  const std::unique_ptr<char, decltype(&std::free)> here(::getcwd(nullptr, 0), &std::free);
  options_.current_folder = here ? here.get() : "/";
  ansi_ = group_flags.value("ansi", "auto");
  quiet_ = group_flags.value("progress") == "quiet";
  constexpr int64_t kMostParallel = 64;
  parallel_ = static_cast<int>(std::clamp<int64_t>(group_flags.number("parallel").value_or(8), 1, kMostParallel));
}

Result<std::unique_ptr<engine::Engine>> App::open_engine() {
  TRY_ASSIGN(auto settings, engine::Settings::load());
  return engine::Engine::open(std::move(settings));
}

Result<const Project*> App::project() {
  if (!project_) {
    TRY_ASSIGN(project_, load_project(options_));
    for (const std::string& line : project_->notices.lines()) context_.warn(line);
  }
  return &*project_;
}

Result<Model> App::model(const std::vector<std::string>& targets) {
  TRY_ASSIGN(const Project* loaded, project());
  TRY_ASSIGN(Model built, build_model(*loaded, targets));
  Notices notices;
  for (const Service& service : built.services) TRY(check_supported(service, notices));
  for (const std::string& line : notices.lines()) context_.warn(line);
  return built;
}

Result<std::string> App::project_name() {
  if (!options_.project_name.empty() && !project_) {
    TRY_ASSIGN(std::string name, project_name_only(options_));
    return name;
  }
  TRY_ASSIGN(const Project* loaded, project());
  return loaded->name;
}

bool App::colours(const cli::Output& out) const {
  if (ansi_ == "always") return true;
  return ansi_ != "never" && out.colours();
}

void App::step(std::string_view kind, std::string_view name, std::string_view what) {
  if (quiet_) return;
  context_.err.print(" {} {}  {}\n", kind, name, what);
  context_.err.flush();
}

int compose_main(cli::Context& context, std::span<const std::string_view> words) {
  if (words.empty() || (words[0] != "compose" && words[0] != "kube")) {
    context.err.write("hull-compose is a part of hull: use 'hull compose' or 'hull kube'.\n");
    return 125;
  }
  const std::string_view group_name = words[0];
  context.command = group_name;
  const cli::Found group = cli::find_command(words.first(1));
  auto flags = cli::parse_flags(group.group->flags, words.subspan(1), {.stop_at_first_argument = true});
  if (!flags.ok()) return refuse(context, flags.error(), group_name);
  for (const auto& [name, known] :
       {std::pair<std::string_view, std::string_view>{"ansi", "never always auto"}, {"progress", "auto plain quiet"}}) {
    const std::string_view value = flags->value(name, "auto");
    if ((" " + std::string(known) + " ").find(fmt::format(" {} ", value)) == std::string::npos) {
      return refuse(context, errorf(ErrorKind::kInvalid, "--{}: expected one of {}", name, known), group_name);
    }
  }
  if (flags->help || flags->arguments.empty()) {
    cli::print_group_help(context.out, *group.group);
    return flags->help ? 0 : 1;
  }
  const auto rest = words.last(flags->arguments.size());
  const std::string_view path[] = {group_name, rest[0]};
  const cli::Found found = cli::find_command(path);
  if (found.command == nullptr || found.words != 2 || found.command->program != "hull-compose") {
    constexpr std::string_view kLater[] = {"alpha",  "attach",  "bridge", "build",   "commit",
                                           "export", "publish", "push",   "volumes", "watch"};
    if (group_name == "compose" && std::find(std::begin(kLater), std::end(kLater), rest[0]) != std::end(kLater)) {
      context.err.print("hull: 'compose {}' is not in this version of Hull\n", rest[0]);
      return 1;
    }
    const std::string near = cli::nearest_command(rest[0], group_name);
    context.err.print("hull: unknown command: hull {} {:.60}{}\n", group_name, rest[0],
                      near.empty() ? "" : fmt::format(" (did you mean 'hull {}'?)", near));
    return 1;
  }
  return run_entry(context, *flags, *found.command, rest.subspan(1));
}

}  // namespace hull::compose
