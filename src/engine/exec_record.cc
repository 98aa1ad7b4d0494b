// Execs in steps: created, started, looked at by different clients. The record of an exec is a file in the run folder
// of its workload, so it goes with the run; its state is what the keeper wrote beside it.
//
// The keeper is a process of its own for each exec that was started: parent of the process, so that its exit code is
// known; it takes the output when nobody else does, so that a client that goes away does not break the program's pipe;
// and it has the terminal, so that anybody can resize it.
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstring>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/process.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"
#include "sys/fd_passing.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

constexpr size_t kHalf = 32;  // of an exec's 64 digits are its own; the rest are the workload's first
constexpr size_t kMostRecords = 1000;

std::string to_json(const ExecConfig& c) {
  oci::JsonWriter w;
  w.object([&] {
    w.member("Cmd", c.cmd);
    w.member("Env", c.env);
    w.member("WorkingDir", c.working_dir);
    w.member("User", c.user);
    w.member("Tty", c.tty);
    w.member("OpenStdin", c.open_stdin);
    w.member("OpenStdout", c.open_stdout);
    w.member("OpenStderr", c.open_stderr);
    w.member("Privileged", c.privileged);
    w.member("DetachKeys", c.detach_keys);
  });
  return std::move(w).take();
}

Result<ExecConfig> parse(std::string_view json) {
  ExecConfig c;
  oci::JsonReader r(json);
  r.object([&](std::string_view key) {
    if (key == "Cmd") return r.value(c.cmd);
    if (key == "Env") return r.value(c.env);
    if (key == "WorkingDir") return r.value(c.working_dir);
    if (key == "User") return r.value(c.user);
    if (key == "Tty") return r.value(c.tty);
    if (key == "OpenStdin") return r.value(c.open_stdin);
    if (key == "OpenStdout") return r.value(c.open_stdout);
    if (key == "OpenStderr") return r.value(c.open_stderr);
    if (key == "Privileged") return r.value(c.privileged);
    if (key == "DetachKeys") return r.value(c.detach_keys);
    return false;
  });
  TRY(r.finish().context("record of an exec"));
  return c;
}

Error no_such(std::string_view id) { return errorf(ErrorKind::kNotFound, "No such exec instance: {}", id); }

/// Where the record of an exec is: `<run folder>/execs/ID`, with ".state" and ".sock" beside it.
struct Place {
  std::string id, workload, path;
};

/// "pid start-time" once it runs; "exit CODE" afterwards.
struct Kept {
  int pid = 0;
  uint64_t start_time = 0;
  std::optional<int> exit_code;
  bool started = false;
};

Kept read_kept(const Place& place) {
  Kept out;
  const auto text = sys::read_file(place.path + ".state", 200);
  if (!text.ok()) return out;
  out.started = true;
  const size_t blank = text->find(' ');
  if (blank == std::string::npos) return out;
  const std::string_view first = std::string_view(*text).substr(0, blank);
  const std::string_view second = std::string_view(*text).substr(blank + 1);
  if (first == "exit") {
    out.exit_code = static_cast<int>(parse_int(second, 0, 255).value_or(255));
  } else {
    out.pid = static_cast<int>(parse_int(first, 1, 1 << 30).value_or(0));
    out.start_time = static_cast<uint64_t>(parse_int(second, 0, INT64_MAX).value_or(0));
  }
  return out;
}

Result<UniqueFd> listen_for_sizes(const Place& place) {
  TRY_ASSIGN(const UniqueFd dir, sys::open(place.path.substr(0, place.path.rfind('/')), O_PATH | O_DIRECTORY));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{:.32}.sock", dir.get(), place.id);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return errno_error("listen for sizes of the terminal");
  }
  return socket;
}

/// Reads over what is there; false at the end.
bool drain(int fd) {
  char buffer[16 * 1024];
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

/// The keeper's life after the process runs, until it has ended.
void keep(Engine& engine, Engine::ExecHandle& handle, int client, int sizes, bool attached) {
  // Output is the client's as long as it is there.
  bool client_there = attached;
  for (;;) {
    const bool drains = !client_there;
    std::array<pollfd, 5> waits = {pollfd{handle.exit_fd.get(), POLLIN, 0},
                                   pollfd{client_there ? client : -1, POLLIN, 0}, pollfd{sizes, POLLIN, 0},
                                   pollfd{drains ? handle.streams.output.get() : -1, POLLIN, 0},
                                   pollfd{drains ? handle.streams.error.get() : -1, POLLIN, 0}};
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) return;
    if (waits[0].revents != 0) return;
    if (waits[1].revents != 0) client_there = false;
    if (waits[2].revents != 0) {
      std::array<uint32_t, 2> size{};
      if (::recv(sizes, size.data(), sizeof size, 0) == static_cast<ssize_t>(sizeof size)) {
        ignore_result(engine.resize_exec(handle, {.height = size[0], .width = size[1]}));
      }
    }
    if (waits[3].revents != 0 && !drain(handle.streams.output.get())) handle.streams.output.reset();
    if (waits[4].revents != 0 && !drain(handle.streams.error.get())) handle.streams.error.reset();
  }
}

/// What goes wrong before the process runs, to the one who asked: kind, errno, text.
void report(int client, const Error& error) {
  ignore_result(sys::send_fds(
      client,
      fmt::format("E{} {} {}", static_cast<int>(error.kind()), error.error_number(), error.message().substr(0, 3000)),
      {}));
}

Error reported(std::string_view text) {
  const size_t first = text.find(' ');
  const size_t second = text.find(' ', first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos) {
    return errorf(ErrorKind::kInternal, "the keeper of the exec ended at once");
  }
  const auto kind = static_cast<ErrorKind>(
      parse_int(text.substr(1, first - 1), 0, static_cast<int>(ErrorKind::kInternal)).value_or(0));
  return {kind, std::string(text.substr(second + 1))};
}

/// The streams' ends to who asked for them; with detach only that it runs.
bool hand_over(const Engine::ExecHandle& handle, bool detach, int client) {
  std::string text = "S";
  std::vector<int> fds;
  if (!detach) {
    for (const auto& [letter, fd] :
         {std::pair('o', handle.streams.output.get()), std::pair('e', handle.streams.error.get()),
          std::pair('i', handle.streams.input.get())}) {
      if (fd < 0) continue;
      text += letter;
      fds.push_back(fd);
    }
  }
  return sys::send_fds(client, text, fds).ok();
}

/// Where the record of an exec is.
Result<Place> place_of(const Paths& paths, std::string_view exec_id, std::string workload) {
  Place out{std::string(exec_id), std::move(workload), ""};
  out.path = paths.run_of(out.workload) + "/execs/" + out.id;
  if (!sys::exists(out.path)) return no_such(exec_id);
  return out;
}

constexpr int kAwaitStartMs = 10'000;

/// A client resizes as soon as it has the exec's stream, which may be before the exec runs: Docker waits so long.
Result<Engine::ExecState> await_exec(Engine& engine, Engine::ExecState state, const std::string& folder) {
  const UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes || ::inotify_add_watch(changes.get(), folder.c_str(), IN_MOVED_TO) < 0) return state;
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::milliseconds(kAwaitStartMs);
  for (;;) {
    TRY_ASSIGN(state, engine.exec_inspect(state.id));
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (state.running || state.exit_code || left <= 0) return state;
    pollfd watched = {changes.get(), POLLIN, 0};
    if (::poll(&watched, 1, static_cast<int>(left)) < 0 && errno != EINTR) return errno_error("wait for the exec");
    char ignored[4096];
    while (::read(changes.get(), ignored, sizeof ignored) > 0) {
    }
  }
}

}  // namespace

Result<std::string> EngineImpl::exec_create(std::string_view ref, const ExecConfig& config) {
  if (config.cmd.empty()) return errorf(ErrorKind::kInvalid, "No exec command specified");
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const RunState state, settled_state(row));
  if (state.status == Status::kPaused) {
    return errorf(ErrorKind::kConflict, "container {} is paused, unpause the container before exec", row.id);
  }
  if (state.status != Status::kRunning) return errorf(ErrorKind::kConflict, "container {} is not running", row.id);
  const std::string folder = paths_.run_of(row.id) + "/execs";
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return errorf(ErrorKind::kConflict, "container {} is not running", row.id);
  }
  TRY_ASSIGN(const std::vector<std::string> there, exec_list(row.id));
  for (size_t i = 0; there.size() >= kMostRecords && i < there.size(); ++i) {
    TRY_ASSIGN(const Place old, place_of(paths_, there[i], row.id));
    if (!read_kept(old).exit_code) continue;
    ::unlink(old.path.c_str());
    ::unlink((old.path + ".state").c_str());
  }
  const std::string id = random_id().substr(0, kHalf) + row.id.substr(0, 64 - kHalf);
  TRY(sys::replace_file(folder + "/" + id, to_json(config), 0600, false));
  emit_workload(row, fmt::format("exec_create: {}", fmt::join(config.cmd, " ")), {{"execID", id}});
  return id;
}

Result<std::vector<std::string>> EngineImpl::exec_list(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  std::vector<std::string> out;
  DIR* const dir = ::opendir((paths_.run_of(row.id) + "/execs").c_str());
  if (dir == nullptr) return out;
  while (const dirent* entry = ::readdir(dir)) {
    if (is_workload_id(entry->d_name)) out.emplace_back(entry->d_name);
  }
  ::closedir(dir);
  return out;
}

Result<Engine::ExecState> EngineImpl::exec_inspect(std::string_view exec_id) {
  if (!is_workload_id(exec_id)) return no_such(exec_id);
  const auto row = find(exec_id.substr(kHalf));
  if (!row.ok()) return no_such(exec_id);
  TRY_ASSIGN(const Place place, place_of(paths_, exec_id, row->id));
  const auto json = sys::read_file(place.path, 4 << 20);
  if (!json.ok()) return no_such(exec_id);
  ExecState out;
  out.id = place.id;
  out.workload = place.workload;
  TRY_ASSIGN(out.config, parse(*json));
  const Kept kept = read_kept(place);
  out.exit_code = kept.exit_code;
  out.pid = kept.pid;
  out.running = kept.pid != 0 && process_start_time(kept.pid) == kept.start_time;
  // Its keeper was killed, and so nobody saw how it ended.
  if (kept.started && kept.pid != 0 && !out.running) out.exit_code = 255;
  return out;
}

Result<Engine::ExecStreams> EngineImpl::exec_start(std::string_view exec_id, const ExecStart& how) {
  TRY_ASSIGN(const ExecState state, exec_inspect(exec_id));
  TRY_ASSIGN(const Place place, place_of(paths_, exec_id, state.workload));
  TRY_ASSIGN(const WorkloadRow row, find(state.workload));
  const RunState run = read_state(paths_, row.id);
  if (run.status == Status::kPaused) {
    return errorf(ErrorKind::kConflict, "container {} is paused, unpause the container before exec", row.id);
  }
  // Who makes this file has it.
  const UniqueFd mine(
      ::open((place.path + ".state").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!mine) {
    if (errno != EEXIST) return errnof("start the exec {}", exec_id);
    return errorf(ErrorKind::kConflict, "exec instance {} is already running or has already run", exec_id);
  }
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return errno_error("make a socket pair");
  const UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  SpawnRequest request;
  request.argv = {own_program(), "internal", "exec-keeper"};
  if (how.detach) request.argv.emplace_back("--detach");
  if (how.size) {
    request.argv.insert(request.argv.end(), {"--size", fmt::format("{}x{}", how.size->height, how.size->width)});
  }
  request.argv.push_back(place.id);
  request.fds = {{3, theirs.get()}};
  request.new_session = true;
  TRY_ASSIGN([[maybe_unused]] const Child keeper, spawn(request));
  TRY_ASSIGN(sys::ReceivedFds got, sys::receive_fds(ours.get()));
  if (!got.text.starts_with('S')) return reported(got.text);
  emit_workload(row, fmt::format("exec_start: {}", fmt::join(state.config.cmd, " ")), {{"execID", place.id}});
  ExecStreams out;
  size_t next = 0;
  for (const char what : std::string_view(got.text).substr(1)) {
    if (next == got.fds.size()) break;
    UniqueFd& target = what == 'o' ? out.streams.output : what == 'e' ? out.streams.error : out.streams.input;
    target = std::move(got.fds[next++]);
  }
  out.streams.control.reset(::fcntl(ours.get(), F_DUPFD_CLOEXEC, 3));
  return out;
}

void EngineImpl::exec_keep(std::string_view exec_id, const ExecStart& how, UniqueFd client) {
  ::prctl(PR_SET_NAME, "hull-exec");
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGTERM, SIG_IGN);
  const auto state = exec_inspect(exec_id);
  if (!state.ok()) return report(client.get(), state.error());
  const auto place = place_of(paths_, exec_id, state->workload);
  if (!place.ok()) return report(client.get(), place.error());
  const auto row = find(state->workload);
  if (!row.ok()) return report(client.get(), row.error());
  const auto record = [&](const std::string& text) {
    ignore_result(sys::replace_file(place->path + ".state", text, 0600, false));
  };
  ExecConfig config = state->config;
  config.detach = false;  // so that its exit code comes to us
  if (how.detach) config.open_stdin = false;
  auto handle = exec(row->id, config, how.size);
  if (!handle.ok()) {
    record(handle.error().error_number() == ENOENT ? "exit 127" : "exit 126");
    return report(client.get(), handle.error());
  }
  record(fmt::format("{} {}", handle->pid, process_start_time(handle->pid)));
  UniqueFd sizes;
  if (config.tty) {
    if (auto socket = listen_for_sizes(*place); socket.ok()) sizes = std::move(*socket);
  }
  const bool told = hand_over(*handle, how.detach, client.get());
  handle->streams.input.reset();
  keep(*this, *handle, client.get(), sizes.get(), told && !how.detach);
  const auto ended = wait_exec(*handle);
  const std::string code = std::to_string(ended.ok() ? ended->code : 255);
  record("exit " + code);
  ::unlink((place->path.substr(0, place->path.rfind('/') + 1) + place->id.substr(0, kHalf) + ".sock").c_str());
  emit_workload(*row, "exec_die", {{"execID", place->id}, {"exitCode", code}});
}

Result<void> EngineImpl::exec_resize(std::string_view exec_id, oci::Box size) {
  TRY_ASSIGN(ExecState state, exec_inspect(exec_id));
  if (!state.running && !state.exit_code) {
    TRY_ASSIGN(state, await_exec(*this, state, paths_.run_of(state.workload) + "/execs"));
  }
  if (!state.running) return errorf(ErrorKind::kConflict, "exec {} is not running", exec_id);
  if (!state.config.tty) return {};
  TRY_ASSIGN(const UniqueFd dir, sys::open(paths_.run_of(state.workload) + "/execs", O_PATH | O_DIRECTORY));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{:.32}.sock", dir.get(), state.id);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const std::array<uint32_t, 2> message = {size.height, size.width};
  if (!socket || ::sendto(socket.get(), message.data(), sizeof message, MSG_NOSIGNAL,
                          reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    return errnof("resize the terminal of exec {}", exec_id);
  }
  return {};
}

}  // namespace hull::engine
