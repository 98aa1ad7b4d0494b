#include "sys/daemon.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/error_format.h"
#include "sys/file.h"
#include "sys/process.h"

namespace hull::sys {

Result<void> start_daemon(std::vector<std::string> argv) {
  constexpr size_t kMostWords = 16 << 10;
  TRY_ASSIGN(Pipe errors, make_pipe());
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_adddup2(&actions, 0, 1);
  ::posix_spawn_file_actions_adddup2(&actions, errors.write_end.get(), 2);
  sigset_t none, every;
  ::sigemptyset(&none);
  ::sigfillset(&every);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &every);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  std::vector<char*> words;
  words.reserve(argv.size() + 1);
  for (std::string& word : argv) words.push_back(word.data());
  words.push_back(nullptr);
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, words[0], &actions, &attributes, words.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return Error::from_errno(error, fmt::format("start {}", argv[0])).as(ErrorKind::kUnavailable);
  errors.write_end.reset();
  auto text = read_all(errors.read_end.get(), kMostWords);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (status == 0) return {};  // as well when somebody else collects our children: connecting will tell
  std::string why = text.ok() ? *text : "";
  while (!why.empty() && why.back() == '\n') why.pop_back();
  if (why.empty()) why = fmt::format("{} ended with status {}", argv[0], exit_code(status));
  return Error(ErrorKind::kUnavailable, why);
}

}  // namespace hull::sys
