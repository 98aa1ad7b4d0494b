#include "vmm/vhost_user_main.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"
#include "vmm/jail.h"
#include "vmm/machine_config.h"
#include "vmm/virtio/block.h"
#include "vmm/virtio/net.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/vhost_user_backend.h"
#include "vmm/virtio/vsock.h"
#include "vmm/virtio/worker.h"

namespace hull::vmm {

namespace {

constexpr std::string_view kUsage =
    "usage: hull-vmm --vhost-user KIND (--socket PATH | --listen-fd N) [options of the kind]\n"
    "  vsock  --vsock-socket PATH [--cid N]\n"
    "  block  --disk FILE... [--writable] [--serial TEXT] [--bytes-per-second N] [--operations-per-second N]\n"
    "  net    (--tap NAME | --tap-fd N...) [--mac ADDRESS] [--queue-pairs N] [--bytes-per-second N]\n"
    "         [--operations-per-second N]\n"
    "  rng\n";

/// "--name value" pairs in order; "--name" alone for the names in kSwitches.
class Arguments {
 public:
  static Result<Arguments> parse(int argc, char** argv) {
    Arguments made;
    for (int i = 1; i < argc; ++i) {
      const std::string name = argv[i];
      if (!name.starts_with("--")) return errorf(ErrorKind::kInvalid, "argument {}: a flag was expected", name);
      if (name == "--writable") {
        made.values_[name].emplace_back();
        continue;
      }
      if (i + 1 >= argc) return errorf(ErrorKind::kInvalid, "flag {} needs a value", name);
      made.values_[name].emplace_back(argv[++i]);
    }
    return made;
  }
  std::optional<std::string> text(const std::string& name) {
    used_.insert(name);
    const auto found = values_.find(name);
    if (found == values_.end()) return std::nullopt;
    return found->second.back();
  }
  std::vector<std::string> all(const std::string& name) {
    used_.insert(name);
    return peek(name);
  }
  /// As all(), but does not count as used.
  std::vector<std::string> peek(const std::string& name) const {
    const auto found = values_.find(name);
    return found == values_.end() ? std::vector<std::string>() : found->second;
  }
  Result<std::string> required(const std::string& name) {
    const auto value = text(name);
    if (!value) return errorf(ErrorKind::kInvalid, "flag {} is missing", name);
    return *value;
  }
  Result<int64_t> number(const std::string& name, int64_t fallback, int64_t lowest, int64_t highest) {
    const auto value = text(name);
    if (!value) return fallback;
    return parse_int(*value, lowest, highest).context("flag " + name);
  }
  Result<void> all_used() const {
    for (const auto& [name, values] : values_) {
      if (!used_.contains(name)) return errorf(ErrorKind::kInvalid, "flag {} is unknown here", name);
    }
    return {};
  }

 private:
  std::map<std::string, std::vector<std::string>> values_;
  std::set<std::string> used_;
};

Result<std::unique_ptr<VirtioDevice>> make_vsock(Arguments* arguments) {
  TRY_ASSIGN(const std::string path, arguments->required("--vsock-socket"));
  // 0 to 2 and the highest have meanings of their own (virtio 1.2 clause 5.10.4).
  TRY_ASSIGN(const int64_t cid, arguments->number("--cid", 3, 3, UINT32_MAX - 1));
  TRY(arguments->all_used());
  TRY_ASSIGN(VsockSocket socket, listen_vsock(path));
  return std::unique_ptr<VirtioDevice>(
      std::make_unique<VsockDevice>(std::move(socket), VsockOptions{.cid = static_cast<uint64_t>(cid), .connect = {}}));
}

Result<RateLimit> rate_limit(Arguments* arguments) {
  TRY_ASSIGN(const int64_t bytes, arguments->number("--bytes-per-second", 0, 0, INT64_MAX));
  TRY_ASSIGN(const int64_t operations, arguments->number("--operations-per-second", 0, 0, INT64_MAX));
  return RateLimit{static_cast<uint64_t>(bytes), static_cast<uint64_t>(operations)};
}

Result<std::unique_ptr<VirtioDevice>> make_block(Arguments* arguments) {
  DiskConfig config;
  config.extents = arguments->all("--disk");
  config.read_only = !arguments->text("--writable").has_value();
  config.serial = arguments->text("--serial").value_or("");
  TRY_ASSIGN(config.limit, rate_limit(arguments));
  TRY(arguments->all_used());
  TRY_ASSIGN(std::unique_ptr<VirtioDevice> device, BlockDevice::create(config));
  return device;
}

Result<std::unique_ptr<VirtioDevice>> make_net(Arguments* arguments) {
  NetConfig config;
  // The front end has the last word on the address; QEMU never asks.
  config.mac = arguments->text("--mac").value_or("02:00:00:00:00:01");
  TRY_ASSIGN(const int64_t pairs, arguments->number("--queue-pairs", 1, 1, NetDevice::kMostPairs));
  TRY_ASSIGN(config.limit, rate_limit(arguments));
  config.queue_pairs = static_cast<uint16_t>(pairs);
  std::vector<int> fds;
  if (const auto name = arguments->text("--tap")) {
    for (int64_t i = 0; i < pairs; ++i) {
      TRY_ASSIGN(UniqueFd tap, open_tap(*name, pairs > 1));
      fds.push_back(tap.release());
    }
  }
  for (const std::string& text : arguments->all("--tap-fd")) {
    TRY_ASSIGN(const int64_t fd, parse_int(text, 0, 1 << 20).context("flag --tap-fd"));
    fds.push_back(static_cast<int>(fd));
  }
  TRY(arguments->all_used());
  if (fds.empty()) return Error(ErrorKind::kInvalid, "flag --tap is missing");
  config.tap_fd = fds[0];
  config.further_tap_fds.assign(fds.begin() + 1, fds.end());
  TRY_ASSIGN(std::unique_ptr<VirtioDevice> device, NetDevice::create(config));
  return device;
}

Result<std::unique_ptr<VirtioDevice>> make_device(const std::string& kind, Arguments* arguments) {
  if (kind == "vsock") return make_vsock(arguments);
  if (kind == "block") return make_block(arguments);
  if (kind == "net") return make_net(arguments);
  if (kind == "rng") {
    TRY(arguments->all_used());
    return std::unique_ptr<VirtioDevice>(std::make_unique<RngDevice>());
  }
  return errorf(ErrorKind::kInvalid, "--vhost-user {}: there is no such device", kind);
}

Result<UniqueFd> listen_at(const std::string& path) {
  sockaddr_un address{.sun_family = AF_UNIX};
  if (path.size() >= sizeof address.sun_path) {
    return errorf(ErrorKind::kInvalid, "socket {}: the path is too long", path);
  }
  path.copy(address.sun_path, path.size());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener || ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listener.get(), 1) != 0) {
    return errnof("listen at {}", path);
  }
  return listener;
}

Result<UniqueFd> listener_of(Arguments* arguments) {
  if (const auto path = arguments->text("--socket")) return listen_at(*path);
  TRY_ASSIGN(const int64_t fd, arguments->number("--listen-fd", -1, 0, 1 << 20));
  if (fd < 0) return Error(ErrorKind::kInvalid, "flag --socket is missing");
  if (::fcntl(static_cast<int>(fd), F_SETFD, FD_CLOEXEC) != 0) return errno_error("flag --listen-fd");
  return UniqueFd(static_cast<int>(fd));
}

/// What the command line names as descriptors of its own stays open, nothing else that was inherited.
Result<void> close_others(Arguments* arguments) {
  std::vector<int> kept;
  const auto keep = [&](std::string_view number) {
    const Result<int64_t> fd = parse_int(number, 0, 1 << 20);
    if (fd.ok()) kept.push_back(static_cast<int>(*fd));
  };
  constexpr std::string_view kFdPath = "/proc/self/fd/";
  for (const char* name : {"--listen-fd", "--tap-fd"}) {
    for (const std::string& value : arguments->peek(name)) keep(value);
  }
  for (const std::string& disk : arguments->peek("--disk")) {
    if (disk.starts_with(kFdPath)) keep(std::string_view(disk).substr(kFdPath.size()));
  }
  return close_other_descriptors(std::move(kept));
}

/// Everything is open: from here on neither the guest nor the front end finds more than that.
Result<void> confine() {
  // What the process was started with stays; the jail would undo it.
  int at_parents_end = 0;
  if (::prctl(PR_GET_PDEATHSIG, &at_parents_end) == 0 && at_parents_end != 0) die_with_parent();
  TRY_ASSIGN(const bool separate, enter_jail());
  if (!separate) {
    log_warning("hull-vmm: this user may not make namespaces: the device is held by the system-call filters alone");
  }
  set_worker_thread_hook([](std::string_view kind) { confine_thread(device_thread_kind(kind)); });
  confine_thread(ThreadKind::kVhostUser);
  return {};
}

Result<void> serve(Arguments* arguments) {
  TRY_ASSIGN(const std::string kind, arguments->required("--vhost-user"));
  TRY(close_others(arguments));
  TRY_ASSIGN(const UniqueFd listener, listener_of(arguments));
  TRY_ASSIGN(const std::unique_ptr<VirtioDevice> device, make_device(kind, arguments));
  TRY(confine());
  UniqueFd front_end;
  do {
    front_end.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  } while (!front_end && errno == EINTR);
  if (!front_end) return errno_error("wait for the vhost-user front end");
  return VhostUserBackend(device.get()).serve(front_end.get());
}

}  // namespace

int vhost_user_main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  auto arguments = Arguments::parse(argc, argv);
  if (!arguments.ok()) {
    log_error("{}\n{}", arguments.error().message(), kUsage);
    return 2;
  }
  const Result<void> served = serve(&*arguments);
  if (served.ok()) return 0;
  log_error("{}", served.error().message());
  return served.error().kind() == ErrorKind::kInvalid ? 2 : 1;
}

}  // namespace hull::vmm
