#include <cstddef>
#include <cstdint>

#include "compose/canonical.h"
#include "compose/dotenv.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hull::compose;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Variables variables = {{"A", "1"}};
  hull::ignore_result(parse_dotenv(text, intern_file("fuzz"), lookup_in(variables)));
  hull::ignore_result(parse_raw_env(text, intern_file("fuzz"), lookup_in(variables)));
  hull::ignore_result(split_command(text));
  return 0;
}
