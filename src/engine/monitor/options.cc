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

/// Takes the value of an option that is about services; false when there is no such option or no such value.
bool parse_service_option(const char* name, const char* value, Options* options) {
  if (strcmp(name, "--restart") == 0) {
    if (strcmp(value, "always") == 0) {
      options->restart.when = RestartRule::When::kAlways;
      return true;
    }
    options->restart.when = RestartRule::When::kOnFailure;
    return strcmp(value, "on-failure") == 0;
  }
  if (strcmp(name, "--log-format") == 0) {
    options->log_format = LogFormat::kLocal;
    return strcmp(value, "local") == 0;
  }
  const struct {
    const char* name;
    const char** target;
  } texts[] = {{"--log-compressor", &options->log_compressor},
               {"--log-extra", &options->log_extra},
               {"--journal", &options->journal}};
  for (const auto& text : texts) {
    if (strcmp(name, text.name) != 0) continue;
    *text.target = value;
    return true;
  }
  int64_t most = 0, count = 0, retries = 0, buffer = 0;
  const struct {
    const char* name;
    int64_t* target;
  } numbers[] = {{"--restart-most", &most},
                 {"--restart-count", &count},
                 {"--restart-delay", &options->restart.last_delay_ms},
                 {"--health-interval", &options->health.interval_ms},
                 {"--health-timeout", &options->health.timeout_ms},
                 {"--health-start-period", &options->health.start_period_ms},
                 {"--health-start-interval", &options->health.start_interval_ms},
                 {"--health-retries", &retries},
                 {"--log-buffer", &buffer}};
  for (const auto& number : numbers) {
    if (strcmp(name, number.name) != 0) continue;
    if (!parse_number(value, number.target) || *number.target < 0) return false;
    constexpr int64_t kMost = 1'000'000'000;
    if (most > 0) options->restart.most = static_cast<int>(most < kMost ? most : kMost);
    if (count > 0) options->restart.count = static_cast<int>(count < kMost ? count : kMost);
    if (retries > 0) options->health.retries = static_cast<int>(retries < kMost ? retries : kMost);
    if (buffer > 0) options->log_buffer = static_cast<int>(buffer < kMost ? buffer : kMost);
    return true;
  }
  return false;
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
    } else if (strcmp(name, "--log-drops") == 0) {
      options->log_waits = false;
    } else if (strcmp(name, "--health") == 0) {
      // A command of so many words follows, and an empty word that ends it.
      int64_t words = 0;
      if (i + 1 >= argc || !parse_number(argv[i + 1], &words) || words < 1 || words > argc - i - 3) {
        return complain("no command for ", name);
      }
      options->health.exec_argv = argv + i + 2;
      argv[i + 2 + words] = nullptr;
      i += static_cast<int>(words) + 2;
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
      } else if (!parse_service_option(name, value, options)) {
        return complain("unknown argument or value: ", name);
      }
    }
  }
  if (options->id == nullptr || options->create_argv == nullptr || options->create_argv[0] == nullptr) {
    return complain("no workload", "");
  }
  return true;
}

}  // namespace hull::engine::monitor
