// hull-monitor: one per running workload, started by hull. Mounted into a workload as /sbin/docker-init it is its
// PID 1.
#include <string.h>

#include "engine/monitor/init.h"
#include "engine/monitor/monitor.h"

int main(int argc, char** argv) {
  const char* name = argc > 0 ? argv[0] : "";
  if (const char* slash = strrchr(name, '/')) name = slash + 1;
  if (strcmp(name, "docker-init") == 0 || strcmp(name, "hull-init") == 0) {
    return hull::engine::monitor::run_init(argc, argv);
  }
  hull::engine::monitor::Options options;
  if (!hull::engine::monitor::parse_options(argc, argv, &options)) return 125;
  return hull::engine::monitor::run(options);
}
