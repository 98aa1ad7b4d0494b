#include "vmm/control.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace hull::vmm {
namespace {
using testing::HasSubstr;
using State = HttpParse::State;

TEST(Http, ARequestIsReadInPieces) {
  const std::string text = "PUT /balloon HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\n\r\nhelloGET";
  for (size_t size = 0; size < text.size() - 3; ++size) {
    EXPECT_EQ(parse_http(std::string_view(text).substr(0, size)).state, State::kMore) << size;
  }
  const HttpParse parse = parse_http(text);
  ASSERT_EQ(parse.state, State::kDone);
  EXPECT_EQ(parse.request.method, "PUT");
  EXPECT_EQ(parse.request.path, "/balloon");
  EXPECT_EQ(parse.request.body, "hello");
  EXPECT_EQ(parse.used, text.size() - 3);
  EXPECT_TRUE(parse.request.keep_alive);
}

TEST(Http, WhatIsNotUnderstoodIsRefused) {
  const auto status = [](std::string_view text) { return parse_http(text).status; };
  EXPECT_EQ(status("hello\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/2\r\n\r\n"), 400);
  EXPECT_EQ(status("GET stats HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nno colon\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nContent-Length: 0x10\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n"), 413);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 501);
  EXPECT_EQ(status("GET / HTTP/1.1\r\n" + std::string(9000, 'a')), 431);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n"), 400);
}

class Control : public testing::Test {
 protected:
  Control() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    char folder[] = "/tmp/hull-control.XXXXXX";
    path_ = std::string(::mkdtemp(folder)) + "/api";
    ControlHandlers handlers;
    handlers.pause = [this] { log_ += "pause "; };
    handlers.resume = [this]() -> Result<void> {
      log_ += "resume ";
      return {};
    };
    handlers.press_power_button = [this] { log_ += "button "; };
    handlers.stats = [] { return std::string("{\"vcpus\":1}"); };
    handlers.devices = [] { return std::string("[]"); };
    handlers.add_disk = [this](const std::string&, const std::vector<UniqueFd>& fds) -> Result<size_t> {
      log_ += "disk+" + std::to_string(fds.size()) + " ";
      return 7;
    };
    handlers.add_net = [](const std::string&, const std::vector<UniqueFd>&) -> Result<size_t> {
      return Error(ErrorKind::kNoSpace, "no slot");
    };
    handlers.remove_device = [](size_t index) -> Result<void> {
      if (index != 2) return Error(ErrorKind::kNotFound, "no such device");
      return {};
    };
    handlers.set_balloon = [this](uint64_t bytes) -> Result<void> {
      if (bytes > 1000) return Error(ErrorKind::kInvalid, "too much");
      log_ += "balloon=" + std::to_string(bytes) + " ";
      return {};
    };
    server_ = std::make_unique<ControlServer>(ControlServer::listen(path_, epoll_.get(), std::move(handlers)).value());
  }
  ~Control() override {
    ::unlink(path_.c_str());
    ::rmdir(path_.substr(0, path_.rfind('/')).c_str());
  }
  UniqueFd connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, path_.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    work();
    return fd;
  }
  void work() {
    epoll_event events[8];
    for (int i = 0; i < 20; ++i) {
      const int count = ::epoll_wait(epoll_.get(), events, 8, 5);
      if (count <= 0) return;
      for (int k = 0; k < count; ++k) server_->on_event(events[k].data.u64, events[k].events);
    }
  }
  std::string ask(int fd, const std::string& text) {
    EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    work();
    return received(fd);
  }
  static std::string received(int fd) {
    char buffer[8192];
    const ssize_t got = ::recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    return got > 0 ? std::string(buffer, static_cast<size_t>(got)) : got == 0 ? "end" : "";
  }

  UniqueFd epoll_;
  std::string path_, log_;
  std::unique_ptr<ControlServer> server_;
};

TEST_F(Control, RequestsReachTheMachine) {
  const UniqueFd fd = connect();
  EXPECT_THAT(ask(fd.get(), "GET /stats HTTP/1.1\r\n\r\n"), HasSubstr("\r\n\r\n{\"vcpus\":1}"));
  EXPECT_THAT(ask(fd.get(), "PUT /pause HTTP/1.1\r\n\r\nPUT /resume HTTP/1.1\r\n\r\n"), HasSubstr("204"));
  EXPECT_THAT(ask(fd.get(), "PUT /shutdown HTTP/1.1\r\n\r\n"), HasSubstr("204"));
  EXPECT_THAT(ask(fd.get(), "PUT /balloon HTTP/1.1\r\nContent-Length: 13\r\n\r\n{\"bytes\":512}"), HasSubstr("204"));
  EXPECT_EQ(log_, "pause resume button balloon=512 ");
}

TEST_F(Control, ErrorsSayWhatIsWrong) {
  const UniqueFd fd = connect();
  EXPECT_THAT(ask(fd.get(), "GET /nothing HTTP/1.1\r\n\r\n"), HasSubstr("404"));
  EXPECT_THAT(ask(fd.get(), "PUT /disks HTTP/1.1\r\n\r\n"), HasSubstr("{\"device\":7}"));
  EXPECT_THAT(ask(fd.get(), "PUT /nets HTTP/1.1\r\n\r\n"), HasSubstr("409"));
  EXPECT_THAT(ask(fd.get(), "DELETE /devices/3 HTTP/1.1\r\n\r\n"), HasSubstr("404"));
  EXPECT_THAT(ask(fd.get(), "DELETE /devices/2 HTTP/1.1\r\n\r\n"), HasSubstr("204"));
  EXPECT_THAT(ask(fd.get(), "DELETE /devices/x HTTP/1.1\r\n\r\n"), HasSubstr("400"));
  EXPECT_THAT(ask(fd.get(), "GET /devices HTTP/1.1\r\n\r\n"), HasSubstr("[]"));
  EXPECT_THAT(ask(fd.get(), "PUT /balloon HTTP/1.1\r\nContent-Length: 14\r\n\r\n{\"bytes\":5120}"),
              HasSubstr("too much"));
  EXPECT_THAT(ask(fd.get(), "PUT /balloon HTTP/1.1\r\n\r\n"), HasSubstr("400"));
  EXPECT_THAT(ask(fd.get(), "PUT /balloon HTTP/1.1\r\nContent-Length: 9\r\n\r\n{\"byte\":1"), HasSubstr("400"));
  EXPECT_THAT(ask(fd.get(), "rubbish\r\n\r\n"), HasSubstr("400"));
  EXPECT_EQ(received(fd.get()), "end") << "nothing is guessed after rubbish";
}

/// Sends the text with so many copies of a pipe's writing end.
void send_with_descriptors(int socket, const std::string& text, int fd, size_t count) {
  std::vector<int> fds(count, fd);
  std::vector<char> control(CMSG_SPACE(count * sizeof(int)));
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(count * sizeof(int));
  std::memcpy(CMSG_DATA(head), fds.data(), count * sizeof(int));
  ASSERT_EQ(::sendmsg(socket, &message, MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
}

TEST_F(Control, DescriptorsComeWithTheirRequestAndNoneIsKept) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const UniqueFd fd = connect(), many = connect(), listener = connect();
  send_with_descriptors(fd.get(), "PUT /disks HTTP/1.1\r\nContent-Le", writer.get(), 2);
  work();
  EXPECT_EQ(received(fd.get()), "") << "the request is not whole yet";
  send_with_descriptors(fd.get(), "ngth: 2\r\n\r\n{}PUT /disks HTTP/1.1\r\n\r\n", writer.get(), 3);
  work();
  EXPECT_THAT(received(fd.get()), HasSubstr("{\"device\":7}"));
  EXPECT_EQ(log_, "disk+5 disk+0 ");
  send_with_descriptors(fd.get(), "GET /stats HTTP/1.1\r\n\r\n", writer.get(), 1);
  send_with_descriptors(many.get(), "PUT /disks HTTP/1.1\r\n\r\n", writer.get(), ControlServer::kMostDescriptors + 1);
  ask(listener.get(), "GET /events HTTP/1.1\r\n\r\n");
  send_with_descriptors(listener.get(), "x", writer.get(), 4);
  work();
  EXPECT_THAT(received(many.get()), HasSubstr("more than 16 descriptors"));
  EXPECT_EQ(log_, "disk+5 disk+0 ");
  writer.reset();
  char byte = 0;
  EXPECT_EQ(::read(reader.get(), &byte, 1), 0) << "every copy of the other end is closed";
}

TEST_F(Control, EventsAreStreamedToThoseWhoAsked) {
  const UniqueFd listener = connect(), other = connect();
  EXPECT_THAT(ask(listener.get(), "GET /events HTTP/1.1\r\n\r\n"), HasSubstr("200"));
  server_->tell("paused");
  server_->tell("end", "power-off");
  EXPECT_EQ(received(listener.get()), "{\"event\":\"paused\"}\n{\"event\":\"end\",\"detail\":\"power-off\"}\n");
  EXPECT_EQ(received(other.get()), "");
}

TEST_F(Control, AListenerThatDoesNotReadIsDropped) {
  const UniqueFd listener = connect();
  ask(listener.get(), "GET /events HTTP/1.1\r\n\r\n");
  for (int i = 0; i < 20'000; ++i) server_->tell("event", std::string(100, 'x'));
  const UniqueFd other = connect();
  EXPECT_THAT(ask(other.get(), "GET /stats HTTP/1.1\r\n\r\n"), HasSubstr("200"));
}

TEST_F(Control, ClientsAreCounted) {
  std::vector<UniqueFd> clients;
  for (size_t i = 0; i < ControlServer::kMostClients; ++i) clients.push_back(connect());
  const UniqueFd late = connect();
  EXPECT_EQ(received(late.get()), "end");
  EXPECT_THAT(ask(clients[0].get(), "GET /stats HTTP/1.1\r\n\r\n"), HasSubstr("200"));
}

TEST_F(Control, TheSocketIsItsOwnersAndNotTakenTwice) {
  struct stat info{};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_FALSE(ControlServer::listen(path_, epoll_.get(), {}).ok());
  server_.reset();
  EXPECT_TRUE(ControlServer::listen(path_, epoll_.get(), {}).ok()) << "a leftover is replaced";
}

}  // namespace
}  // namespace hull::vmm
