#pragma once
// Paths that a Compose file names. Relative ones are taken from a folder; which of them lead out of the project's
// folder (by "..", or through a link) is told to the user, once for each.

#include <string>
#include <string_view>
#include <vector>

#include "compose/node.h"

namespace hull::compose {

/// Lexically absolute: `path` itself when absolute, "~" as the home folder, else below `base`. No "." and ".." is left.
std::string absolute_path(std::string_view path, const std::string& base);

/// What was found that the user should know, in the order of the files, each line once.
class Notices {
 public:
  void add(std::string line);
  void add_at(const Mark& mark, std::string_view line);
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
};

/// Says so when `written` is relative and what it names lies outside `folder`, links followed.
void notice_escape(Notices& notices, const Mark& mark, std::string_view what, std::string_view written,
                   const std::string& absolute, const std::string& folder);

}  // namespace hull::compose
