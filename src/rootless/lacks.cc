#include "rootless/lacks.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::rootless {
namespace {

/// As posix_spawnp finds it; empty when it doesn't.
std::string find_program(std::string_view name) {
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable != nullptr ? variable : "/usr/bin:/bin";
  while (true) {
    const size_t colon = rest.find(':');
    const std::string path = fmt::format("{}/{}", rest.substr(0, colon), name);
    if (::access(path.c_str(), X_OK) == 0) return path;
    if (colon == std::string_view::npos) return {};
    rest = rest.substr(colon + 1);
  }
}

bool may_map_ids(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return false;
  return ((info.st_mode & S_ISUID) != 0 && info.st_uid == 0) ||
         ::getxattr(path.c_str(), "security.capability", nullptr, 0) > 0;
}

bool file_says(const char* path, std::string_view value) {
  const auto text = sys::read_file(path, 64);
  return text.ok() && std::string_view(*text).substr(0, text->find('\n')) == value;
}

}  // namespace

std::string user_name() {
  // The C library of a static program can't look users up in every source; the files' are what newuidmap goes by too.
  const auto text = sys::read_file("/etc/passwd").value_or("");
  const std::string id = std::to_string(::geteuid());
  std::string_view rest = text;
  while (!rest.empty()) {
    const size_t newline = rest.find('\n');
    const std::string_view line = rest.substr(0, newline);
    rest = newline == std::string_view::npos ? std::string_view() : rest.substr(newline + 1);
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const size_t third = line.find(':', second + 1);
    if (line.substr(second + 1, third - second - 1) == id) return std::string(line.substr(0, first));
  }
  return id;
}

std::optional<Lack> lack_of_ids(const std::string& program, const std::string& file) {
  const std::string name = user_name();
  if (parse_ranges(sys::read_file(file).value_or(""), name, ::geteuid()).empty()) {
    return Lack{file, fmt::format("no range for user {}", name),
                fmt::format("let the administrator run `usermod --add-subuids 100000-165535 --add-subgids "
                            "100000-165535 {}` (numbers that no other user has)",
                            name)};
  }
  const std::string path = find_program(program);
  if (path.empty()) return Lack{program, "missing", "install the package uidmap"};
  if (!may_map_ids(path)) {
    return Lack{program, path + " is neither set-uid root nor has capabilities",
                "install the package uidmap again; a file system mounted nosuid does not do"};
  }
  return std::nullopt;
}

std::optional<Lack> lack_of_user_namespaces() {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(::unshare(CLONE_NEWUSER) == 0 ? 0 : errno);
  int status = 0;
  while (pid > 0 && ::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (pid > 0 && status == 0) return std::nullopt;
  Lack out{"user namespaces", "this user may not make them", ""};
  if (pid > 0 && WIFEXITED(status)) out.finding += fmt::format(" ({})", std::strerror(WEXITSTATUS(status)));
  if (file_says("/proc/sys/user/max_user_namespaces", "0")) {
    out.advice = "let the administrator run `sysctl -w user.max_user_namespaces=15000`";
  } else if (file_says("/proc/sys/kernel/unprivileged_userns_clone", "0")) {
    out.advice = "let the administrator run `sysctl -w kernel.unprivileged_userns_clone=1`";
  } else if (file_says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")) {
    out.advice =
        "let the administrator run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give hull an "
        "AppArmor profile that allows userns";
  } else {
    out.advice = "a security module, a seccomp filter or a chroot forbids it: see the kernel's log";
  }
  return out;
}

std::optional<Lack> lack_of_network() {
  if (find_program("pasta").empty()) {
    return Lack{"pasta", "missing, the network of an ordinary user", "install the package passt"};
  }
  const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  if (!tun) {
    return Lack{"/dev/net/tun", std::strerror(errno),
                "let the administrator run `modprobe tun` and `chmod 666 /dev/net/tun`"};
  }
  return std::nullopt;
}

std::vector<Lack> lacks() {
  std::vector<Lack> out;
  const auto look = [&](std::optional<Lack> lack) {
    if (lack) out.push_back(std::move(*lack));
  };
  look(lack_of_user_namespaces());
  look(lack_of_ids("newuidmap", "/etc/subuid"));
  look(lack_of_ids("newgidmap", "/etc/subgid"));
  look(lack_of_network());
  return out;
}

}  // namespace hull::rootless
