// diff and commit: what a workload has written, and an image made of it.
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/engine_impl.h"
#include "engine/image_view.h"
#include "engine/pipe_signal.h"
#include "engine/process.h"
#include "engine/vm_files.h"
#include "sys/file.h"
#include "tar/changes.h"

namespace hull::engine {
namespace {

constexpr size_t kMaxAnswer = 64 << 10;

/// The part of a workload's configuration that an image keeps.
oci::ImageConfig image_config(const oci::ImageConfig& parent, const Config& config, const CommitRequest& request) {
  oci::ImageConfig image = parent;
  image.created = format_rfc3339(std::chrono::system_clock::now());
  image.author = request.author;
  oci::ImageRunConfig& run = image.config;
  run.user = config.user;
  run.env = config.env;
  run.cmd = config.cmd;
  run.entrypoint = config.entrypoint.value_or(std::vector<std::string>());
  run.working_dir = config.working_dir;
  run.labels = config.labels;
  run.stop_signal = config.stop_signal;
  run.exposed_ports = config.exposed_ports;
  return image;
}

}  // namespace

Result<std::vector<FileChange>> EngineImpl::changes(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  if (row.isolation == Isolation::kVm) {
    TRY_ASSIGN(const MachineFiles files, machine_files(row));
    return files.changes();
  }
  TRY_ASSIGN(const std::vector<std::string> layers, layers_of(row));
  TRY_ASSIGN(const sys::Root lower, open_stack(layers));
  TRY_ASSIGN(const sys::Root upper, sys::Root::open(paths_.workload(row.id) + "/upper"));
  return tar::layer_changes(upper, lower);
}

Result<void> EngineImpl::write_layer(const WorkloadRow& row, bool pause, const ByteTaker& sink) {
  if (row.isolation == Isolation::kVm) {
    TRY_ASSIGN(const MachineFiles files, machine_files(row));
    return files.layer(pause, sink);
  }
  TRY_ASSIGN(const std::vector<std::string> layers, layers_of(row));
  TRY_ASSIGN(const sys::Root lower, open_stack(layers));
  TRY_ASSIGN(const sys::Root upper, sys::Root::open(paths_.workload(row.id) + "/upper"));
  return tar::write_layer(upper, lower, sink);
}

Result<std::string> EngineImpl::write_image(const WorkloadRow& row, const oci::ImageConfig& config,
                                            const CommitRequest& request) {
  TRY_ASSIGN(const UniqueFd document, sys::sealed_memfd("hull-commit", oci::to_json(config)));
  TRY_ASSIGN(sys::Pipe archive, sys::make_pipe());
  TRY_ASSIGN(sys::Pipe answer, sys::make_pipe());
  TRY_ASSIGN(sys::Pipe complaint, sys::make_pipe());
  SpawnRequest program;
  program.argv = {
      settings_.libexec + "/hull-images", "commit", "--config", "/proc/self/fd/3", "--message", request.comment};
  for (const std::string& change : request.changes) program.argv.insert(program.argv.end(), {"--change", change});
  program.argv.push_back(row.image_id);
  if (!request.reference.empty()) program.argv.push_back(request.reference);
  program.fds = {
      {0, archive.read_end.get()}, {1, answer.write_end.get()}, {2, complaint.write_end.get()}, {3, document.get()}};
  TRY_ASSIGN(Child child, spawn(program));
  archive.read_end.reset();
  answer.write_end.reset();
  complaint.write_end.reset();
  Result<void> written;
  {
    const IgnorePipeSignal ignored;
    written = write_layer(row, request.pause, tar::sink_to(archive.write_end.get()));
  }
  // An archive that was broken off is not to become an image. A reader that gave up tells why itself.
  if (!written.ok() && written.error().error_number() != EPIPE) {
    ::syscall(SYS_pidfd_send_signal, child.pidfd.get(), SIGKILL, nullptr, 0);
    ignore_result(wait_for(child));
    return std::move(written).context("read the files of " + row.name).error();
  }
  archive.write_end.reset();
  std::string id = sys::read_all(answer.read_end.get(), kMaxAnswer).value_or("");
  std::string said = sys::read_all(complaint.read_end.get(), kMaxAnswer).value_or("");
  TRY_ASSIGN(const int code, wait_for(child));
  while (id.ends_with('\n')) id.pop_back();
  while (said.ends_with('\n')) said.pop_back();
  if (code != 0) {
    if (const size_t at = said.rfind(": commit: "); at != std::string::npos) said = said.substr(at + 10);
    return errorf(ErrorKind::kInvalid, "commit {}: {}", row.name, said);
  }
  return id;
}

Result<std::string> EngineImpl::commit(std::string_view ref, const CommitRequest& request) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(const Config config, parse_config(json));
  TRY_ASSIGN(const store::Image parent, images_->find(row.image_id));
  const RunState state = read_state(paths_, row.id);
  bool paused = false;
  // A machine stands still as a whole, with who would read its files: its agent halts the workload alone.
  if (request.pause && state.status == Status::kRunning && row.isolation == Isolation::kContainer) {
    auto done = pause(row.id);
    paused = done.ok();
    if (!done.ok() && read_state(paths_, row.id).status == Status::kRunning) return std::move(done).error();
  }
  auto id = write_image(row, image_config(parent.config, config, request), request);
  if (paused) ignore_result(unpause(row.id));
  if (!id.ok()) return id;
  emit_workload(row, "commit", {{"comment", request.comment}, {"imageID", *id}, {"imageRef", request.reference}});
  return id;
}

}  // namespace hull::engine
