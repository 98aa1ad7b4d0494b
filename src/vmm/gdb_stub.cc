#include "vmm/gdb_stub.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "base/log.h"
#include "base/units.h"

namespace hull::vmm {

namespace {
constexpr uint64_t kPage = 4096;
constexpr int kSendPatienceMs = 5000;

Result<UniqueFd> listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return errorf(ErrorKind::kInvalid, "gdb: the path of unix:{} is empty or longer than a socket's may be", path);
  }
  path.copy(address.sun_path, path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const mode_t before = ::umask(0177);
  const int done = fd ? ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) : -1;
  const int error = errno;
  ::umask(before);
  if (done != 0) return Error::from_errno(error, fmt::format("gdb: bind unix:{}", path));
  return fd;
}

Result<UniqueFd> listen_tcp(std::string_view port_text) {
  TRY_ASSIGN(const int64_t port, parse_int(port_text, 1, 65535).context("gdb: the port"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int one = 1;
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return errnof("gdb: bind tcp:127.0.0.1:{}", port);
  }
  return fd;
}

Result<UniqueFd> bind_at(std::string_view where) {
  constexpr std::string_view kUnix = "unix:", kTcp = "tcp:127.0.0.1:";
  if (where.starts_with(kUnix)) return listen_unix(std::string(where.substr(kUnix.size())));
  if (where.starts_with(kTcp)) return listen_tcp(where.substr(kTcp.size()));
  return errorf(ErrorKind::kInvalid,
                "gdb: '{}' is neither unix:PATH nor tcp:127.0.0.1:PORT; whoever connects has the guest in his hands",
                where);
}

/// Debug control register (Intel SDM volume 3, 17.2.4): enabled, kind and length of each breakpoint.
uint64_t control_register(std::span<const HardwareBreak> breaks) {
  uint64_t value = 0x400;  // reads as one
  for (size_t i = 0; i < breaks.size(); ++i) {
    constexpr uint64_t kExecute = 0, kWrite = 1, kReadOrWrite = 3;
    const HardwareBreak& one = breaks[i];
    const uint64_t kind = one.kind == GdbBreak::kHardware ? kExecute
                          : one.kind == GdbBreak::kWrite  ? kWrite
                                                          : kReadOrWrite;
    const uint64_t length = one.length == 8 ? 2 : one.length - 1u;
    value |= 2ull << (2 * i) | kind << (16 + 4 * i) | length << (18 + 4 * i);
  }
  return value;
}
}  // namespace

Result<std::unique_ptr<GdbStub>> GdbStub::listen(const std::string& where, Machine* machine, int epoll) {
  TRY_ASSIGN(UniqueFd listener, bind_at(where));
  if (::listen(listener.get(), 1) != 0) return errnof("gdb: listen at {}", where);
  std::unique_ptr<GdbStub> stub(new GdbStub(machine, epoll, std::move(listener)));
  TRY_ASSIGN(stub->stops_, machine->enable_debugging());
  TRY(stub->watch(stub->listener_.get(), kListener));
  TRY(stub->watch(stub->stops_->fd(), kStops));
  return stub;
}

Result<void> GdbStub::watch(int fd, uint64_t key) const {
  epoll_event event{.events = EPOLLIN, .data = {.u64 = key}};
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) return errno_error("watch the debugger's socket");
  return {};
}

void GdbStub::on_event(uint64_t key) {
  if (key == kListener) return accept();
  if (key == kStops) return take_stop();
  if (key == kPeer && session_) receive();
}

void GdbStub::accept() {
  UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd || session_ || !watch(fd.get(), kPeer).ok()) return;  // one debugger at a time
  const int one = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  peer_ = std::move(fd);
  machine_->pause();
  session_.emplace(this);
}

void GdbStub::receive() {
  char buffer[4096];
  const ssize_t got = ::recv(peer_.get(), buffer, sizeof(buffer), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  const bool stays = got > 0 && session_->receive({buffer, static_cast<size_t>(got)});
  send();
  if (!stays) drop();
}

/// The debugger reads all that it asked for; one that does not for seconds is gone.
void GdbStub::send() {
  std::string& output = session_->output();
  while (!output.empty()) {
    const ssize_t sent = ::send(peer_.get(), output.data(), output.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      output.erase(0, static_cast<size_t>(sent));
      continue;
    }
    pollfd wait{peer_.get(), POLLOUT, 0};
    if (errno != EAGAIN || ::poll(&wait, 1, kSendPatienceMs) != 1) output.clear();
  }
}

void GdbStub::drop() {
  session_->detach();
  session_.reset();
  peer_.reset();
}

void GdbStub::take_stop() {
  const std::optional<DebugStops::Stop> stop = stops_->take();
  if (!stop || !session_ || !session_->running()) return;
  machine_->pause();
  constexpr uint32_t kBreakpointException = 3;
  session_->stopped({stop->processor, stop->exit.pc, stop->exit.dr6, stop->exit.exception == kBreakpointException});
  send();
}

void GdbStub::tell_end() {
  if (!session_) return;
  session_->ended();
  send();
}

Result<void> GdbStub::resume(std::span<const GdbAction> actions, std::span<const HardwareBreak> breaks) {
  // Who stopped at the same time as another meets its breakpoint again.
  while (stops_->take()) {
  }
  for (uint32_t i = 0; i < processors(); ++i) {
    kvm_guest_debug debug{};
    debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
    if (actions[i] == GdbAction::kStep) debug.control |= KVM_GUESTDBG_SINGLESTEP;
    if (std::ranges::find(passing_, i) != passing_.end()) debug.control |= KVM_GUESTDBG_INJECT_BP;
    if (!breaks.empty()) {
      debug.control |= KVM_GUESTDBG_USE_HW_BP;
      for (size_t slot = 0; slot < breaks.size(); ++slot) debug.arch.debugreg[slot] = breaks[slot].address;
      debug.arch.debugreg[7] = control_register(breaks);
    }
    TRY(machine_->processor(i).vcpu().set_guest_debug(debug));
    machine_->processor(i).hold(actions[i] == GdbAction::kHold);
  }
  passing_.clear();
  machine_->resume();
  return {};
}

Result<void> GdbStub::release() {
  while (stops_->take()) {
  }
  for (uint32_t i = 0; i < processors(); ++i) {
    TRY(machine_->processor(i).vcpu().set_guest_debug({}));
    machine_->processor(i).hold(false);
  }
  machine_->resume();
  return {};
}

Result<GdbState> GdbStub::state(uint32_t processor) {
  const Vcpu& vcpu = machine_->processor(processor).vcpu();
  GdbState state;
  TRY_ASSIGN(state.regs, vcpu.regs());
  TRY_ASSIGN(state.sregs, vcpu.sregs());
  TRY_ASSIGN(state.fpu, vcpu.fpu());
  return state;
}

/// Only what differs, so that a write to one register does not disturb the rest.
Result<void> GdbStub::set_state(uint32_t processor, const GdbState& wanted) {
  TRY_ASSIGN(const GdbState now, state(processor));
  Vcpu& vcpu = machine_->processor(processor).vcpu();
  const auto differs = [](const auto& a, const auto& b) { return std::memcmp(&a, &b, sizeof(a)) != 0; };
  if (differs(now.sregs, wanted.sregs)) TRY(vcpu.set_sregs(wanted.sregs));
  if (differs(now.fpu, wanted.fpu)) TRY(vcpu.set_fpu(wanted.fpu));
  if (differs(now.regs, wanted.regs)) TRY(vcpu.set_regs(wanted.regs));
  return {};
}

bool GdbStub::read_memory(uint32_t processor, uint64_t address, std::span<std::byte> out) {
  while (!out.empty()) {
    const std::optional<uint64_t> physical = machine_->processor(processor).vcpu().translate(address);
    const size_t part = std::min<size_t>(out.size(), kPage - address % kPage);
    if (!physical || !machine_->memory().guest().read(*physical, out.first(part))) return false;
    out = out.subspan(part);
    address += part;
  }
  return true;
}

bool GdbStub::write_memory(uint32_t processor, uint64_t address, std::span<const std::byte> in) {
  while (!in.empty()) {
    const std::optional<uint64_t> physical = machine_->processor(processor).vcpu().translate(address);
    const size_t part = std::min<size_t>(in.size(), kPage - address % kPage);
    if (!physical || !machine_->memory().guest().write(*physical, in.first(part))) return false;
    in = in.subspan(part);
    address += part;
  }
  return true;
}

}  // namespace hull::vmm
