#pragma once
// How a later Compose file changes an earlier one (13-merge): maps are joined, lists are appended to, some lists have
// elements with a key of their own, commands are replaced, and the tags !reset and !override do what they say.

#include "compose/node.h"

namespace hull::compose {

/// Both canonical. `over` counts where they differ.
void merge_documents(Node& base, Node over);
/// The same for one service (extends).
void merge_service(Node& base, Node over);
/// Takes away what !reset marks, and the marks, where nothing was to be merged with.
void drop_resets(Node& node);

}  // namespace hull::compose
