#include "db/database.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "sys/file.h"

namespace hull::db {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DatabaseTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/hull-db-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
  }
  void TearDown() override { ignore_result(sys::remove_tree(folder_)); }
  std::unique_ptr<Database> open() {
    Options options{.subject = "test records", .busy_ms = 20'000, .foreign_keys = true};
    if (GetParam()) options.lock_path = folder_ + "/lock";
    auto made = Database::open(folder_ + "/file.db", options);
    EXPECT_TRUE(made.ok()) << made.error().message();
    return std::move(made).value();
  }
  std::string folder_;
};

TEST_P(DatabaseTest, ValuesComeBackAsTheyWere) {
  auto db = open();
  ASSERT_TRUE(db->execute("CREATE TABLE t(a TEXT NOT NULL, b INTEGER, c BLOB, d TEXT)").ok());
  const std::array<uint8_t, 4> bytes = {0, 255, 1, 0};
  const std::string odd("x\0y", 3);
  ASSERT_TRUE(db->run("INSERT INTO t(a, b, c) VALUES(?,?,?)", odd, int64_t{-5}, std::span<const uint8_t>(bytes)).ok());
  ASSERT_TRUE(db->run("INSERT INTO t(a) VALUES(?)", std::string_view()).ok()) << "an empty view is no NULL";
  auto row = db->query("SELECT a, b, c, d FROM t WHERE a = ?", odd);
  ASSERT_TRUE(row.ok() && *row->step());
  EXPECT_EQ(row->text(0), odd);
  EXPECT_EQ(row->number(1), -5);
  EXPECT_THAT(row->blob(2), ElementsAre(0, 255, 1, 0));
  EXPECT_TRUE(row->is_null(3));
  EXPECT_TRUE(row->blob(3).empty());
  EXPECT_FALSE(*row->step());
  EXPECT_THAT(*db->texts("SELECT a FROM t ORDER BY a"), ElementsAre("", odd));
  EXPECT_EQ(*db->query_number("SELECT count(*) FROM t"), 2);
}

TEST_P(DatabaseTest, ErrorsHaveTheirKind) {
  auto db = open();
  ASSERT_TRUE(db->execute("CREATE TABLE t(a TEXT PRIMARY KEY, b INTEGER NOT NULL) WITHOUT ROWID").ok());
  ASSERT_TRUE(db->run("INSERT INTO t VALUES(?, 1)", "one").ok());
  EXPECT_EQ(db->run("INSERT INTO t VALUES(?, 1)", "one").error().kind(), ErrorKind::kExists);
  const auto missing = db->run("INSERT INTO t(a) VALUES(?)", "two");
  EXPECT_EQ(missing.error().kind(), ErrorKind::kConflict);
  EXPECT_THAT(missing.error().message(), HasSubstr("test records"));
  EXPECT_EQ(db->execute("SELECT nothing FROM nowhere").error().kind(), ErrorKind::kIo);
  EXPECT_EQ(Database::open(folder_ + "/no/such.db", {.subject = "s"}).error().kind(), ErrorKind::kNotFound);
  ASSERT_TRUE(sys::replace_file(folder_ + "/bad.db", std::string(8192, 'z')).ok());
  auto bad = Database::open(folder_ + "/bad.db", {.subject = "s"});
  ASSERT_TRUE(bad.ok());
  EXPECT_EQ((*bad)->query_number("PRAGMA user_version").error().kind(), ErrorKind::kCorrupt);
}

TEST_P(DatabaseTest, WhatIsNotCommittedIsTakenBack) {
  auto db = open();
  ASSERT_TRUE(db->execute("CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p INTEGER REFERENCES p)").ok());
  {
    auto transaction = WriteTransaction::begin(*db);
    ASSERT_TRUE(transaction.ok());
    ASSERT_TRUE(db->run("INSERT INTO p VALUES(?)", int64_t{1}).ok());
    EXPECT_FALSE(db->run("INSERT INTO c VALUES(?)", int64_t{7}).ok()) << "foreign keys hold";
  }
  EXPECT_EQ(*db->query_number("SELECT count(*) FROM p"), 0);
  auto transaction = WriteTransaction::begin(*db);
  ASSERT_TRUE(transaction.ok());
  ASSERT_TRUE(db->run("INSERT INTO p VALUES(?)", int64_t{1}).ok());
  ASSERT_TRUE(transaction->commit().ok());
  EXPECT_EQ(*open()->query_number("SELECT count(*) FROM p"), 1);
}

TEST_P(DatabaseTest, ProcessesQueue) {
  ASSERT_TRUE(open()->execute("CREATE TABLE n(v INTEGER); INSERT INTO n VALUES(0)").ok());
  std::vector<pid_t> children;
  for (int child = 0; child < 4; ++child) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      bool good = true;
      auto db = open();
      for (int i = 0; i < 20 && good; ++i) {
        auto transaction = WriteTransaction::begin(*db);
        good = transaction.ok() && db->execute("UPDATE n SET v = v + 1").ok() && transaction->commit().ok();
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(*open()->query_number("SELECT v FROM n"), 80);
}

INSTANTIATE_TEST_SUITE_P(WithAndWithoutLock, DatabaseTest, ::testing::Bool());

}  // namespace
}  // namespace hull::db
