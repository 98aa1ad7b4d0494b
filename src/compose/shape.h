#pragma once
// What may stand where in a document, as data: a table of keys and of what each takes. Files of Compose and of
// Kubernetes are checked by the same code against tables of their own.

#include <span>

#include "compose/node.h"

namespace hull::compose {

// What a value may be.
using Types = uint8_t;
inline constexpr Types kText = 1, kInt = 2, kNumber = 4 | 2, kBool = 8, kList = 16, kMap = 32;

struct Shape;
struct Property {
  std::string_view key;
  const Shape* shape;
};

/// What may stand in one place.
struct Shape {
  Types types = 0;
  const Shape* items = nullptr;            // of a list
  std::span<const Property> properties{};  // of a map
  const Shape* others = nullptr;           // of a map: keys that the user chooses
  bool extensions = false;                 // "x-" keys
  bool names = false;                      // keys must be names: letters, digits, . _ -
  bool unique = false;                     // no element of a list twice
  bool needed = false;                     // may not be empty
  std::string_view words{};                // the values that text may have
  std::string_view required{};             // keys that must be there
};

/// Errors are kInvalid and name file, line, the way to the key, and for an unknown key the nearest known one.
/// `path` is the way to `node`.
Result<void> check_shape(const Node& node, const Shape& shape, std::string path = {});

}  // namespace hull::compose
