#include "guest/agent.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <utility>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "guest/agent_client.h"
#include "guest/process_list.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::guest {
namespace {

constexpr std::string_view kService = "hull.guest.Agent";
constexpr auto kPatience = std::chrono::seconds(30);  // for questions whose answer the workload may delay
constexpr size_t kMaxPasswd = 4 << 20;

int64_t uptime_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

/// The text of /etc/passwd as the image or the scratch disk has it, never through a mount of the workload's.
std::string passwd_of(const std::string& root_path) {
  auto root = sys::Root::open(root_path);
  if (!root.ok()) return {};
  const auto fd = root->open_in_same_mount("etc/passwd", O_PATH | O_NOFOLLOW);
  if (!fd.ok()) return {};
  struct stat info{};
  if (::fstat(fd->get(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  return sys::read_file(fmt::format("/proc/self/fd/{}", fd->get()), kMaxPasswd).value_or("");
}

/// "MemFree:  123 kB" as bytes.
uint64_t memory_field(const std::string& text, std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string::npos) return 0;
  const size_t first = text.find_first_not_of(' ', at + name.size());
  const size_t end = first == std::string::npos ? first : text.find(' ', first);
  if (end == std::string::npos) return 0;
  return static_cast<uint64_t>(
             parse_int(std::string_view(text).substr(first, end - first), 0, INT64_MAX / 1024).value_or(0)) *
         1024;
}

void add_interfaces(std::string_view text, proto::StatsResponse& response) {
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text.remove_prefix(newline == std::string_view::npos ? text.size() : newline + 1);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const size_t first = line.find_first_not_of(' ');
    const std::string_view name = line.substr(first, colon - first);
    if (name == "lo") continue;
    line.remove_prefix(colon + 1);
    uint64_t columns[16] = {};
    for (uint64_t& column : columns) {
      while (line.starts_with(' ')) line.remove_prefix(1);
      const size_t end = std::min(line.find(' '), line.size());
      column = static_cast<uint64_t>(parse_int(line.substr(0, end), 0, INT64_MAX).value_or(0));
      line.remove_prefix(end);
    }
    proto::InterfaceStats& stats = *response.add_interfaces();
    stats.set_name(std::string(name));
    stats.set_received_bytes(columns[0]);
    stats.set_received_packets(columns[1]);
    stats.set_received_errors(columns[2]);
    stats.set_received_dropped(columns[3]);
    stats.set_sent_bytes(columns[8]);
    stats.set_sent_packets(columns[9]);
    stats.set_sent_errors(columns[10]);
    stats.set_sent_dropped(columns[11]);
  }
}

template <typename Response>
void reply_with(const ttrpc::Reply& reply, Result<void> outcome) {
  if (!outcome.ok()) return reply(std::move(outcome).error());
  reply(Response().SerializeAsString());
}

}  // namespace

Agent::Agent(EventLoop& loop, Machine& machine, Options options)
    : loop_(loop),
      machine_(machine),
      options_(std::move(options)),
      runtime_({.root = options_.run_dir + "/oci", .rootless = false}),
      streams_(loop) {}

Agent::~Agent() {
  for (const auto& [fd, connection] : connections_) loop_.forget(fd);
}

void Agent::serve_calls(UniqueFd connection) {
  if (connections_.size() >= kMaxConnections) return;
  const int fd = connection.get();
  auto server = std::make_unique<ttrpc::ServerConnection>(
      std::move(connection), [this](ttrpc::Call call, Reply reply) { handle(std::move(call), std::move(reply)); });
  server->on_queued([this, fd] { update_connection(fd); });
  const auto on_events = [this, fd](uint32_t events) {
    const auto found = connections_.find(fd);
    if (found == connections_.end()) return;
    const bool readable = (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
    if (!found->second->on_ready(readable, (events & EPOLLOUT) != 0)) return close_connection(fd);
    update_connection(fd);
  };
  if (!loop_.watch(fd, EPOLLIN, on_events).ok()) return;
  connections_[fd] = std::move(server);
}

void Agent::update_connection(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  const ttrpc::ServerConnection& connection = *found->second;
  constexpr uint32_t kReadable = EPOLLIN, kWritable = EPOLLOUT, kNothing = 0;
  loop_.change(fd,
               (connection.wants_read() ? kReadable : kNothing) | (connection.wants_write() ? kWritable : kNothing));
}

void Agent::close_connection(int fd) {
  loop_.forget(fd);
  connections_.erase(fd);
}

template <typename Request>
void Agent::dispatch(void (Agent::*method)(const Request&, Reply), const ttrpc::Call& call, Reply reply) {
  Request request;
  if (!request.ParseFromString(call.payload)) {
    return reply(errorf(ErrorKind::kInvalid, "{}: the request is malformed", call.method));
  }
  (this->*method)(request, std::move(reply));
}

void Agent::handle(ttrpc::Call call, Reply reply) {
  using Entry = void (*)(Agent&, const ttrpc::Call&, Reply);
  static constexpr std::pair<std::string_view, Entry> kMethods[] = {
      {"Configure", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::configure, c, std::move(r)); }},
      {"Create", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::create, c, std::move(r)); }},
      {"Start", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::start, c, std::move(r)); }},
      {"Exec", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::exec, c, std::move(r)); }},
      {"Signal", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::signal, c, std::move(r)); }},
      {"Wait", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::wait, c, std::move(r)); }},
      {"Resize", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::resize, c, std::move(r)); }},
      {"CloseStdin", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::close_stdin, c, std::move(r)); }},
      {"Processes", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::processes, c, std::move(r)); }},
      {"Stats", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::stats, c, std::move(r)); }},
      {"Update", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::update, c, std::move(r)); }},
      {"Pause", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::pause, c, std::move(r)); }},
      {"Resume", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::resume, c, std::move(r)); }},
      {"State", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::state, c, std::move(r)); }},
      {"FileStat", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::file_stat, c, std::move(r)); }},
      {"BeginFiles", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::begin_files, c, std::move(r)); }},
      {"EndFiles", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::end_files, c, std::move(r)); }},
      {"Ping", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::ping, c, std::move(r)); }},
      {"SetTime", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::set_time, c, std::move(r)); }},
      {"Shutdown", [](Agent& a, const ttrpc::Call& c, Reply r) { a.dispatch(&Agent::shutdown, c, std::move(r)); }},
  };
  if (call.service == kService) {
    for (const auto& [name, entry] : kMethods) {
      if (name == call.method) return entry(*this, call, std::move(reply));
    }
  }
  reply(errorf(ErrorKind::kUnsupported, "no such call: {}/{}", call.service, call.method));
}

void Agent::configure(const proto::ConfigureRequest& request, Reply reply) {
  if (configured_) return reply(errorf(ErrorKind::kConflict, "the guest has been configured already"));
  auto done = machine_.configure(request);
  configured_ = done.ok();
  reply_with<proto::ConfigureResponse>(reply, std::move(done));
}

Result<void> Agent::require_created() const {
  if (!created_) return errorf(ErrorKind::kConflict, "the guest has no container");
  return {};
}

void Agent::answer_from_child(const CommandBody& body, Reply reply) {
  auto ready = require_created();
  if (!ready.ok()) return reply(std::move(ready).error());
  run_child(body, std::move(reply));
}

void Agent::run_child(const CommandBody& body, Reply reply) {
  CommandOptions options;
  options.log_fd = options_.log_fd;
  options.kill_after = kPatience;
  auto begun = run_command(loop_, options, body, reply);
  if (!begun.ok()) reply(std::move(begun).error());
}

void Agent::processes(const proto::ProcessesRequest& /*request*/, Reply reply) {
  answer_from_child(
      [this]() -> Result<std::string> {
        TRY_ASSIGN(const std::vector<int> pids, runtime_.processes(id_));
        TRY_ASSIGN(const proto::ProcessesResponse response, list_processes(pids, passwd_of(root_path_)));
        return response.SerializeAsString();
      },
      std::move(reply));
}

void Agent::stats(const proto::StatsRequest& /*request*/, Reply reply) {
  answer_from_child(
      [this]() -> Result<std::string> {
        proto::StatsResponse response;
        TRY_ASSIGN(*response.mutable_json(), runtime_.stats(id_));
        TRY_ASSIGN(const std::string memory, sys::read_file("/proc/meminfo", 64 << 10));
        response.set_memory_total_bytes(memory_field(memory, "MemTotal:"));
        response.set_memory_free_bytes(memory_field(memory, "MemFree:"));
        response.set_memory_available_bytes(memory_field(memory, "MemAvailable:"));
        TRY_ASSIGN(const std::string devices, sys::read_file("/proc/net/dev", 1 << 20));
        add_interfaces(devices, response);
        return response.SerializeAsString();
      },
      std::move(reply));
}

void Agent::update(const proto::UpdateRequest& request, Reply reply) {
  auto resources = oci::parse_resources(request.resources());
  if (!resources.ok()) return reply(std::move(resources).error());
  answer_from_child(
      [this, resources = std::move(*resources)]() -> Result<std::string> {
        TRY(runtime_.update(id_, resources));
        return proto::UpdateResponse().SerializeAsString();
      },
      std::move(reply));
}

void Agent::pause(const proto::PauseRequest& /*request*/, Reply reply) {
  answer_from_child(
      [this]() -> Result<std::string> {
        TRY(runtime_.pause(id_));
        return proto::PauseResponse().SerializeAsString();
      },
      std::move(reply));
}

void Agent::resume(const proto::ResumeRequest& /*request*/, Reply reply) {
  answer_from_child(
      [this]() -> Result<std::string> {
        TRY(runtime_.resume(id_));
        return proto::ResumeResponse().SerializeAsString();
      },
      std::move(reply));
}

void Agent::state(const proto::StateRequest& /*request*/, Reply reply) {
  proto::StateResponse response;
  if (created_) {
    auto info = runtime_.state(id_);
    if (!info.ok()) return reply(std::move(info).error());
    response.set_status(info->state.status);
    response.set_pid(static_cast<uint32_t>(info->state.pid));
  } else if (!id_.empty()) {
    response.set_status("creating");
  }
  reply(response.SerializeAsString());
}

void Agent::ping(const proto::PingRequest& /*request*/, Reply reply) {
  proto::PingResponse response;
  response.set_protocol(kProtocolVersion);
  response.set_uptime_ms(uptime_ms());
  reply(response.SerializeAsString());
}

void Agent::set_time(const proto::SetTimeRequest& request, Reply reply) {
  reply_with<proto::SetTimeResponse>(reply, machine_.set_time(request.time_ns()));
}

void Agent::shutdown(const proto::ShutdownRequest& /*request*/, Reply reply) {
  if (created_) ignore_result(runtime_.kill(id_, SIGKILL, true));
  machine_.prepare_power_off();
  reply(proto::ShutdownResponse().SerializeAsString());
  // After the answer has left, or soon: a host that takes nothing any more does not keep the machine alive.
  constexpr auto kAnswerPatience = std::chrono::milliseconds(20);
  loop_.at(EventLoop::Clock::now() + kAnswerPatience, [this] { machine_.power_off(); });
}

}  // namespace hull::guest
