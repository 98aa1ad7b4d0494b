#pragma once
// What happened to workloads, images, volumes and networks: Docker's events, one JSON object a line in
// <data>/events/log. Whichever process makes a change appends one line with one write; nobody has to be listening and
// no daemon has to run. The file is bounded: when it is full it becomes log.1, whose predecessor goes.
//
// Writers hold a shared flock on the file while they write, who rotates an exclusive one, so that nothing is written to
// a file that a follower has already left behind. A lock that can't be had at once is done without: an event never
// holds up the change that it tells of.

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace hull::engine {

struct Event {
  std::string type;    // container, image, volume, network, daemon
  std::string action;  // create, start, die ...; "exec_start: sh", "health_status: healthy"
  std::string actor;   // id (or name, of a volume)
  std::map<std::string, std::string> attributes;
  int64_t time_ns = 0;  // 0: now
};

/// Docker's document on one line. `legacy`: with the members status, id and from that older clients read.
std::string to_json(const Event& event, bool legacy);
Result<Event> parse_event(std::string_view line);

struct EventFilter {
  std::optional<std::chrono::system_clock::time_point> since, until;
  std::multimap<std::string, std::string> filters;
  /// Goes on with what happens from now on, up to `until`. Otherwise only what is on record.
  bool follow = true;
  /// Ends the following when it is readable or hung up; -1: none.
  int stop_fd = -1;
};
/// An error ends the reading and is returned.
using EventSink = std::function<Result<void>(const Event& event)>;

/// kInvalid "invalid filter 'x'".
Result<void> check_event_filters(const std::multimap<std::string, std::string>& filters);
/// Docker's rules: names are alternatives within one filter, filters must all hold, labels must all be there;
/// container, image, network, volume and daemon match an id, a name or the beginning of one.
bool matches(const Event& event, const std::multimap<std::string, std::string>& filters);

class EventLog {
 public:
  static constexpr uint64_t kFileLimit = 8 << 20;
  /// Longer lines lose their labels.
  static constexpr size_t kLineLimit = 64 << 10;

  explicit EventLog(std::string folder, uint64_t file_limit = kFileLimit)
      : folder_(std::move(folder)), file_limit_(file_limit) {}

  /// Appends. A change that was made is not undone because nobody can be told: callers ignore the error.
  Result<void> write(Event event) const;
  /// Without since and until only what happens from now on.
  Result<void> read(const EventFilter& filter, const EventSink& sink) const;

 private:
  std::string current() const { return folder_ + "/log"; }
  std::string previous() const { return folder_ + "/log.1"; }
  Result<UniqueFd> open_for_append() const;
  void rotate() const;

  std::string folder_;
  uint64_t file_limit_;
};

}  // namespace hull::engine
