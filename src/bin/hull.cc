// The command line.
#include <unistd.h>

#include <string_view>
#include <vector>

#include "cli/command.h"
#include "rootless/rootless.h"

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  hull::cli::Context context(STDOUT_FILENO, STDERR_FILENO, []() -> hull::Result<std::unique_ptr<hull::engine::Engine>> {
    TRY(hull::rootless::enter());
    TRY_ASSIGN(auto settings, hull::engine::Settings::load());
    return hull::engine::Engine::open(std::move(settings));
  });
  return hull::cli::hull_main(context, words);
}
