#pragma once
// The functions of templates; between template_eval.cc and template_functions.cc only.

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "cli/value.h"

namespace hull::cli::template_detail {

/// text/template's idea of truth: not the zero value of its type.
bool is_true(const Value& value);
/// As Go's fmt prints it with %v: [a b], map[k:v], <no value>.
std::string shown(const Value& value);
Result<Value> call(std::string_view function, std::span<const Value> arguments);

}  // namespace hull::cli::template_detail
