// create, run, start, state, kill, delete, list, ps, pause, resume.
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "base/error_format.h"
#include "base/units.h"
#include "oci/json_writer.h"
#include "runtime/command/commands.h"
#include "runtime/command/flags.h"
#include "runtime/notify.h"
#include "runtime/record.h"
#include "runtime/safe_exe.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime::command {
namespace {

Result<std::string> only_id(const Parsed& parsed, const char* command) {
  if (parsed.arguments.size() != 1) {
    return errorf(ErrorKind::kInvalid, "\"{}\" requires exactly 1 argument(s)", command);
  }
  return parsed.arguments[0];
}

/// For commands that take an id and nothing else.
Result<std::string> id_of(const Global& global, const Words& words) {
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, {}, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} {} <container-id>\n", global.program->name, words[0]));
    std::exit(0);
  }
  return only_id(parsed, words[0].c_str());
}

Result<CreateOptions> create_options(const Global& global, const Words& words, bool is_run) {
  CreateOptions options;
  bool no_subreaper = false;
  std::vector<Flag> flags = {
      {"bundle", 'b', &options.bundle, "path to the root of the bundle folder (default: .)"},
      {"config", 'f', &options.config, "file name of the configuration (default: config.json)"},
      {"console-socket", 0, &options.console_socket, "unix socket that receives the master of the terminal"},
      {"pidfd-socket", 0, &options.pidfd_socket, "unix socket that receives a pidfd of the first process"},
      {"pid-file", 0, &options.pid_file, "file to write the process id to"},
      {"no-pivot", 0, &options.no_pivot, "do not use pivot_root (ramdisk roots)"},
      {"no-new-keyring", 0, &options.no_new_keyring, "do not make a new session keyring"},
      {"preserve-fds", 0, &options.preserve_fds, "pass N additional file descriptors to the container"},
  };
  if (is_run) {
    flags.push_back({"detach", 'd', &options.detach, "return when the container runs"});
    flags.push_back({"keep", 0, &options.keep, "do not delete the container after it exits"});
    flags.push_back({"no-subreaper", 0, &no_subreaper, "do not inherit orphans of the container"});
  }
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} {} [command options] <container-id>\n\n{}", global.program->name, words[0],
                      flags_help(flags)));
    std::exit(0);
  }
  TRY_ASSIGN(options.id, only_id(parsed, words[0].c_str()));
  options.no_subreaper = no_subreaper;
  return options;
}

/// Sockets that systemd's activation gave us reach the container too (LISTEN_FDS, sd_listen_fds(3)).
void count_listen_fds(CreateOptions& options) {
  const char* count = ::getenv("LISTEN_FDS");
  const char* pid = ::getenv("LISTEN_PID");
  // Those that were meant for another process are not passed on.
  if (count == nullptr || pid == nullptr) return;
  // Podman's conmon says 1: the process that the container will have.
  const int64_t meant_for = parse_int(pid, 1, 1 << 30).value_or(0);
  if (meant_for != ::getpid() && (meant_for != 1 || ::fcntl(3, F_GETFD) < 0)) return;
  options.listen_fds = static_cast<int>(parse_int(count, 0, 1024).value_or(0));
}

std::string notify_socket() {
  const char* path = ::getenv("NOTIFY_SOCKET");
  return path == nullptr ? std::string() : path;
}

Result<void> check_preserved(int count) {
  for (int fd = 3; fd < 3 + count; ++fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0) return errorf(ErrorKind::kInvalid, "--preserve-fds {}: descriptor {} is not open", count, fd);
  }
  return {};
}

void write_state(oci::JsonWriter& json, const ContainerInfo& info) {
  json.object([&] {
    json.member("ociVersion", info.state.version);
    json.member("id", info.state.id);
    json.member("pid", info.state.pid);
    json.member("status", info.state.status);
    json.member("bundle", info.state.bundle);
    json.member("rootfs", info.rootfs);
    json.member("created", info.created);
    json.member_opt("annotations", info.state.annotations);
    json.member("owner", info.owner);
  });
}

}  // namespace

Result<int> parse_signal(std::string_view text) {
  const auto number = parse_int(text, 0, 64);
  if (number.ok()) return static_cast<int>(*number);
  std::string name(text);
  for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  std::string_view bare(name);
  if (bare.starts_with("SIG")) bare.remove_prefix(3);
  for (int signal = 1; signal < 32; ++signal) {
    const char* known = ::sigabbrev_np(signal);
    if (known != nullptr && bare == known) return signal;
  }
  if (bare == "RTMIN") return SIGRTMIN;
  if (bare == "RTMAX") return SIGRTMAX;
  if (bare.starts_with("RTMIN+")) {
    const auto offset = parse_int(bare.substr(6), 0, 30);
    if (offset.ok()) return SIGRTMIN + static_cast<int>(*offset);
  }
  if (bare.starts_with("RTMAX-")) {
    const auto offset = parse_int(bare.substr(6), 0, 30);
    if (offset.ok()) return SIGRTMAX - static_cast<int>(*offset);
  }
  return errorf(ErrorKind::kInvalid, "unknown signal \"{}\"", text);
}

Result<int> create(const Global& global, const Words& words) {
  TRY_ASSIGN(CreateOptions options, create_options(global, words, false));
  count_listen_fds(options);
  options.notify_socket = notify_socket();
  TRY(check_preserved(options.preserve_fds + options.listen_fds));
  TRY(global.runtime->create(options));
  return 0;
}

Result<int> run(const Global& global, const Words& words) {
  TRY_ASSIGN(CreateOptions options, create_options(global, words, true));
  count_listen_fds(options);
  options.notify_socket = notify_socket();
  TRY(check_preserved(options.preserve_fds + options.listen_fds));
  return global.runtime->run(options);
}

Result<int> start(const Global& global, const Words& words) {
  TRY_ASSIGN(const std::string id, id_of(global, words));
  const std::string socket = notify_socket();
  std::optional<NotifyProxy> notify;
  if (!socket.empty() && global.program->isolation == "container") {
    TRY_ASSIGN(notify, NotifyProxy::listen(global.options.root + "/" + id, socket));
  }
  TRY(global.runtime->start(id));
  if (notify) {
    TRY_ASSIGN(const ContainerInfo info, global.runtime->state(id));
    const auto pidfd = sys::pidfd_open(info.state.pid);
    if (pidfd.ok()) TRY(notify->wait(pidfd->get(), info.state.pid));
  }
  return 0;
}

Result<int> state(const Global& global, const Words& words) {
  TRY_ASSIGN(const std::string id, id_of(global, words));
  TRY_ASSIGN(const ContainerInfo info, global.runtime->state(id));
  oci::JsonWriter json(2);
  write_state(json, info);
  print(std::move(json).take() + "\n");
  return 0;
}

Result<int> kill(const Global& global, const Words& words) {
  bool all = false;
  std::string regex;
  const std::vector<Flag> flags = {{"all", 'a', &all, "send the signal to all processes inside the container"},
                                   {"regex", 'r', &regex, "not supported"}};
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} kill [command options] <container-id> [signal]\n\n{}", global.program->name,
                      flags_help(flags)));
    return 0;
  }
  if (parsed.arguments.empty() || parsed.arguments.size() > 2) {
    return errorf(ErrorKind::kInvalid, "\"kill\" requires a container id and at most one signal");
  }
  TRY_ASSIGN(const int signal, parse_signal(parsed.arguments.size() == 2 ? parsed.arguments[1] : "SIGTERM"));
  TRY(global.runtime->kill(parsed.arguments[0], signal, all));
  return 0;
}

Result<int> remove(const Global& global, const Words& words) {
  bool force = false;
  const std::vector<Flag> flags = {{"force", 'f', &force, "kill the container if it still runs"}};
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} delete [command options] <container-id>\n\n{}", global.program->name,
                      flags_help(flags)));
    return 0;
  }
  TRY_ASSIGN(const std::string id, only_id(parsed, "delete"));
  TRY(global.runtime->remove(id, force));
  return 0;
}

Result<int> list(const Global& global, const Words& words) {
  std::string format = "table";
  bool quiet = false;
  const std::vector<Flag> flags = {{"format", 'f', &format, "table or json"},
                                   {"quiet", 'q', &quiet, "only container ids"}};
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, false));
  if (parsed.help) {
    print(fmt::format("USAGE:\n   {} list [command options]\n\n{}", global.program->name, flags_help(flags)));
    return 0;
  }
  TRY_ASSIGN(const std::vector<ContainerInfo> all, global.runtime->list());
  std::string out;
  if (quiet) {
    for (const ContainerInfo& info : all) out += info.state.id + "\n";
  } else if (format == "json") {
    oci::JsonWriter json;
    json.array([&] {
      for (const ContainerInfo& info : all) write_state(json, info);
    });
    out = std::move(json).take() + "\n";
  } else if (format == "table") {
    size_t id_width = 12;
    size_t bundle_width = 12;
    for (const ContainerInfo& info : all) {
      id_width = std::max(id_width, info.state.id.size() + 3);
      bundle_width = std::max(bundle_width, info.state.bundle.size() + 3);
    }
    out = fmt::format("{:<{}}{:<12}{:<12}{:<{}}{:<33}{}\n", "ID", id_width, "PID", "STATUS", "BUNDLE", bundle_width,
                      "CREATED", "OWNER");
    for (const ContainerInfo& info : all) {
      out += fmt::format("{:<{}}{:<12}{:<12}{:<{}}{:<33}{}\n", info.state.id, id_width, info.state.pid,
                         info.state.status, info.state.bundle, bundle_width, info.created, info.owner);
    }
  } else {
    return errorf(ErrorKind::kInvalid, "invalid format option: {} (table or json)", format);
  }
  print(out);
  return 0;
}

Result<int> ps(const Global& global, const Words& words) {
  std::string format = "table";
  const std::vector<Flag> flags = {{"format", 'f', &format, "table or json"}};
  TRY_ASSIGN(const Parsed parsed, parse_flags(words, flags, true));
  if (parsed.help || parsed.arguments.empty()) {
    print(fmt::format("USAGE:\n   {} ps [command options] <container-id> [ps options]\n\n{}", global.program->name,
                      flags_help(flags)));
    return parsed.help ? 0 : 1;
  }
  if (format == "table") {
    const std::vector<std::string> ps_options(parsed.arguments.begin() + 1, parsed.arguments.end());
    TRY_ASSIGN(const std::optional<std::string> drawn, global.runtime->process_table(parsed.arguments[0], ps_options));
    if (drawn) {
      print(*drawn);
      return 0;
    }
  }
  TRY_ASSIGN(const std::vector<int> pids, global.runtime->processes(parsed.arguments[0]));
  if (format == "json") {
    oci::JsonWriter json;
    json.value(pids);
    print(std::move(json).take() + "\n");
    return 0;
  }
  if (format != "table") return errorf(ErrorKind::kInvalid, "invalid format option: {} (table or json)", format);
  // ps(1) draws the table; its lines are chosen by the column PID.
  std::vector<std::string> arguments = {"ps"};
  arguments.insert(arguments.end(), parsed.arguments.begin() + 1, parsed.arguments.end());
  if (arguments.size() == 1) arguments.emplace_back("-ef");
  TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return errno_error("start ps");
  if (child == 0) {
    ::dup2(pipe.write_end.get(), STDOUT_FILENO);
    ::execvp("ps", pointers.data());
    ::_exit(127);
  }
  pipe.write_end.reset();
  auto text = sys::read_all(pipe.read_end.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!text.ok()) return std::move(text).error();
  if (status != 0) return errorf(ErrorKind::kUnsupported, "ps failed (is procps installed?): use --format json");
  std::string out;
  size_t column = std::string::npos;
  for (size_t at = 0; at < text->size();) {
    const size_t end = std::min(text->find('\n', at), text->size());
    const std::string line = text->substr(at, end - at);
    at = end + 1;
    std::vector<std::string> fields;
    for (size_t i = 0; i < line.size();) {
      while (i < line.size() && line[i] == ' ') ++i;
      size_t stop = i;
      while (stop < line.size() && line[stop] != ' ') ++stop;
      if (stop > i) fields.push_back(line.substr(i, stop - i));
      i = stop;
    }
    if (column == std::string::npos) {
      const auto found = std::find(fields.begin(), fields.end(), "PID");
      if (found == fields.end()) return errorf(ErrorKind::kInvalid, "couldn't find PID field in ps output");
      column = static_cast<size_t>(found - fields.begin());
      out += line + "\n";
      continue;
    }
    if (column >= fields.size()) continue;
    const auto pid = parse_int(fields[column], 1, 1 << 30);
    if (pid.ok() && std::binary_search(pids.begin(), pids.end(), static_cast<int>(*pid))) out += line + "\n";
  }
  print(out);
  return 0;
}

Result<int> pause(const Global& global, const Words& words) {
  TRY_ASSIGN(const std::string id, id_of(global, words));
  TRY(global.runtime->pause(id));
  return 0;
}

Result<int> resume(const Global& global, const Words& words) {
  TRY_ASSIGN(const std::string id, id_of(global, words));
  TRY(global.runtime->resume(id));
  return 0;
}

Result<int> checkpoint(const Global& global, const Words& words) {
  return errorf(ErrorKind::kUnsupported, "{} is not supported by this release of {}", words[0], global.program->name);
}

}  // namespace hull::runtime::command
