#include "cli/images/progress_view.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/json_writer.h"
#include "base/units.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

using store::LayerState;

constexpr std::chrono::milliseconds kFrame{80};
constexpr int kBarWidth = 30;

bool can_draw(int fd) {
  if (::isatty(fd) == 0) return false;
  const char* term = ::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

winsize window_of(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    size.ws_col = 80;
    size.ws_row = 24;
  }
  return size;
}

bool g_json = false;

void write_json(std::string line) {
  line += '\n';
  if (!sys::write_all(STDOUT_FILENO, line).ok()) ::_exit(1);
}

/// Docker's message about one layer; `total` 0: without figures.
void print_layer(const std::string& id, std::string_view status, uint64_t done, uint64_t total) {
  JsonWriter w;
  w.object([&] {
    w.member("status", status);
    w.object("progressDetail", [&] {
      if (total == 0) return;
      w.member("current", done);
      w.member("total", total);
    });
    if (total > 0) {
      const auto filled = static_cast<size_t>(std::min<uint64_t>(50, done * 50 / total));
      std::string bar(filled, '=');
      bar += '>';
      bar.resize(50, ' ');
      w.member("progress", fmt::format("[{}]  {}/{}", bar, format_size(done), format_size(total)));
    }
    w.member("id", id);
  });
  write_json(std::move(w).take());
}

bool moves_bytes(LayerState state) { return state == LayerState::kDownloading || state == LayerState::kPushing; }

}  // namespace

void set_json_output() { g_json = true; }
bool json_output() { return g_json; }

void print_json(std::string_view member, std::string_view text) {
  JsonWriter w;
  w.object([&] { w.member(member, text); });
  write_json(std::move(w).take());
}

void print_json_error(const Error& error) {
  JsonWriter w;
  w.object([&] {
    w.object("errorDetail", [&] { w.member("message", error.message()); });
    w.member("error", error.message());
    w.member("kind", to_string(error.kind()));
  });
  write_json(std::move(w).take());
}

std::string_view words_for(LayerState state) {
  switch (state) {
    case LayerState::kPending:
      return "Pulling fs layer";
    case LayerState::kWaiting:
      return "Waiting for another pull";
    case LayerState::kDownloading:
      return "Downloading";
    case LayerState::kDone:
      return "Pull complete";
    case LayerState::kExists:
      return "Already exists";
    case LayerState::kPreparing:
      return "Preparing";
    case LayerState::kPushing:
      return "Pushing";
    case LayerState::kPushed:
      return "Pushed";
    case LayerState::kMounted:
      return "Mounted from another repository";
    case LayerState::kRemoteExists:
      return "Layer already exists";
  }
  return "";
}

ProgressView::ProgressView(int fd, bool quiet)
    : fd_(fd),
      style_(json_output()  ? Style::kJson
             : quiet        ? Style::kQuiet
             : can_draw(fd) ? Style::kTerminal
                            : Style::kPlain) {}

ProgressView::~ProgressView() { finish(); }

void ProgressView::write(std::string_view text) { ignore_result(sys::write_all(fd_, text)); }

ProgressView::Row& ProgressView::row(const std::string& id) {
  const auto [it, fresh] = index_.emplace(id, rows_.size());
  if (fresh) rows_.push_back({id, LayerState::kPending, 0, 0});
  return rows_[it->second];
}

void ProgressView::line(std::string_view text) {
  const std::lock_guard guard(mutex_);
  if (style_ == Style::kQuiet) return;
  if (style_ == Style::kJson) return print_json("status", text);
  if (drawn_ > 0) {
    // Above the rows: clear them, write, draw again.
    write(fmt::format("\x1b[{}A\x1b[J{}\n", drawn_, text));
    drawn_ = 0;
    draw(false);
    return;
  }
  write(fmt::format("{}\n", text));
}

void ProgressView::layer(const std::string& id, LayerState state) {
  const std::lock_guard guard(mutex_);
  Row& one = row(id);
  const bool changed = one.state != state || one.state == LayerState::kPending;
  one.state = state;
  if (style_ == Style::kTerminal) {
    draw(false);
  } else if (style_ == Style::kJson) {
    if (changed) print_layer(id, words_for(state), 0, 0);
  } else if (style_ == Style::kPlain && changed && !moves_bytes(state)) {
    write(fmt::format("{}: {}\n", id, words_for(state)));
  }
}

void ProgressView::bytes(const std::string& id, uint64_t done, uint64_t total) {
  if (style_ != Style::kTerminal && style_ != Style::kJson) return;
  const std::lock_guard guard(mutex_);
  Row& one = row(id);
  one.done = done;
  one.total = total;
  if (style_ == Style::kJson) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_draw_ < kFrame) return;
    last_draw_ = now;
    return print_layer(id, words_for(one.state), done, total);
  }
  if (std::chrono::steady_clock::now() - last_draw_ >= kFrame) draw(false);
}

void ProgressView::finish() {
  const std::lock_guard guard(mutex_);
  if (style_ != Style::kTerminal || rows_.empty()) return;
  draw(true);
  rows_.clear();
  index_.clear();
  drawn_ = 0;
}

std::string ProgressView::text_of(const Row& one, int columns) const {
  std::string out = fmt::format("{}: {}", one.id, words_for(one.state));
  if (moves_bytes(one.state) && one.done > 0) {
    const std::string numbers =
        one.total > 0 ? fmt::format("{}/{}", format_size(one.done), format_size(one.total)) : format_size(one.done);
    if (one.total > 0 && columns > static_cast<int>(out.size() + numbers.size()) + kBarWidth + 6) {
      const auto filled = static_cast<int>(std::min<uint64_t>(kBarWidth, one.done * kBarWidth / one.total));
      std::string bar(static_cast<size_t>(filled), '=');
      if (filled < kBarWidth) bar += '>';
      bar.resize(kBarWidth, ' ');
      out += fmt::format(" [{}]", bar);
    }
    out += " " + numbers;
  }
  // A line that wraps would break the counting of lines.
  if (static_cast<int>(out.size()) >= columns) out.resize(static_cast<size_t>(std::max(1, columns - 1)));
  return out;
}

void ProgressView::draw(bool last) {
  const winsize window = window_of(fd_);
  std::string frame;
  if (drawn_ > 0) frame += fmt::format("\x1b[{}A", drawn_);
  // More rows than the terminal has: finished ones are left out, until the last frame.
  const size_t room = window.ws_row > 3 ? window.ws_row - 2U : 1U;
  std::vector<const Row*> shown;
  for (const Row& one : rows_) shown.push_back(&one);
  if (!last && shown.size() > room) {
    std::erase_if(shown, [](const Row* one) {
      return one->state == LayerState::kDone || one->state == LayerState::kExists ||
             one->state == LayerState::kPushed || one->state == LayerState::kRemoteExists ||
             one->state == LayerState::kMounted;
    });
    if (shown.size() > room) shown.resize(room);
  }
  frame += "\x1b[J";
  for (const Row* one : shown) frame += text_of(*one, window.ws_col) + "\n";
  drawn_ = static_cast<int>(shown.size());
  last_draw_ = std::chrono::steady_clock::now();
  write(frame);
}

}  // namespace hull::cli
