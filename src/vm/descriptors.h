#pragma once
// Descriptors that this program was started with. A process of ours that lives on must not keep them: a pipe that an
// engine reads to its end would never end.

#include <vector>

namespace hull::vm {

/// To be called first thing in main: what is open now, from 3 on, is somebody else's.
void note_inherited_descriptors();
/// Closes those.
void close_inherited_descriptors();
/// Closes everything from 3 on but these.
void close_descriptors_but(std::vector<int> kept);

}  // namespace hull::vm
