#pragma once
// Answers that a client on a kept connection asks for again and again (lists, inspect documents): kept as long as
// nothing changed, and never longer than a second.
//
// What changed is seen from outside: each change of workloads is a commit in the engine's index or a line in the
// journal of events, each start and each removal changes the folder of runs, and the end of a program makes its pidfd
// readable before anybody is told of the end. A second is the limit for what none of these shows (a monitor that was
// killed, the age in "Up 5 seconds").

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "engine/engine.h"

namespace hull::api {

class AnswerCache {
 public:
  /// The state of everything that says "something changed". Taken before the engine is asked.
  struct Token {
    std::vector<int64_t> values;
    bool steady = false;  // nothing was written so recently that a further write could look the same
    bool operator==(const Token&) const = default;
  };
  static Token token(const engine::Settings& settings);

  /// A kept answer that is still true; null when there is none.
  const std::string* find(std::string_view key, const engine::Settings& settings);
  /// Keeps an answer that was made after `before`. `pids`: the running workloads that it tells of.
  void keep(std::string_view key, Token before, std::string body, const std::vector<int>& pids);

 private:
  struct Entry {
    std::string key, body;
    Token token;
    std::chrono::steady_clock::time_point made;
    UniqueFd ends;  // epoll of the programs' pidfds
    std::vector<UniqueFd> programs;
  };
  static constexpr size_t kMostEntries = 4, kMostBody = 4 << 20, kMostPrograms = 2048;
  std::vector<Entry> entries_;
};

}  // namespace hull::api
