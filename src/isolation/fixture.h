#pragma once
// A tree of plain folders and files that looks like mounted control groups, for unit tests.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "isolation/cgroup.h"
#include "sys/file.h"

namespace hull::isolation {

class CgroupFixture {
 public:
  CgroupFixture() {
    char name[] = "/tmp/hull-cgroup-XXXXXX";
    if (::mkdtemp(name) != nullptr) top_ = name;
  }
  ~CgroupFixture() { ignore_result(sys::remove_tree(top_)); }
  CgroupFixture(const CgroupFixture&) = delete;
  CgroupFixture& operator=(const CgroupFixture&) = delete;

  /// A folder below the top.
  std::string dir(const std::string& path) {
    ignore_result(sys::make_dirs(top_ + "/" + path, 0755));
    return top_ + "/" + path;
  }
  void file(const std::string& path, const std::string& text) {
    const size_t slash = path.rfind('/');
    if (slash != std::string::npos) dir(path.substr(0, slash));
    ignore_result(sys::replace_file(top_ + "/" + path, text, 0644, false));
  }
  std::string read(const std::string& path) const {
    const Result<std::string> text = sys::read_file(top_ + "/" + path);
    return text.ok() ? *text : "absent";
  }
  const std::string& top() const { return top_; }

  CgroupMount v1(const std::vector<std::string>& controllers) {
    std::string name;
    for (const std::string& controller : controllers) name += (name.empty() ? "" : ",") + controller;
    return {.version = 1, .controllers = controllers, .path = dir(name), .root = "/"};
  }
  CgroupMount v2(const std::vector<std::string>& controllers, const std::string& path = "unified") {
    return {.version = 2, .controllers = controllers, .path = dir(path), .root = "/"};
  }

 private:
  std::string top_;
};

}  // namespace hull::isolation
