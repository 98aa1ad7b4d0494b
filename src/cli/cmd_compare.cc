// compare: the same image and command behind both walls, measured in turns.
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/compare.h"
#include "cli/pump.h"
#include "cli/run_options.h"
#include "sys/file.h"
#include "sys/syscall_counter.h"

namespace hull::cli {
namespace {

using Clock = std::chrono::steady_clock;
using engine::Config;
using engine::Isolation;

constexpr int kMostRuns = 1000;
/// How often a workload is looked at in the run that is not timed.
constexpr int kLookMs = 100;

double ms_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

uint64_t available_memory() {
  const std::string text = sys::read_file("/proc/meminfo", 1 << 16).value_or("");
  const size_t at = text.find("MemAvailable:");
  if (at == std::string::npos) return 0;
  const size_t begin = text.find_first_of("0123456789", at);
  const size_t end = text.find(' ', begin);
  if (begin == std::string::npos || end == std::string::npos) return 0;
  return static_cast<uint64_t>(parse_int(std::string_view(text).substr(begin, end - begin), 0, 1LL << 50).value_or(0)) *
         1024;
}

/// One run of the workload: its streams are read here, hashed and dropped.
class Subject {
 public:
  Subject(engine::Engine& engine, const Config& config, engine::PullPolicy pull, int limit_ms, int signal_fd)
      : engine_(engine), config_(config), pull_(pull), limit_ms_(limit_ms), signal_fd_(signal_fd) {}
  ~Subject() {
    if (!id_.empty()) ignore_result(engine_.remove(id_, true, true));
  }
  Subject(const Subject&) = delete;
  Subject& operator=(const Subject&) = delete;

  /// Runs to the end. `side` also gets what the workload takes of the host, when it is given.
  Result<CompareRun> run(CompareSide* side);

 private:
  struct Stream {
    int fd;
    uint64_t bytes = 0;
    uint64_t hash = 14695981039346656037ULL;  // FNV-1a
    bool line = false;
  };
  Result<void> read_some(Stream& stream);
  void look(CompareSide* side);
  Result<void> follow(engine::Attachment& streams, CompareSide* side, CompareRun* out);

  engine::Engine& engine_;
  const Config& config_;
  engine::PullPolicy pull_;
  int limit_ms_, signal_fd_;
  std::string id_;
  Clock::time_point began_;
};

Result<void> Subject::read_some(Stream& stream) {
  char buffer[64 * 1024];
  const ssize_t got = ::read(stream.fd, buffer, sizeof buffer);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return {};
  if (got <= 0) {
    stream.fd = -1;
    return {};
  }
  for (ssize_t i = 0; i < got; ++i) {
    stream.hash = (stream.hash ^ static_cast<unsigned char>(buffer[i])) * 1099511628211ULL;
    stream.line = stream.line || buffer[i] == '\n';
  }
  stream.bytes += static_cast<uint64_t>(got);
  return {};
}

/// The most of what is seen counts: a program grows and shrinks.
void Subject::look(CompareSide* side) {
  const auto now = engine_.footprint(id_);
  if (!now.ok() || now->processes == 0) return;
  side->memory = std::max(side->memory.value_or(0), now->memory);
  side->processes = std::max(side->processes.value_or(0), now->processes);
  side->threads = std::max(side->threads.value_or(0), now->threads);
}

Result<void> Subject::follow(engine::Attachment& streams, CompareSide* side, CompareRun* out) {
  Stream both[2] = {{streams.output.get()}, {streams.error.get()}};
  bool looked = false;
  if (side != nullptr) look(side);
  while (both[0].fd >= 0 || both[1].fd >= 0) {
    pollfd watched[3] = {{both[0].fd, POLLIN, 0}, {both[1].fd, POLLIN, 0}, {signal_fd_, POLLIN, 0}};
    int wait_ms = side != nullptr ? kLookMs : -1;
    if (limit_ms_ > 0 && !out->stopped) {
      const int left = std::max(0, limit_ms_ - static_cast<int>(ms_since(began_)));
      wait_ms = wait_ms < 0 ? left : std::min(wait_ms, left);
    }
    if (::poll(watched, 3, wait_ms) < 0 && errno != EINTR) return errno_error("wait for output");
    if (watched[2].revents != 0) {
      signalfd_siginfo info{};
      if (::read(signal_fd_, &info, sizeof info) == sizeof info && info.ssi_signo != SIGWINCH) {
        return errorf(ErrorKind::kConflict, "interrupted");
      }
    }
    for (int i = 0; i < 2; ++i) {
      if (both[i].fd >= 0 && watched[i].revents != 0) TRY(read_some(both[i]));
    }
    if (!out->first_line_ms && (both[0].line || both[1].line)) out->first_line_ms = ms_since(began_);
    if (side != nullptr) {
      // Held still while it is looked at for the first time, since a short program may be about to end.
      const bool hold = !looked && out->first_line_ms && both[0].fd >= 0 && engine_.pause(id_).ok();
      looked = looked || out->first_line_ms.has_value();
      look(side);
      if (hold) ignore_result(engine_.unpause(id_));
    }
    if (limit_ms_ > 0 && !out->stopped && ms_since(began_) >= limit_ms_) {
      out->stopped = true;
      if (side != nullptr) side->disk = engine_.footprint(id_).value_or({}).disk;
      TRY(engine_.stop(id_, 5, ""));
    }
  }
  if (!out->first_line_ms && both[0].bytes + both[1].bytes > 0) out->first_line_ms = ms_since(began_);
  out->output_bytes = both[0].bytes + both[1].bytes;
  out->output_hash = both[0].hash * 31 + both[1].hash;
  return {};
}

Result<CompareRun> Subject::run(CompareSide* side) {
  CompareRun out;
  began_ = Clock::now();
  TRY_ASSIGN(const engine::Engine::Created created, engine_.create(config_, pull_));
  id_ = created.id;
  if (side != nullptr) side->emulated = !created.notices.empty();
  TRY_ASSIGN(std::optional<engine::Attachment> streams, engine_.start(id_, true, false));
  if (!streams) return errorf(ErrorKind::kInternal, "the workload's output can't be read");
  TRY(follow(*streams, side, &out));
  if (side != nullptr && !out.stopped) {
    // Ended, and not cleaned up before wait(): its files and its control group are still there.
    const auto last = engine_.footprint(id_);
    if (last.ok()) {
      side->disk = last->disk;
      if (!side->memory && last->memory_peak > 0) {
        side->memory = last->memory_peak;
        side->memory_is_charge = true;
      }
    }
  }
  TRY_ASSIGN(const engine::ExitInfo info, engine_.wait(id_, "not-running"));
  out.run_ms = ms_since(began_);
  out.exit_code = info.code;
  return out;
}

class Comparer {
 public:
  Comparer(Context& context, engine::Engine& engine, const RunOptions& options, int limit_ms, int signal_fd)
      : context_(context), engine_(engine), options_(options), limit_ms_(limit_ms), signal_fd_(signal_fd) {}

  Result<void> measure(int runs, Comparison* out) {
    // First the runs that count what a timed run must not: they also pull the image and warm caches.
    for (const Isolation isolation : {Isolation::kContainer, Isolation::kVm}) TRY(count(isolation, out));
    for (int i = 0; i < runs; ++i) {
      for (const Isolation isolation : {Isolation::kContainer, Isolation::kVm}) {
        CompareSide& side = side_of(isolation, out);
        if (!side.problem.empty()) continue;
        say(fmt::format("run {} of {} as {}", i + 1, runs, engine::to_string(isolation)));
        Subject subject(engine_, config_of(isolation), options_.pull, limit_ms_, signal_fd_);
        auto run = subject.run(nullptr);
        if (!run.ok()) return std::move(run).error();
        side.runs.push_back(*run);
      }
    }
    say("");
    return {};
  }

 private:
  static CompareSide& side_of(Isolation isolation, Comparison* out) {
    return isolation == Isolation::kVm ? out->vm : out->container;
  }
  const Config& config_of(Isolation isolation) {
    config_ = options_.config;
    config_.isolation = isolation;
    if (isolation == Isolation::kContainer) {
      config_.hypervisor.clear();
      config_.storage_opt.clear();
    }
    return config_;
  }
  Result<void> count(Isolation isolation, Comparison* out) {
    CompareSide& side = side_of(isolation, out);
    say(fmt::format("looking at it as {}", engine::to_string(isolation)));
    auto counter = sys::SyscallCounter::start();
    if (!counter.ok()) out->no_syscalls = counter.error().message();
    Subject subject(engine_, config_of(isolation), options_.pull, limit_ms_, signal_fd_);
    const auto run = subject.run(&side);
    if (!run.ok()) {
      if (run.error().message() == "interrupted") return run.error();
      side.problem = run.error().message();
      return {};
    }
    if (counter.ok()) {
      if (const auto calls = counter->count(); calls.ok()) side.syscalls = *calls;
    }
    return {};
  }
  /// On a terminal one line tells what is under way; "" takes it away.
  void say(const std::string& what) {
    if (!context_.err.is_terminal()) return;
    context_.err.print("\r\x1b[K{}", what);
    context_.err.flush();
  }

  Context& context_;
  engine::Engine& engine_;
  const RunOptions& options_;
  int limit_ms_, signal_fd_;
  Config config_;
};

Result<void> check_options(const RunOptions& options) {
  const Config& c = options.config;
  const auto refuse = [](std::string_view flag, std::string_view why) {
    return errorf(ErrorKind::kInvalid, "--{}: {}", flag, why);
  };
  if (c.tty || c.open_stdin) return refuse("interactive", "nobody types into what is compared");
  if (!c.name.empty()) return refuse("name", "several workloads are made, one after the other");
  if (!options.cidfile.empty()) return refuse("cidfile", "several workloads are made, one after the other");
  if (!options.attach.empty()) return refuse("attach", "the output of both is read to be compared");
  return {};
}

}  // namespace

Result<int> compare_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(RunOptions options, parse_run_options(parsed));
  TRY(check_options(options));
  const std::string_view format = parsed.value("format");
  if (!format.empty() && format != "json" && format != "table") {
    return errorf(ErrorKind::kInvalid, "--format {}: expected table or json", format);
  }
  const int64_t runs = parsed.number("runs").value_or(3);
  if (runs < 1 || runs > kMostRuns) return errorf(ErrorKind::kInvalid, "--runs {}: expected 1 to {}", runs, kMostRuns);
  const int64_t limit_s = parsed.number("limit").value_or(60);
  if (limit_s < 0 || limit_s > 86400) return errorf(ErrorKind::kInvalid, "--limit {}: expected 0 to 86400", limit_s);
  Comparison out;
  out.instances = parsed.number("instances").value_or(1);
  if (out.instances < 1) return errorf(ErrorKind::kInvalid, "--instances {}: expected 1 or more", out.instances);
  out.untrusted = parsed.on("untrusted");
  out.image = options.config.image;
  out.command = options.config.cmd;
  out.kernel_wishes = kernel_wishes(options.config);
  out.available_memory = available_memory();
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const SignalWatch signals, SignalWatch::start(false));
  Comparer comparer(context, *engine, options, static_cast<int>(limit_s * 1000), signals.fd());
  TRY(comparer.measure(static_cast<int>(runs), &out));
  if (parsed.has("svg")) {
    TRY(sys::replace_file(std::string(parsed.value("svg")), compare_svg(out), 0644, false));
  }
  context.out.write(format == "json" ? compare_json(out) : compare_table(out));
  return out.container.problem.empty() || out.vm.problem.empty() ? 0 : 1;
}

}  // namespace hull::cli
