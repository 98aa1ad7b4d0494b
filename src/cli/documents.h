#pragma once
// The JSON documents of inspect, in Docker's form.

#include <string>
#include <string_view>
#include <vector>

#include "cli/output.h"
#include "cli/value.h"
#include "engine/engine.h"

namespace hull::cli {

Result<Value> image_document(const store::Image& image);
Value volume_document(const engine::Volume& volume);
/// inspect's output: a JSON array indented by four, or one line per document after `format`.
Result<void> print_inspected(Output& out, std::string_view format, const std::vector<Value>& documents);

}  // namespace hull::cli
