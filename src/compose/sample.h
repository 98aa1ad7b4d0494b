#pragma once
// For tests: projects from text.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "compose/loader.h"
#include "compose/model.h"
#include "compose/yaml.h"
#include "sys/file.h"

namespace hull::compose {

/// A folder that is gone with the test.
class SampleFolder {
 public:
  SampleFolder() {
    std::string pattern = "/tmp/hull-compose-XXXXXX";
    path_ = std::string(::mkdtemp(pattern.data())) + "/demo";
    std::filesystem::create_directories(path_);
  }
  SampleFolder(const SampleFolder&) = delete;
  SampleFolder& operator=(const SampleFolder&) = delete;
  ~SampleFolder() { std::filesystem::remove_all(std::filesystem::path(path_).parent_path()); }

  const std::string& path() const { return path_; }
  void write(const std::string& name, std::string_view text) const {
    std::filesystem::create_directories(std::filesystem::path(path_ + "/" + name).parent_path());
    ASSERT_TRUE(sys::replace_file(path_ + "/" + name, text, 0644, false).ok());
  }
  LoadOptions options() const {
    LoadOptions out;
    out.current_folder = path_;
    return out;
  }
  Result<Project> load() const { return load_project(options()); }

 private:
  std::string path_;
};

inline Node parse_one(std::string_view text) {
  auto documents = parse_yaml(text, intern_file("test.yaml"));
  EXPECT_TRUE(documents.ok()) << (documents.ok() ? "" : documents.error().message());
  if (!documents.ok() || documents->empty()) return {};
  return std::move(documents->front());
}
inline std::string parse_error(std::string_view text) {
  auto documents = parse_yaml(text, intern_file("test.yaml"));
  return documents.ok() ? "no error" : documents.error().message();
}

/// The message of a project that must be wrong.
inline std::string project_error(const SampleFolder& folder) {
  auto project = folder.load();
  if (!project.ok()) return project.error().message();
  auto model = build_model(*project, {});
  return model.ok() ? "no error" : model.error().message();
}

}  // namespace hull::compose
