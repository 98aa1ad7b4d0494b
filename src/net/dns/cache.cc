#include "net/dns/cache.h"

#include <algorithm>

namespace hull::net::dns {
namespace {

constexpr uint32_t kLongestSeconds = 86'400, kLongestNegativeSeconds = 300;
constexpr size_t kOverheadBytes = 400;  // nodes of list and map, the parsed form

}  // namespace

uint32_t Cache::lifetime(const Answer& answer) {
  if (answer.truncated) return 0;
  const bool name_error = answer.rcode == static_cast<unsigned>(Rcode::kNxDomain);
  if (answer.rcode != 0 && !name_error) return 0;
  if (name_error || answer.answers == 0) return std::min(answer.negative_ttl.value_or(0), kLongestNegativeSeconds);
  return std::min(answer.lowest_ttl.value_or(0), kLongestSeconds);
}

void Cache::drop(Order::iterator entry) {
  bytes_ -= entry->bytes;
  const auto named = entries_.find(*entry->key);
  order_.erase(entry);
  entries_.erase(named);
}

void Cache::put(const QuestionKey& key, std::shared_ptr<const CachedAnswer> answer, int64_t now_ms) {
  const uint32_t seconds = lifetime(answer->answer);
  if (seconds == 0) return;
  const size_t bytes = key.size() + answer->message.size() + 2 * answer->answer.ttl_offsets.size() +
                       2 * answer->answer.record_ends.size() + kOverheadBytes;
  if (bytes > most_bytes_ / 4) return;  // one answer may not push all others out
  if (const auto old = entries_.find(key); old != entries_.end()) drop(old->second);
  order_.push_front({nullptr, std::move(answer), now_ms, now_ms + int64_t{seconds} * 1000, bytes});
  order_.front().key = &entries_.emplace(key, order_.begin()).first->first;
  bytes_ += bytes;
  while (order_.size() > most_entries_ || bytes_ > most_bytes_) drop(std::prev(order_.end()));
}

std::optional<Cache::Hit> Cache::get(const QuestionKey& key, int64_t now_ms) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return std::nullopt;
  const auto entry = found->second;
  if (now_ms >= entry->dies_ms) {
    drop(entry);
    return std::nullopt;
  }
  order_.splice(order_.begin(), order_, entry);
  return Hit{entry->answer, static_cast<uint32_t>((now_ms - entry->put_ms) / 1000)};
}

void Cache::clear() {
  entries_.clear();
  order_.clear();
  bytes_ = 0;
}

}  // namespace hull::net::dns
