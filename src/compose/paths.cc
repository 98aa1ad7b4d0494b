#include "compose/paths.h"

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "sys/root.h"

namespace hull::compose {
namespace {

/// The real place of the longest part of a path that exists, with the rest behind it.
std::string real_place(const std::string& path) {
  std::string head = path, tail;
  while (!head.empty() && head != "/") {
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(head.c_str(), nullptr), &std::free);
    if (real) return real.get() + tail;
    const size_t slash = head.rfind('/');
    tail = head.substr(slash) + tail;
    head.resize(slash);
  }
  return path;
}

bool is_inside(const std::string& path, const std::string& folder) {
  return path == folder || folder == "/" || path.starts_with(folder + "/");
}

}  // namespace

std::string absolute_path(std::string_view path, const std::string& base) {
  std::string whole;
  if (path.starts_with('/')) {
    whole = path;
  } else if (path == "~" || path.starts_with("~/")) {
    const char* home = std::getenv("HOME");
    whole = fmt::format("{}{}", home != nullptr ? home : "/root", path.substr(1));
  } else {
    whole = fmt::format("{}/{}", base, path);
  }
  return "/" + sys::clean_path(whole);
}

void Notices::add(std::string line) {
  if (std::find(lines_.begin(), lines_.end(), line) == lines_.end()) lines_.push_back(std::move(line));
}
void Notices::add_at(const Mark& mark, std::string_view line) {
  add(mark.file == nullptr ? std::string(line) : fmt::format("{}: {}", mark.str(), line));
}

void notice_escape(Notices& notices, const Mark& mark, std::string_view what, std::string_view written,
                   const std::string& absolute, const std::string& folder) {
  if (written.starts_with('/') || written.starts_with('~')) return;
  const std::string real = real_place(absolute);
  if (is_inside(real, real_place(folder))) return;
  notices.add_at(mark, fmt::format("{} {} leads out of the project's folder, to {}", what, written, real));
}

}  // namespace hull::compose
