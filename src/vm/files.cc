#include "vm/files.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/error_format.h"
#include "base/units.h"
#include "runtime/command/flags.h"
#include "sys/file.h"
#include "vm/outcome.h"
#include "vm/runtime.h"

namespace hull::vm {
namespace {

namespace command = runtime::command;
namespace proto = guest::proto;

constexpr size_t kBuffer = 128 << 10;
constexpr size_t kLongestName = 4096;

struct Job {
  std::string_view name;
  proto::FilesJob job = proto::FILES_NONE;
  bool path = false;
};
constexpr std::array kJobs = {
    Job{"stat", proto::FILES_NONE, true},        Job{"get", proto::FILES_GET, true},
    Job{"put", proto::FILES_PUT, true},          Job{"export", proto::FILES_EXPORT, false},
    Job{"changes", proto::FILES_CHANGES, false}, Job{"layer", proto::FILES_LAYER, false},
};

/// One piece of work on the files of a machine that runs.
class FilesWork {
 public:
  FilesWork(const OpenedMachine& machine, proto::BeginFilesRequest request)
      : machine_(machine), request_(std::move(request)) {}

  Result<tar::PathStat> stat() {
    TRY_ASSIGN(guest::AgentClient agent, connect());
    TRY_ASSIGN(const proto::FileStatResponse told, agent.file_stat(request_.path(), limit()));
    tar::PathStat out;
    out.name = told.name().substr(0, kLongestName);
    out.size = std::min<uint64_t>(told.size(), INT64_MAX);
    out.mode = told.mode();
    out.modified = std::chrono::system_clock::time_point(
        std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(told.modified_ns())));
    out.link_target = told.link_target().substr(0, kLongestName);
    // They are texts that end at their first NUL for whoever reads them.
    for (std::string* text : {&out.name, &out.link_target}) text->resize(std::min(text->find('\0'), text->size()));
    return out;
  }

  Result<void> begin() {
    TRY_ASSIGN(guest::AgentClient agent, connect());
    agent_.emplace(std::move(agent));
    TRY_ASSIGN(token_, guest::make_stream_token());
    request_.set_token(token_);
    TRY(agent_->begin_files(request_, limit()));
    TRY_ASSIGN(stream_, guest::open_stream(machine_.vsock, token_, takes() ? 0 : 1, limit()));
    return {};
  }

  Result<void> move() {
    auto moved = takes() ? send_all() : receive_all();
    proto::EndFilesRequest end;
    end.set_token(token_);
    end.set_input_ended(takes());
    end.set_input_bytes(sent_);
    if (!moved.ok()) stream_.reset();  // the guest's process ends by that
    // Why the guest gave up is more than that it did.
    auto ended = agent_->end_files(end, guest::after(machine_.patience.hung));
    if (moved.ok() || (!ended.ok() && broken_)) return ended;
    return moved;
  }

 private:
  bool takes() const { return request_.job() == proto::FILES_PUT; }
  guest::Deadline limit() const { return guest::after(machine_.patience.call); }
  Result<guest::AgentClient> connect() const { return guest::AgentClient::connect(machine_.vsock, limit()); }

  /// A guest that neither gives nor takes a byte for so long is given up.
  Result<void> wait(short events) const {
    pollfd watched{stream_.get(), events, 0};
    const int ready = ::poll(&watched, 1, static_cast<int>(machine_.patience.hung.count()));
    if (ready < 0 && errno != EINTR) return errno_error("wait for the virtual machine");
    if (ready == 0) {
      return errorf(ErrorKind::kTimeout, "the virtual machine moved no byte of the files for {} seconds",
                    machine_.patience.hung.count() / 1000);
    }
    return {};
  }

  Result<void> receive_all() {
    std::vector<char> buffer(kBuffer);
    while (true) {
      TRY(wait(POLLIN));
      const ssize_t got = ::recv(stream_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
      if (got < 0) return gone();
      if (got == 0) return {};
      TRY(sys::write_all(STDOUT_FILENO, std::string_view(buffer.data(), static_cast<size_t>(got))));
    }
  }

  Result<void> send_all() {
    std::vector<char> buffer(kBuffer);
    while (true) {
      // A guest that wants no more is noticed while nothing comes.
      pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {stream_.get(), POLLRDHUP, 0}};
      if (::poll(watched, 2, -1) < 0 && errno != EINTR) return errno_error("wait for the archive");
      if (watched[1].revents != 0) return gone();
      if (watched[0].revents == 0) continue;
      const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno_error("read the archive");
      if (got == 0) return {};
      std::string_view rest(buffer.data(), static_cast<size_t>(got));
      while (!rest.empty()) {
        TRY(wait(POLLOUT));
        const ssize_t put = ::send(stream_.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (put < 0) return gone();
        rest.remove_prefix(static_cast<size_t>(put));
        sent_ += static_cast<uint64_t>(put);
      }
    }
  }

  Error gone() {
    broken_ = true;
    return errorf(ErrorKind::kUnavailable, "the virtual machine broke off the work on its files");
  }

  const OpenedMachine& machine_;
  proto::BeginFilesRequest request_;
  std::optional<guest::AgentClient> agent_;
  std::string token_;
  UniqueFd stream_;
  uint64_t sent_ = 0;
  bool broken_ = false;
};

Result<void> check_running(const OpenedMachine& machine) {
  if (machine.status != runtime::Status::kRunning) {
    return errorf(ErrorKind::kConflict, "the virtual machine {} does not run", machine.record.id);
  }
  if (runtime::is_paused(machine.record)) {
    return errorf(ErrorKind::kConflict,
                  "the virtual machine is paused, and so is who could read its files: unpause it");
  }
  return {};
}

/// Tells the report what it is to know, up to the end.
Result<void> work_on(const OpenedMachine& machine, proto::BeginFilesRequest request, bool stat, int report) {
  const bool only_stat = request.job() == proto::FILES_NONE;
  std::string at_path;
  FilesWork work(machine, std::move(request));
  auto begun = [&]() -> Result<void> {
    TRY(check_running(machine));
    if (stat) {
      TRY_ASSIGN(const tar::PathStat found, work.stat());
      at_path = encode_stat(found);
    }
    return only_stat ? Result<void>() : work.begin();
  }();
  send_outcome(report, begun);
  TRY(std::move(begun));
  if (stat && ::send(report, at_path.data(), at_path.size(), MSG_NOSIGNAL) < 0) return errno_error("report");
  auto ended = only_stat ? Result<void>() : work.move();
  send_outcome(report, ended);
  return ended;
}

}  // namespace

Result<int> files_command(const command::Global& global, const command::Words& words) {
  std::string report, user;
  bool keep_kinds = false, pause = false;
  TRY_ASSIGN(const command::Parsed parsed,
             command::parse_flags(words,
                                  {{"report", 0, &report, "number of a socket for outcomes"},
                                   {"user", 0, &user, "put: everything belongs to this user"},
                                   {"keep-kinds", 0, &keep_kinds, "put: no folder becomes something else"},
                                   {"pause", 0, &pause, "the workload stands still meanwhile"}},
                                  false));
  TRY_ASSIGN(const int64_t report_fd, parse_int(report, 3, 1 << 20));
  const auto& arguments = parsed.arguments;
  const auto job = std::find_if(kJobs.begin(), kJobs.end(),
                                [&](const Job& one) { return !arguments.empty() && one.name == arguments[0]; });
  if (job == kJobs.end() || arguments.size() != (job->path ? 3 : 2)) {
    return errorf(ErrorKind::kInvalid, "usage: files --report N stat|get|put|export|changes|layer ID [PATH]");
  }
  ::signal(SIGPIPE, SIG_IGN);
  proto::BeginFilesRequest request;
  request.set_job(job->job);
  if (job->path) request.set_path(arguments[2]);
  request.set_no_overwrite_dir_non_dir(keep_kinds);
  request.set_pause(pause);
  request.mutable_owner()->set_set(!user.empty());
  request.mutable_owner()->set_user(user);
  const bool stat = job->name == "stat" || job->name == "get";
  const auto machine = open_machine(global.options.root, arguments[1]);
  if (!machine.ok()) {
    send_outcome(static_cast<int>(report_fd), machine.error());
    return 1;
  }
  return work_on(*machine, std::move(request), stat, static_cast<int>(report_fd)).ok() ? 0 : 1;
}

}  // namespace hull::vm
