#include "api/dashboard.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::api {
namespace {

constexpr size_t kTokenBytes = 32;
constexpr std::string_view kHex = "0123456789abcdef";
/// The name before the token among the protocols that a websocket offers.
constexpr std::string_view kProtocol = "token.";

Result<std::string> new_token() {
  unsigned char bytes[kTokenBytes];
  if (::getrandom(bytes, sizeof bytes, 0) != static_cast<ssize_t>(sizeof bytes)) return errno_error("make a token");
  std::string out;
  for (const unsigned char byte : bytes) out.append({kHex[byte >> 4], kHex[byte & 15]});
  return out;
}

bool is_token(std::string_view text) {
  return text.size() == 2 * kTokenBytes && text.find_first_not_of(kHex) == std::string_view::npos;
}

bool same(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace

std::string dashboard_file(const std::string& run_root) { return run_root + "/dashboard"; }

Result<std::string> publish_dashboard(const std::string& run_root, const Address& address) {
  TRY(sys::make_dirs(run_root));
  const std::string path = dashboard_file(run_root);
  std::string token;
  if (const auto before = sys::read_file(path, 4096); before.ok()) {
    const size_t line = before->find('\n');
    if (line != std::string::npos) token = before->substr(line + 1, 2 * kTokenBytes);
  }
  if (!is_token(token)) {
    TRY_ASSIGN(token, new_token());
  }
  const std::string host = address.host.find(':') == std::string::npos ? address.host : "[" + address.host + "]";
  const std::string text = fmt::format("http://{}:{}/dashboard/\n{}\n", host, address.port, token);
  const std::string fresh = fmt::format("{}.{}", path, ::getpid());
  const UniqueFd fd(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::rename(fresh.c_str(), path.c_str()) != 0) {
    const Error failed = errnof("write {}", path);
    ::unlink(fresh.c_str());
    return failed;
  }
  return token;
}

bool carries_token(const RequestHead& head, std::string_view token) {
  constexpr std::string_view kBearer = "Bearer ";
  const std::string_view authorization = head.header("authorization");
  if (authorization.starts_with(kBearer) && same(authorization.substr(kBearer.size()), token)) return true;
  std::string_view rest = head.header("sec-websocket-protocol");
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    std::string_view one = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    while (one.starts_with(' ')) one.remove_prefix(1);
    if (one.starts_with(kProtocol) && same(one.substr(kProtocol.size()), token)) return true;
  }
  return false;
}

bool is_dashboard_path(std::string_view path) { return path == "/dashboard" || path.starts_with("/dashboard/"); }

}  // namespace hull::api
