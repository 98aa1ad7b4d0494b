// Bytes of a hostile client through the path that every request takes: head, target, query, filters, body, JSON.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "api/create_body.h"
#include "api/http_reader.h"
#include "api/json.h"
#include "api/request.h"
#include "api/router.h"
#include "api/websocket.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::api;
  if (size == 0) return 0;
  // The first byte says in how large pieces the bytes arrive.
  const size_t piece = size_t{data[0]} + 1;
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  {
    WebsocketReader frames;
    std::string payload, reply;
    for (std::string_view left = rest; !left.empty();) {
      const std::string_view some = left.substr(0, piece);
      left.remove_prefix(some.size());
      if (!frames.feed(some, payload, reply)) break;
    }
  }
  HttpReader reader([&](char* out, size_t room) -> hull::Result<size_t> {
    const size_t count = std::min({piece, room, rest.size()});
    std::memcpy(out, rest.data(), count);
    rest.remove_prefix(count);
    return count;
  });
  for (int requests = 0; requests < 8; ++requests) {
    const auto next = reader.next();
    if (!next.ok() || *next != HttpReader::Next::kRequest) return 0;
    const std::string_view target = reader.head().target;
    const size_t question = target.find('?');
    if (const auto path = percent_decode(target.substr(0, question), false); path.ok()) {
      std::string_view versionless = *path;
      const auto version = take_version(&versionless);
      if (version.ok()) static_cast<void>(Router::all().find(reader.head().method, versionless, 50));
    }
    if (question != std::string_view::npos) {
      if (const auto query = parse_query(target.substr(question + 1)); query.ok()) {
        for (const auto& [name, value] : *query) static_cast<void>(parse_filters(value, {"label", "name"}).ok());
      }
    }
    std::string body;
    char buffer[512];
    for (;;) {
      const auto got = reader.read_body(buffer, sizeof buffer);
      if (!got.ok()) return 0;
      if (*got == 0) break;
      body.append(buffer, *got);
    }
    if (const auto document = parse_json(body); document.ok()) static_cast<void>(parse_json(to_text(*document)).ok());
    static_cast<void>(read_create(body, "name", "").ok());
  }
  return 0;
}
