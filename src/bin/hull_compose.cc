// hull compose, hull kube: what reads YAML.
#include <unistd.h>

#include <string_view>
#include <vector>

#include "compose/app.h"

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + (argc > 0 ? 1 : 0), argv + argc);
  hull::cli::Context context(STDOUT_FILENO, STDERR_FILENO, hull::compose::App::open_engine);
  return hull::compose::compose_main(context, words);
}
