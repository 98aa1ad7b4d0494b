#pragma once
// The JSON documents of inspect, in Docker's form.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cli/output.h"
#include "cli/value.h"
#include "engine/engine.h"

namespace hull::cli {

Result<Value> image_document(const store::Image& image);
Value volume_document(const engine::Volume& volume);
/// bridge, host or none; with the workloads that are in it. kNotFound for another name.
Result<Value> network_document(engine::Engine& engine, std::string_view name);
/// The networks that there are: name, driver.
struct DefaultNetwork {
  std::string_view name, driver;
};
std::span<const DefaultNetwork> default_networks();
/// 64 hex digits that stay the same for a name.
std::string network_id(std::string_view name);

/// inspect's output: a JSON array indented by four, or one line per document after `format`.
Result<void> print_inspected(Output& out, std::string_view format, const std::vector<Value>& documents);

}  // namespace hull::cli
