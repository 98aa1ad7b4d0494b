#include "engine/vm_files.h"

#include <gtest/gtest.h>

#include "vm/files.h"

namespace hull::engine {
namespace {

using namespace std::string_literals;

TEST(ChangeParser, TakesPiecesOfAnySize) {
  const std::string text = "C/etc\0A/etc/a b\nc\0D/bin/x\0"s;
  for (size_t piece = 1; piece <= text.size(); ++piece) {
    ChangeParser parser;
    for (size_t at = 0; at < text.size(); at += piece) ASSERT_TRUE(parser.feed(text.substr(at, piece)).ok());
    const auto found = parser.finish();
    ASSERT_TRUE(found.ok());
    ASSERT_EQ(found->size(), 3U);
    EXPECT_EQ((*found)[1].path, "/etc/a b\nc");
    EXPECT_EQ((*found)[1].kind, FileChange::Kind::kAdded);
    EXPECT_EQ((*found)[2].kind, FileChange::Kind::kDeleted);
  }
}

TEST(ChangeParser, RefusesNonsense) {
  for (const std::string& text : {"X/etc\0"s, "\0"s, "C\0"s, "Cetc\0"s}) {
    EXPECT_EQ(ChangeParser().feed(text).error().kind(), ErrorKind::kCorrupt);
  }
  ChangeParser cut;
  ASSERT_TRUE(cut.feed("C/et").ok());
  EXPECT_EQ(cut.finish().error().kind(), ErrorKind::kCorrupt);
}

TEST(ChangeParser, EndsAGuestThatNeverEnds) {
  ChangeParser parser;
  const std::string piece(1 << 20, 'x');
  Result<void> fed;
  for (int i = 0; i < 100 && fed.ok(); ++i) fed = parser.feed(piece);
  ASSERT_FALSE(fed.ok());
  EXPECT_EQ(fed.error().kind(), ErrorKind::kNoSpace);
}

TEST(MachineFileStat, GoesBothWays) {
  PathStat stat;
  stat.name = "a b";
  stat.size = 12;
  stat.mode = 0120777;
  stat.modified = std::chrono::system_clock::time_point(std::chrono::nanoseconds(-5));
  stat.link_target = "/x y";
  const auto back = vm::decode_stat(vm::encode_stat(stat));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->name, stat.name);
  EXPECT_EQ(back->size, stat.size);
  EXPECT_EQ(back->mode, stat.mode);
  EXPECT_EQ(back->modified, stat.modified);
  EXPECT_EQ(back->link_target, stat.link_target);
  for (const std::string& text : {""s, "1 2 3 name"s, "-1 2 3 n\0"s, "1 99999999999 3 n\0"s, "a b c d\0"s}) {
    EXPECT_FALSE(vm::decode_stat(text).ok()) << text;
  }
}

}  // namespace
}  // namespace hull::engine
