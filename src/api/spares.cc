#include "api/spares.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"

namespace hull::api {
namespace {

struct Report {
  pid_t pid;
  int generation;
};

struct TaskMessage {
  uid_t uid;
  bool is_unix, tls, dashboard;
};

/// One message of fixed size with one descriptor.
template <typename T>
bool send_with(int channel, const T& content, int descriptor, int flags) {
  iovec data = {const_cast<T*>(&content), sizeof content};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof descriptor)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof descriptor);
  std::memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(channel, &message, MSG_NOSIGNAL | flags);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(sizeof content);
}

/// False at the end, and when nothing is there. An interrupted wait clears up behind what was started from here.
template <typename T>
bool receive_with(int channel, T* content, UniqueFd* descriptor, int flags) {
  iovec data = {content, sizeof *content};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  while ((got = ::recvmsg(channel, &message, MSG_CMSG_CLOEXEC | flags)) < 0 && errno == EINTR) {
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
  for (cmsghdr* head = got < 0 ? nullptr : CMSG_FIRSTHDR(&message); head != nullptr;
       head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    int received = -1;
    std::memcpy(&received, CMSG_DATA(head), sizeof received);
    descriptor->reset(received);
  }
  return got == static_cast<ssize_t>(sizeof *content) && *descriptor;
}

}  // namespace

Result<void> Spares::open() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return errno_error("make a pair of sockets");
  reports_.reset(ends[0]);
  report_end_.reset(ends[1]);
  return {};
}

std::vector<pid_t> Spares::collect(size_t most) {
  std::vector<pid_t> out;
  for (;;) {
    Report report{};
    UniqueFd channel;
    if (!receive_with(reports_.get(), &report, &channel, MSG_DONTWAIT)) return out;
    if (report.generation != generation_ || spares_.size() >= most) continue;  // its channel is closed: it ends
    spares_.push_back({report.pid, std::move(channel)});
    out.push_back(report.pid);
  }
}

pid_t Spares::hand_over(const Task& task) {
  const TaskMessage message = {task.uid, task.is_unix, task.tls, task.dashboard};
  while (!spares_.empty()) {
    const Spare spare = std::move(spares_.back());
    spares_.pop_back();
    // One that was killed meanwhile has closed its end.
    if (send_with(spare.channel.get(), message, task.socket.get(), MSG_DONTWAIT)) return spare.pid;
  }
  return 0;
}

void Spares::forget(pid_t pid) {
  std::erase_if(spares_, [pid](const Spare& one) { return one.pid == pid; });
}

void Spares::dismiss() {
  spares_.clear();
  ++generation_;
}

void Spares::become_worker() {
  reports_.reset();
  spares_.clear();
}

std::optional<Task> Spares::wait_for_task() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return {};
  const UniqueFd mine(ends[0]);
  UniqueFd theirs(ends[1]);
  if (!send_with(report_end_.get(), Report{::getpid(), generation_}, theirs.get(), 0)) return {};
  theirs.reset();
  TaskMessage message{};
  Task task;
  if (!receive_with(mine.get(), &message, &task.socket, 0)) return {};
  task.uid = message.uid;
  task.is_unix = message.is_unix;
  task.tls = message.tls;
  task.dashboard = message.dashboard;
  return task;
}

}  // namespace hull::api
