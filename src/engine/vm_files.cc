#include "engine/vm_files.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/units.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

constexpr size_t kMaxSaid = 16 << 10;
constexpr size_t kMaxAnswer = 64 << 10;

/// A program inside, its streams joined with the caller's ends until it has ended. Returns its exit code.
class Inside {
 public:
  Inside(Engine& engine, const std::string& id) : engine_(engine), id_(id) {}

  Result<int> run(std::vector<std::string> words, const ByteGiver& source, const ByteTaker& sink) {
    ExecConfig config;
    program_ = words[0];
    config.cmd = std::move(words);
    config.user = "0";
    config.working_dir = "/";
    config.open_stdin = static_cast<bool>(source);
    auto started = engine_.exec(id_, config, std::nullopt);
    if (!started.ok()) {
      if (started.error().error_number() != ENOENT) return std::move(started).error();
      return errorf(ErrorKind::kUnsupported,
                    "copying files into and out of a virtual machine takes the program {} in its image", program_);
    }
    Engine::ExecHandle handle = std::move(*started);
    const auto before = ::signal(SIGPIPE, SIG_IGN);
    auto moved = pump(handle.streams, source, sink);
    ::signal(SIGPIPE, before);
    handle.streams = Attachment();  // whoever still writes gets to know
    TRY_ASSIGN(const ExitInfo info, engine_.wait_exec(handle));
    TRY(std::move(moved));
    return info.code;
  }
  Error failure(int code) const {
    return errorf(ErrorKind::kIo, "{} inside the virtual machine ended with {}: {}", program_, code,
                  said_.empty() ? "it said nothing" : said_);
  }
  const std::string& said() const { return said_; }

 private:
  Result<void> pump(Attachment& streams, const ByteGiver& source, const ByteTaker& sink) {
    std::vector<char> buffer(128 << 10);
    std::string pending;
    if (streams.input && ::fcntl(streams.input.get(), F_SETFL, O_NONBLOCK) != 0) return errno_error("set up a pipe");
    while (streams.output || streams.error) {
      if (streams.input && pending.empty()) {
        TRY_ASSIGN(const size_t got, source(buffer.data(), buffer.size()));
        pending.assign(buffer.data(), got);
        if (got == 0) streams.input.reset();
      }
      pollfd watched[3] = {{streams.output ? streams.output.get() : -1, POLLIN, 0},
                           {streams.error ? streams.error.get() : -1, POLLIN, 0},
                           {streams.input ? streams.input.get() : -1, POLLOUT, 0}};
      if (::poll(watched, 3, -1) < 0 && errno != EINTR) return errno_error("wait for the virtual machine");
      if (watched[0].revents != 0) {
        const ssize_t got = ::read(streams.output.get(), buffer.data(), buffer.size());
        if (got <= 0) {
          streams.output.reset();
        } else {
          TRY(sink(std::string_view(buffer.data(), static_cast<size_t>(got))));
        }
      }
      if (watched[1].revents != 0) {
        const ssize_t got = ::read(streams.error.get(), buffer.data(), buffer.size());
        if (got <= 0) {
          streams.error.reset();
        } else if (said_.size() < kMaxSaid) {
          said_.append(buffer.data(), static_cast<size_t>(got));
        }
      }
      if (watched[2].revents != 0) {
        const ssize_t put = ::write(streams.input.get(), pending.data(), pending.size());
        if (put > 0) pending.erase(0, static_cast<size_t>(put));
        if (put < 0 && errno != EAGAIN && errno != EINTR) streams.input.reset();  // it does not want any more
      }
    }
    while (said_.ends_with('\n')) said_.pop_back();
    return {};
  }

  Engine& engine_;
  const std::string& id_;
  std::string program_, said_;
};

struct Answer {
  int code = 0;
  std::string text;
  std::string said;
};
Result<Answer> ask(Engine& engine, const std::string& id, std::vector<std::string> words) {
  Answer answer;
  Inside inside(engine, id);
  TRY_ASSIGN(answer.code, inside.run(std::move(words), {}, [&](std::string_view bytes) -> Result<void> {
    if (answer.text.size() < kMaxAnswer) answer.text += bytes;
    return {};
  }));
  while (answer.text.ends_with('\n')) answer.text.pop_back();
  answer.said = inside.said();
  return answer;
}

/// The folder that tar works in, what it is asked for, and what that is called.
struct Split {
  std::string folder, name, base;
};
Split split(std::string_view path) {
  if (path.ends_with("/.") || path == ".") return {std::string(path), ".", "."};
  std::string clean = "/" + sys::clean_path(path);
  if (clean == "/") return {"/", ".", "/"};
  const size_t slash = clean.rfind('/');
  std::string base = clean.substr(slash + 1);
  return {slash == 0 ? "/" : clean.substr(0, slash), base, base};
}

}  // namespace

Result<PathStat> vm_path_stat(Engine& engine, const std::string& id, std::string_view path) {
  const std::string full = path.starts_with('/') ? std::string(path) : "/" + std::string(path);
  TRY_ASSIGN(const Answer answer, ask(engine, id, {"stat", "-c", "%f %s %Y", "--", full}));
  if (answer.code != 0) {
    return errorf(ErrorKind::kNotFound, "Could not find the file {} in container {} ({})", path, id.substr(0, 12),
                  answer.said);
  }
  PathStat out;
  out.name = split(full).base;
  const size_t first = answer.text.find(' '), second = answer.text.find(' ', first + 1);
  if (second == std::string::npos || first > 8) {
    return errorf(ErrorKind::kUnavailable, "stat in the virtual machine gave no answer that can be read");
  }
  for (const char c : answer.text.substr(0, first)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return errorf(ErrorKind::kUnavailable, "stat in the virtual machine: no mode");
    out.mode = out.mode << 4 | static_cast<uint32_t>(digit ? c - '0' : c - 'a' + 10);
  }
  TRY_ASSIGN(const int64_t size, parse_int(answer.text.substr(first + 1, second - first - 1), 0, INT64_MAX));
  TRY_ASSIGN(const int64_t seconds, parse_int(answer.text.substr(second + 1), 0, 9'000'000'000));
  out.size = static_cast<uint64_t>(size);
  out.modified = std::chrono::system_clock::time_point(std::chrono::seconds(seconds));
  if (out.is_link()) {
    TRY_ASSIGN(const Answer link, ask(engine, id, {"readlink", "-f", "--", full}));
    out.link_target = link.code == 0 && link.text.starts_with('/') ? link.text : full;
  }
  return out;
}

Result<void> vm_archive_get(Engine& engine, const std::string& id, std::string_view path,
                            const std::function<Result<void>(const PathStat&)>& on_stat, const ByteTaker& sink) {
  TRY_ASSIGN(const PathStat stat, vm_path_stat(engine, id, path));
  TRY(on_stat(stat));
  const Split at = split(path.starts_with('/') ? std::string(path) : "/" + std::string(path));
  Inside inside(engine, id);
  TRY_ASSIGN(const int code, inside.run({"tar", "-C", at.folder, "-cf", "-", "--", at.name}, {}, sink));
  if (code != 0) return inside.failure(code);
  return {};
}

Result<void> vm_archive_put(Engine& engine, const std::string& id, std::string_view path, const PutOptions& options,
                            const ByteGiver& source) {
  TRY_ASSIGN(const PathStat stat, vm_path_stat(engine, id, std::string(path) + "/."));
  if (!stat.is_folder()) return errorf(ErrorKind::kInvalid, "extraction point is not a directory");
  Inside inside(engine, id);
  std::vector<std::string> words = {"tar", "-C", path.starts_with('/') ? std::string(path) : "/" + std::string(path),
                                    "-xf", "-"};
  if (options.to_container_user) words.insert(words.begin() + 1, "-o");
  TRY_ASSIGN(const int code, inside.run(std::move(words), source, [](std::string_view) { return Result<void>(); }));
  if (code != 0) return inside.failure(code);
  return {};
}

}  // namespace hull::engine
