// Headers and small JSON answers of registries. The first byte chooses the parser.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/registry/http.h"
#include "store/registry/http_answers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::store;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  switch (data[0] % 8) {
    case 0:
      for (const auto& challenge : parse_www_authenticate(text)) {
        if (challenge.parameters.size() > 32) __builtin_trap();
      }
      break;
    case 1:
      if (const auto range = parse_content_range(text); range && range->last < range->first) __builtin_trap();
      break;
    case 2:
      static_cast<void>(parse_retry_after(text, {}));
      break;
    case 3:
      static_cast<void>(parse_link_next(text));
      break;
    case 4:
      if (const auto token = parse_token_answer(text); token.ok()) {
        for (const char c : token->token) {
          if (c <= ' ' || c >= 127) __builtin_trap();
        }
      }
      break;
    case 5:
      for (const char c : parse_error_answer(text, text.substr(0, 10)).message) {
        if (c < ' ' || c >= 127) __builtin_trap();
      }
      break;
    case 6:
      static_cast<void>(parse_tag_list(text).ok());
      break;
    default: {
      auto url = resolve_url("https://registry.example/v2/a/blobs/x", std::string(text));
      if (url.ok() && !url->starts_with("http://") && !url->starts_with("https://")) __builtin_trap();
    }
  }
  return 0;
}
