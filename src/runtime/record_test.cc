#include "runtime/record.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/runtime.h"
#include "sys/file.h"

namespace hull::runtime {
namespace {

class RecordTest : public testing::Test {
 protected:
  RecordTest() {
    EXPECT_NE(::mkdtemp(path_), nullptr);
    folder_.reset(::open(path_, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~RecordTest() override { ignore_result(sys::remove_tree(path_)); }
  char path_[32] = "/tmp/hull-record-XXXXXX";
  UniqueFd folder_;
};

Record example() {
  Record record;
  record.id = "one";
  record.oci_version = "1.0.2";
  record.bundle = "/b \"quoted\"";
  record.namespaces = 0x20020000;
  record.annotations = {{"a", "b\nc"}};
  record.poststop = {{"/bin/true", {"true", "x"}, {"A=1"}, 7}};
  return record;
}

TEST_F(RecordTest, ComesBackWithProcessAndFilter) {
  isolation::SeccompFilter filter;
  filter.program = {{0x06, 0, 0, 0x7fff0000}, {'\n', 1, 2, 10}};
  filter.flags = 4;
  filter.needs_listener = true;
  const auto file = create_record(folder_.get(), example(), filter);
  ASSERT_TRUE(file.ok());
  auto before = read_record(folder_.get(), "one");
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->pid, 0);
  EXPECT_EQ(status_of(folder_.get(), *before), Status::kCreating);

  ASSERT_TRUE(set_process(file->get(), 4194304, 18446744073709551615ULL).ok());
  isolation::SeccompFilter read_back;
  const auto record = read_record(folder_.get(), "one", &read_back);
  ASSERT_TRUE(record.ok());
  EXPECT_EQ(record->pid, 4194304);
  EXPECT_EQ(record->start_time, 18446744073709551615ULL);
  EXPECT_EQ(record->bundle, example().bundle);
  EXPECT_EQ(record->namespaces, example().namespaces);
  EXPECT_EQ(record->annotations, example().annotations);
  ASSERT_EQ(record->poststop.size(), 1U);
  EXPECT_EQ(record->poststop[0].timeout_s, 7);
  EXPECT_EQ(read_back.program.size(), 2U);
  EXPECT_EQ(read_back.program[1].k, 10U);
  EXPECT_EQ(read_back.flags, 4U);
  EXPECT_TRUE(read_back.needs_listener);
  EXPECT_EQ(status_of(folder_.get(), *record), Status::kStopped);
}

TEST_F(RecordTest, AbsentIsCreatingAndDamageIsSaid) {
  const auto absent = read_record(folder_.get(), "one");
  ASSERT_TRUE(absent.ok());
  EXPECT_EQ(status_of(folder_.get(), *absent), Status::kCreating);
  for (const char* text : {"x", "12 34                          \n{\"id\":", "12 34                          \n{]\n"}) {
    ASSERT_TRUE(sys::replace_file_at(folder_.get(), kRecordFile, text, 0600, false).ok());
    const auto broken = read_record(folder_.get(), "one");
    ASSERT_FALSE(broken.ok()) << text;
    EXPECT_EQ(broken.error().kind(), ErrorKind::kCorrupt);
  }
}

TEST(ContainerId, IsNoPath) {
  EXPECT_TRUE(valid_id("a"));
  EXPECT_TRUE(valid_id("A_z+0.9-"));
  EXPECT_TRUE(valid_id(std::string(1024, 'x')));
  for (const char* id : {"", ".", "..", "a/b", "/", "a b", "a\n", "\xc3\xa4", "@seccomp"})
    EXPECT_FALSE(valid_id(id)) << id;
  EXPECT_FALSE(valid_id(std::string(1025, 'x')));
}

}  // namespace
}  // namespace hull::runtime
