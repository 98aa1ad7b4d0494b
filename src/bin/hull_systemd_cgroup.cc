// hull-systemd-cgroup start|attach|stop|set UNIT [key=value ...]: what hull-oci --systemd-cgroup and an ordinary user's
// hull ask of systemd. A program of its own, because those are static and libsystemd is not. `start` prints the unit's
// control group.

#include <linux/magic.h>
#include <sys/statfs.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/error_format.h"
#include "isolation/systemd/scope.h"
#include "isolation/systemd/unit_properties.h"
#include "sys/file.h"

namespace {

using hull::Error;
using hull::ErrorKind;
using hull::Result;

Result<std::string> run(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) {
    return Error(ErrorKind::kInvalid, "usage: hull-systemd-cgroup start|attach|stop|set UNIT [key=value ...]");
  }
  if (!hull::sys::exists("/run/systemd/system")) {
    return Error(ErrorKind::kUnsupported, "systemd is not running here (/run/systemd/system is absent)");
  }
  const std::string& verb = arguments[0];
  const std::string& unit = arguments[1];
  struct statfs info = {};
  const bool unified = ::statfs("/sys/fs/cgroup", &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC;
  TRY_ASSIGN(const std::vector<hull::isolation::systemd::Property> properties,
             hull::isolation::systemd::unit_properties({arguments.begin() + 2, arguments.end()}, unit, unified));
  if (verb == "start") return hull::isolation::systemd::start_unit(unit, properties);
  if (verb == "attach") {
    TRY(hull::isolation::systemd::attach_unit(unit, properties));
    return std::string();
  }
  if (verb == "stop") {
    TRY(hull::isolation::systemd::stop_unit(unit));
    return std::string();
  }
  if (verb == "set") {
    TRY(hull::isolation::systemd::set_unit(unit, properties));
    return std::string();
  }
  return hull::errorf(ErrorKind::kInvalid, "\"{}\" is not one of start, attach, stop, set", verb);
}

}  // namespace

int main(int argc, char** argv) {
  const Result<std::string> answer = run({argv + 1, argv + argc});
  if (!answer.ok()) {
    std::fprintf(stderr, "%s\n", answer.error().message().c_str());
    return 1;
  }
  if (!answer->empty()) std::printf("%s\n", answer->c_str());
  return 0;
}
