// What the API and this machine are: ping, version, info.
#include <sys/utsname.h>

#include "api/routes.h"
#include "base/json_writer.h"
#include "base/units.h"

namespace hull::api {
namespace {

Result<void> ping(Request&, Response& response) {
  response.add_header("Cache-Control", "no-cache, no-store, must-revalidate");
  response.add_header("Pragma", "no-cache");
  response.add_header("Builder-Version", "1");
  response.add_header("Swarm", "inactive");
  response.text(200, "text/plain; charset=utf-8", "OK");
  return {};
}

Result<void> version(Request&, Response& response) {
  utsname kernel{};
  ::uname(&kernel);
  JsonWriter w;
  w.object([&] {
    w.object("Platform", [&] { w.member("Name", "Hull"); });
    w.array("Components", [&] {
      w.object([&] {
        w.member("Name", "Engine");
        w.member("Version", HULL_VERSION);
        w.object("Details", [&] {
          w.member("ApiVersion", to_string(kNewestVersion));
          w.member("MinAPIVersion", to_string(kOldestVersion));
          w.member("Arch", "amd64");
          w.member("Experimental", "false");
          w.member("KernelVersion", kernel.release);
          w.member("Os", "linux");
        });
      });
    });
    w.member("Version", HULL_VERSION);
    w.member("ApiVersion", to_string(kNewestVersion));
    w.member("MinAPIVersion", to_string(kOldestVersion));
    w.member("GitCommit", "");
    w.member("GoVersion", "");
    w.member("Os", "linux");
    w.member("Arch", "amd64");
    w.member("KernelVersion", kernel.release);
    w.member("BuildTime", "");
  });
  response.json(200, std::move(w).take());
  return {};
}

Result<void> info(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(std::string document, engine->info_json());
  // What clients of Docker's daemon look for beside it.
  const size_t end = document.rfind('}');
  if (end != std::string::npos) {
    document.insert(end, ",\"ServerVersion\":\"" HULL_VERSION "\",\"SystemTime\":\"" +
                             format_rfc3339(std::chrono::system_clock::now()) +
                             "\",\"Swarm\":{\"NodeID\":\"\",\"NodeAddr\":\"\",\"LocalNodeState\":\"inactive\","
                             "\"ControlAvailable\":false,\"Error\":\"\",\"RemoteManagers\":null},"
                             "\"ExperimentalBuild\":false,\"LiveRestoreEnabled\":true,\"IndexServerAddress\":"
                             "\"https://index.docker.io/v1/\",\"RegistryConfig\":{\"InsecureRegistryCIDRs\":[],"
                             "\"IndexConfigs\":{},\"Mirrors\":[]}");
  }
  response.json(200, std::move(document));
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/_ping", .right = Right::kNone, .handler = ping, .scoped = true},
    {.method = "HEAD", .pattern = "/_ping", .right = Right::kNone, .handler = ping, .scoped = true},
    {.method = "GET", .pattern = "/version", .right = Right::kNone, .handler = version, .scoped = true},
    {.method = "GET", .pattern = "/info", .right = Right::kView, .handler = info, .scoped = true},
};

}  // namespace

std::span<const Route> system_routes() { return kRoutes; }

}  // namespace hull::api
