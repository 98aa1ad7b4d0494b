#include "compose/follow.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/units.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

constexpr int kColours[] = {36, 33, 32, 35, 34, 96, 93, 92, 95, 94};

/// Lines may come in parts; what is printed are whole ones.
class LineWriter {
 public:
  LineWriter(std::string prefix, bool timestamps) : prefix_(std::move(prefix)), timestamps_(timestamps) {}

  Result<void> write(int stream, engine::TimePoint when, std::string_view data) {
    std::string& part = parts_[stream == 2 ? 1 : 0];
    while (!data.empty()) {
      if (part.empty()) part = begin(when);
      const size_t end = data.find('\n');
      part += data.substr(0, end);
      data.remove_prefix(end == std::string_view::npos ? data.size() : end + 1);
      constexpr size_t kMostLine = 256 << 10;
      if (end == std::string_view::npos && part.size() < kMostLine) break;
      TRY(flush(part));
    }
    return {};
  }
  Result<void> finish() {
    for (std::string& part : parts_) {
      if (!part.empty()) TRY(flush(part));
    }
    return {};
  }

 private:
  std::string begin(engine::TimePoint when) const {
    return timestamps_ ? fmt::format("{}{} ", prefix_, format_rfc3339(when)) : prefix_;
  }
  static Result<void> flush(std::string& line) {
    line += '\n';
    auto written = sys::write_all(STDOUT_FILENO, line);
    line.clear();
    return written;
  }

  std::string prefix_;
  bool timestamps_;
  std::string parts_[2];
};

}  // namespace

Prefixes::Prefixes(const std::vector<Container>& containers, const std::string& project, const FollowOptions& options)
    : project_(project), prefix_(options.prefix), colours_(options.colours) {
  for (const Container& one : containers) {
    width_ = std::max(width_, short_name(one).size());
    if (std::find(services_.begin(), services_.end(), one.service) == services_.end()) services_.push_back(one.service);
  }
}

std::string Prefixes::short_name(const Container& container) const {
  const std::string start = project_ + "-";
  return container.name.starts_with(start) ? container.name.substr(start.size()) : container.name;
}

std::string Prefixes::of(const Container& container) const {
  if (!prefix_) return "";
  const std::string text = fmt::format("{:<{}}  | ", short_name(container), width_);
  if (!colours_) return text;
  const auto at =
      static_cast<size_t>(std::find(services_.begin(), services_.end(), container.service) - services_.begin());
  return fmt::format("\x1b[{}m{}\x1b[0m", kColours[at % std::size(kColours)], text);
}

Result<void> print_log(engine::Engine& engine, const Container& container, const std::string& prefix,
                       const engine::LogOptions& options) {
  LineWriter writer(prefix, options.timestamps);
  auto done = engine.logs(container.id, options, [&](int stream, engine::TimePoint when, std::string_view data) {
    return writer.write(stream, when, data);
  });
  TRY(writer.finish());
  return done;
}

Followers::~Followers() {
  for (const Running& one : running_) ::kill(one.pid, SIGKILL);
  for (const Running& one : running_) {
    while (::waitpid(one.pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

Result<void> Followers::add(const Container& container, const std::string& prefix, const engine::LogOptions& options,
                            bool show, bool wait) {
  TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errnof("start a process to follow {}", container.name);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    auto engine = App::open_engine();
    if (!engine.ok()) ::_exit(1);
    if (show) {
      auto printed = print_log(**engine, container, prefix, options);
      // Who reads no longer is told nothing more; a log that can't be read is told once.
      if (!printed.ok() && printed.error().error_number() != EPIPE) {
        ignore_result(
            sys::write_all(STDERR_FILENO, fmt::format("hull: {}: {}\n", container.name, printed.error().message())));
      }
    }
    if (wait) {
      auto ended = (*engine)->wait(container.id, "not-running");
      if (ended.ok()) ignore_result(sys::write_all(pipe.write_end.get(), std::to_string(ended->code)));
    }
    ::_exit(0);
  }
  running_.push_back({container, pid, std::move(pipe.read_end)});
  return {};
}

std::optional<Followers::Ended> Followers::next(int signal_fd) {
  while (!running_.empty()) {
    std::vector<pollfd> waits = {{signal_fd, POLLIN, 0}};
    for (const Running& one : running_) waits.push_back({one.answer.get(), POLLIN, 0});
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;  // EINTR
    if ((waits[0].revents & POLLIN) != 0) {
      interrupted_ = take_signal(signal_fd) != 0;
      if (interrupted_) return std::nullopt;
    }
    for (size_t i = 1; i < waits.size(); ++i) {
      if (waits[i].revents == 0) continue;
      Running one = std::move(running_[i - 1]);
      running_.erase(running_.begin() + static_cast<ptrdiff_t>(i - 1));
      Ended ended = {std::move(one.container), std::nullopt};
      const auto text = sys::read_all(one.answer.get(), 100);
      while (::waitpid(one.pid, nullptr, 0) < 0 && errno == EINTR) {
      }
      if (text.ok()) {
        if (const auto code = parse_int(*text, 0, 255); code.ok()) ended.code = static_cast<int>(*code);
      }
      return ended;
    }
  }
  return std::nullopt;
}

Result<UniqueFd> catch_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return errnof("block signals");
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return errnof("signalfd");
  return fd;
}

int take_signal(int signal_fd) {
  signalfd_siginfo info{};
  if (::read(signal_fd, &info, sizeof info) != sizeof info) return 0;
  return static_cast<int>(info.ssi_signo);
}

}  // namespace hull::compose
