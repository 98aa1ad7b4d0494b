#include "engine/events.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"
#include "engine/filter.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

constexpr std::array<std::string_view, 14> kFilterNames = {"config", "container", "daemon", "event",  "image",
                                                           "label",  "network",   "node",   "plugin", "scope",
                                                           "secret", "service",   "type",   "volume"};

void write_members(JsonWriter& w, const Event& event, bool legacy) {
  if (legacy && (event.type == "container" || event.type == "image")) {
    w.member("status", event.action);
    w.member("id", event.actor);
    if (const auto image = event.attributes.find("image");
        event.type == "container" && image != event.attributes.end()) {
      w.member("from", image->second);
    }
  }
  w.member("Type", event.type);
  w.member("Action", event.action);
  w.object("Actor", [&] {
    w.member("ID", event.actor);
    w.member("Attributes", event.attributes);
  });
  w.member("scope", "local");
  w.member("time", event.time_ns / 1'000'000'000);
  w.member("timeNano", event.time_ns);
}

bool exact_or_prefix(std::string_view text, std::string_view wanted) {
  return !wanted.empty() && text.starts_with(wanted);
}

std::string_view without_tag(std::string_view reference) {
  const size_t at = reference.find('@');
  if (at != std::string_view::npos) return reference.substr(0, at);
  const size_t slash = reference.rfind('/');
  const size_t colon = reference.find(':', slash == std::string_view::npos ? 0 : slash);
  return reference.substr(0, colon);
}

std::string_view attribute(const Event& event, const std::string& name) {
  const auto it = event.attributes.find(name);
  return it == event.attributes.end() ? std::string_view() : std::string_view(it->second);
}

bool image_matches(const Event& event, std::string_view wanted) {
  const std::string_view own = event.type == "image" ? std::string_view(event.actor) : attribute(event, "image");
  const std::string_view name = event.type == "image" ? attribute(event, "name") : own;
  return own == wanted || name == wanted || without_tag(own) == wanted || without_tag(name) == wanted;
}

/// "exec_start" finds "exec_start: sh".
bool action_matches(std::string_view action, std::string_view wanted) {
  return action == wanted ||
         (action.size() > wanted.size() && action.starts_with(wanted) && action[wanted.size()] == ':');
}

bool same_file(int fd, const std::string& path) {
  struct stat mine{}, named{};
  return ::fstat(fd, &mine) == 0 && ::stat(path.c_str(), &named) == 0 && mine.st_ino == named.st_ino &&
         mine.st_dev == named.st_dev;
}

}  // namespace

std::string to_json(const Event& event, bool legacy) {
  JsonWriter w;
  w.object([&] { write_members(w, event, legacy); });
  return std::move(w).take();
}

Result<Event> parse_event(std::string_view line) {
  Event event;
  JsonReader r(line);
  r.object([&](std::string_view key) {
    if (key == "Type") return r.value(event.type);
    if (key == "Action") return r.value(event.action);
    if (key == "timeNano") return r.value(event.time_ns);
    if (key != "Actor") return false;
    r.object([&](std::string_view inner) {
      if (inner == "ID") return r.value(event.actor);
      if (inner == "Attributes") return r.value(event.attributes);
      return false;
    });
    return true;
  });
  TRY(r.finish());
  if (event.type.empty() || event.action.empty()) return errorf(ErrorKind::kCorrupt, "event without type or action");
  return event;
}

Result<void> check_event_filters(const std::multimap<std::string, std::string>& filters) {
  for (const auto& [name, value] : filters) {
    if (std::find(kFilterNames.begin(), kFilterNames.end(), name) == kFilterNames.end()) {
      return errorf(ErrorKind::kInvalid, "invalid filter '{}'", name);
    }
  }
  return {};
}

bool matches(const Event& event, const std::multimap<std::string, std::string>& filters) {
  if (filters.empty()) return true;
  const auto object = [&](const std::string& name) {
    return any_value(filters, name, [&](const std::string& wanted) {
      return event.type == name &&
             (exact_or_prefix(event.actor, wanted) || exact_or_prefix(attribute(event, "name"), wanted));
    });
  };
  // What Hull has no objects of matches nothing.
  for (const char* absent : {"config", "node", "plugin", "secret", "service"}) {
    if (filters.contains(absent)) return false;
  }
  return any_value(filters, "type", [&](const std::string& v) { return v == event.type; }) &&
         any_value(filters, "event", [&](const std::string& v) { return action_matches(event.action, v); }) &&
         any_value(filters, "scope", [](const std::string& v) { return v == "local"; }) &&
         any_value(filters, "image", [&](const std::string& v) { return image_matches(event, v); }) &&
         object("container") && object("volume") && object("network") && object("daemon") &&
         all_values(filters, "label", [&](const std::string& v) { return has_label(event.attributes, v); });
}

/// A descriptor of the current file with a shared lock, where that can be had at once.
Result<UniqueFd> EventLog::open_for_append() const {
  constexpr int kFlags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW;
  const std::string path = current();
  for (int attempt = 0;; ++attempt) {
    auto opened = sys::open(path, kFlags, 0600);
    if (!opened.ok() && opened.error().error_number() == ENOENT) {
      TRY(sys::make_dirs(folder_));
      opened = sys::open(path, kFlags, 0600);
    }
    if (!opened.ok()) return std::move(opened).error();
    if (attempt == 8 || (::flock(opened->get(), LOCK_SH | LOCK_NB) == 0 && same_file(opened->get(), path))) {
      return opened;
    }
  }
}

void EventLog::rotate() const {
  const UniqueFd fd(::open(current().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  if (!fd) return;
  struct stat info{};
  // Who is writing keeps the lock for microseconds; one that was stopped there must not let the file grow for ever.
  const bool locked = ::flock(fd.get(), LOCK_EX | LOCK_NB) == 0;
  if (!same_file(fd.get(), current()) || ::fstat(fd.get(), &info) != 0) return;
  const auto size = static_cast<uint64_t>(info.st_size);
  if (size < file_limit_ || (!locked && size < 2 * file_limit_)) return;
  ::rename(current().c_str(), previous().c_str());
}

Result<void> EventLog::write(Event event) const {
  if (event.time_ns == 0) event.time_ns = now_ns();
  std::string line = to_json(event, false);
  if (line.size() > kLineLimit) {
    // Labels, a command line: what names the object stays.
    std::map<std::string, std::string> kept;
    for (const char* name : {"name", "image", "exitCode", "signal", "execID", "container", "driver"}) {
      if (const auto it = event.attributes.find(name); it != event.attributes.end()) {
        kept.emplace(it->first, it->second.substr(0, 4096));
      }
    }
    event.attributes = std::move(kept);
    event.action.resize(std::min<size_t>(event.action.size(), 4096));
    line = to_json(event, false);
  }
  line += '\n';
  TRY_ASSIGN(UniqueFd fd, open_for_append());
  const ssize_t written = ::write(fd.get(), line.data(), line.size());
  if (written != static_cast<ssize_t>(line.size())) {
    if (written < 0) return errnof("write to {}", current());
    // A full disk cut it off: the next event begins on a line of its own.
    static_cast<void>(!::write(fd.get(), "\n", 1));
    return errorf(ErrorKind::kNoSpace, "write to {}: the disk is full", current());
  }
  const off_t end = ::lseek(fd.get(), 0, SEEK_CUR);
  if (end > 0 && static_cast<uint64_t>(end) >= file_limit_) {
    fd.reset();
    rotate();
  }
  return {};
}

}  // namespace hull::engine
