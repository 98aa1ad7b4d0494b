#include "runtime/record.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "isolation/cgroup.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"
#include "runtime/runtime.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::runtime {
namespace {

void write_hooks(oci::JsonWriter& json, std::string_view name, const std::vector<oci::Hook>& hooks) {
  if (hooks.empty()) return;
  json.array(name, [&] {
    for (const oci::Hook& hook : hooks) {
      json.object([&] {
        json.member("path", hook.path);
        json.member_opt("args", hook.args);
        json.member_opt("env", hook.env);
        json.member_opt("timeout", hook.timeout_s);
      });
    }
  });
}

bool read_hooks(oci::JsonReader& json, std::vector<oci::Hook>& hooks) {
  json.array([&] {
    oci::Hook& hook = hooks.emplace_back();
    json.object([&](std::string_view key) {
      if (key == "path") return json.value(hook.path);
      if (key == "args") return json.value(hook.args);
      if (key == "env") return json.value(hook.env);
      if (key == "timeout") return json.value(hook.timeout_s);
      return false;
    });
  });
  return true;
}

}  // namespace

bool valid_id(std::string_view id) {
  if (id.empty() || id.size() > 1024 || id == "." || id == "..") return false;
  for (const char c : id) {
    const bool known = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
                       c == '+' || c == '.' || c == '-';
    if (!known) return false;
  }
  return true;
}

Result<UniqueFd> open_container(const std::string& root, const std::string& id) {
  if (id.empty()) return errorf(ErrorKind::kInvalid, "container id cannot be empty");
  if (!valid_id(id)) {
    return errorf(ErrorKind::kInvalid, "invalid container id \"{:.100}\": 1 to 1024 of letters, digits, _ + . -", id);
  }
  auto folder = sys::open(root + "/" + id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder.ok() && (folder.error().error_number() == ENOENT || folder.error().error_number() == ENAMETOOLONG)) {
    return errorf(ErrorKind::kNotFound, "container {} does not exist", id);
  }
  return folder;
}

Result<Record> read_record(int folder_fd, const std::string& id) {
  auto text = sys::read_file_at(folder_fd, kStateFile);
  if (!text.ok()) {
    if (text.error().error_number() != ENOENT) return std::move(text).error();
    // Killed before the first record, or being made right now.
    Record record;
    record.id = id;
    return record;
  }
  Record record;
  oci::JsonReader json(*text);
  json.object([&](std::string_view key) {
    if (key == "id") return json.value(record.id);
    if (key == "pid") return json.value(record.pid);
    if (key == "startTime") return json.value(record.start_time);
    if (key == "ociVersion") return json.value(record.oci_version);
    if (key == "bundle") return json.value(record.bundle);
    if (key == "config") return json.value(record.config);
    if (key == "rootfs") return json.value(record.rootfs);
    if (key == "created") return json.value(record.created);
    if (key == "cgroup") return json.value(record.cgroup);
    if (key == "systemdCgroup") return json.value(record.systemd_cgroup);
    if (key == "terminal") return json.value(record.terminal);
    if (key == "namespaces") return json.value(record.namespaces);
    if (key == "rootless") return json.value(record.rootless);
    if (key == "program") return json.value(record.program);
    if (key == "listenerPath") return json.value(record.listener_path);
    if (key == "listenerMetadata") return json.value(record.listener_metadata);
    if (key == "rdtPath") return json.value(record.rdt_path);
    if (key == "rdtMonitorPath") return json.value(record.rdt_monitor_path);
    if (key == "rdtMadeHere") return json.value(record.rdt_made_here);
    if (key == "annotations") return json.value(record.annotations);
    if (key == "startContainer") return read_hooks(json, record.start_container);
    if (key == "poststart") return read_hooks(json, record.poststart);
    if (key == "poststop") return read_hooks(json, record.poststop);
    return false;
  });
  auto finished = json.finish();
  if (!finished.ok()) {
    return std::move(finished).error().context(fmt::format("record of container {}", id)).as(ErrorKind::kCorrupt);
  }
  record.id = id;
  return record;
}

Result<void> write_record(int folder_fd, const Record& record) {
  oci::JsonWriter json;
  json.object([&] {
    json.member("id", record.id);
    json.member("pid", record.pid);
    json.member("startTime", record.start_time);
    json.member("ociVersion", record.oci_version);
    json.member("bundle", record.bundle);
    if (record.config != "config.json") json.member("config", record.config);
    json.member("rootfs", record.rootfs);
    json.member("created", record.created);
    json.member("cgroup", record.cgroup);
    json.member_opt("systemdCgroup", record.systemd_cgroup);
    json.member_opt("terminal", record.terminal);
    json.member("namespaces", record.namespaces);
    json.member_opt("rootless", record.rootless);
    json.member_opt("program", record.program);
    json.member_opt("listenerPath", record.listener_path);
    json.member_opt("listenerMetadata", record.listener_metadata);
    json.member_opt("rdtPath", record.rdt_path);
    json.member_opt("rdtMonitorPath", record.rdt_monitor_path);
    json.member_opt("rdtMadeHere", record.rdt_made_here);
    json.member_opt("annotations", record.annotations);
    write_hooks(json, "startContainer", record.start_container);
    write_hooks(json, "poststart", record.poststart);
    write_hooks(json, "poststop", record.poststop);
  });
  return sys::replace_file_at(folder_fd, kStateFile, std::move(json).take(), 0600, false);
}

std::string_view to_string(Status status) {
  switch (status) {
    case Status::kCreating:
      return "creating";
    case Status::kCreated:
      return "created";
    case Status::kRunning:
      return "running";
    case Status::kPaused:
      return "paused";
    case Status::kStopped:
      return "stopped";
  }
  return "stopped";
}

Status status_of(int folder_fd, const Record& record) {
  if (record.pid == 0) return Status::kCreating;
  if (!sys::is_alive(record.pid, record.start_time)) return Status::kStopped;
  if (::faccessat(folder_fd, kGateFile, F_OK, 0) != 0) return Status::kRunning;
  // A start that was killed between opening the gate and removing its file leaves a socket that nobody listens on.
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder_fd, kGateFile);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int failed = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return failed != 0 && errno == ECONNREFUSED ? Status::kRunning : Status::kCreated;
}

bool is_paused(const Record& record) {
  if (record.cgroup.empty()) return false;
  auto cgroup = isolation::Cgroup::open(record.cgroup);
  if (!cgroup.ok()) return false;
  return cgroup->frozen().value_or(false);
}

oci::State state_document(const Record& record, std::string_view status) {
  oci::State state;
  state.version = std::string(oci::kRuntimeSpecVersion);
  state.id = record.id;
  state.status = status;
  state.pid = record.pid;
  state.bundle = record.bundle;
  state.annotations = record.annotations;
  return state;
}

}  // namespace hull::runtime
