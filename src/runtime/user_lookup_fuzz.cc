// An image's passwd and group files and the user that its config names: three texts, separated by zero bytes.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "runtime/user_lookup.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::runtime;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto next = [&rest] {
    const std::string_view part = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(part.size() < rest.size() ? part.size() + 1 : part.size());
    return part;
  };
  const std::string_view passwd = next(), group = next(), user = next();
  constexpr uint32_t kLargest = 2147483647;
  const auto resolved = resolve_user_in(passwd, group, user, {std::string(next())});
  if (!resolved.ok()) return 0;
  if (resolved->uid > kLargest || resolved->gid > kLargest || resolved->home.empty()) std::abort();
  for (const uint32_t id : resolved->additional_gids) {
    if (id > kLargest) std::abort();
  }
  if (user_name_in(passwd, resolved->uid).empty()) std::abort();
  return 0;
}
