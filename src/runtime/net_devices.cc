// linux.netDevices: host interfaces moved into the container's network namespace by rtnetlink, with the addresses
// that they have, and set up (config-linux.md, "Network devices").
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/error_format.h"
#include "runtime/launch_parts.h"
#include "sys/file.h"

namespace hull::runtime {
namespace {

/// One request, grown attribute by attribute.
class Request {
 public:
  template <typename T>
  Request(uint16_t type, uint16_t flags, const T& body) {
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    append(&header, sizeof header);
    append(&body, sizeof body);
  }
  void attribute(uint16_t type, const void* value, size_t size) {
    const rtattr head{static_cast<uint16_t>(RTA_LENGTH(size)), type};
    append(&head, sizeof head);
    append(value, size);
  }
  std::vector<char>& finish() {
    const auto size = static_cast<uint32_t>(data_.size());
    std::memcpy(data_.data(), &size, sizeof size);
    return data_;
  }

 private:
  void append(const void* value, size_t size) {
    const auto* bytes = static_cast<const char*>(value);
    data_.insert(data_.end(), bytes, bytes + size);
    data_.resize((data_.size() + 3) / 4 * 4);
  }
  std::vector<char> data_;
};

Result<UniqueFd> open_netlink() {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd) return errno_error("open rtnetlink");
  return fd;
}

/// NLMSG_DATA without its casts.
void* payload(nlmsghdr* message) { return reinterpret_cast<char*>(message) + NLMSG_HDRLEN; }

/// Sends and calls on_message for each answer until the acknowledgement or the end of the dump.
template <typename F>
Result<void> talk(int fd, Request& request, F&& on_message) {
  const std::vector<char>& data = request.finish();
  if (::send(fd, data.data(), data.size(), 0) < 0) return errno_error("rtnetlink");
  for (;;) {
    alignas(nlmsghdr) char buffer[16384];
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got < 0) return errno_error("rtnetlink");
    auto left = static_cast<unsigned>(got);
    for (auto* message = reinterpret_cast<nlmsghdr*>(buffer); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type == NLMSG_DONE) return {};
      if (message->nlmsg_type == NLMSG_ERROR) {
        const int error = static_cast<const nlmsgerr*>(payload(message))->error;
        if (error == 0) return {};
        return Error::from_errno(-error, "rtnetlink");
      }
      on_message(message);
    }
  }
}

struct Address {
  ifaddrmsg head;
  std::vector<char> local, address, broadcast;
};

Result<std::vector<Address>> addresses_of(int fd, unsigned index) {
  std::vector<Address> found;
  ifaddrmsg body{};
  Request request(RTM_GETADDR, NLM_F_DUMP, body);
  TRY(talk(fd, request, [&](nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWADDR) return;
    auto* head = static_cast<ifaddrmsg*>(payload(message));
    // Only addresses of global scope that were given by hand move along.
    if (head->ifa_index != index || head->ifa_scope != RT_SCOPE_UNIVERSE) return;
    if ((head->ifa_flags & IFA_F_PERMANENT) == 0) return;
    Address address{*head, {}, {}, {}};
    auto size = static_cast<unsigned>(IFA_PAYLOAD(message));
    auto* first = reinterpret_cast<rtattr*>(reinterpret_cast<char*>(head) + NLMSG_ALIGN(sizeof *head));
    for (rtattr* entry = first; RTA_OK(entry, size); entry = RTA_NEXT(entry, size)) {
      const auto* value = reinterpret_cast<const char*>(entry) + RTA_LENGTH(0);
      std::vector<char> bytes(value, value + RTA_PAYLOAD(entry));
      if (entry->rta_type == IFA_LOCAL)
        address.local = std::move(bytes);
      else if (entry->rta_type == IFA_ADDRESS)
        address.address = std::move(bytes);
      else if (entry->rta_type == IFA_BROADCAST)
        address.broadcast = std::move(bytes);
    }
    found.push_back(std::move(address));
  }));
  return found;
}

/// Inside the new namespace: addresses back, and up.
Result<void> restore(const std::string& name, const std::vector<Address>& addresses) {
  TRY_ASSIGN(const UniqueFd fd, open_netlink());
  const unsigned index = ::if_nametoindex(name.c_str());
  if (index == 0) return errnof("interface {}", name);
  for (const Address& address : addresses) {
    ifaddrmsg head = address.head;
    head.ifa_index = index;
    Request request(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE, head);
    if (!address.local.empty()) request.attribute(IFA_LOCAL, address.local.data(), address.local.size());
    if (!address.address.empty()) request.attribute(IFA_ADDRESS, address.address.data(), address.address.size());
    if (!address.broadcast.empty())
      request.attribute(IFA_BROADCAST, address.broadcast.data(), address.broadcast.size());
    TRY(talk(fd.get(), request, [](nlmsghdr*) {}));
  }
  ifinfomsg body{};
  body.ifi_index = static_cast<int>(index);
  body.ifi_flags = IFF_UP;
  body.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, NLM_F_ACK, body);
  return talk(fd.get(), request, [](nlmsghdr*) {});
}

/// Runs `restore` in the network namespace; the calling process stays where it is.
Result<void> restore_in(int netns, const std::string& name, const std::vector<Address>& addresses) {
  const pid_t helper = ::fork();
  if (helper < 0) return errno_error("fork");
  if (helper == 0) {
    if (::setns(netns, CLONE_NEWNET) != 0) ::_exit(errno);
    auto restored = restore(name, addresses);
    ::_exit(restored.ok() ? 0 : restored.error().error_number() != 0 ? restored.error().error_number() : EIO);
  }
  int status = 0;
  while (::waitpid(helper, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return Error::from_errno(WIFEXITED(status) ? WEXITSTATUS(status) : EIO, "set up interface " + name);
}

Result<void> move_one(int netlink, int netns, const std::string& host_name, const std::string& name) {
  const unsigned index = ::if_nametoindex(host_name.c_str());
  if (index == 0) return errnof("no such interface on the host");
  TRY_ASSIGN(const std::vector<Address> addresses, addresses_of(netlink, index));
  ifinfomsg body{};
  body.ifi_index = static_cast<int>(index);
  // Down first: an interface that is up can't be renamed on older kernels.
  body.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, NLM_F_ACK, body);
  const auto fd = static_cast<uint32_t>(netns);
  request.attribute(IFLA_NET_NS_FD, &fd, sizeof fd);
  request.attribute(IFLA_IFNAME, name.c_str(), name.size() + 1);
  TRY(talk(netlink, request, [](nlmsghdr*) {}));
  return restore_in(netns, name, addresses);
}

}  // namespace

Result<void> move_net_devices(const std::map<std::string, std::string>& devices, pid_t pid) {
  if (devices.empty()) return {};
  TRY_ASSIGN(const UniqueFd netlink, open_netlink());
  TRY_ASSIGN(const UniqueFd netns, sys::open(fmt::format("/proc/{}/ns/net", pid), O_RDONLY));
  for (const auto& [host_name, inner_name] : devices) {
    const std::string& name = inner_name.empty() ? host_name : inner_name;
    if (name.size() >= IFNAMSIZ || host_name.size() >= IFNAMSIZ) {
      return errorf(ErrorKind::kInvalid, "linux.netDevices: interface name {} is longer than {} bytes", name,
                    IFNAMSIZ - 1);
    }
    auto moved = move_one(netlink.get(), netns.get(), host_name, name);
    if (!moved.ok()) return std::move(moved).error().context("linux.netDevices: " + host_name);
  }
  return {};
}

}  // namespace hull::runtime
