// Queries of clients and answers of servers: both readers, and what is written from what they accepted.
#include <cstdint>
#include <cstdlib>

#include "net/dns/message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::net::dns;
  const Bytes input(data, size);
  const ParsedQuery parsed = parse_query(input);
  const auto answer = parse_answer(input);
  if (parsed.what != ParsedQuery::What::kDrop) {
    AnswerWriter writer(parsed.query, Rcode::kOk, true);
    for (uint32_t i = 0; i < 100; ++i) writer.add_address(hull::net::IpAddress::from_v4(i), 5);
    const size_t limit = limit_of(parsed.query, false);
    if (writer.finish(limit).size() > limit) std::abort();
    static_cast<void>(address_of_pointer(parsed.query.name));
    static_cast<void>(name_to_text(parsed.query.name));
  }
  if (answer && !answer->truncated) {
    // The client that would have asked this.
    const Message wire = make_query(1, answer->name, answer->type, answer->klass, false, false, true);
    const ParsedQuery client = parse_query(wire);
    if (client.what != ParsedQuery::What::kAnswer) std::abort();
    for (const size_t limit : {size_t{512}, size_t{1232}, kLongestMessage}) {
      const Message out = answer_for(client.query, input, *answer, 100, limit);
      if (out.size() > limit) std::abort();
      if (!parse_answer(out)) std::abort();  // what we send can be read again
    }
  }
  return 0;
}
