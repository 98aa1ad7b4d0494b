// --format comes from scripts, and the documents hold what images and programs say.
#include <cstdint>
#include <string_view>

#include "cli/template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const auto kValue =
      hull::cli::Value::parse(R"({"A":"x","B":[1,2.5,"y",null,{"C":true}],"D":{"k":"v"},"E":-3,"Labels":{"a":"b"}})");
  const auto parsed = hull::cli::Template::parse(text);
  if (parsed.ok()) hull::ignore_result(parsed->execute(*kValue));
  hull::ignore_result(hull::cli::Value::parse(text));
  return 0;
}
