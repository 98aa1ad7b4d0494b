#include "runtime/record.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
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

bool read_vm(oci::JsonReader& json, VmRecord& vm) {
  json.object([&](std::string_view key) {
    if (key == "memory") return json.value(vm.memory_bytes);
    if (key == "vcpus") return json.value(vm.vcpus);
    if (key == "hypervisor") return json.value(vm.hypervisor);
    if (key == "emulated") return json.value(vm.emulated);
    return false;
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

namespace {

constexpr size_t kProcessLine = 32;  // "pid start\n", padded with spaces

std::string process_line(pid_t pid, uint64_t start_time) {
  std::string line = fmt::format("{} {}", pid, start_time);
  line.resize(kProcessLine - 1, ' ');
  return line + "\n";
}

struct FilterHeader {
  char magic[8] = {'h', 'u', 'l', 'l', 'b', 'p', 'f', '1'};
  uint32_t flags = 0;
  uint32_t listener = 0;
};

Result<void> read_filter(std::string_view data, isolation::SeccompFilter& filter) {
  if (data.empty()) return {};
  FilterHeader header;
  const FilterHeader expected;
  if (data.size() < sizeof header || (data.size() - sizeof header) % sizeof(sock_filter) != 0 ||
      std::memcmp(data.data(), expected.magic, sizeof expected.magic) != 0) {
    return errorf(ErrorKind::kCorrupt, "the container's stored seccomp filter is damaged");
  }
  std::memcpy(&header, data.data(), sizeof header);
  filter.flags = header.flags;
  filter.needs_listener = header.listener != 0;
  filter.program.resize((data.size() - sizeof header) / sizeof(sock_filter));
  std::memcpy(filter.program.data(), data.data() + sizeof header, filter.program.size() * sizeof(sock_filter));
  return {};
}

}  // namespace

Result<Record> read_record(int folder_fd, const std::string& id, isolation::SeccompFilter* filter) {
  auto text = sys::read_file_at(folder_fd, kRecordFile);
  if (!text.ok() && text.error().error_number() != ENOENT) return std::move(text).error();
  Record record;
  record.id = id;
  // Killed before the record, or being made right now.
  if (!text.ok() || text->empty()) return record;
  const size_t end = text->find('\n', kProcessLine);
  unsigned long long start_time = 0;
  if (text->size() <= kProcessLine || end == std::string::npos ||
      std::sscanf(text->c_str(), "%d %llu", &record.pid, &start_time) != 2) {
    return errorf(ErrorKind::kCorrupt, "record of container {}: cut short", id);
  }
  record.start_time = start_time;
  if (filter != nullptr) TRY(read_filter(std::string_view(*text).substr(end + 1), *filter));
  oci::JsonReader json(std::string_view(*text).substr(kProcessLine, end - kProcessLine));
  json.object([&](std::string_view key) {
    if (key == "id") return json.value(record.id);
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
    if (key == "vm") return read_vm(json, record.vm.emplace());
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

namespace {

std::string record_text(const Record& record, const isolation::SeccompFilter& filter) {
  oci::JsonWriter json;
  json.object([&] {
    json.member("id", record.id);
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
    if (record.vm) {
      json.object("vm", [&] {
        json.member("memory", record.vm->memory_bytes);
        json.member("vcpus", record.vm->vcpus);
        json.member("hypervisor", record.vm->hypervisor);
        json.member_opt("emulated", record.vm->emulated);
      });
    }
    write_hooks(json, "startContainer", record.start_container);
    write_hooks(json, "poststart", record.poststart);
    write_hooks(json, "poststop", record.poststop);
  });
  std::string text = process_line(record.pid, record.start_time) + std::move(json).take() + "\n";
  if (filter.program.empty()) return text;
  FilterHeader header;
  header.flags = filter.flags;
  header.listener = filter.needs_listener ? 1 : 0;
  text.append(reinterpret_cast<const char*>(&header), sizeof header);
  text.append(reinterpret_cast<const char*>(filter.program.data()), filter.program.size() * sizeof(sock_filter));
  return text;
}

}  // namespace

Result<UniqueFd> create_record(int folder_fd, const Record& record, const isolation::SeccompFilter& filter) {
  TRY_ASSIGN(UniqueFd file, sys::open_at(folder_fd, kRecordFile, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  TRY(sys::write_all(file.get(), record_text(record, filter)).context("write the record of the container"));
  return file;
}

Result<void> set_process(int record_fd, pid_t pid, uint64_t start_time) {
  const std::string line = process_line(pid, start_time);
  if (::pwrite(record_fd, line.data(), line.size(), 0) != static_cast<ssize_t>(line.size())) {
    return errno_error("write the record of the container");
  }
  return {};
}

Result<void> replace_record(int folder_fd, const Record& record, const isolation::SeccompFilter& filter) {
  return sys::replace_file_at(folder_fd, kRecordFile, record_text(record, filter), 0600, false);
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
