// dashboard: the address of hulld's page, with the token that lets its reader in.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/text.h"
#include "rootless/rootless.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

constexpr std::string_view kHow =
    "start hulld with --dashboard tcp://127.0.0.1:2390, or set dashboard in section [api] of hull.toml";

/// Whether somebody listens at "http://ADDRESS:PORT/...".
bool is_served(std::string_view url) {
  url.remove_prefix(std::min(url.size(), std::string_view("http://").size()));
  url = url.substr(0, url.find('/'));
  const size_t colon = url.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::string host(url.substr(0, colon));
  const auto port = parse_int(url.substr(colon + 1), 1, 65535);
  if (!port.ok()) return false;
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  v4.sin_family = AF_INET;
  v6.sin6_family = AF_INET6;
  v4.sin_port = v6.sin6_port = htons(static_cast<uint16_t>(*port));
  const bool is_v4 = ::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1;
  if (!is_v4 && ::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) != 1) return false;
  const UniqueFd fd(::socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(fd.get(), is_v4 ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6),
                   is_v4 ? sizeof v4 : sizeof v6) == 0;
}

Result<int> dashboard_main(Context& context, const Parsed&) {
  TRY(rootless::settle());  // the address is the host's: not to be asked from inside
  TRY_ASSIGN(const engine::Settings settings, engine::Settings::load());
  auto text = sys::read_file(settings.run_root + "/dashboard", 4096);
  if (!text.ok() && text.error().error_number() == ENOENT) {
    return errorf(ErrorKind::kUnavailable, "no dashboard is served: {}", kHow);
  }
  if (!text.ok()) return std::move(text).error().context("the token of the dashboard is its owner's");
  const auto lines = split(*text, '\n');
  if (lines.size() < 2 || !is_served(lines[0])) {
    return errorf(ErrorKind::kUnavailable, "no dashboard is served now: {}", kHow);
  }
  context.out.print("{}#token={}\n", lines[0], lines[1]);
  return 0;
}

}  // namespace

constinit const Command kDashboard = {
    .path = "dashboard",
    .summary = "Print the address of hulld's dashboard",
    .description =
        "Prints the address at which a browser on this machine shows workloads, charts, logs and terminals. It holds a "
        "token: whoever has it may do what hulld's owner may. From another machine, forward the port over ssh, or open "
        "/dashboard/ at an address of hulld that has TLS.",
    .examples = "xdg-open \"$(hull dashboard)\"\n",
    .section = Section::kSystem,
    .run = dashboard_main};

}  // namespace hull::cli
