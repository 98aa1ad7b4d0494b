#include "net/dns/message.h"

#include <gtest/gtest.h>

namespace hull::net::dns {
namespace {

Message bytes(std::string_view text) { return {text.begin(), text.end()}; }
std::string name(std::string_view text) { return name_from_text(text).value(); }

Query query_for(std::string_view text, uint16_t type, bool edns = false) {
  Message wire = make_query(0x1234, name(text), type, kClassIn, false, false, edns);
  const ParsedQuery parsed = parse_query(wire);
  EXPECT_EQ(parsed.what, ParsedQuery::What::kAnswer);
  return parsed.query;
}

// An answer of a server: records as (owner pointer to the question), and whatever is put behind.
struct ServerAnswer {
  explicit ServerAnswer(const Message& query) : wire(query) { wire[2] |= 0x80; }
  void record(int section, uint16_t type, uint32_t ttl, const std::string& data, bool root = false) {
    if (root) {
      wire.push_back(0);
    } else {
      wire.insert(wire.end(), {0xc0, 12});
    }
    for (const uint32_t part : {uint32_t{type}, uint32_t{type == kTypeOpt ? 1232u : 1u}}) {
      wire.push_back(static_cast<uint8_t>(part >> 8));
      wire.push_back(static_cast<uint8_t>(part));
    }
    for (int shift = 24; shift >= 0; shift -= 8) wire.push_back(static_cast<uint8_t>(ttl >> shift));
    wire.push_back(static_cast<uint8_t>(data.size() >> 8));
    wire.push_back(static_cast<uint8_t>(data.size()));
    wire.insert(wire.end(), data.begin(), data.end());
    ++wire[static_cast<size_t>(7 + 2 * section)];
  }
  Message wire;
};

TEST(Names, TextAndBack) {
  EXPECT_EQ(name("WWW.Example."), std::string("\3www\7example\0", 13));
  EXPECT_EQ(name_to_text(name("a.b-c.d")), "a.b-c.d");
  EXPECT_EQ(name(""), std::string(1, '\0'));
  for (const char* bad : {"a..b", ".a", "..", "a..", "."}) {
    if (std::string_view(bad) == ".") continue;
    EXPECT_FALSE(name_from_text(bad).has_value()) << bad;
  }
  EXPECT_FALSE(name_from_text(std::string(64, 'a')).has_value());
  std::string longest;
  for (int i = 0; i < 3; ++i) longest += std::string(63, 'a') + '.';
  EXPECT_TRUE(name_from_text(longest + std::string(61, 'b')).has_value());
  EXPECT_FALSE(name_from_text(longest + std::string(62, 'b')).has_value());
  EXPECT_FALSE(name_to_text(std::string("\3a.b\0", 5)).has_value()) << "a dot within a label";
}

TEST(Names, PointersGoBackwardsOnly) {
  Message m(kHeaderSize, 0);
  const Message question = bytes(std::string_view("\1a\0", 3));
  m.insert(m.end(), question.begin(), question.end());
  m.insert(m.end(), {1, 'b', 0xc0, 12});
  size_t at = 15;
  EXPECT_EQ(read_name(m, at), std::string("\1b\1a\0", 5));
  EXPECT_EQ(at, m.size());
  for (const uint8_t target : {15, 17, 18, 0, 11}) {  // itself, forwards, the header
    m.back() = target;
    at = 15;
    EXPECT_FALSE(read_name(m, at).has_value()) << int{target};
  }
  m.pop_back();
  at = 15;
  EXPECT_FALSE(read_name(m, at).has_value()) << "cut";
}

TEST(Names, Pointers) {
  const auto v4 = IpAddress::parse("10.1.0.2").value();
  const auto v6 = IpAddress::parse("fd00::1:2").value();
  EXPECT_EQ(name_to_text(pointer_of_address(v4)), "2.0.1.10.in-addr.arpa");
  EXPECT_EQ(address_of_pointer(pointer_of_address(v4)), v4);
  EXPECT_EQ(address_of_pointer(pointer_of_address(v6)), v6);
  for (const char* bad : {"1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "256.1.1.1.in-addr.arpa", "in-addr.arpa",
                          "x.ip6.arpa", "1.2.3.4"}) {
    EXPECT_FALSE(address_of_pointer(name(bad)).has_value()) << bad;
  }
}

TEST(Queries, Edns) {
  const Query plain = query_for("Web", kTypeA);
  EXPECT_FALSE(plain.edns);
  EXPECT_EQ(limit_of(plain, false), 512u);
  EXPECT_EQ(limit_of(plain, true), 65535u);
  const Query edns = query_for("web", kTypeAaaa, true);
  EXPECT_TRUE(edns.edns);
  EXPECT_EQ(limit_of(edns, false), 1232u);
}

TEST(Queries, WhatIsNoQueryIsDroppedOrRefused) {
  Message wire = make_query(7, name("a"), kTypeA, kClassIn, false, false, true);
  const auto what = [](Message m) { return parse_query(m).what; };
  Message answer = wire;
  answer[2] |= 0x80;
  EXPECT_EQ(what(answer), ParsedQuery::What::kDrop) << "an answer is never answered";
  EXPECT_EQ(what(Message(11, 0)), ParsedQuery::What::kDrop);
  Message notify = wire;
  notify[2] |= 0x20;
  EXPECT_EQ(parse_query(notify).rcode, Rcode::kNotImp);
  Message two = wire;
  two[5] = 2;
  EXPECT_EQ(what(two), ParsedQuery::What::kRefuse);
  Message trailing = wire;
  trailing.push_back(0);
  EXPECT_EQ(what(trailing), ParsedQuery::What::kRefuse);
  for (size_t size = kHeaderSize; size < wire.size(); ++size) {
    EXPECT_EQ(what(Message(wire.begin(), wire.begin() + static_cast<ptrdiff_t>(size))), ParsedQuery::What::kRefuse);
  }
  Message twice = wire;
  twice.insert(twice.end(), wire.end() - 11, wire.end());
  twice[11] = 2;
  EXPECT_EQ(what(twice), ParsedQuery::What::kRefuse) << "two OPT records";
}

TEST(Answers, OfOurOwn) {
  const Query query = query_for("Web", kTypeA, true);
  AnswerWriter writer(query, Rcode::kOk, true);
  writer.add_address(IpAddress::parse("10.0.0.1").value(), 5);
  const Message wire = writer.finish(512);
  const auto parsed = parse_answer(wire);
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(parsed->answers, 1);
  EXPECT_EQ(parsed->lowest_ttl, 5u);
  EXPECT_EQ(wire[2] & 0x04, 0x04) << "authoritative";
}

TEST(Answers, WhatDoesNotFitIsLeftOutAndSaid) {
  const Query query = query_for("web", kTypeA);
  AnswerWriter writer(query, Rcode::kOk, true);
  for (uint32_t i = 0; i < 200; ++i) writer.add_address(IpAddress::from_v4(i), 5);
  const Message wire = writer.finish(512);
  EXPECT_LE(wire.size(), 512u);
  EXPECT_EQ(wire[2] & 0x02, 0x02);
  EXPECT_EQ(wire[7], (512 - 21) / 16);
}

TEST(Answers, OfServersAreTurnedIntoTheClients) {
  ServerAnswer server(make_query(9, name("web"), kTypeA, kClassIn, false, false, false));
  server.record(0, kTypeA, 100, "\x01\x02\x03\x04");
  server.record(0, kTypeA, 50, "\x01\x02\x03\x05");
  server.record(2, kTypeOpt, 0, "", true);
  const auto answer = parse_answer(server.wire);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->lowest_ttl, 50u);
  const Query query = query_for("WEB", kTypeA);
  const Message out = answer_for(query, server.wire, *answer, 60, 512);
  const auto again = parse_answer(out);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->id, 0x1234);
  EXPECT_EQ(again->answers, 2);
  EXPECT_EQ(again->additionals, 0);
  EXPECT_EQ(again->end, out.size()) << "no OPT for who sent none";
  EXPECT_EQ(again->lowest_ttl, 0u) << "older than its time";
  const Query edns = query_for("web", kTypeA, true);
  EXPECT_EQ(answer_for(edns, server.wire, *answer, 0, 1232).size(), out.size() + 11);
  const Message cut = answer_for(query, server.wire, *answer, 0, 40);
  EXPECT_EQ(cut[7], 1);
  EXPECT_EQ(cut[2] & 0x02, 0x02);
}

TEST(Answers, RecordsBehindOptGoWithTheirSection) {
  ServerAnswer server(make_query(9, name("web"), kTypeA, kClassIn, false, false, false));
  server.record(0, kTypeA, 100, "\x01\x02\x03\x04");
  const size_t end = server.wire.size();
  server.record(2, kTypeOpt, 0, "", true);
  server.record(2, kTypeA, 1, "\x01\x02\x03\x04");
  const auto answer = parse_answer(server.wire);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->additionals, 0);
  EXPECT_EQ(answer->end, end);
}

TEST(Answers, NegativeTimeIsThatOfTheSoa) {
  ServerAnswer server(make_query(9, name("web"), kTypeA, kClassIn, false, false, false));
  std::string soa("\0\0", 2);
  for (const char last : {1, 2, 3, 4, 30}) soa += std::string("\0\0\0", 3) + last;
  server.record(1, kTypeSoa, 60, soa);
  server.wire[3] |= 3;
  const auto answer = parse_answer(server.wire);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->negative_ttl, 30u);
  EXPECT_EQ(answer->rcode, 3u);
}

TEST(Answers, EveryCutIsRefused) {
  ServerAnswer server(make_query(9, name("web"), kTypeA, kClassIn, false, false, false));
  server.record(0, kTypeA, 100, "\x01\x02\x03\x04");
  server.record(2, kTypeOpt, 0, "", true);
  for (size_t size = 0; size < server.wire.size(); ++size) {
    const Message cut(server.wire.begin(), server.wire.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(parse_answer(cut).has_value()) << size;
  }
}

}  // namespace
}  // namespace hull::net::dns
