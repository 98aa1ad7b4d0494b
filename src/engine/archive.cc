// Files into and out of a workload, as archives.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/image_view.h"
#include "engine/plain_source.h"
#include "engine/vm_files.h"
#include "engine/workload_files.h"
#include "runtime/user_lookup.h"
#include "sys/file.h"
#include "tar/pack.h"
#include "tar/unpack.h"

namespace hull::engine {
uint32_t go_file_mode(uint32_t mode) {
  uint32_t out = mode & 0777;
  switch (mode & S_IFMT) {
    case S_IFDIR:
      out |= 1U << 31;
      break;
    case S_IFLNK:
      out |= 1U << 27;
      break;
    case S_IFBLK:
      out |= 1U << 26;
      break;
    case S_IFCHR:
      out |= 1U << 26 | 1U << 21;
      break;
    case S_IFIFO:
      out |= 1U << 25;
      break;
    case S_IFSOCK:
      out |= 1U << 24;
      break;
    default:
      break;
  }
  if ((mode & S_ISUID) != 0) out |= 1U << 23;
  if ((mode & S_ISGID) != 0) out |= 1U << 22;
  if ((mode & S_ISVTX) != 0) out |= 1U << 20;
  return out;
}

Result<PathStat> EngineImpl::path_stat(std::string_view ref, std::string_view path) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  if (row.isolation == Isolation::kVm) {
    TRY_ASSIGN(const MachineFiles files, machine_files(row));
    return files.stat(path);
  }
  TRY_ASSIGN(const WorkloadFiles files, open_files(row));
  return tar::path_stat(files.root, path, row.name);
}

Result<void> EngineImpl::archive_get(std::string_view ref, std::string_view path,
                                     const std::function<Result<void>(const PathStat&)>& on_stat,
                                     const ByteTaker& sink) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  if (row.isolation == Isolation::kVm) {
    TRY_ASSIGN(const MachineFiles files, machine_files(row));
    TRY(files.get(path, on_stat, sink));
  } else {
    TRY_ASSIGN(const WorkloadFiles files, open_files(row));
    TRY(tar::path_get(files.root, path, row.name, on_stat, sink));
  }
  emit_workload(row, "archive-path");
  return {};
}

/// A machine that does not run can't be asked.
Result<MachineFiles> EngineImpl::machine_files(const WorkloadRow& row) {
  TRY_ASSIGN(const RunState state, settled_state(row));
  if (state.status != Status::kRunning && state.status != Status::kPaused) {
    return errorf(ErrorKind::kConflict,
                  "{} is a virtual machine that does not run: its disk is read by the machine alone; start it first "
                  "('hull start {}')",
                  row.name, row.name);
  }
  if (state.status == Status::kPaused) {
    return errorf(ErrorKind::kConflict,
                  "{} is a paused virtual machine: who reads its files inside stands still too; unpause it first "
                  "('hull unpause {}')",
                  row.name, row.name);
  }
  TRY_ASSIGN(std::string user, user_of(row));
  struct stat disk{};
  if (::stat(paths_.scratch_disk(row.id).c_str(), &disk) != 0) return errnof("the disk of {}", row.name);
  return MachineFiles(vm_driver_->command(), row.id, row.name, std::move(user), static_cast<uint64_t>(disk.st_size));
}

Result<std::string> EngineImpl::user_of(const WorkloadRow& row) {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::string json, names->config(row.id));
  TRY_ASSIGN(const Config config, parse_config(json));
  return config.user;
}

Result<void> EngineImpl::archive_put(std::string_view ref, std::string_view path, const PutOptions& options,
                                     const ByteGiver& sent) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  PlainSource plain(sent, settings_.libexec + "/hull-kernel");
  const ByteGiver source = [&plain](char* buffer, size_t size) { return plain.read(buffer, size); };
  if (row.isolation == Isolation::kVm) {
    TRY_ASSIGN(const MachineFiles files, machine_files(row));
    TRY(files.put(path, options, source));
  } else {
    TRY_ASSIGN(const WorkloadFiles files, open_files(row));
    tar::UnpackOptions unpack;
    unpack.no_overwrite_dir_non_dir = options.no_overwrite_dir_non_dir;
    if (options.to_container_user) {
      TRY_ASSIGN(const std::string name, user_of(row));
      TRY_ASSIGN(const runtime::ResolvedUser user, runtime::resolve_user(files.root, name, {}));
      unpack.owner = {user.uid, user.gid};
    }
    TRY(tar::path_put(files.root, path, row.name, std::move(unpack), source));
  }
  emit_workload(row, "extract-to-dir");
  return {};
}

Result<void> EngineImpl::pack_all(const WorkloadRow& row, const ByteTaker& sink) {
  tar::TarWriter writer(sink);
  tar::Packer packer(writer, {.same_mount = true});
  TRY_ASSIGN(const std::optional<sys::Root> running, running_root(row.id));
  if (running) {
    TRY(packer.tree(running->fd(), ".", ""));
  } else {
    // Read-only, without what is mounted: nothing keeps it from starting meanwhile.
    TRY_ASSIGN(std::vector<std::string> stack, layers_of(row));
    stack.insert(stack.begin(), paths_.workload(row.id) + "/upper");
    TRY_ASSIGN(const sys::Root view, open_stack(stack));
    TRY(packer.tree(view.fd(), ".", ""));
  }
  return writer.finish();
}

Result<void> EngineImpl::export_files(std::string_view ref, const ByteTaker& sink) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  if (row.isolation == Isolation::kVm) {
    TRY_ASSIGN(const MachineFiles files, machine_files(row));
    TRY(files.export_all(sink));
  } else {
    TRY(pack_all(row, sink));
  }
  emit_workload(row, "export");
  return {};
}

}  // namespace hull::engine
