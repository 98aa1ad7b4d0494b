// Processes beside a container's first one: create, start (attached or not), resize, inspect.
#include "api/documents.h"
#include "api/json.h"
#include "api/pump.h"
#include "api/routes.h"
#include "api/websocket.h"
#include "base/detach_keys.h"
#include "base/error_format.h"
#include "base/json_writer.h"

namespace hull::api {
namespace {

using engine::Engine;

Result<Engine::ExecState> visible_exec(Request& request) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(Engine::ExecState state, engine->exec_inspect(request.param("id")));
  if (!request.workload(state.workload).ok()) {
    return errorf(ErrorKind::kNotFound, "No such exec instance: {}", request.param("id"));
  }
  request.note_subject(state.workload);
  return state;
}

Result<void> create(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  engine::ExecConfig config;
  if (const Json* command = body.find("Cmd"); command != nullptr && command->is(Json::Type::kText)) {
    config.cmd = {command->text};
  } else {
    TRY(read_member(body, "Cmd", &config.cmd));
  }
  TRY(read_member(body, "Env", &config.env));
  TRY(read_member(body, "WorkingDir", &config.working_dir));
  TRY(read_member(body, "User", &config.user));
  TRY(read_member(body, "Tty", &config.tty));
  TRY(read_member(body, "AttachStdin", &config.open_stdin));
  config.open_stdout = config.open_stderr = false;
  TRY(read_member(body, "AttachStdout", &config.open_stdout));
  TRY(read_member(body, "AttachStderr", &config.open_stderr));
  TRY(read_member(body, "Privileged", &config.privileged));
  TRY(read_member(body, "DetachKeys", &config.detach_keys));
  if (config.privileged && !request.who().may(Right::kAdmin)) {
    return errorf(ErrorKind::kPermission, "{} has the role {}, which may not exec --privileged", request.who().name,
                  to_string(request.who().role));
  }
  TRY_ASSIGN(const std::string workload, request.workload(request.param("id")));
  TRY_ASSIGN(const std::string id, engine->exec_create(workload, config));
  request.note_subject(fmt::format("{}", fmt::join(config.cmd, " ")));
  JsonWriter w;
  w.object([&] { w.member("Id", id); });
  response.json(201, std::move(w).take());
  return {};
}

/// [height, width]
Result<std::optional<oci::Box>> read_size(const Json& body) {
  const Json* size = body.find("ConsoleSize");
  if (size == nullptr) return std::optional<oci::Box>();
  if (size->items.size() != 2) return errorf(ErrorKind::kInvalid, "ConsoleSize: expected height and width");
  const int64_t height = size->items[0].integer, width = size->items[1].integer;
  if (height < 0 || height > 65535 || width < 0 || width > 65535) {
    return errorf(ErrorKind::kInvalid, "ConsoleSize: expected numbers up to 65535");
  }
  if (height == 0 || width == 0) return std::optional<oci::Box>();
  return std::optional(oci::Box{.height = static_cast<uint32_t>(height), .width = static_cast<uint32_t>(width)});
}

Result<void> start_plainly(Engine& engine, const std::string& id, const Engine::ExecStart& how) {
  const auto started = engine.exec_start(id, how);
  if (!started.ok()) return Error(start_kind(started.error()), start_message(started.error()));
  return {};
}

PumpRequest how_to_pump(const engine::ExecConfig& config, const std::string& keys, int ended_fd) {
  PumpRequest out;
  out.input = config.open_stdin;
  out.output = config.open_stdout;
  out.error = config.open_stderr;
  out.multiplexed = !config.tty;
  out.detach_sequence = keys;
  out.ended_fd = ended_fd;
  return out;
}

/// The dashboard's way, for browsers, which can't take a connection over: Docker has none.
Result<void> start_websocket(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const Engine::ExecState state, visible_exec(request));
  if (state.running || state.exit_code) {
    return errorf(ErrorKind::kConflict, "exec instance {} is already running or has already run", state.id);
  }
  Engine::ExecStart how;
  TRY_ASSIGN(const auto height, request.query_number("h", 1, 65535));
  TRY_ASSIGN(const auto width, request.query_number("w", 1, 65535));
  if (height && width) {
    how.size = oci::Box{.height = static_cast<uint32_t>(*height), .width = static_cast<uint32_t>(*width)};
  }
  std::string early;
  TRY_ASSIGN(Stream* const client, response.accept_websocket(&early));
  auto begun = engine->exec_start(state.id, how);
  if (!begun.ok()) return client->write(websocket_frame(2, start_message(begun.error()) + "\r\n"), 60'000);
  Engine::ExecStreams started = std::move(*begun);
  PumpRequest pumping = how_to_pump(state.config, "", started.streams.control.get());
  pumping.multiplexed = false;
  pumping.websocket = true;
  pump(*client, started.streams, pumping, std::move(early));
  return {};
}

Result<void> start(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  TRY_ASSIGN(const Engine::ExecState state, visible_exec(request));
  Engine::ExecStart how;
  TRY(read_member(body, "Detach", &how.detach));
  TRY_ASSIGN(how.size, read_size(body));
  const engine::ExecConfig& config = state.config;
  TRY_ASSIGN(const std::string keys, parse_detach_keys(config.tty ? std::string_view(config.detach_keys) : ""));
  if (state.running || state.exit_code) {
    return errorf(ErrorKind::kConflict, "exec instance {} is already running or has already run", state.id);
  }
  if (how.detach) {
    TRY(start_plainly(*engine, state.id, how));
    response.empty(200);
    return {};
  }
  // The connection goes over first: clients of Docker read why a program can't be executed as its output, and the
  // exit code (126, 127) from the exec's record.
  std::string early;
  TRY_ASSIGN(Stream* const client, response.hijack(!config.tty, &early));
  auto begun = engine->exec_start(state.id, how);
  if (!begun.ok()) {
    const std::string message = start_message(begun.error()) + "\r\n";
    return client->write(config.tty ? message : output_frame(1, message), 60'000);
  }
  Engine::ExecStreams started = std::move(*begun);
  const PumpRequest pumping = how_to_pump(config, keys, started.streams.control.get());
  pump(*client, started.streams, pumping, std::move(early));
  return {};
}

Result<void> resize(Request& request, Response& response) {
  TRY_ASSIGN(Engine* const engine, request.engine());
  TRY_ASSIGN(const auto height, request.query_number("h", 0, 65535));
  TRY_ASSIGN(const auto width, request.query_number("w", 0, 65535));
  if (!height || !width) return errorf(ErrorKind::kInvalid, "the parameters h and w are needed");
  TRY_ASSIGN(const Engine::ExecState state, visible_exec(request));
  TRY(engine->exec_resize(state.id,
                          {.height = static_cast<uint32_t>(*height), .width = static_cast<uint32_t>(*width)}));
  response.empty(200);
  return {};
}

Result<void> inspect(Request& request, Response& response) {
  TRY_ASSIGN(const Engine::ExecState state, visible_exec(request));
  const engine::ExecConfig& c = state.config;
  JsonWriter w;
  w.object([&] {
    w.member("ID", state.id);
    w.member("Running", state.running);
    if (state.exit_code) w.member("ExitCode", *state.exit_code);
    w.object("ProcessConfig", [&] {
      w.member("tty", c.tty);
      w.member("entrypoint", c.cmd.empty() ? "" : c.cmd.front());
      w.member("arguments", c.cmd.empty() ? c.cmd : std::vector<std::string>(c.cmd.begin() + 1, c.cmd.end()));
      w.member("privileged", c.privileged);
      w.member_opt("user", c.user);
    });
    w.member("OpenStdin", c.open_stdin);
    w.member("OpenStderr", c.open_stderr);
    w.member("OpenStdout", c.open_stdout);
    w.member("CanRemove", state.exit_code.has_value());
    w.member("ContainerID", state.workload);
    w.member("DetachKeys", c.detach_keys);
    w.member("Pid", state.pid);
  });
  std::string text = std::move(w).take();
  if (!state.exit_code) text.insert(1, "\"ExitCode\":null,");
  response.json(200, std::move(text));
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "POST", .pattern = "/containers/{id}/exec", .right = Right::kOperate, .handler = create, .scoped = true},
    {.method = "POST", .pattern = "/exec/{id}/start", .right = Right::kOperate, .handler = start, .scoped = true},
    {.method = "GET", .pattern = "/exec/{id}/ws", .right = Right::kOperate, .handler = start_websocket, .scoped = true},
    {.method = "POST", .pattern = "/exec/{id}/resize", .right = Right::kOperate, .handler = resize, .scoped = true},
    {.method = "GET", .pattern = "/exec/{id}/json", .right = Right::kView, .handler = inspect, .scoped = true},
};

}  // namespace

std::span<const Route> exec_routes() { return kRoutes; }

}  // namespace hull::api
