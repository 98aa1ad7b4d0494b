#pragma once
// Answers of servers, for as long as they say, the least recently used going first when there are too many.

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "net/dns/message.h"

namespace hull::net::dns {

/// What makes two questions the same: the text holds name, type, flags and the servers that are asked.
using QuestionKey = std::string;

struct CachedAnswer {
  Message message;
  Answer answer;
};

class Cache {
 public:
  Cache(size_t most_entries, size_t most_bytes) : most_entries_(most_entries), most_bytes_(most_bytes) {}

  /// How long an answer may be kept, in seconds; 0: not at all. Failures of a server never are. RFC 2308 for negative
  /// ones, at most five minutes; at most a day for others.
  static uint32_t lifetime(const Answer& answer);

  void put(const QuestionKey& key, std::shared_ptr<const CachedAnswer> answer, int64_t now_ms);
  struct Hit {
    std::shared_ptr<const CachedAnswer> answer;
    uint32_t age_seconds = 0;
  };
  std::optional<Hit> get(const QuestionKey& key, int64_t now_ms);
  void clear();

  size_t entries() const { return order_.size(); }
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    const QuestionKey* key = nullptr;
    std::shared_ptr<const CachedAnswer> answer;
    int64_t put_ms = 0, dies_ms = 0;
    size_t bytes = 0;
  };
  using Order = std::list<Entry>;
  void drop(Order::iterator entry);
  size_t most_entries_, most_bytes_, bytes_ = 0;
  Order order_;  // the most recently used first
  std::map<QuestionKey, Order::iterator> entries_;
};

}  // namespace hull::net::dns
