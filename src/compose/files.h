#pragma once
// Configs and secrets as files: what has a file of its own is mounted from there; what stands in the Compose file or in
// a variable, and what is to have an owner or mode of its own, is written into the project's folder below Hull's data,
// under a name made of its content, so that a change gives another path and the service is made anew.

#include "compose/model.h"

namespace hull::compose {

struct FileMount {
  std::string source, target;
  bool written = false;  // by us: nobody else changes it, so its path says its content
};

/// `data_root` is the engine's. `write` false only tells the paths (config --hash). Errors name the reference.
Result<std::vector<FileMount>> service_files(const Model& model, const Service& service, const std::string& data_root,
                                             bool write);

/// <data>/compose/PROJECT
std::string project_folder(const std::string& data_root, std::string_view project);

}  // namespace hull::compose
