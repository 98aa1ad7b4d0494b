#include "engine/events.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <thread>

#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

using std::chrono::milliseconds;
using std::chrono::system_clock;

class Events : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/hull-events-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
  }
  void TearDown() override { ignore_result(sys::remove_tree(folder_)); }
  std::vector<Event> read(const EventLog& log, const EventFilter& filter) {
    std::vector<Event> out;
    const auto done = log.read(filter, [&](const Event& event) -> Result<void> {
      out.push_back(event);
      return {};
    });
    EXPECT_TRUE(done.ok()) << done.error().message();
    return out;
  }
  static EventFilter everything() {
    EventFilter filter;
    filter.since = system_clock::time_point();
    filter.follow = false;
    return filter;
  }
  std::string folder_;
};

Event container(std::string action, std::string id, std::map<std::string, std::string> attributes) {
  return {"container", std::move(action), std::move(id), std::move(attributes)};
}

TEST_F(Events, AreReadBackAsTheyWere) {
  const EventLog log(folder_ + "/events");
  ASSERT_TRUE(
      log.write(container("create", "abc", {{"name", "web"}, {"image", "busybox"}, {"odd", "\"\n\\\x01"}})).ok());
  const auto events = read(log, everything());
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].action, "create");
  EXPECT_EQ(events[0].attributes.at("odd"), "\"\n\\\x01");
  EXPECT_NEAR(static_cast<double>(events[0].time_ns), static_cast<double>(now_ns()), 5e9);
}

TEST_F(Events, HaveDockersForm) {
  Event event = container("die", "abc", {{"exitCode", "3"}, {"image", "busybox"}, {"name", "web"}});
  event.time_ns = 1'700'000'000'123'456'789;
  EXPECT_EQ(to_json(event, true),
            R"({"status":"die","id":"abc","from":"busybox","Type":"container","Action":"die","Actor":{"ID":"abc",)"
            R"("Attributes":{"exitCode":"3","image":"busybox","name":"web"}},"scope":"local","time":1700000000,)"
            R"("timeNano":1700000000123456789})");
  EXPECT_EQ(to_json({"volume", "create", "data", {{"driver", "local"}}, 5}, true),
            R"({"Type":"volume","Action":"create","Actor":{"ID":"data","Attributes":{"driver":"local"}},)"
            R"("scope":"local","time":0,"timeNano":5})");
}

TEST_F(Events, AreFilteredAsDockerDoes) {
  const Event start = container("start", "abcdef", {{"name", "web"}, {"image", "reg:5000/app:1"}, {"tier", "front"}});
  const Event exec = container("exec_start: sh -c true", "abcdef", {{"name", "web"}, {"image", "reg:5000/app:1"}});
  const Event image = {"image", "pull", "busybox:latest", {{"name", "busybox"}}};
  EXPECT_TRUE(matches(start, {}));
  EXPECT_TRUE(matches(start, {{"container", "web"}}));
  EXPECT_TRUE(matches(start, {{"container", "abc"}}));
  EXPECT_FALSE(matches(image, {{"container", "bus"}}));
  EXPECT_TRUE(matches(start, {{"event", "die"}, {"event", "start"}}));
  EXPECT_FALSE(matches(start, {{"event", "star"}}));
  EXPECT_TRUE(matches(exec, {{"event", "exec_start"}}));
  EXPECT_TRUE(matches(start, {{"image", "reg:5000/app"}}));
  EXPECT_FALSE(matches(start, {{"image", "reg"}}));
  EXPECT_TRUE(matches(image, {{"image", "busybox"}, {"type", "image"}}));
  EXPECT_TRUE(matches(start, {{"label", "tier=front"}, {"label", "tier"}}));
  EXPECT_FALSE(matches(start, {{"label", "tier=front"}, {"label", "other"}}));
  EXPECT_FALSE(matches(start, {{"scope", "swarm"}}));
  EXPECT_FALSE(matches(start, {{"container", ""}}));
  EXPECT_EQ(check_event_filters({{"nonsense", "1"}}).error().kind(), ErrorKind::kInvalid);
}

TEST_F(Events, KeepWithinSinceAndUntil) {
  const EventLog log(folder_);
  for (int i = 1; i <= 5; ++i) {
    Event event = container("start", std::to_string(i), {});
    event.time_ns = i * 1'000'000'000LL;
    ASSERT_TRUE(log.write(event).ok());
  }
  EventFilter filter;
  filter.since = system_clock::from_time_t(2);
  filter.until = system_clock::from_time_t(4);
  const auto events = read(log, filter);  // ends at once: `until` has passed
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events.front().actor, "2");
  std::swap(filter.since, filter.until);
  EXPECT_FALSE(log.read(filter, [](const Event&) { return Result<void>(); }).ok());
}

TEST_F(Events, SurviveABrokenLine) {
  const EventLog log(folder_);
  ASSERT_TRUE(log.write(container("start", "1", {})).ok());
  ASSERT_EQ(::system(("printf '{\"Type\":\"container\",\"Act\\n' >> " + folder_ + "/log").c_str()), 0);
  ASSERT_TRUE(log.write(container("die", "1", {})).ok());
  EXPECT_EQ(read(log, everything()).size(), 2U);
}

TEST_F(Events, LoseTheirLabelsWhenTheyAreTooLong) {
  const EventLog log(folder_);
  ASSERT_TRUE(log.write(container("start", "1", {{"name", "web"}, {"big", std::string(1 << 20, 'x')}})).ok());
  const auto events = read(log, everything());
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].attributes, (std::map<std::string, std::string>{{"name", "web"}}));
}

TEST_F(Events, AreBounded) {
  const EventLog log(folder_, 20'000);
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(log.write(container("start", std::to_string(i), {})).ok());
  struct stat info{};
  for (const char* name : {"/log", "/log.1"}) {
    ASSERT_EQ(::stat((folder_ + name).c_str(), &info), 0) << name;
    EXPECT_LT(info.st_size, 21'000) << name;
  }
  const auto events = read(log, everything());
  EXPECT_GT(events.size(), 100U);
  EXPECT_EQ(events.back().actor, "1999");
}

/// Several processes write while the file is rotated over and over: a follower sees each event once, in the order of
/// its writer.
TEST_F(Events, AreFollowedThroughRotations) {
  const EventLog log(folder_, 30'000);
  constexpr int kWriters = 4, kEach = 500;
  std::map<std::string, std::vector<int>> seen;
  int total = 0;
  EventFilter filter;
  filter.until = system_clock::now() + std::chrono::seconds(60);
  filter.filters = {{"type", "container"}};
  std::thread follower([&] {
    const auto done = log.read(filter, [&](const Event& event) -> Result<void> {
      if (event.actor == "first") return {};
      seen[event.actor].push_back(std::stoi(event.attributes.at("n")));
      return ++total == kWriters * kEach ? Result<void>(Error(ErrorKind::kInternal, "enough")) : Result<void>();
    });
    EXPECT_FALSE(done.ok());
    if (done.ok()) return;
    EXPECT_EQ(done.error().message(), "enough");
  });
  std::vector<pid_t> children;
  for (int w = 0; w < kWriters; ++w) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (int i = 0; i < kEach; ++i) {
        const bool fine = log.write(container("start", std::to_string(w), {{"n", std::to_string(i)}})).ok();
        if (!fine) ::_exit(1);
        // A follower may be at most one whole file behind.
        ::usleep(300);
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  follower.join();
  ASSERT_EQ(seen.size(), static_cast<size_t>(kWriters));
  for (const auto& [writer, numbers] : seen) {
    ASSERT_EQ(numbers.size(), static_cast<size_t>(kEach));
    for (int i = 0; i < kEach; ++i) ASSERT_EQ(numbers[static_cast<size_t>(i)], i);
  }
}

TEST_F(Events, FollowingEndsWithTheListener) {
  const EventLog log(folder_);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  EventFilter filter;
  filter.stop_fd = ends[0];
  std::thread closer([&] {
    std::this_thread::sleep_for(milliseconds(50));
    ::close(ends[1]);
  });
  EXPECT_TRUE(read(log, filter).empty());
  closer.join();
  ::close(ends[0]);
}

}  // namespace
}  // namespace hull::engine
