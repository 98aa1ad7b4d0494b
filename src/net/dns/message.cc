#include "net/dns/message.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace hull::net::dns {
namespace {

constexpr uint16_t kFlagAnswer = 0x8000, kFlagAuthoritative = 0x0400, kFlagTruncated = 0x0200;
constexpr uint16_t kFlagRecursionDesired = 0x0100, kFlagRecursionAvailable = 0x0080;
constexpr uint16_t kFlagAuthenticData = 0x0020, kFlagCheckingDisabled = 0x0010;
constexpr uint16_t kDnssecOk = 0x8000;
constexpr size_t kRecordFixed = 10;  // type, class, TTL, length of the data
constexpr size_t kOptSize = 11;
constexpr int kMostPointers = 64;
constexpr unsigned kMostRecordsOfQuery = 8;
constexpr uint32_t kHighestTtl = 0x7fffffff;  // RFC 2181, 8

uint16_t get16(Bytes m, size_t at) { return static_cast<uint16_t>(m[at] << 8 | m[at + 1]); }
uint32_t get32(Bytes m, size_t at) { return uint32_t{get16(m, at)} << 16 | get16(m, at + 2); }
void set16(Message& m, size_t at, uint16_t value) {
  m[at] = static_cast<uint8_t>(value >> 8);
  m[at + 1] = static_cast<uint8_t>(value);
}
void set32(Message& m, size_t at, uint32_t value) {
  set16(m, at, static_cast<uint16_t>(value >> 16));
  set16(m, at + 2, static_cast<uint16_t>(value));
}
void put16(Message& m, uint16_t value) {
  m.push_back(static_cast<uint8_t>(value >> 8));
  m.push_back(static_cast<uint8_t>(value));
}
void put32(Message& m, uint32_t value) {
  put16(m, static_cast<uint16_t>(value >> 16));
  put16(m, static_cast<uint16_t>(value));
}
void put_text(Message& m, std::string_view text) { m.insert(m.end(), text.begin(), text.end()); }

char lower(uint8_t c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); }

struct Record {
  uint16_t type = 0, klass = 0;
  uint32_t ttl = 0;
  size_t start = 0, ttl_at = 0, data = 0, end = 0;
  bool root_name = false;
};

std::optional<Record> read_record(Bytes m, size_t& at) {
  Record out;
  out.start = at;
  const auto name = read_name(m, at);
  if (!name || m.size() - at < kRecordFixed) return std::nullopt;
  out.root_name = name->size() == 1;
  out.type = get16(m, at);
  out.klass = get16(m, at + 2);
  out.ttl = get32(m, at + 4);
  out.ttl_at = at + 4;
  const size_t size = get16(m, at + 8);
  at += kRecordFixed;
  if (m.size() - at < size) return std::nullopt;
  out.data = at;
  at += size;
  out.end = at;
  return out;
}

void put_opt(Message& m, bool dnssec_ok) {
  m.push_back(0);
  put16(m, kTypeOpt);
  put16(m, kOurUdpSize);
  put32(m, dnssec_ok ? kDnssecOk : 0);
  put16(m, 0);
}

// RFC 2308, 5: the lesser of the SOA's own TTL and its last field.
std::optional<uint32_t> soa_ttl(Bytes m, const Record& record) {
  size_t at = record.data;
  const auto primary = read_name(m, at);
  const auto mailbox = primary ? read_name(m, at) : std::nullopt;
  if (!mailbox || at > record.end || record.end - at != 20) return std::nullopt;
  return std::min(record.ttl, get32(m, at + 16));
}

int nibble_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

std::optional<std::string> read_name(Bytes m, size_t& at) {
  std::string out;
  size_t here = at, lowest = at;
  std::optional<size_t> behind;
  for (int pointers = 0;;) {
    if (here >= m.size()) return std::nullopt;
    const uint8_t size = m[here];
    if ((size & 0xc0) == 0xc0) {
      if (here + 1 >= m.size() || ++pointers > kMostPointers) return std::nullopt;
      const size_t target = get16(m, here) & 0x3fff;
      if (!behind) behind = here + 2;
      if (target >= lowest || target < kHeaderSize) return std::nullopt;  // only backwards: no loops
      here = lowest = target;
      continue;
    }
    if (size > kLongestLabel || here + 1 + size > m.size()) return std::nullopt;
    if (out.size() + 1 + size > kLongestName) return std::nullopt;
    out.push_back(static_cast<char>(size));
    for (size_t i = 1; i <= size; ++i) out.push_back(lower(m[here + i]));
    here += 1 + size;
    if (size == 0) break;
  }
  at = behind ? *behind : here;
  return out;
}

std::optional<std::string> name_from_text(std::string_view text) {
  std::string out;
  if (!text.empty() && text.back() == '.') text.remove_suffix(1);
  while (!text.empty()) {
    const size_t dot = text.find('.');
    const std::string_view label = text.substr(0, dot);
    if (label.empty() || label.size() > kLongestLabel) return std::nullopt;
    out.push_back(static_cast<char>(label.size()));
    for (const char c : label) out.push_back(lower(static_cast<uint8_t>(c)));
    if (dot == std::string_view::npos) break;
    text.remove_prefix(dot + 1);
    if (text.empty()) return std::nullopt;  // "a.." had one dot taken already
  }
  out.push_back('\0');
  if (out.size() > kLongestName) return std::nullopt;
  return out;
}

std::optional<std::string> name_to_text(std::string_view name) {
  std::string out;
  for (size_t at = 0; at < name.size() && name[at] != 0;) {
    const auto size = static_cast<uint8_t>(name[at]);
    const std::string_view label = name.substr(at + 1, size);
    for (const char c : label) {
      if (c <= 0x20 || c >= 0x7f || c == '.') return std::nullopt;
    }
    if (!out.empty()) out += '.';
    out += label;
    at += 1u + size;
  }
  return out;
}

std::optional<IpAddress> address_of_pointer(std::string_view name) {
  const auto text = name_to_text(name);
  if (!text) return std::nullopt;
  constexpr std::string_view kV4 = ".in-addr.arpa", kV6 = ".ip6.arpa";
  std::string_view rest = *text;
  if (rest.ends_with(kV4)) {
    rest.remove_suffix(kV4.size());
    std::string forward;
    for (int i = 0; i < 4; ++i) {
      const size_t dot = rest.rfind('.');
      const std::string_view part = dot == std::string_view::npos ? rest : rest.substr(dot + 1);
      if (i != 0) forward += '.';
      forward += part;
      if ((dot == std::string_view::npos) != (i == 3)) return std::nullopt;
      rest = rest.substr(0, i == 3 ? 0 : dot);
    }
    auto address = IpAddress::parse(forward);
    return address.ok() && address->is_v4() ? std::optional(*address) : std::nullopt;
  }
  if (!rest.ends_with(kV6)) return std::nullopt;
  rest.remove_suffix(kV6.size());
  if (rest.size() != 63) return std::nullopt;
  std::array<uint8_t, 16> bytes{};
  for (size_t i = 0; i < 32; ++i) {
    const int value = nibble_of(rest[2 * i]);
    if (value < 0 || (i < 31 && rest[2 * i + 1] != '.')) return std::nullopt;
    const size_t nibble = 31 - i;  // the name begins with the lowest
    bytes[nibble / 2] = static_cast<uint8_t>(bytes[nibble / 2] | value << (nibble % 2 == 0 ? 4 : 0));
  }
  return IpAddress::from_bytes(Family::kV6, bytes.data());
}

std::string pointer_of_address(const IpAddress& address) {
  std::string text;
  if (address.is_v4()) {
    for (int i = 3; i >= 0; --i) text += std::to_string(address.data()[i]) + '.';
    text += "in-addr.arpa";
  } else {
    constexpr std::string_view kDigits = "0123456789abcdef";
    for (int i = 15; i >= 0; --i) {
      text += kDigits[address.data()[i] & 15];
      text += '.';
      text += kDigits[address.data()[i] >> 4];
      text += '.';
    }
    text += "ip6.arpa";
  }
  return name_from_text(text).value_or(std::string(1, '\0'));
}

ParsedQuery parse_query(Bytes m) {
  ParsedQuery out;
  if (m.size() < kHeaderSize || m.size() > kLongestMessage) return out;
  const uint16_t flags = get16(m, 2);
  if ((flags & kFlagAnswer) != 0) return out;
  Query& query = out.query;
  query.id = get16(m, 0);
  query.recursion_desired = (flags & kFlagRecursionDesired) != 0;
  query.checking_disabled = (flags & kFlagCheckingDisabled) != 0;
  query.authentic_data = (flags & kFlagAuthenticData) != 0;
  out.what = ParsedQuery::What::kRefuse;
  if ((flags & 0x7800) != 0) {
    out.rcode = Rcode::kNotImp;
    return out;
  }
  const unsigned records = unsigned{get16(m, 6)} + get16(m, 8) + get16(m, 10);
  if (get16(m, 4) != 1 || records > kMostRecordsOfQuery) return out;
  size_t at = kHeaderSize;
  const auto name = read_name(m, at);
  if (!name || m.size() - at < 4) return out;
  query.name = *name;
  query.type = get16(m, at);
  query.klass = get16(m, at + 2);
  at += 4;
  query.question.assign(m.begin() + kHeaderSize, m.begin() + static_cast<ptrdiff_t>(at));
  // A compressed question can't be told from its own bytes, and no resolver sends one.
  if (query.question.size() != query.name.size() + 4) {
    query.question.clear();
    return out;
  }
  for (unsigned i = 0; i < records; ++i) {
    const auto record = read_record(m, at);
    if (!record) return out;
    if (record->type != kTypeOpt) continue;
    if (query.edns || !record->root_name || i < records - get16(m, 10)) return out;  // RFC 6891, 6.1.1
    query.edns = true;
    query.dnssec_ok = (record->ttl & kDnssecOk) != 0;
    query.udp_size = std::clamp<size_t>(record->klass, kClassicUdpSize, kOurUdpSize);
    if ((record->ttl >> 16 & 0xff) != 0) {  // a version that is not ours: BADVERS needs the upper bits, refuse
      out.rcode = Rcode::kNotImp;
      return out;
    }
  }
  if (at != m.size()) return out;  // something follows
  out.what = ParsedQuery::What::kAnswer;
  out.rcode = Rcode::kOk;
  return out;
}

std::optional<Answer> parse_answer(Bytes m) {
  if (m.size() < kHeaderSize || m.size() > kLongestMessage) return std::nullopt;
  Answer out;
  out.id = get16(m, 0);
  out.flags = get16(m, 2);
  if ((out.flags & kFlagAnswer) == 0 || (out.flags & 0x7800) != 0 || get16(m, 4) != 1) return std::nullopt;
  out.rcode = out.flags & 15;
  out.truncated = (out.flags & kFlagTruncated) != 0;
  size_t at = kHeaderSize;
  auto name = read_name(m, at);
  if (!name || m.size() - at < 4) return std::nullopt;
  out.name = std::move(*name);
  out.type = get16(m, at);
  out.klass = get16(m, at + 2);
  at += 4;
  if (at - kHeaderSize != out.name.size() + 4) return std::nullopt;
  out.question_end = out.end = at;
  if (out.truncated) return out;  // nothing of it is used: it is asked again over TCP
  const std::array<uint16_t, 3> counts{get16(m, 6), get16(m, 8), get16(m, 10)};
  size_t ttls_before_additionals = 0, end_before_additionals = 0;
  bool after_opt = false;
  for (size_t section = 0; section < 3; ++section) {
    if (section == 2) {
      ttls_before_additionals = out.ttl_offsets.size();
      end_before_additionals = at;
    }
    for (unsigned i = 0; i < counts[section]; ++i) {
      const auto record = read_record(m, at);
      if (!record) return std::nullopt;
      if (record->type == kTypeOpt) {
        if (section != 2 || after_opt) return std::nullopt;
        out.rcode |= (record->ttl >> 24) << 4;
        after_opt = true;
        continue;
      }
      if (section == 2) {
        // Records behind the OPT record can't be moved (names point into them): then the section goes, which is
        // only extra information.
        if (after_opt) {
          out.additionals = 0;
          out.end = end_before_additionals;
          out.ttl_offsets.resize(ttls_before_additionals);
          continue;
        }
        ++out.additionals;
      }
      out.end = record->end;
      if (record->ttl_at > UINT16_MAX || record->end > UINT16_MAX) return std::nullopt;
      out.ttl_offsets.push_back(static_cast<uint16_t>(record->ttl_at));
      if (section == 2) continue;
      const uint32_t ttl = record->ttl > kHighestTtl ? 0 : record->ttl;
      out.lowest_ttl = std::min(out.lowest_ttl.value_or(ttl), ttl);
      if (section == 0) out.record_ends.push_back(static_cast<uint16_t>(record->end));
      if (section == 1 && record->type == kTypeSoa && !out.negative_ttl) out.negative_ttl = soa_ttl(m, *record);
    }
  }
  if (after_opt && out.end < end_before_additionals) out.end = end_before_additionals;
  out.answers = counts[0];
  out.authorities = counts[1];
  return out;
}

Message make_query(uint16_t id, std::string_view name, uint16_t type, uint16_t klass, bool dnssec_ok,
                   bool checking_disabled, bool edns) {
  Message out;
  out.reserve(kHeaderSize + name.size() + 4 + kOptSize);
  put16(out, id);
  put16(out, static_cast<uint16_t>(kFlagRecursionDesired | (checking_disabled ? kFlagCheckingDisabled : 0) |
                                   (dnssec_ok ? kFlagAuthenticData : 0)));
  put16(out, 1);
  put16(out, 0);
  put16(out, 0);
  put16(out, edns ? 1 : 0);
  put_text(out, name);
  put16(out, type);
  put16(out, klass);
  if (edns) put_opt(out, dnssec_ok);
  return out;
}

Message answer_for(const Query& query, Bytes m, const Answer& answer, uint32_t age_seconds, size_t limit) {
  size_t end = answer.end;
  uint16_t answers = answer.answers, authorities = answer.authorities, additionals = answer.additionals;
  uint16_t flags = answer.flags;
  const size_t opt = query.edns ? kOptSize : 0;
  if (end + opt > limit) {
    additionals = authorities = answers = 0;
    end = answer.question_end;
    for (const uint16_t record_end : answer.record_ends) {
      if (record_end + opt > limit) break;
      end = record_end;
      ++answers;
    }
    flags |= kFlagTruncated;
  }
  Message out(m.begin(), m.begin() + static_cast<ptrdiff_t>(end));
  set16(out, 0, query.id);
  flags = static_cast<uint16_t>(flags & ~(kFlagRecursionDesired | kFlagCheckingDisabled | kFlagAuthoritative));
  if (!query.dnssec_ok && !query.authentic_data) flags = static_cast<uint16_t>(flags & ~kFlagAuthenticData);
  flags |= kFlagRecursionAvailable;
  if (query.recursion_desired) flags |= kFlagRecursionDesired;
  if (query.checking_disabled) flags |= kFlagCheckingDisabled;
  set16(out, 2, flags);
  set16(out, 6, answers);
  set16(out, 8, authorities);
  set16(out, 10, static_cast<uint16_t>(additionals + (query.edns ? 1 : 0)));
  std::copy(query.question.begin(), query.question.end(), out.begin() + kHeaderSize);
  for (const uint16_t at : answer.ttl_offsets) {
    if (at >= end) break;
    const uint32_t ttl = get32(out, at);
    set32(out, at, ttl > kHighestTtl || ttl < age_seconds ? 0 : ttl - age_seconds);
  }
  if (query.edns) put_opt(out, query.dnssec_ok);
  return out;
}

AnswerWriter::AnswerWriter(const Query& query, Rcode rcode, bool authoritative) : query_(query) {
  uint16_t flags = kFlagAnswer | kFlagRecursionAvailable;
  if (authoritative) flags |= kFlagAuthoritative;
  if (query.recursion_desired) flags |= kFlagRecursionDesired;
  if (query.checking_disabled) flags |= kFlagCheckingDisabled;
  put16(out_, query.id);
  put16(out_, static_cast<uint16_t>(flags | static_cast<uint16_t>(rcode)));
  put16(out_, query.question.empty() ? 0 : 1);
  put16(out_, 0);
  put16(out_, 0);
  put16(out_, 0);
  out_.insert(out_.end(), query.question.begin(), query.question.end());
}

void AnswerWriter::add(uint16_t type, uint32_t ttl_seconds, const void* data, size_t size) {
  if (out_.size() + 2 + kRecordFixed + size + kOptSize > kLongestMessage) return;
  put16(out_, 0xc000 | kHeaderSize);
  put16(out_, type);
  put16(out_, kClassIn);
  put32(out_, ttl_seconds);
  put16(out_, static_cast<uint16_t>(size));
  const auto* bytes = static_cast<const uint8_t*>(data);
  out_.insert(out_.end(), bytes, bytes + size);
  ends_.push_back(out_.size());
}

void AnswerWriter::add_address(const IpAddress& address, uint32_t ttl_seconds) {
  add(address.is_v4() ? kTypeA : kTypeAaaa, ttl_seconds, address.data(), address.size());
}

void AnswerWriter::add_pointer(std::string_view name, uint32_t ttl_seconds) {
  add(kTypePtr, ttl_seconds, name.data(), name.size());
}

Message AnswerWriter::finish(size_t limit) {
  const size_t opt = query_.edns ? kOptSize : 0;
  size_t kept = ends_.size();
  while (kept > 0 && ends_[kept - 1] + opt > limit) --kept;
  if (kept < ends_.size()) {
    out_.resize(kept == 0 ? kHeaderSize + query_.question.size() : ends_[kept - 1]);
    set16(out_, 2, get16(out_, 2) | kFlagTruncated);
  }
  set16(out_, 6, static_cast<uint16_t>(kept));
  if (query_.edns) {
    set16(out_, 10, 1);
    put_opt(out_, query_.dnssec_ok);
  }
  return std::move(out_);
}

size_t limit_of(const Query& query, bool tcp) {
  return tcp ? kLongestMessage : std::clamp<size_t>(query.udp_size, kClassicUdpSize, kOurUdpSize);
}

}  // namespace hull::net::dns
