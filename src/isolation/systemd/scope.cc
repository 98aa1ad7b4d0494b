#include "isolation/systemd/scope.h"

#include <systemd/sd-bus.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/error_format.h"
#include "sys/user_namespace.h"

namespace hull::isolation::systemd {

namespace {

constexpr const char* kService = "org.freedesktop.systemd1";
constexpr const char* kPath = "/org/freedesktop/systemd1";
constexpr const char* kManager = "org.freedesktop.systemd1.Manager";
constexpr std::chrono::seconds kJobTimeout{30};

struct CloseBus {
  void operator()(sd_bus* bus) const { ::sd_bus_flush_close_unref(bus); }
};
using Bus = std::unique_ptr<sd_bus, CloseBus>;
struct UnrefMessage {
  void operator()(sd_bus_message* message) const { ::sd_bus_message_unref(message); }
};
using Message = std::unique_ptr<sd_bus_message, UnrefMessage>;
struct BusError {
  sd_bus_error error = {};
  ~BusError() { ::sd_bus_error_free(&error); }
  bool has_name(const char* name) const { return ::sd_bus_error_has_name(&error, name) != 0; }
  std::string text(int code) const {
    return error.message != nullptr ? std::string(error.message) : std::string(std::strerror(-code));
  }
};

Error bus_error(int code, std::string_view what) { return Error::from_errno(-code, what).as(ErrorKind::kUnavailable); }

/// Straight to the user's systemd, which needs no D-Bus daemon; else through the user's bus.
Result<Bus> connect_to_users() {
  const char* folder = std::getenv("XDG_RUNTIME_DIR");
  const char* user = std::getenv(sys::kUserVariable);  // in an ordinary user's namespaces the user is 0
  const std::string id = user != nullptr ? user : std::to_string(::geteuid());
  const std::string runtime = folder != nullptr && *folder != '\0' ? folder : "/run/user/" + id;
  sd_bus* raw = nullptr;
  int code = ::sd_bus_new(&raw);
  if (code < 0) return bus_error(code, "make a connection");
  Bus bus(raw);
  std::string address = "unix:path=";
  for (const char c : runtime + "/systemd/private") {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '/' ||
                       c == '-' || c == '_' || c == '.';
    address += plain ? std::string(1, c) : fmt::format("%{:02x}", static_cast<unsigned char>(c));
  }
  code = ::sd_bus_set_address(bus.get(), address.c_str());
  if (code >= 0) code = ::sd_bus_start(bus.get());
  if (code >= 0) return bus;
  sd_bus* other = nullptr;
  if (::sd_bus_open_user(&other) >= 0) return Bus(other);
  return bus_error(code, fmt::format("connect to the user's systemd at {}/systemd/private", runtime));
}

Result<Bus> connect() {
  if (::geteuid() != 0 || sys::in_user_namespace()) return connect_to_users();
  sd_bus* bus = nullptr;
  const int code = ::sd_bus_open_system(&bus);
  if (code < 0) return bus_error(code, "connect to systemd's bus");
  return Bus(bus);
}

/// Who sends systemd's signals: nobody by name where the connection goes straight to it.
const char* sender(sd_bus* bus) { return ::sd_bus_is_bus_client(bus) > 0 ? kService : nullptr; }

/// What the JobRemoved signal said of the job that is waited for.
struct Job {
  std::string path;
  std::string result;  // done, failed, canceled ...
};

int on_job_removed(sd_bus_message* message, void* userdata, sd_bus_error*) {
  auto& job = *static_cast<Job*>(userdata);
  uint32_t id = 0;
  const char* path = nullptr;
  const char* unit = nullptr;
  const char* result = nullptr;
  if (::sd_bus_message_read(message, "uoss", &id, &path, &unit, &result) >= 0 && job.path == path) job.result = result;
  return 0;
}

/// Signals count from the subscription on, so it comes before the call that makes the job.
Result<void> watch_jobs(sd_bus* bus, Job& job) {
  int code = ::sd_bus_match_signal(bus, nullptr, sender(bus), kPath, kManager, "JobRemoved", on_job_removed, &job);
  if (code < 0) return bus_error(code, "watch systemd's jobs");
  BusError error;
  code = ::sd_bus_call_method(bus, kService, kPath, kManager, "Subscribe", &error.error, nullptr, "");
  if (code < 0) return errorf(ErrorKind::kUnavailable, "subscribe to systemd's signals: {}", error.text(code));
  return {};
}

Result<void> wait_for(sd_bus* bus, const Job& job, std::string_view unit) {
  const auto deadline = std::chrono::steady_clock::now() + kJobTimeout;
  while (job.result.empty()) {
    int code = ::sd_bus_process(bus, nullptr);
    if (code < 0) return bus_error(code, "read from systemd's bus");
    if (code > 0) continue;
    const auto left =
        std::chrono::duration_cast<std::chrono::microseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      return errorf(ErrorKind::kTimeout, "systemd did not finish its job for {} within {} s", unit,
                    kJobTimeout.count());
    }
    code = ::sd_bus_wait(bus, static_cast<uint64_t>(left.count()));
    if (code < 0) return bus_error(code, "wait for systemd's bus");
  }
  if (job.result != "done") {
    return errorf(ErrorKind::kUnavailable, "systemd's job for {} ended with \"{}\"; see systemctl status {}", unit,
                  job.result, unit);
  }
  return {};
}

int append(sd_bus_message* message, const Property& property) {
  const char* name = property.name.c_str();
  if (const auto* number = std::get_if<uint64_t>(&property.value)) {
    return ::sd_bus_message_append(message, "(sv)", name, "t", *number);
  }
  if (const auto* flag = std::get_if<bool>(&property.value)) {
    return ::sd_bus_message_append(message, "(sv)", name, "b", static_cast<int>(*flag));
  }
  if (const auto* text = std::get_if<std::string>(&property.value)) {
    // Wants is a list.
    if (property.name == "Wants") return ::sd_bus_message_append(message, "(sv)", name, "as", 1, text->c_str());
    return ::sd_bus_message_append(message, "(sv)", name, "s", text->c_str());
  }
  const auto array = [&](const char* type, const void* data, size_t bytes) {
    const std::string contents = std::string("a") + type;
    int code = ::sd_bus_message_open_container(message, 'r', "sv");
    if (code >= 0) code = ::sd_bus_message_append_basic(message, 's', name);
    if (code >= 0) code = ::sd_bus_message_open_container(message, 'v', contents.c_str());
    if (code >= 0) code = ::sd_bus_message_append_array(message, type[0], data, bytes);
    if (code >= 0) code = ::sd_bus_message_close_container(message);
    if (code >= 0) code = ::sd_bus_message_close_container(message);
    return code;
  };
  if (const auto* bytes = std::get_if<std::vector<uint8_t>>(&property.value)) {
    return array("y", bytes->data(), bytes->size());
  }
  const auto& words = std::get<std::vector<uint32_t>>(property.value);
  return array("u", words.data(), words.size() * sizeof(uint32_t));
}

int append_all(sd_bus_message* message, const std::vector<Property>& properties) {
  int code = ::sd_bus_message_open_container(message, 'a', "(sv)");
  for (const Property& property : properties) {
    if (code >= 0) code = append(message, property);
  }
  return code >= 0 ? ::sd_bus_message_close_container(message) : code;
}

Result<Message> new_call(sd_bus* bus, const char* method) {
  sd_bus_message* raw = nullptr;
  const int code = ::sd_bus_message_new_method_call(bus, &raw, kService, kPath, kManager, method);
  if (code < 0) return bus_error(code, "make a call to systemd");
  return Message(raw);
}

/// StartTransientUnit; the reply's job goes into `job`.
Result<int> call_start(sd_bus* bus, const std::string& unit, const std::vector<Property>& properties, BusError& error,
                       Job& job) {
  TRY_ASSIGN(const Message call, new_call(bus, "StartTransientUnit"));
  int code = ::sd_bus_message_append(call.get(), "ss", unit.c_str(), "replace");
  if (code >= 0) code = append_all(call.get(), properties);
  if (code >= 0) code = ::sd_bus_message_append(call.get(), "a(sa(sv))", 0);
  if (code < 0) return bus_error(code, "make a call to systemd");
  sd_bus_message* raw = nullptr;
  code = ::sd_bus_call(bus, call.get(), 0, &error.error, &raw);
  const Message reply(raw);
  const char* path = nullptr;
  if (code >= 0 && ::sd_bus_message_read(reply.get(), "o", &path) >= 0) job.path = path;
  return code;
}

Result<std::string> control_group(sd_bus* bus, const std::string& unit) {
  char* path = nullptr;
  int code = ::sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit.c_str(), &path);
  if (code < 0) return bus_error(code, "name the unit");
  const std::unique_ptr<char, decltype(&::free)> owned_path(path, ::free);
  const char* interface =
      unit.ends_with(".slice") ? "org.freedesktop.systemd1.Slice" : "org.freedesktop.systemd1.Scope";
  BusError error;
  char* group = nullptr;
  code = ::sd_bus_get_property_string(bus, kService, path, interface, "ControlGroup", &error.error, &group);
  if (code < 0) return errorf(ErrorKind::kUnavailable, "ask for the control group of {}: {}", unit, error.text(code));
  const std::unique_ptr<char, decltype(&::free)> owned_group(group, ::free);
  return std::string(group);
}

}  // namespace

namespace {

/// What was asked for, and what every unit of Hull has.
std::vector<Property> with_common(const std::string& unit, const std::vector<Property>& properties) {
  std::vector<Property> all = properties;
  all.push_back({"DefaultDependencies", false});
  for (const char* name : {"MemoryAccounting", "CPUAccounting", "TasksAccounting", "IOAccounting"}) {
    all.push_back({name, true});
  }
  // A slice hands its controllers down anyway and refuses the property.
  if (!unit.ends_with(".slice")) {
    all.push_back({"Delegate", true});
    // A failed scope of an earlier run must not hold the name.
    all.push_back({"CollectMode", std::string("inactive-or-failed")});
  }
  return all;
}

}  // namespace

Result<void> attach_unit(const std::string& unit, const std::vector<Property>& properties) {
  TRY_ASSIGN(const Bus bus, connect());
  Job job;
  TRY(watch_jobs(bus.get(), job));
  BusError error;
  TRY_ASSIGN(int code, call_start(bus.get(), unit, with_common(unit, properties), error, job));
  if (code >= 0) return wait_for(bus.get(), job, unit);
  if (!error.has_name("org.freedesktop.systemd1.UnitExists")) {
    return errorf(ErrorKind::kUnavailable, "start {}: {}", unit, error.text(code));
  }
  std::vector<uint32_t> pids;
  for (const Property& property : properties) {
    if (property.name == "PIDs") pids = std::get<std::vector<uint32_t>>(property.value);
  }
  TRY_ASSIGN(const Message call, new_call(bus.get(), "AttachProcessesToUnit"));
  code = ::sd_bus_message_append(call.get(), "ss", unit.c_str(), "/commands");
  if (code >= 0) {
    code = ::sd_bus_message_append_array(call.get(), 'u', pids.data(), pids.size() * sizeof(uint32_t));
  }
  if (code < 0) return bus_error(code, "make a call to systemd");
  BusError refused;
  code = ::sd_bus_call(bus.get(), call.get(), 0, &refused.error, nullptr);
  if (code < 0) return errorf(ErrorKind::kUnavailable, "attach to {}: {}", unit, refused.text(code));
  return {};
}

Result<std::string> start_unit(const std::string& unit, const std::vector<Property>& properties) {
  TRY_ASSIGN(const Bus bus, connect());
  const std::vector<Property> all = with_common(unit, properties);
  Job job;
  TRY(watch_jobs(bus.get(), job));
  BusError error;
  TRY_ASSIGN(int code, call_start(bus.get(), unit, all, error, job));
  if (code < 0 && error.has_name("org.freedesktop.systemd1.UnitExists")) {
    if (unit.ends_with(".slice")) return control_group(bus.get(), unit);
    BusError ignored;
    ::sd_bus_call_method(bus.get(), kService, kPath, kManager, "ResetFailedUnit", &ignored.error, nullptr, "s",
                         unit.c_str());
    BusError again;
    TRY_ASSIGN(code, call_start(bus.get(), unit, all, again, job));
    if (code < 0) return errorf(ErrorKind::kExists, "start {}: {}", unit, again.text(code));
  } else if (code < 0) {
    return errorf(ErrorKind::kUnavailable, "start {}: {}", unit, error.text(code));
  }
  TRY(wait_for(bus.get(), job, unit));
  return control_group(bus.get(), unit);
}

Result<void> stop_unit(const std::string& unit) {
  TRY_ASSIGN(const Bus bus, connect());
  Job job;
  TRY(watch_jobs(bus.get(), job));
  BusError error;
  sd_bus_message* raw = nullptr;
  const int code = ::sd_bus_call_method(bus.get(), kService, kPath, kManager, "StopUnit", &error.error, &raw, "ss",
                                        unit.c_str(), "replace");
  const Message reply(raw);
  if (code < 0) {
    if (error.has_name("org.freedesktop.systemd1.NoSuchUnit")) return {};
    return errorf(ErrorKind::kUnavailable, "stop {}: {}", unit, error.text(code));
  }
  const char* path = nullptr;
  if (::sd_bus_message_read(reply.get(), "o", &path) >= 0) job.path = path;
  TRY(wait_for(bus.get(), job, unit));
  BusError ignored;
  ::sd_bus_call_method(bus.get(), kService, kPath, kManager, "ResetFailedUnit", &ignored.error, nullptr, "s",
                       unit.c_str());
  return {};
}

Result<void> set_unit(const std::string& unit, const std::vector<Property>& properties) {
  if (properties.empty()) return {};
  TRY_ASSIGN(const Bus bus, connect());
  TRY_ASSIGN(const Message call, new_call(bus.get(), "SetUnitProperties"));
  int code = ::sd_bus_message_append(call.get(), "sb", unit.c_str(), 1);
  if (code >= 0) code = append_all(call.get(), properties);
  if (code < 0) return bus_error(code, "make a call to systemd");
  BusError error;
  code = ::sd_bus_call(bus.get(), call.get(), 0, &error.error, nullptr);
  if (code < 0) return errorf(ErrorKind::kUnavailable, "set properties of {}: {}", unit, error.text(code));
  return {};
}

}  // namespace hull::isolation::systemd
