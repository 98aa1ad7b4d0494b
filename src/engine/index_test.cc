#include "engine/index.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "db/database.h"
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
