#pragma once
// DNS messages (RFC 1035, EDNS0: RFC 6891). Everything here reads bytes from containers and from the network: no
// pointer is followed forward or without end, nothing is allocated by a length that a message names.
//
// Names are kept in wire form without compression and in lower case ("\3www\7example\0"): comparing them is comparing
// strings, and a label may hold any byte.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/address.h"

namespace hull::net::dns {

using Bytes = std::span<const uint8_t>;
using Message = std::vector<uint8_t>;

inline constexpr size_t kHeaderSize = 12, kLongestName = 255, kLongestLabel = 63;
inline constexpr size_t kClassicUdpSize = 512;  ///< what a client without EDNS0 takes
/// What we ask for, and the most that we send over UDP: fits every path without fragments (DNS flag day 2020).
inline constexpr uint16_t kOurUdpSize = 1232;
inline constexpr size_t kLongestMessage = 65535;

enum class Rcode : uint8_t { kOk = 0, kFormErr = 1, kServFail = 2, kNxDomain = 3, kNotImp = 4, kRefused = 5 };
enum RecordType : uint16_t {
  kTypeA = 1,
  kTypeCname = 5,
  kTypeSoa = 6,
  kTypePtr = 12,
  kTypeAaaa = 28,
  kTypeOpt = 41,
  kTypeIxfr = 251,
  kTypeAxfr = 252,
  kTypeMailb = 253,
  kTypeMaila = 254,
};
inline constexpr uint16_t kClassIn = 1;

/// Reads a name at `at` of the message, following compression pointers backwards only; `at` ends behind it. Nothing
/// when it is malformed or longer than 255 bytes.
std::optional<std::string> read_name(Bytes message, size_t& at);
/// "www.example" (a trailing dot is allowed) as wire form in lower case; nothing when a label or the whole is too long.
std::optional<std::string> name_from_text(std::string_view text);
/// Back: "www.example", "" for the root. Nothing when a label holds a dot or a byte that is not printable.
std::optional<std::string> name_to_text(std::string_view name);
/// The address that a name below in-addr.arpa or ip6.arpa stands for.
std::optional<IpAddress> address_of_pointer(std::string_view name);
/// "2.1.0.10.in-addr.arpa" in wire form, for an address.
std::string pointer_of_address(const IpAddress& address);

/// What a client asks.
struct Query {
  uint16_t id = 0;
  bool recursion_desired = false, checking_disabled = false, authentic_data = false;
  bool edns = false, dnssec_ok = false;
  size_t udp_size = kClassicUdpSize;  ///< what it takes over UDP
  std::string name;                   ///< wire form, lower case
  uint16_t type = 0, klass = 0;
  Message question;  ///< as it was sent (some clients compare the case of letters)
};
struct ParsedQuery {
  /// kAnswer: `query` is whole. kRefuse: to be answered with `rcode` (query holds id and, perhaps, the question).
  /// kDrop: no query at all (an answer, too short): nothing may be sent back, lest two servers talk for ever.
  enum class What : uint8_t { kAnswer, kRefuse, kDrop } what = What::kDrop;
  Rcode rcode = Rcode::kFormErr;
  Query query;
};
ParsedQuery parse_query(Bytes message);

/// An answer of a server that has been walked through to its end.
struct Answer {
  uint16_t id = 0;
  uint16_t flags = 0;
  unsigned rcode = 0;  ///< with EDNS0's upper bits
  bool truncated = false;
  std::string name;  ///< of the question
  uint16_t type = 0, klass = 0;
  uint16_t answers = 0, authorities = 0, additionals = 0;  ///< additionals without OPT
  size_t end = 0;                                          ///< of the records that are kept: without OPT
  size_t question_end = 0;
  std::vector<uint16_t> record_ends;     ///< of each answer record, in order
  std::vector<uint16_t> ttl_offsets;     ///< of all records that are kept
  std::optional<uint32_t> lowest_ttl;    ///< of answer and authority records; nothing without any
  std::optional<uint32_t> negative_ttl;  ///< from the SOA of an answer without answer records (RFC 2308)
};
/// Nothing when it is malformed, has no or several questions, or is no answer.
std::optional<Answer> parse_answer(Bytes message);

/// A query of ours with EDNS0 unless `edns` is false.
Message make_query(uint16_t id, std::string_view name, uint16_t type, uint16_t klass, bool dnssec_ok,
                   bool checking_disabled, bool edns);

/// Turns a server's whole answer into the one for a client: its id and question, its EDNS0 or none, TTLs less
/// `age_seconds`, and when it is longer than `limit` as many answer records as fit, marked as truncated.
Message answer_for(const Query& query, Bytes message, const Answer& answer, uint32_t age_seconds, size_t limit);

/// An answer of our own.
class AnswerWriter {
 public:
  AnswerWriter(const Query& query, Rcode rcode, bool authoritative);
  /// Records of the question's own name.
  void add_address(const IpAddress& address, uint32_t ttl_seconds);
  void add_pointer(std::string_view name, uint32_t ttl_seconds);
  /// At most `limit` bytes; what does not fit is left out and the truncation marked.
  Message finish(size_t limit);

 private:
  void add(uint16_t type, uint32_t ttl_seconds, const void* data, size_t size);
  const Query& query_;
  Message out_;
  std::vector<size_t> ends_;
};

/// The most bytes for this client: its UDP size (512 to 1232), or all that a message can have over TCP.
size_t limit_of(const Query& query, bool tcp);

}  // namespace hull::net::dns
