#include "engine/vm_files.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "engine/pipe_signal.h"
#include "sys/file.h"
#include "vm/files.h"
#include "vm/outcome.h"

namespace hull::engine {
namespace {

constexpr size_t kBuffer = 128 << 10;
constexpr size_t kLongestStat = 16 << 10;
constexpr int kReport = 3;

}  // namespace

// ---- One run of hull-oci-vm -----------------------------------------------------------------------------------------

/// Ends with the scope, whatever the program is doing then.
class MachineFiles::Run {
 public:
  static Result<Run> start(std::vector<std::string> program, std::vector<std::string> words, bool input) {
    Run run;
    int report[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) != 0) return errno_error("make a socket");
    run.report_.reset(report[0]);
    const UniqueFd theirs(report[1]);
    TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
    SpawnRequest request;
    request.argv = std::move(program);
    request.argv.insert(request.argv.end(), {"--log", "/dev/null", "files", "--report", std::to_string(kReport)});
    request.argv.insert(request.argv.end(), words.begin(), words.end());
    request.fds = {{input ? 0 : 1, input ? pipe.read_end.get() : pipe.write_end.get()}, {kReport, theirs.get()}};
    TRY_ASSIGN(run.child_, spawn(request));
    run.pipe_ = std::move(input ? pipe.write_end : pipe.read_end);
    return run;
  }
  Run(Run&&) = default;
  Run& operator=(Run&&) = delete;
  ~Run() {
    if (!child_.pidfd) return;
    ::syscall(SYS_pidfd_send_signal, child_.pidfd.get(), SIGKILL, nullptr, 0);
    ignore_result(wait_for(child_));
  }

  /// How the work has begun, or ended.
  Result<void> outcome() { return vm::receive_outcome(report_.get()); }
  Result<PathStat> stat() {
    std::string text(kLongestStat, '\0');
    const ssize_t got = ::recv(report_.get(), text.data(), text.size(), 0);
    if (got <= 0) return errorf(ErrorKind::kUnavailable, "hull-oci-vm has ended");
    return vm::decode_stat(std::string_view(text.data(), static_cast<size_t>(got)));
  }
  Result<void> read_all(const ByteTaker& sink) {
    std::vector<char> buffer(kBuffer);
    while (true) {
      const ssize_t got = ::read(pipe_.get(), buffer.data(), buffer.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return errno_error("read from hull-oci-vm");
      if (got == 0) return {};
      TRY(sink(std::string_view(buffer.data(), static_cast<size_t>(got))));
    }
  }
  /// A program that wants no more tells why in its outcome.
  Result<void> write_all(const ByteGiver& source) {
    const IgnorePipeSignal ignored;
    std::vector<char> buffer(kBuffer);
    while (true) {
      TRY_ASSIGN(const size_t got, source(buffer.data(), buffer.size()));
      if (got == 0 || !sys::write_all(pipe_.get(), std::string_view(buffer.data(), got)).ok()) break;
    }
    pipe_.reset();
    return {};
  }

 private:
  Run() = default;
  Child child_;
  UniqueFd report_, pipe_;
};

// ---- The work -------------------------------------------------------------------------------------------------------

/// In the words that are used of a container.
Error MachineFiles::told(Error error, std::string_view path) const {
  if (error.kind() != ErrorKind::kNotFound) return error;
  return errorf(ErrorKind::kNotFound, "Could not find the file {} in container {}", path, name_);
}

/// Of an archive of what is on its disk. Sparse files are longer there, so this is no tight limit, only an end.
uint64_t MachineFiles::most_bytes() const {
  constexpr uint64_t kTimes = 16, kAndMore = 1ULL << 30;
  return disk_bytes_ * kTimes + kAndMore;
}

Result<PathStat> MachineFiles::stat(std::string_view path) const {
  TRY_ASSIGN(Run run, Run::start(program_, {"stat", "--", id_, std::string(path)}, false));
  auto begun = run.outcome();
  if (!begun.ok()) return told(std::move(begun).error(), path);
  return run.stat();
}

Result<void> MachineFiles::get(std::string_view path, const std::function<Result<void>(const PathStat&)>& on_stat,
                               const ByteTaker& sink) const {
  TRY_ASSIGN(Run run, Run::start(program_, {"get", "--", id_, std::string(path)}, false));
  auto begun = run.outcome();
  if (!begun.ok()) return told(std::move(begun).error(), path);
  TRY_ASSIGN(const PathStat stat, run.stat());
  TRY(on_stat(stat));
  TRY(run.read_all(sink));
  return run.outcome();
}

Result<void> MachineFiles::put(std::string_view path, const PutOptions& options, const ByteGiver& source) const {
  std::vector<std::string> words;
  if (options.no_overwrite_dir_non_dir) words.emplace_back("--keep-kinds");
  if (options.to_container_user) words.push_back("--user=" + (user_.empty() ? std::string("0") : user_));
  words.insert(words.end(), {"put", "--", id_, std::string(path)});
  TRY_ASSIGN(Run run, Run::start(program_, std::move(words), true));
  auto begun = run.outcome();
  if (!begun.ok()) return told(std::move(begun).error(), path);
  TRY(run.write_all(source));
  auto ended = run.outcome();
  if (!ended.ok()) return told(std::move(ended).error(), path);
  return {};
}

Result<void> MachineFiles::fetch(std::vector<std::string> words, const ByteTaker& sink) const {
  words.insert(words.end(), {"--", id_});
  TRY_ASSIGN(Run run, Run::start(program_, std::move(words), false));
  TRY(run.outcome());
  uint64_t total = 0;
  TRY(run.read_all([&](std::string_view bytes) -> Result<void> {
    total += bytes.size();
    if (total > most_bytes()) {
      return errorf(ErrorKind::kCorrupt, "the virtual machine {} sends more than its disk can hold", name_);
    }
    return sink(bytes);
  }));
  return run.outcome();
}

Result<void> MachineFiles::export_all(const ByteTaker& sink) const { return fetch({"export"}, sink); }

Result<void> MachineFiles::layer(bool pause, const ByteTaker& sink) const {
  return fetch(pause ? std::vector<std::string>{"--pause", "layer"} : std::vector<std::string>{"layer"}, sink);
}

Result<std::vector<FileChange>> MachineFiles::changes() const {
  ChangeParser parser;
  TRY(fetch({"changes"}, [&](std::string_view bytes) { return parser.feed(bytes); }));
  return parser.finish();
}

// ---- Changes --------------------------------------------------------------------------------------------------------

Result<void> ChangeParser::add(std::string_view record) {
  FileChange change;
  switch (record.empty() ? '\0' : record[0]) {
    case 'C':
      break;
    case 'A':
      change.kind = FileChange::Kind::kAdded;
      break;
    case 'D':
      change.kind = FileChange::Kind::kDeleted;
      break;
    default:
      return errorf(ErrorKind::kCorrupt, "the virtual machine told nonsense of its changes");
  }
  change.path = record.substr(1);
  if (!change.path.starts_with('/')) {
    return errorf(ErrorKind::kCorrupt, "the virtual machine told nonsense of its changes");
  }
  found_.push_back(std::move(change));
  return {};
}

Result<void> ChangeParser::feed(std::string_view bytes) {
  total_ += bytes.size();
  if (total_ > kMaxBytes) {
    return errorf(ErrorKind::kNoSpace, "the virtual machine tells of changes of more than {} MiB", kMaxBytes >> 20);
  }
  while (!bytes.empty()) {
    const size_t end = bytes.find('\0');
    rest_.append(bytes.substr(0, end));
    if (end == std::string_view::npos) return {};
    TRY(add(rest_));
    rest_.clear();
    bytes.remove_prefix(end + 1);
  }
  return {};
}

Result<std::vector<FileChange>> ChangeParser::finish() {
  if (!rest_.empty()) return errorf(ErrorKind::kCorrupt, "the virtual machine broke off in the middle of its changes");
  return std::move(found_);
}

}  // namespace hull::engine
