#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/monitor/monitor.h"
#include "engine/monitor/text.h"

namespace hull::engine::monitor {
namespace {

bool complain(const char* what, const char* argument) {
  Text<400> text;
  text.add("hull-monitor: ").add(what).add(argument).add(": it is started by hull, not by hand\n");
  [[maybe_unused]] const ssize_t put = ::write(2, text.c_str(), text.size());
  return false;
}

bool parse_number(const char* text, int64_t* out) {
  char* end = nullptr;
  *out = strtoll(text, &end, 10);
  return *text != 0 && end != nullptr && *end == 0;
}

}  // namespace

bool parse_options(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const char* name = argv[i];
    if (strcmp(name, "--") == 0) {
      options->create_argv = argv + i + 1;
      break;
    }
    if (strcmp(name, "--tty") == 0) {
      options->tty = true;
    } else if (strcmp(name, "--stdin") == 0) {
      options->open_stdin = true;
    } else if (strcmp(name, "--stdin-once") == 0) {
      options->stdin_once = true;
    } else {
      if (i + 1 >= argc) return complain("no value for ", name);
      const char* value = argv[++i];
      int64_t number = 0;
      if (strcmp(name, "--id") == 0) {
        options->id = value;
      } else if (strcmp(name, "--log") == 0) {
        options->log_name = value;
      } else if (strcmp(name, "--oom-file") == 0) {
        options->oom_file = value;
      } else if (strcmp(name, "--cleanup") == 0) {
        options->cleanup_program = value;
      } else if (strcmp(name, "--log-max-size") == 0) {
        if (!parse_number(value, &number)) return complain("bad number ", value);
        options->log_max_size = number;
      } else if (strcmp(name, "--keep-fds") == 0) {
        if (!parse_number(value, &number) || number < 0 || number > 70'000) return complain("bad number ", value);
        options->keep_fds = static_cast<int>(number);
      } else if (strcmp(name, "--log-max-files") == 0) {
        if (!parse_number(value, &number) || number < 1 || number > 1000) return complain("bad number ", value);
        options->log_max_files = static_cast<int>(number);
      } else {
        return complain("unknown argument ", name);
      }
    }
  }
  if (options->id == nullptr || options->create_argv == nullptr || options->create_argv[0] == nullptr) {
    return complain("no workload", "");
  }
  return true;
}

}  // namespace hull::engine::monitor
