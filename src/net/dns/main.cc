#include "net/dns/main.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "base/log.h"
#include "net/dns/keeper.h"

namespace hull::net::dns {
namespace {

int fail(const Error& error) {
  log_error("hull-dns: {}", error.message());
  return 1;
}

// Its starter waits for the end of its standard error.
bool let_go_of_starter() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return false;
  for (const int fd : {0, 1, 2}) ::dup2(null.get(), fd);
  return ::chdir("/") == 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string run_dir;
  bool foreground = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--run-dir" && i + 1 < argc) {
      run_dir = argv[++i];
    } else if (argument == "--foreground") {
      foreground = true;
    } else {
      log_error("hull-dns: usage: hull-dns --run-dir DIR [--foreground] (it is started by hull when it is needed)");
      return 2;
    }
  }
  if (run_dir.empty() || run_dir[0] != '/') {
    log_error("hull-dns: --run-dir wants an absolute path, that of the network's run folder");
    return 2;
  }
  auto keeper = Keeper::open(run_dir);
  if (!keeper.ok()) return fail(keeper.error());
  if (!*keeper) return 0;
  if (!foreground) {
    const pid_t pid = ::fork();
    if (pid < 0) return fail(errno_error("fork"));
    if (pid > 0) ::_exit(0);  // without destructors: the lock and the socket are the child's
    if (!let_go_of_starter()) return 1;
  }
  auto ran = (*keeper)->run();
  return ran.ok() ? 0 : fail(ran.error());
}

}  // namespace hull::net::dns
