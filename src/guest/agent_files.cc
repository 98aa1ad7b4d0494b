// The workload's files: looked at, given out and taken in as archives. Each job is a process of its own, so that a file
// system of the workload's that hangs holds up nobody else.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "guest/agent.h"
#include "runtime/user_lookup.h"
#include "sys/file.h"
#include "sys/overlay.h"
#include "sys/root.h"
#include "tar/changes.h"
#include "tar/pack.h"
#include "tar/path_access.h"
#include "tar/unpack.h"

namespace hull::guest {
namespace {

constexpr const char* kWhose = "the workload";
constexpr size_t kLongestPath = 256 << 10;

/// What a job needs, in its process.
struct Work {
  proto::BeginFilesRequest request;
  std::string root;     // of the workload
  std::string run_dir;  // where layers and what was written are (disks.cc)
};

Result<void> put(const Work& work) {
  TRY_ASSIGN(const sys::Root root, sys::Root::open(work.root));
  tar::UnpackOptions options;
  options.no_overwrite_dir_non_dir = work.request.no_overwrite_dir_non_dir();
  if (work.request.owner().set()) {
    TRY_ASSIGN(const runtime::ResolvedUser user, runtime::resolve_user(root, work.request.owner().user(), {}));
    options.owner = {user.uid, user.gid};
  }
  return tar::path_put(root, work.request.path(), kWhose, std::move(options), tar::source_of(STDIN_FILENO));
}

Result<void> get(const Work& work) {
  TRY_ASSIGN(const sys::Root root, sys::Root::open(work.root));
  const auto nothing = [](const tar::PathStat&) { return Result<void>(); };
  return tar::path_get(root, work.request.path(), kWhose, nothing, tar::sink_to(STDOUT_FILENO));
}

Result<void> give_all(const Work& work) {
  TRY_ASSIGN(const sys::Root root, sys::Root::open(work.root));
  tar::TarWriter writer(tar::sink_to(STDOUT_FILENO));
  tar::Packer packer(writer, {.same_mount = true});
  TRY(packer.tree(root.fd(), ".", ""));
  return writer.finish();
}

struct Layers {
  sys::Root upper, lower;
};
Result<Layers> open_layers(const std::string& run_dir) {
  auto upper = sys::Root::open(run_dir + "/scratch/upper");
  if (!upper.ok()) {
    return errorf(ErrorKind::kUnsupported, "what the workload writes is not kept apart from what was there before");
  }
  std::vector<std::string> folders;
  for (size_t i = 0; sys::exists(fmt::format("{}/layers/{}", run_dir, i)); ++i) {
    folders.push_back(fmt::format("{}/layers/{}", run_dir, i));
  }
  if (folders.empty()) return errorf(ErrorKind::kInternal, "the image has no layers");
  if (folders.size() == 1) {
    TRY_ASSIGN(sys::Root lower, sys::Root::open(folders[0]));
    return Layers{std::move(*upper), std::move(lower)};
  }
  TRY_ASSIGN(UniqueFd mount, sys::make_overlay("overlay", folders, {}, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV));
  return Layers{std::move(*upper), sys::Root::adopt(std::move(mount))};
}

Result<void> tell_changes(const Work& work) {
  TRY_ASSIGN(const Layers layers, open_layers(work.run_dir));
  constexpr size_t kBuffer = 64 << 10;
  std::string text;
  const auto flush = [&] {
    auto written = sys::write_all(STDOUT_FILENO, text);
    text.clear();
    return written;
  };
  TRY(tar::for_each_change(layers.upper, layers.lower, [&](tar::FileChange&& change) {
    text += "CAD"[static_cast<int>(change.kind)];
    text += change.path;
    text += '\0';
    return text.size() < kBuffer ? Result<void>() : flush();
  }));
  return flush();
}

Result<void> give_layer(const Work& work) {
  TRY_ASSIGN(const Layers layers, open_layers(work.run_dir));
  return tar::write_layer(layers.upper, layers.lower, tar::sink_to(STDOUT_FILENO));
}

Result<void> do_job(const Work& work) {
  switch (work.request.job()) {
    case proto::FILES_GET:
      return get(work);
    case proto::FILES_PUT:
      return put(work);
    case proto::FILES_EXPORT:
      return give_all(work);
    case proto::FILES_CHANGES:
      return tell_changes(work);
    case proto::FILES_LAYER:
      return give_layer(work);
    default:
      return errorf(ErrorKind::kInvalid, "no such job: {}", static_cast<int>(work.request.job()));
  }
}

}  // namespace

Result<std::string> Agent::files_root() const {
  if (!created_) {
    if (!configured_) return errorf(ErrorKind::kConflict, "the guest has not been configured");
    return options_.run_dir + "/root";
  }
  const auto first = members_.find("");
  if (first == members_.end() || first->second.pid == 0 || first->second.exited) {
    return errorf(ErrorKind::kConflict, "the workload has ended");
  }
  return fmt::format("/proc/{}/root", first->second.pid);
}

void Agent::file_stat(const proto::FileStatRequest& request, Reply reply) {
  auto place = files_root();
  if (!place.ok()) return reply(std::move(place).error());
  if (request.path().size() > kLongestPath) return reply(errorf(ErrorKind::kInvalid, "a path of such length"));
  run_child(
      [place = *place, path = request.path()]() -> Result<std::string> {
        TRY_ASSIGN(const sys::Root root, sys::Root::open(place));
        TRY_ASSIGN(const tar::PathStat stat, tar::path_stat(root, path, kWhose));
        proto::FileStatResponse response;
        response.set_name(stat.name);
        response.set_size(stat.size);
        response.set_mode(stat.mode);
        response.set_modified_ns(
            std::chrono::duration_cast<std::chrono::nanoseconds>(stat.modified.time_since_epoch()).count());
        response.set_link_target(stat.link_target);
        return response.SerializeAsString();
      },
      std::move(reply));
}

void Agent::begin_files(const proto::BeginFilesRequest& request, Reply reply) {
  // One that nobody waits for any more makes room: its host has gone.
  while (files_.size() >= kMaxFilesJobs) {
    const auto oldest = std::min_element(files_.begin(), files_.end(), [](const auto& a, const auto& b) {
      return std::pair(!a.second.waiters.empty(), a.second.order) <
             std::pair(!b.second.waiters.empty(), b.second.order);
    });
    if (!oldest->second.waiters.empty()) return reply(errorf(ErrorKind::kNoSpace, "too many work on the files"));
    if (!oldest->second.outcome) ::kill(oldest->second.pid, SIGKILL);
    streams_.drop(oldest->first);
    files_.erase(oldest);
  }
  auto started = start_files(request);
  if (!started.ok()) return reply(std::move(started).error());
  reply(proto::BeginFilesResponse().SerializeAsString());
}

Result<void> Agent::start_files(const proto::BeginFilesRequest& request) {
  const std::string& token = request.token();
  if (!StreamHub::valid_token(token)) return errorf(ErrorKind::kInvalid, "the token is not 8 to 64 hexadecimal digits");
  if (streams_.has(token) || files_.contains(token)) return errorf(ErrorKind::kExists, "the token is in use");
  if (request.path().size() > kLongestPath) return errorf(ErrorKind::kInvalid, "a path of such length");
  TRY_ASSIGN(std::string place, files_root());
  const bool input = request.job() == proto::FILES_PUT;
  TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
  TRY(streams_.add(token, input ? 0 : 1, std::move(input ? pipe.write_end : pipe.read_end)));
  const bool pause = request.pause() && created_;
  const auto body = [this, pause, work = Work{request, place, options_.run_dir}]() -> Result<std::string> {
    if (pause) TRY(runtime_.pause(id_));
    TRY(do_job(work));
    return proto::EndFilesResponse().SerializeAsString();
  };
  CommandOptions command;
  command.stdio[input ? 0 : 1] = (input ? pipe.read_end : pipe.write_end).get();
  command.log_fd = options_.log_fd;
  const auto done = [this, token, pause](const Result<std::string>& outcome) {
    if (!pause) return on_files_end(token, outcome);
    // However it ended. The answer waits until the workload goes on.
    run_child(
        [this]() -> Result<std::string> {
          ignore_result(runtime_.resume(id_));
          return std::string();
        },
        [this, token, outcome](const Result<std::string>&) { on_files_end(token, outcome); });
  };
  auto begun = run_command(loop_, command, body, done);
  if (!begun.ok()) {
    streams_.drop(token);
    return std::move(begun).error();
  }
  FilesJob& job = files_[token];
  job.pid = *begun;
  job.order = next_order_++;
  return {};
}

void Agent::on_files_end(const std::string& token, Result<std::string> outcome) {
  const auto found = files_.find(token);
  if (found == files_.end()) return;
  FilesJob& job = found->second;
  if (job.waiters.empty()) {
    job.outcome = std::move(outcome);
    return;
  }
  const Reply reply = job.waiters.front();
  files_.erase(found);
  streams_.drop_unopened(token);
  reply(std::move(outcome));
}

void Agent::end_files(const proto::EndFilesRequest& request, Reply reply) {
  const auto found = files_.find(request.token());
  if (found == files_.end()) return reply(errorf(ErrorKind::kNotFound, "no such work on files"));
  if (request.input_ended()) streams_.close_input_after(request.token(), request.input_bytes());
  FilesJob& job = found->second;
  if (job.outcome) {
    Result<std::string> outcome = std::move(*job.outcome);
    files_.erase(found);
    streams_.drop_unopened(request.token());
    return reply(std::move(outcome));
  }
  if (!job.waiters.empty()) return reply(errorf(ErrorKind::kConflict, "somebody waits for it already"));
  job.waiters.push_back(std::move(reply));
}

}  // namespace hull::guest
