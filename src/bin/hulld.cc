// hulld: the Docker Engine API for Hull's workloads.
#include <sys/stat.h>

#include <cstdio>
#include <string>
#include <vector>

#include "api/server.h"
#include "api/settings.h"
#include "base/error_format.h"
#include "rootless/rootless.h"

namespace {

hull::Result<int> run(const std::vector<std::string>& arguments) {
  TRY(hull::rootless::settle());
  TRY_ASSIGN(hull::api::ApiSettings api, hull::api::ApiSettings::load());
  TRY_ASSIGN(const std::optional<std::string> text, hull::api::take_arguments(arguments, &api));
  if (text) {
    std::fputs(text->c_str(), stdout);
    return 0;
  }
  TRY_ASSIGN(hull::engine::Settings engine, hull::engine::Settings::load());
  ::umask(022);
  hull::api::Server server(std::move(api), std::move(engine));
  TRY(server.open());
  TRY(hull::rootless::enter());  // the sockets are the host's, workloads and their networks the user's
  TRY(server.serve());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const hull::Result<int> done = run({argv + 1, argv + argc});
  if (done.ok()) return *done;
  std::fprintf(stderr, "hulld: %s\n", done.error().message().c_str());
  return 1;
}
