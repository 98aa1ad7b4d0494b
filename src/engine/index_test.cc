#include "engine/index.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>

#include "db/database.h"
#include "engine/index_log.h"
#include "engine/process.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

class IndexTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/hull-index-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    path_ = folder_ + "/engine.db";
  }
  void TearDown() override { ignore_result(sys::remove_tree(folder_)); }
  std::unique_ptr<Index> open() { return Index::open(path_).value(); }
  static WorkloadRow row(char c, const std::string& name) {
    WorkloadRow out;
    out.id = std::string(64, c);
    out.name = name;
    out.created_ns = c;
    return out;
  }
  int64_t log_size() const {
    struct stat info{};
    return ::stat((path_ + "-wal").c_str(), &info) == 0 ? info.st_size : 0;
  }
  std::string folder_, path_;
};

TEST_F(IndexTest, FindsByIdNameAndPrefix) {
  auto index = open();
  ASSERT_TRUE(index->add(row('a', "first"), "{}", {}).ok());
  WorkloadRow near = row('a', "near");
  near.id[63] = 'b';
  ASSERT_TRUE(index->add(near, "{}", {}).ok());
  ASSERT_TRUE(index->add(row('c', "aaaa"), "{}", {}).ok());
  EXPECT_EQ(index->find("first")->id, std::string(64, 'a'));
  EXPECT_EQ(index->find("/first")->name, "first");
  EXPECT_EQ(index->find("cc")->name, "aaaa");
  EXPECT_EQ(index->find("aaaa")->name, "aaaa") << "a name comes before a prefix";
  EXPECT_EQ(index->find("aaa").error().kind(), ErrorKind::kConflict);
  EXPECT_EQ(index->find("d").error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(index->find("").error().kind(), ErrorKind::kNotFound);
  EXPECT_EQ(index->list()->front().name, "aaaa") << "newest first";
}

TEST_F(IndexTest, NamesAreUniqueAndNothingIsHalfWritten) {
  auto index = open();
  ASSERT_TRUE(index->add(row('a', "same"), "{}", {}).ok());
  const auto second = index->add(row('b', "same"), "{}", {});
  EXPECT_EQ(second.error().kind(), ErrorKind::kConflict);
  EXPECT_NE(second.error().message().find(std::string(64, 'a')), std::string::npos);
  EXPECT_FALSE(index->config(std::string(64, 'b')).ok());
  // With a volume that is not there
  EXPECT_FALSE(index->add(row('c', "third"), "{}", {"gone"}).ok());
  EXPECT_FALSE(*index->by_id(std::string(64, 'c')));
}

TEST_F(IndexTest, KeepsTheWallAndTakesOverTheFirstVersion) {
  ASSERT_TRUE(db::Database::open(path_, {.subject = "index"})
                  .value()
                  ->execute("PRAGMA journal_mode=WAL;"
                            "CREATE TABLE workloads(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER "
                            "NOT NULL, image TEXT NOT NULL, image_id TEXT NOT NULL, command TEXT NOT NULL, network "
                            "TEXT NOT NULL, labels TEXT NOT NULL, mounts TEXT NOT NULL, ports TEXT NOT NULL, "
                            "auto_remove INTEGER NOT NULL, removing INTEGER NOT NULL);"
                            "CREATE TABLE configs(id TEXT PRIMARY KEY, config TEXT NOT NULL);"
                            "INSERT INTO workloads VALUES('old','old',1,'i','i','c','none','','','',0,0);"
                            "PRAGMA user_version=1")
                  .ok());
  WorkloadRow machine = row('a', "machine");
  machine.isolation = Isolation::kVm;
  EXPECT_EQ(open()->find("old")->isolation, Isolation::kContainer);
  ignore_result(sys::remove_tree(folder_));
  ASSERT_TRUE(sys::make_dirs(folder_).ok());
  ASSERT_TRUE(open()->add(machine, "{}", {}).ok());
  EXPECT_EQ(open()->find("machine")->isolation, Isolation::kVm);
}

TEST_F(IndexTest, VolumesInUseStay) {
  auto index = open();
  VolumeRow volume;
  volume.name = "v";
  ASSERT_TRUE(index->add_volume(volume).ok());
  EXPECT_EQ(index->add_volume(volume).error().kind(), ErrorKind::kExists);
  ASSERT_TRUE(index->add(row('a', "user"), "{}", {"v"}).ok());
  EXPECT_EQ((*index->volume("v"))->references, 1);
  EXPECT_EQ(index->remove_volume("v").error().kind(), ErrorKind::kConflict);
  ASSERT_TRUE(index->remove(std::string(64, 'a')).ok());
  EXPECT_TRUE(index->remove_volume("v").ok());
}

TEST_F(IndexTest, TheLogStaysShortWithManyShortCommands) {
  for (int i = 0; i < 200; ++i) {
    auto index = open();
    WorkloadRow one = row('a', "n" + std::to_string(i));
    const std::string number = std::to_string(i);
    one.id.replace(0, number.size(), number);
    ASSERT_TRUE(index->add(one, std::string(3000, 'x'), {}).ok());
  }
  EXPECT_LT(log_size(), 1 << 20);
  EXPECT_EQ(open()->ids()->size(), 200U);
}

/// What a command does, in a process of its own. `hold`: it lives on, as a monitor does, until it is killed.
class Command {
 public:
  explicit Command(const std::function<bool()>& body, bool hold = false) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      const char good = body() ? 1 : 0;
      if (::write(ends[1], &good, 1) != 1) ::_exit(1);
      while (hold) ::pause();
      ::_exit(0);
    }
    char good = 0;
    EXPECT_EQ(::read(ends[0], &good, 1), 1);
    good_ = good == 1;
    ::close(ends[0]);
    ::close(ends[1]);
    if (!hold) end();
  }
  ~Command() { end(); }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  bool good() const { return good_; }

 private:
  pid_t pid_ = -1;
  bool good_ = false;
};

TEST_F(IndexTest, TheIndexOfTheLogIsMadeAnewOnlyWhenNobodyHoldsIt) {
  // Whoever makes it anew cuts the file short first: a byte behind its end tells.
  const auto mark = [&] {
    const UniqueFd file = sys::open(path_ + "-shm", O_WRONLY).value();
    return ::pwrite(file.get(), "x", 1, 100'000) == 1;
  };
  const auto marked = [&] {
    struct stat info{};
    return ::stat((path_ + "-shm").c_str(), &info) == 0 && info.st_size > 100'000;
  };
  const auto add = [&](char c) {
    return Command([&, c] { return open()->add(row(c, std::string("n") + c), "{}", {}).ok(); }).good();
  };
  const auto take = [&] {
    const auto index = open();
    return hold_log_index() >= 0;
  };
  ASSERT_TRUE(add('a') && mark());
  ASSERT_TRUE(add('b'));
  EXPECT_FALSE(marked());

  Command monitor(take, true);
  EXPECT_TRUE(monitor.good());
  EXPECT_FALSE(Command(take).good()) << "one at a time";
  ASSERT_TRUE(mark() && add('c') && add('d'));
  EXPECT_TRUE(marked());
  EXPECT_EQ(open()->ids()->size(), 4U);

  monitor.end();
  EXPECT_TRUE(Command(take).good());
  ASSERT_TRUE(add('e'));
  EXPECT_FALSE(marked());
  EXPECT_EQ(open()->ids()->size(), 5U);
}

TEST_F(IndexTest, ManyProcessesAtOnce) {
  open();
  std::vector<pid_t> children;
  for (int child = 0; child < 8; ++child) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      bool good = true;
      for (int i = 0; i < 25; ++i) {
        auto index = Index::open(path_);
        WorkloadRow one = row('a', "c" + std::to_string(child) + "-" + std::to_string(i));
        const std::string number = std::to_string(child * 100 + i);
        one.id.replace(0, number.size(), number);
        good = good && index.ok() && (*index)->add(one, "{}", {}).ok() && (*index)->list().ok();
        if (i % 3 == 0) good = good && (*index)->remove(one.id).ok();
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  EXPECT_EQ(open()->ids()->size(), 8U * 16);
}

}  // namespace
}  // namespace hull::engine
