#include <string_view>
#include <vector>

#include "cli/images/images_app.h"

int main(int argc, char** argv) {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  return hull::cli::images_main(words);
}
