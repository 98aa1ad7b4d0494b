#pragma once
// The program hull-compose: `hull compose …` and `hull kube …` become it by exec. What its commands work with.

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "cli/command.h"
#include "compose/model.h"

namespace hull::compose {

class App {
 public:
  App(cli::Context& context, const cli::Parsed& group_flags);

  cli::Context& context() { return context_; }
  /// A new one each time: processes that are forked must not share one.
  static Result<std::unique_ptr<engine::Engine>> open_engine();

  /// Loaded once; what the user should know of it is told once.
  Result<const Project*> project();
  /// With these services' profiles active; what Hull does not do of it is refused or told.
  Result<Model> model(const std::vector<std::string>& targets);
  /// Of the file, or of the command line when there is no file.
  Result<std::string> project_name();

  const LoadOptions& load_options() const { return options_; }
  LoadOptions& load_options() { return options_; }
  /// Colours on this output.
  bool colours(const cli::Output& out) const;
  int parallel() const { return parallel_; }
  /// One step that was done: "Container demo-web-1  Started".
  void step(std::string_view kind, std::string_view name, std::string_view what);

 private:
  cli::Context& context_;
  LoadOptions options_;
  std::optional<Project> project_;
  std::string ansi_;
  bool quiet_ = false;
  int parallel_ = 8;
};

/// One command's function, found by the path of its table entry.
struct Entry {
  const cli::Command* command;
  Result<int> (*run)(App& app, const cli::Parsed& flags);
};
std::span<const Entry> entries();

/// The whole program; `words` begin with "compose" or "kube".
int compose_main(cli::Context& context, std::span<const std::string_view> words);

}  // namespace hull::compose
