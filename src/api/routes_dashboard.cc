// The files of the dashboard (web/), which need no engine and hold no secrets.
#include <array>

#include "api/routes.h"
#include "base/error_format.h"
#include "sys/root.h"

namespace hull::api {
namespace {

constexpr size_t kMostFile = 8 << 20;

struct FileKind {
  std::string_view ending, type;
};
constexpr std::array kKinds = {
    FileKind{".html", "text/html; charset=utf-8"},
    FileKind{".js", "text/javascript; charset=utf-8"},
    FileKind{".css", "text/css; charset=utf-8"},
    FileKind{".svg", "image/svg+xml"},
    FileKind{".woff2", "font/woff2"},
};

/// What the page may do: talk to where it came from, and nothing else; no other page may frame it. Charts and the
/// terminal set styles of their own.
constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

Result<sys::Root> open_files(const engine::Settings& settings) {
  for (const char* const place : {"/../../share/hull/web", "/../share/hull/web"}) {
    auto root = sys::Root::open(settings.libexec + place);
    if (root.ok()) return root;
  }
  return errorf(ErrorKind::kNotFound,
                "the dashboard is not installed: build Hull with npm there, which makes share/hull/web");
}

Result<void> send_file(Request& request, Response& response, std::string_view name) {
  TRY_ASSIGN(const sys::Root root, open_files(request.settings()));
  const FileKind* found = nullptr;
  for (const FileKind& kind : kKinds) {
    if (name.ends_with(kind.ending)) found = &kind;
  }
  if (found == nullptr) return errorf(ErrorKind::kNotFound, "page not found");
  auto content = root.read_file(name, kMostFile);
  if (!content.ok()) return errorf(ErrorKind::kNotFound, "page not found");
  response.add_header("Content-Security-Policy", std::string(kPolicy));
  response.add_header("X-Content-Type-Options", "nosniff");
  response.add_header("Referrer-Policy", "no-referrer");
  // Names of assets carry a hash of what they hold.
  response.add_header("Cache-Control", name.starts_with("assets/") ? "max-age=31536000, immutable" : "no-cache");
  response.text(200, found->type, std::move(*content));
  return {};
}

Result<void> page(Request& request, Response& response) { return send_file(request, response, "index.html"); }
Result<void> file(Request& request, Response& response) { return send_file(request, response, request.param("file")); }
Result<void> to_page(Request&, Response& response) {
  response.add_header("Location", "/dashboard/");
  response.empty(302);
  return {};
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/dashboard", .right = Right::kNone, .handler = to_page, .scoped = true},
    {.method = "GET", .pattern = "/dashboard/", .right = Right::kNone, .handler = page, .scoped = true},
    {.method = "GET", .pattern = "/dashboard/{file...}", .right = Right::kNone, .handler = file, .scoped = true},
};

}  // namespace

std::span<const Route> dashboard_routes() { return kRoutes; }

}  // namespace hull::api
