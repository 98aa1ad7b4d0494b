#pragma once
// YAML 1.2 into Node trees, within bounds: a file of a stranger can neither fill the memory (aliases of aliases) nor
// the stack (nesting), and a key that comes twice is an error.

#include <string>
#include <string_view>
#include <vector>

#include "compose/node.h"

namespace hull::compose {

struct YamlLimits {
  size_t bytes = 1 << 20;
  /// Nodes and bytes of text after every alias was written out.
  size_t nodes = 100'000;
  size_t text = 8 << 20;
  int depth = 64;
};

/// Every document of the text. Anchors, aliases and merge keys ("<<") are resolved; the tags !reset and !override are
/// kept, other tags than YAML's own are refused. `file` names the text in marks and messages.
Result<std::vector<Node>> parse_yaml(std::string_view text, const std::string* file, const YamlLimits& limits = {});

/// Block style, two blanks an indent, text in quotes only where it would read as something else.
std::string print_yaml(const Node& node);
/// The same as JSON; numbers, booleans and null as such.
std::string print_json(const Node& node, int indent = -1);

}  // namespace hull::compose
