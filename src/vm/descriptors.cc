#include "vm/descriptors.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace hull::vm {
namespace {

std::vector<int> g_inherited;  // set once, by main

}  // namespace

void note_inherited_descriptors() {
  DIR* stream = ::opendir("/proc/self/fd");
  if (stream == nullptr) return;
  const int own = ::dirfd(stream);
  while (const dirent* entry = ::readdir(stream)) {
    const int fd = std::atoi(entry->d_name);
    if (fd > STDERR_FILENO && fd != own) g_inherited.push_back(fd);
  }
  ::closedir(stream);
}

void close_inherited_descriptors() {
  for (const int fd : g_inherited) ::close(fd);
  g_inherited.clear();
}

void close_descriptors_but(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned next = STDERR_FILENO + 1;
  for (const int fd : kept) {
    if (fd < static_cast<int>(next)) continue;
    if (static_cast<unsigned>(fd) > next) ::close_range(next, static_cast<unsigned>(fd) - 1, 0);
    next = static_cast<unsigned>(fd) + 1;
  }
  ::close_range(next, ~0U, 0);
}

}  // namespace hull::vm
