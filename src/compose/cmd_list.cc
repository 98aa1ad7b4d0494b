// ps, ls, images, port, top.
#include <algorithm>

#include "base/units.h"
#include "cli/format.h"
#include "cli/table.h"
#include "cli/text.h"
#include "compose/chosen.h"
#include "compose/commands.h"
#include "compose/converge.h"

namespace hull::compose {
namespace {

using cli::Value;

constexpr cli::Column kPsColumns[] = {
    {"Name", "NAME"},          {"Image", "IMAGE"},        {"Command", "COMMAND"}, {"Service", "SERVICE"},
    {"RunningFor", "CREATED"}, {"Status", "STATUS"},      {"Ports", "PORTS"},     {"ID", "CONTAINER ID"},
    {"State", "STATE"},        {"ExitCode", "EXIT CODE"}, {"Health", "HEALTH"},   {"Project", "PROJECT"},
};

std::string health_of(std::string_view status_text) {
  for (const std::string_view word : {"(healthy)", "(unhealthy)", "(health: starting)"}) {
    if (status_text.find(word) == std::string_view::npos) continue;
    return word == "(healthy)" ? "healthy" : word == "(unhealthy)" ? "unhealthy" : "starting";
  }
  return "";
}

Value ps_row(const Container& one, const std::string& project, bool whole) {
  const auto& summary = one.summary;
  Value row = Value::object();
  row.set("ID", whole ? one.id : one.id.substr(0, 12));
  row.set("Name", one.name);
  row.set("Image", one.image);
  row.set("Command", cli::quoted(whole ? summary.command : cli::ellipsis(summary.command, 20)));
  row.set("Project", project);
  row.set("Service", one.service);
  row.set("RunningFor", cli::ago(summary.created));
  row.set("State", engine::to_string(summary.status));
  row.set("Status", summary.status_text);
  row.set("Health", health_of(summary.status_text));
  row.set("ExitCode", static_cast<int64_t>(summary.exit_code));
  row.set("Ports", cli::format_ports(summary.ports));
  return row;
}

Result<std::vector<std::string>> wanted_states(const cli::Parsed& flags) {
  std::vector<std::string> states = flags.values("status");
  for (const std::string& filter : flags.values("filter")) {
    if (!filter.starts_with("status=")) {
      return errorf(ErrorKind::kInvalid, "--filter {:.60}: there is status=STATE", filter);
    }
    states.push_back(filter.substr(7));
  }
  for (const std::string& state : states) {
    constexpr std::string_view kKnown[] = {"created", "running", "paused", "exited", "dead", "removing", "restarting"};
    if (std::find(std::begin(kKnown), std::end(kKnown), state) == std::end(kKnown)) {
      return errorf(ErrorKind::kInvalid, "\"{:.40}\" is no state: expected one of {}", state, fmt::join(kKnown, ", "));
    }
  }
  return states;
}

constexpr cli::Column kListColumns[] = {{"Name", "NAME"}, {"Status", "STATUS"}, {"ConfigFiles", "CONFIG FILES"}};
constexpr cli::Column kImageColumns[] = {
    {"ContainerName", "CONTAINER"}, {"Repository", "REPOSITORY"}, {"Tag", "TAG"}, {"ID", "IMAGE ID"}, {"Size", "SIZE"}};

}  // namespace

Result<int> run_ps(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const auto states, wanted_states(flags));
  TRY_ASSIGN(Chosen chosen, choose(app, flags.arguments, flags.on("all")));
  std::erase_if(chosen.containers, [&](const Container& one) {
    if (states.empty()) return !flags.on("all") && !one.is_running();
    return std::find(states.begin(), states.end(), engine::to_string(one.summary.status)) == states.end();
  });
  if (flags.on("services")) {
    std::set<std::string> services;
    for (const Container& one : chosen.containers) services.insert(one.service);
    for (const std::string& name : services) app.context().out.print("{}\n", name);
    return 0;
  }
  std::vector<Value> rows;
  const bool whole = flags.on("no-trunc");
  for (const Container& one : chosen.containers) {
    Value row = ps_row(one, chosen.project, whole || flags.on("quiet"));
    rows.push_back(std::move(row));
  }
  const cli::Listing listing = {
      kPsColumns, {"Name", "Image", "Command", "Service", "RunningFor", "Status", "Ports"}, "ID"};
  TRY(cli::print_rows(app.context().out, listing, flags.value("format"), flags.on("quiet"), whole, rows));
  return 0;
}

Result<int> run_list(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const auto engine, App::open_engine());
  TRY_ASSIGN(const auto containers, project_containers(*engine, ""));
  struct Seen {
    std::map<std::string, int> states;
    std::string files;
  };
  std::map<std::string, Seen> projects;
  for (const Container& one : containers) {
    const auto& labels = one.summary.labels;
    Seen& seen = projects[labels.at(std::string(kLabelProject))];
    ++seen.states[std::string(engine::to_string(one.summary.status))];
    if (const auto files = labels.find(std::string(kLabelFiles)); files != labels.end()) seen.files = files->second;
  }
  std::vector<Value> rows;
  for (const auto& [name, seen] : projects) {
    if (!flags.on("all") && !seen.states.contains("running") && !seen.states.contains("paused")) continue;
    bool wanted = true;
    for (const std::string& filter : flags.values("filter")) {
      if (!filter.starts_with("name="))
        return errorf(ErrorKind::kInvalid, "--filter {:.60}: there is name=NAME", filter);
      wanted = wanted && name.find(filter.substr(5)) != std::string::npos;
    }
    if (!wanted) continue;
    std::string status;
    for (const auto& [state, count] : seen.states) {
      status += fmt::format("{}{}({})", status.empty() ? "" : ", ", state, count);
    }
    Value row = Value::object();
    row.set("Name", name);
    row.set("Status", status);
    row.set("ConfigFiles", seen.files);
    rows.push_back(std::move(row));
  }
  const cli::Listing listing = {kListColumns, {"Name", "Status", "ConfigFiles"}, "Name"};
  TRY(cli::print_rows(app.context().out, listing, flags.value("format"), flags.on("quiet"), false, rows));
  return 0;
}

Result<int> run_images(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Chosen chosen, choose(app, flags.arguments));
  TRY_ASSIGN(const auto engine, App::open_engine());
  std::vector<Value> rows;
  std::set<std::string> ids;
  for (const Container& one : chosen.containers) {
    const auto image = engine->images().find(one.image_id);
    if (flags.on("quiet") && !ids.insert(one.image_id).second) continue;
    const size_t slash = one.image.rfind('/');
    const size_t colon = one.image.find(':', slash == std::string::npos ? 0 : slash);
    Value row = Value::object();
    row.set("ContainerName", one.name);
    row.set("Repository", one.image.substr(0, colon));
    row.set("Tag", colon == std::string::npos ? "latest" : one.image.substr(colon + 1));
    const size_t id = one.image_id.find(':');
    row.set("ID", one.image_id.substr(id == std::string::npos ? 0 : id + 1).substr(0, 12));
    row.set("Size", image.ok() ? format_size(image->size) : "");
    rows.push_back(std::move(row));
  }
  const cli::Listing listing = {kImageColumns, {"ContainerName", "Repository", "Tag", "ID", "Size"}, "ID"};
  TRY(cli::print_rows(app.context().out, listing, flags.value("format"), flags.on("quiet"), false, rows));
  return 0;
}

Result<int> run_port(App& app, const cli::Parsed& flags) {
  const std::string_view protocol = flags.value("protocol", "tcp");
  const auto port = parse_int(flags.arguments[1], 1, 65535);
  if (!port.ok()) return errorf(ErrorKind::kInvalid, "\"{:.40}\" is no port", flags.arguments[1]);
  TRY_ASSIGN(const Container one, choose_one(app, flags.arguments[0], flags));
  for (const auto& published : one.summary.ports) {
    if (published.container_port != *port || published.protocol != protocol || published.host_port == 0) continue;
    const bool v6 = published.host_ip.find(':') != std::string::npos;
    app.context().out.print("{}{}{}:{}\n", v6 ? "[" : "", published.host_ip, v6 ? "]" : "", published.host_port);
    return 0;
  }
  return errorf(ErrorKind::kNotFound, "the port {}/{} of {} is not published", *port, protocol, one.name);
}

Result<int> run_top(App& app, const cli::Parsed& flags) {
  TRY_ASSIGN(const Chosen chosen, choose(app, flags.arguments));
  TRY_ASSIGN(const auto engine, App::open_engine());
  for (const Container& one : chosen.containers) {
    if (!one.is_running()) continue;
    TRY_ASSIGN(const auto rows, engine->top(one.id, {}));
    app.context().out.print("{}\n", one.name);
    if (rows.empty()) continue;
    cli::Table table(rows.front());
    for (size_t i = 1; i < rows.size(); ++i) table.add(rows[i]);
    app.context().out.print("{}\n", table.render(app.context().out.columns()));
  }
  return 0;
}

}  // namespace hull::compose
