// A Compose file of a stranger, from its bytes to the engine's request.
#include <cstddef>
#include <cstdint>

#include "compose/canonical.h"
#include "compose/interpolate.h"
#include "compose/kube_objects.h"
#include "compose/merge.h"
#include "compose/schema.h"
#include "compose/yaml.h"

namespace {

using namespace hull;
using namespace hull::compose;

void take(Node document) {
  const Variables variables = {{"A", "1"}, {"B", ""}};
  if (!interpolate_tree(document, lookup_in(variables), {}).ok() || !check_schema(document).ok()) return;
  Notices notices;
  if (!make_canonical(document, "/project", notices).ok()) return;
  Node merged = document;
  merge_documents(merged, document);
  drop_resets(merged);
  // What is printed must read back.
  const std::string printed = print_yaml(merged);
  YamlLimits limits;
  limits.bytes = printed.size() + 1;
  limits.nodes = 10'000'000;
  limits.text = printed.size() + 1;
  limits.depth = 200;
  const auto again = parse_yaml(printed, intern_file("again"), limits);
  if (!again.ok() || again->empty() || print_json(again->front()) != print_json(merged)) __builtin_trap();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto documents = parse_yaml(text, intern_file("fuzz"));
  if (documents.ok()) {
    for (Node& document : *documents) take(std::move(document));
  }
  hull::ignore_result(read_kube_file(text, intern_file("fuzz"), {}));
  return 0;
}
