#pragma once
// From the words of a command line to a project: which files, which folder, which name, which variables; then each
// file is read, checked, made canonical and merged, with what it extends and includes.

#include <set>
#include <string>
#include <vector>

#include "compose/interpolate.h"
#include "compose/paths.h"

namespace hull::compose {

/// What stands before the subcommand (hull compose -f … -p …), and the caller's surroundings.
struct LoadOptions {
  std::vector<std::string> files;  // -f; "-" is standard input
  std::string project_directory, project_name;
  std::vector<std::string> env_files, profiles;
  bool interpolate = true;
  Variables environment;       // of the caller
  std::string current_folder;  // absolute
};

/// A whole, merged, canonical project. Every service is there, whatever its profiles say.
struct Project {
  std::string name;
  std::string folder;              // absolute; relative paths were taken from it
  std::vector<std::string> files;  // absolute, "-" for standard input
  Node document;                   // services, networks, volumes, configs, secrets, x-…
  Variables variables;             // the caller's environment over the .env files
  std::set<std::string> profiles;  // active ones; "*" for all
  Notices notices;
};

/// The caller's environment.
Variables process_environment();

/// Errors: kNotFound when there is no file; kInvalid, with file and line, for all that is wrong in one.
Result<Project> load_project(const LoadOptions& options);

/// The name and the folder of the project only: all that ps, logs and down need when there is no file but a name (-p).
Result<std::string> project_name_only(const LoadOptions& options);

/// Lower-case letters, digits, "-" and "_", beginning with a letter or digit.
bool is_project_name(std::string_view name);
/// The name that a folder gives; "" when nothing of it may be used.
std::string project_name_from(std::string_view folder);

}  // namespace hull::compose
