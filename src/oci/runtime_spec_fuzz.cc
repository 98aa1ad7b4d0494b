// Arbitrary bytes as config.json: no crash, no unbounded work; what is accepted is JSON (nlohmann-json is the oracle),
// prints to a document that reads back the same, and validate() takes it.

#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "oci/runtime_spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const hull::Result<hull::oci::Spec> spec = hull::oci::parse_spec(text);
  if (spec.ok()) {
    if (!nlohmann::json::accept(text)) std::abort();
    const std::string printed = hull::oci::to_json(*spec);
    const hull::Result<hull::oci::Spec> again = hull::oci::parse_spec(printed);
    if (!again.ok() || hull::oci::to_json(*again) != printed) std::abort();
    hull::ignore_result(hull::oci::validate(*spec));
  }
  hull::ignore_result(hull::oci::parse_process(text));
  hull::ignore_result(hull::oci::parse_resources(text));
  return 0;
}
