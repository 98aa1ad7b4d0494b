#include <poll.h>
#include <unistd.h>

#include "base/error_format.h"
#include "cli/command.h"
#include "cli/text.h"

namespace hull::cli {

Result<engine::Engine*> Context::engine() {
  if (engine_ == nullptr) {
    TRY_ASSIGN(engine_, opener_());
  }
  return engine_.get();
}

void Context::report(const Error& error) {
  out.flush();
  const std::string_view red = err.colours() ? "\x1b[31m" : "";
  const std::string_view plain = err.colours() ? "\x1b[0m" : "";
  std::string text;
  for (const std::string_view line : split(error.message(), '\n')) {
    if (!text.empty()) text += '\n';
    text += printable(line);
  }
  err.print("{}hull: {}{}{}{}\n", red, command, command.empty() ? "" : ": ", plain, text);
  err.flush();
}

void Context::warn(std::string_view message) {
  out.flush();
  const std::string_view yellow = err.colours() ? "\x1b[33m" : "";
  const std::string_view plain = err.colours() ? "\x1b[0m" : "";
  err.print("{}hull: warning:{} {}\n", yellow, plain, printable(message));
  err.flush();
}

int for_each_argument(Context& context, const Parsed& parsed,
                      const std::function<Result<void>(const std::string& argument)>& work) {
  int code = 0;
  for (const std::string& argument : parsed.arguments) {
    if (auto done = work(argument); !done.ok()) {
      context.report(done.error());
      code = 1;
    }
  }
  return code;
}

Result<bool> confirm(Context& context, std::string_view warning) {
  if (context.in_fd < 0 || ::isatty(context.in_fd) != 1) {
    return errorf(ErrorKind::kInvalid, "this removes data and there is no terminal to ask at: add --force to agree");
  }
  context.out.print("{}\nAre you sure you want to continue? [y/N] ", warning);
  context.out.flush();
  std::string answer;
  char c = 0;
  while (answer.size() < 100 && ::read(context.in_fd, &c, 1) == 1 && c != '\n') answer += c;
  const std::string word = lower(trim(answer));
  return word == "y" || word == "yes";
}

}  // namespace hull::cli
