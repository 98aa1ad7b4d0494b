// The owner of the nftables tables. Linux lets a table belong to a netlink socket (NFT_TABLE_F_OWNER, 5.12): then only
// requests through this socket change it, and whoever flushes the whole rule set passes it over. A socket lives as long
// as somebody holds it; so the monitor of each workload on a network does, and whoever has to change rules borrows it
// from any of them (pidfd_getfd, 5.6) while it holds the manager's lock.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error_format.h"
#include "net/manager.h"
#include "sys/process.h"

namespace hull::net {

using Impl = NetworkManager::Impl;

namespace {

// Records: the socket that keepers hold, by its cookie, and the one that the tables belong to since we looked last.
constexpr const char* kSocket = "rules_socket";
constexpr const char* kOwner = "rules_owner";
// The last holder ends between two of our looks: how often, and how long apart, we look again.
constexpr int kTries = 100;
constexpr int kBetweenMs = 5;

/// A number that no other socket of this boot has; 0 when `fd` is no socket.
int64_t cookie_of(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (::getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return 0;
  return static_cast<int64_t>(cookie);
}

/// The socket with that cookie from another process. Not valid, and errno, when it can't be had.
UniqueFd borrow(pid_t pid, int fd, int64_t cookie) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return {};
  UniqueFd out(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
  if (out && (cookie == 0 || cookie_of(out.get()) != cookie)) {
    errno = EBADF;
    return {};
  }
  return out;
}

}  // namespace

Result<Impl::Lock> Impl::lock() {
  default_.reset();  // others may have chosen anew while we did not hold it
  TRY_ASSIGN(auto file, sys::FileLock::acquire(paths.run_dir + "/lock", true, true));
  return Lock(*this, std::move(file));
}

void Impl::let_go_of_owner() {
  borrowed_ = owned_ = false;
  if (ruleset_) ruleset_->use_owner(std::nullopt);
}

Result<UniqueFd> Impl::find_owner_socket() {
  TRY_ASSIGN(const auto cookie, records->number(kSocket));
  if (!cookie) return UniqueFd();
  while (true) {
    TRY_ASSIGN(const auto keepers, records->keepers());
    bool erased = false;
    for (const Records::Keeper& keeper : keepers) {
      UniqueFd found = borrow(keeper.pid, keeper.fd, *cookie);
      if (found) return found;
      if (errno == EPERM) continue;  // it lives; it is not ours to look into
      TRY(records->erase_keeper(keeper));
      erased = true;
    }
    if (!erased) return UniqueFd();
  }
}

Result<UniqueFd> Impl::socket_for_keeper(const std::string& workload_id) {
  TRY_ASSIGN(UniqueFd socket, find_owner_socket());
  if (!socket) {
    auto opened = sys::NetlinkSocket::open(NETLINK_NETFILTER);
    if (!opened.ok()) return std::move(opened).error();
    socket.reset(::fcntl(opened->fd(), F_DUPFD_CLOEXEC, 3));
    if (!socket) return errno_error("keep a netlink socket");
    TRY(records->set_number(kSocket, cookie_of(socket.get())));
  }
  TRY(records->set_keeper({workload_id, ::getpid(), socket.get()}));
  return socket;
}

Result<bool> Impl::borrow_owner() {
  if (borrowed_) return true;
  TRY_ASSIGN(UniqueFd socket, find_owner_socket());
  if (!socket) return false;
  TRY_ASSIGN(Ruleset * rules, ruleset());
  rules->use_owner(sys::NetlinkSocket::of(std::move(socket)));
  borrowed_ = true;
  return true;
}

Result<bool> Impl::own_rules_by(const Keeper& keeper) {
  TRY_ASSIGN(const auto cookie, records->number(kSocket));
  if (!cookie) return false;  // reserved without one
  UniqueFd socket = borrow(keeper.pid, keeper.fd, *cookie);
  if (!socket) return false;  // not allowed: the rules stay open to changes by others; doctor() says so
  TRY_ASSIGN(Ruleset * rules, ruleset());
  rules->use_owner(sys::NetlinkSocket::of(std::move(socket)));
  borrowed_ = true;
  TRY_ASSIGN(const auto owner, records->number(kOwner));
  owned_ = owner == cookie;
  if (owned_) return true;
  TRY_ASSIGN(Holding holding, rules->holding());
  if (holding == Holding::kOrphaned) {
    TRY_ASSIGN(const bool frame_guard, has_frame_guard());
    TRY(change_rules([&](Ruleset& table) { return table.adopt(frame_guard); }));
  } else {
    TRY(rebuild_rules());
  }
  TRY(note_owner());
  return true;
}

Result<void> Impl::note_owner() {
  if (!borrowed_) return {};
  TRY_ASSIGN(const auto cookie, records->number(kSocket));
  return records->set_number(kOwner, cookie.value_or(0));
}

Result<bool> Impl::owner_is_gone() {
  if (owned_) return false;
  TRY_ASSIGN(const auto owner, records->number(kOwner));
  if (owner.value_or(0) == 0) return false;
  TRY_ASSIGN(const auto cookie, records->number(kSocket));
  if (owner == cookie) {
    TRY_ASSIGN(const bool lives, borrow_owner());
    if (lives) return false;
  }
  TRY(records->set_number(kOwner, 0));
  return true;
}

Result<void> Impl::keep_rules_by(const Records::Keeper& keeper) {
  TRY(records->set_keeper(keeper));
  // Nobody strikes a keeper out when it ends. Ids are random: with two of them looked at for each new one, at most as
  // many dead as living ones stay on record.
  TRY_ASSIGN(const auto some, records->keepers_after(keeper.workload));
  for (const Records::Keeper& one : some) {
    if (sys::pidfd_open(one.pid).ok()) continue;
    TRY(records->erase_keeper(one));
  }
  return {};
}

Result<void> Impl::write_rules(const std::function<Result<void>(Ruleset&)>& change) {
  TRY_ASSIGN(Ruleset * rules, ruleset());
  for (int i = 0;; ++i) {
    TRY(borrow_owner());
    auto done = change(*rules);
    if (done.ok() || done.error().kind() != ErrorKind::kPermission) return done;
    TRY_ASSIGN(const Holding holding, rules->holding());
    if (holding != Holding::kOwned) {
      if (i > 0) return done;  // it is not a question of owners
      continue;
    }
    if (i == kTries) {
      return errorf(ErrorKind::kConflict,
                    "the rules of networks belong to a process that is not on record: workloads that were started "
                    "before {} was removed still run; stop them first",
                    paths.run_dir);
    }
    ::poll(nullptr, 0, kBetweenMs);  // a process is ending with its socket
    let_go_of_owner();
  }
}

}  // namespace hull::net
