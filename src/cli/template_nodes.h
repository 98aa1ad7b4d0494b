#pragma once
// The parsed form of a template; between template_parse.cc and template_eval.cc only.

#include <optional>
#include <string>
#include <vector>

#include "cli/value.h"

namespace hull::cli::template_detail {

struct Pipeline;

/// What stands in a command: a field, a variable, a literal, a function's name, or a pipeline in parentheses.
struct Operand {
  enum class Kind { kDot, kVariable, kLiteral, kFunction, kPipeline };
  Kind kind = Kind::kDot;
  std::string name;               // of a variable (without $) or a function
  std::vector<std::string> path;  // .A.B after it
  Value literal;
  std::vector<Pipeline> pipeline;  // one, when kPipeline
};

struct Pipeline {
  std::vector<std::vector<Operand>> commands;  // separated by |; each: what, arguments...
  std::vector<std::string> variables;          // names before := or =, without $
  bool declares = false;
};

struct Node {
  enum class Kind { kText, kOutput, kIf, kRange, kWith };
  Kind kind = Kind::kText;
  std::string text;
  Pipeline pipeline;
  std::vector<Node> body, otherwise;
};

/// The functions that there are.
bool is_function(std::string_view name);

}  // namespace hull::cli::template_detail
