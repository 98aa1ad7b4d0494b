#include "store/layer/tar_reader.h"

#include <gtest/gtest.h>

#include "store/layer/tar_test_util.h"

namespace hull::store {
namespace {

using test::Header;
using test::TarMaker;

/// Keeps what it is told.
struct Recorder final : TarHandler {
  struct Seen {
    TarEntry entry;
    std::string content;
  };
  std::vector<Seen> seen;
  std::string raw;
  int open = 0;

  Result<void> on_raw(std::span<const std::byte> bytes) override {
    raw.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  }
  Result<void> on_entry(TarEntry& entry) override {
    seen.push_back({entry, ""});
    ++open;
    return {};
  }
  Result<void> on_data(std::span<const std::byte> bytes) override {
    seen.back().content.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return {};
  }
  Result<void> on_entry_end() override {
    --open;
    return {};
  }
};

Result<Recorder> read_in_pieces(std::string_view tar, size_t piece, const TarReaderLimits& limits = {}) {
  Recorder recorder;
  TarReader reader(recorder, limits);
  for (size_t at = 0; at < tar.size(); at += piece) {
    TRY(reader.feed(std::as_bytes(std::span(tar.substr(at, piece)))));
  }
  TRY(reader.finish());
  EXPECT_EQ(recorder.open, 0);
  return recorder;
}

Recorder read_good(std::string_view tar) {
  auto whole = read_in_pieces(tar, tar.size());
  EXPECT_TRUE(whole.ok()) << (whole.ok() ? "" : whole.error().message());
  if (!whole.ok()) return {};
  size_t content = 0;
  for (const auto& seen : whole->seen) content += seen.content.size();
  EXPECT_EQ(whole->raw.size() + content, tar.size()) << "every byte is raw or content";
  for (const size_t piece : {1UL, 7UL, 511UL, 512UL, 513UL, 4096UL}) {
    auto pieces = read_in_pieces(tar, piece);
    EXPECT_TRUE(pieces.ok());
    if (!pieces.ok()) continue;
    EXPECT_EQ(pieces->raw, whole->raw) << "pieces of " << piece;
    EXPECT_EQ(pieces->seen.size(), whole->seen.size());
    for (size_t i = 0; i < std::min(pieces->seen.size(), whole->seen.size()); ++i) {
      EXPECT_EQ(pieces->seen[i].content, whole->seen[i].content);
      EXPECT_EQ(pieces->seen[i].entry.path, whole->seen[i].entry.path);
    }
  }
  return std::move(*whole);
}

ErrorKind failure_of(std::string_view tar, std::string_view expected_words, const TarReaderLimits& limits = {}) {
  auto result = read_in_pieces(tar, tar.size(), limits);
  EXPECT_FALSE(result.ok()) << "expected: " << expected_words;
  if (result.ok()) return ErrorKind::kInternal;
  EXPECT_NE(result.error().message().find(expected_words), std::string::npos) << result.error().message();
  return result.error().kind();
}

TEST(TarNumber, OctalAndBase256) {
  EXPECT_EQ(parse_tar_number(std::string_view("0000644\0", 8)), 0644);
  EXPECT_EQ(parse_tar_number("   755 "), 0755);
  EXPECT_EQ(parse_tar_number(std::string_view("\0\0\0\0", 4)), 0);
  EXPECT_EQ(parse_tar_number(""), 0);
  EXPECT_EQ(parse_tar_number("777777777777"), 0777777777777);
  EXPECT_EQ(parse_tar_number(std::string_view("\x80\0\0\0\0\0\0\0\0\0\1\0", 12)), 256);
  EXPECT_EQ(parse_tar_number(std::string_view("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12)), INT64_MAX);
  EXPECT_EQ(parse_tar_number("\xff\xff\xff\xff\xff\xff\xff\xfe"), -2);
  EXPECT_EQ(parse_tar_number(std::string_view("\x80\0\0\0\x80\0\0\0\0\0\0\0", 12)), std::nullopt);
  EXPECT_EQ(parse_tar_number(std::string_view("\x81\0\0\0\0\0\0\0\0\0\0\0", 12)), std::nullopt);
  EXPECT_EQ(parse_tar_number("0008"), std::nullopt);
  EXPECT_EQ(parse_tar_number("-1"), std::nullopt);
  EXPECT_EQ(parse_tar_number("7777777777777777777777777"), std::nullopt);
}

TEST(PaxTime, RoundsDown) {
  const auto is = [](std::string_view text, int64_t seconds, uint32_t nanoseconds) {
    const auto time = parse_pax_time(text);
    ASSERT_TRUE(time.has_value()) << text;
    EXPECT_EQ(time->seconds, seconds) << text;
    EXPECT_EQ(time->nanoseconds, nanoseconds) << text;
  };
  is("0", 0, 0);
  is("1350244992.023960108", 1350244992, 23960108);
  is("1.5", 1, 500000000);
  is("1.0000000009", 1, 0);
  is("-1.5", -2, 500000000);
  is("-0.000000001", -1, 999999999);
  is("-3", -3, 0);
  for (const std::string_view bad : {"", "-", "1e9", "1.x", "+1", " 1", "99999999999999999999"}) {
    EXPECT_FALSE(parse_pax_time(bad).has_value()) << bad;
  }
}

TEST(TarReader, Ustar) {
  const auto tar = TarMaker()
                       .folder("dir/", 0700)
                       .file("dir/a", "hello")
                       .file("empty", "")
                       .symlink("dir/l", "../x")
                       .hard_link("dir/h", "dir/a")
                       .device("null", '3', 1, 3)
                       .device("disk", '4', 8, 300)
                       .add({.name = "pipe", .type = '6'})
                       .add({.name = "contiguous", .type = '7', .size = 3}, "abc")
                       .add({.name = "leaf", .size = 1, .prefix = "some/long/prefix"}, "x")
                       .end();
  const Recorder got = read_good(tar);
  ASSERT_EQ(got.seen.size(), 10U);
  EXPECT_EQ(got.seen[0].entry.type, EntryType::kDirectory);
  EXPECT_EQ(got.seen[0].entry.mode, 0700);
  EXPECT_EQ(got.seen[1].content, "hello");
  EXPECT_EQ(got.seen[1].entry.mtime, 1'600'000'000);
  EXPECT_EQ(got.seen[3].entry.link, "../x");
  EXPECT_EQ(got.seen[4].entry.type, EntryType::kHardLink);
  EXPECT_EQ(got.seen[5].entry.dev_minor, 3U);
  EXPECT_EQ(got.seen[6].entry.dev_minor, 300U);
  EXPECT_EQ(got.seen[7].entry.type, EntryType::kFifo);
  EXPECT_EQ(got.seen[8].content, "abc");
  EXPECT_EQ(got.seen[9].entry.path, "some/long/prefix/leaf");
}

TEST(TarReader, V7FolderByTrailingSlash) {
  const auto tar = TarMaker().add({.name = "d/", .type = '\0', .magic = ""}).end();
  EXPECT_EQ(read_good(tar).seen.at(0).entry.type, EntryType::kDirectory);
}

TEST(TarReader, GnuLongNamesAndBigNumbers) {
  const std::string name(300, 'n'), link(400, 'l');
  auto big = TarMaker::block({.name = "big", .magic = std::string_view("ustar  \0", 8)});
  std::memcpy(big.data() + 124, "\x80\0\0\0\0\0\0\0\0\0\0\5", 12);
  TarMaker::seal(big);
  const auto tar = TarMaker()
                       .gnu_long('L', name)
                       .gnu_long('K', link)
                       .symlink("short", "short")
                       .file("after", "1")
                       .raw(big)
                       .raw("12345" + std::string(507, '\0'))
                       .end();
  const Recorder got = read_good(tar);
  ASSERT_EQ(got.seen.size(), 3U);
  EXPECT_EQ(got.seen[0].entry.path, name);
  EXPECT_EQ(got.seen[0].entry.link, link);
  EXPECT_EQ(got.seen[1].entry.path, "after") << "a long name is for one entry";
  EXPECT_EQ(got.seen[2].content, "12345");
}

TEST(TarReader, PaxOverrides) {
  const auto tar = TarMaker()
                       .pax({{"mtime", "1.25"}, {"comment", "for all"}}, 'g')
                       .pax({{"path", "r\xc3\xa9\xff name"},
                             {"size", "5"},
                             {"uid", "4000000"},
                             {"gid", "4000001"},
                             {"SCHILY.xattr.user.k", std::string("v\0w", 3)},
                             {"LIBARCHIVE.xattr.user.%61b", "AQI="},
                             {"hdrcharset", "BINARY"}})
                       .file("x", "12345")
                       .file("plain", "")
                       .pax({{"mtime", ""}})
                       .file("plain2", "")
                       .end();
  const Recorder got = read_good(tar);
  ASSERT_EQ(got.seen.size(), 3U);
  const TarEntry& first = got.seen[0].entry;
  EXPECT_EQ(first.path, "r\xc3\xa9\xff name");
  EXPECT_EQ(first.uid, 4000000U);
  EXPECT_EQ(first.gid, 4000001U);
  EXPECT_EQ(first.mtime, 1);
  EXPECT_EQ(first.mtime_ns, 250000000U);
  ASSERT_EQ(first.xattrs.size(), 2U);
  EXPECT_EQ(first.xattrs[0], (Xattr{"user.k", std::string("v\0w", 3)}));
  EXPECT_EQ(first.xattrs[1], (Xattr{"user.ab", "\1\2"}));
  EXPECT_EQ(got.seen[1].entry.path, "plain");
  EXPECT_TRUE(got.seen[1].entry.xattrs.empty());
  EXPECT_EQ(got.seen[1].entry.mtime, 1) << "a global header goes on";
}

TEST(TarReader, SparseForms) {
  const TarMaker::Records map01 = {{"GNU.sparse.size", "10000"},
                                   {"GNU.sparse.numblocks", "2"},
                                   {"GNU.sparse.map", "1000,3,9000,2"},
                                   {"GNU.sparse.name", "one"}};
  const TarMaker::Records map00 = {{"GNU.sparse.size", "10000"},   {"GNU.sparse.numblocks", "2"},
                                   {"GNU.sparse.offset", "1000"},  {"GNU.sparse.numbytes", "3"},
                                   {"GNU.sparse.offset", "10000"}, {"GNU.sparse.numbytes", "0"}};
  const TarMaker::Records map10 = {{"GNU.sparse.major", "1"},
                                   {"GNU.sparse.minor", "0"},
                                   {"GNU.sparse.name", "ten"},
                                   {"GNU.sparse.realsize", "10000"}};
  std::string head10 = "2\n1000\n3\n9000\n2\n";
  head10.resize(512);
  std::string old = TarMaker::block({.name = "old", .type = 'S', .size = 5, .magic = std::string_view("ustar  \0", 8)});
  std::memcpy(old.data() + 386, "00000001750\00000000000003\000", 24);
  std::memcpy(old.data() + 482,
              "\1"
              "00000023420\0",
              13);
  TarMaker::seal(old);
  std::string extension(512, '\0');
  std::memcpy(extension.data(), "00000021450\00000000000002\000", 24);
  const auto tar = TarMaker()
                       .pax(map01)
                       .file("GNUSparseFile.0/one", "abcde")
                       .pax(map00)
                       .file("zero", "abc")
                       .pax(map10)
                       .file("GNUSparseFile.0/ten", head10 + "abcde")
                       .raw(old + extension + "abcde" + std::string(507, '\0'))
                       .end();
  const Recorder got = read_good(tar);
  ASSERT_EQ(got.seen.size(), 4U);
  const std::vector<Extent> two = {{1000, 3}, {9000, 2}};
  EXPECT_EQ(got.seen[0].entry.path, "one");
  EXPECT_EQ(got.seen[0].entry.extents, two);
  EXPECT_EQ(got.seen[1].entry.extents, (std::vector<Extent>{{1000, 3}}));
  EXPECT_EQ(got.seen[2].entry.path, "ten");
  EXPECT_EQ(got.seen[2].entry.extents, two);
  EXPECT_EQ(got.seen[3].entry.path, "old");
  EXPECT_EQ(got.seen[3].entry.extents, two);
  for (const auto& seen : got.seen) {
    EXPECT_EQ(seen.entry.size, 10000U);
    EXPECT_EQ(seen.content, seen.entry.path == "zero" ? "abc" : "abcde");
  }
}

TEST(TarReader, WhatFollowsTheEndIsRaw) {
  const auto tar = TarMaker().file("a", "1").end() + "garbage" + std::string(5000, 'g');
  EXPECT_EQ(read_good(tar).seen.size(), 1U);
}

TEST(TarReader, EndsWithoutEndMark) {
  EXPECT_EQ(read_good(TarMaker().file("a", "1").open_end()).seen.size(), 1U);
  EXPECT_EQ(read_good(TarMaker().file("a", "1").open_end() + std::string(512, '\0')).seen.size(), 1U);
  EXPECT_TRUE(read_in_pieces("", 1).ok());
}

TEST(TarReader, Truncated) {
  const auto tar = TarMaker().pax({{"path", "p"}}).file("a", std::string(700, 'x')).open_end();
  for (const size_t cut : {1UL, 511UL, 513UL, 600UL, 1100UL, 1536UL, 1600UL, 2235UL, tar.size() - 1}) {
    EXPECT_EQ(failure_of(std::string_view(tar).substr(0, cut), "truncated"), ErrorKind::kCorrupt) << cut;
  }
  EXPECT_EQ(failure_of(TarMaker().gnu_long('L', "n").open_end(), "truncated"), ErrorKind::kCorrupt);
}

TEST(TarReader, HostileHeaders) {
  EXPECT_EQ(failure_of(std::string(512, 'x'), "checksum"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().add({.name = "z", .raw_size = "zzz"}).end(), "size"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().add({.name = "n", .raw_size = std::string(12, '\xff')}).end(), "size"),
            ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().add({.name = "t", .type = 'Q'}).end(), "type"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().add({.name = "multi", .type = 'M'}).end(), "type"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().pax({{"uid", "4294967295"}}).file("a", "").end(), "user id"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().pax({{"gid", "4294967296"}}).file("a", "").end(), "group id"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().pax({{"uid", "-1"}}).file("a", "").end(), "PAX"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().pax({{"size", "9223372036854775807"}}).file("a", "").end(), "absurd"),
            ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().pax({{"size", "18446744073709551616"}}).file("a", "").end(), "PAX"),
            ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().device("d", '3', 4096, 0).end(), "device"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().pax({{"path", std::string("a\0b", 3)}}).file("a", "").end(), "PAX"),
            ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().raw(std::string(512, '\0')).file("a", "").end(), "zero block"), ErrorKind::kCorrupt);
}

TEST(TarReader, HostilePaxRecords) {
  for (const std::string& payload :
       {std::string("x"), std::string("5 a=b"), std::string("100 path=a\n"), std::string("6 a=b\n7"),
        std::string("4 a\n"), std::string("5 =b\n"), std::string("00000000000000000000000006 a=b\n"),
        std::string("-6 a=b\n"), std::string("0 \n"), std::string("\0x", 2),
        std::string("18446744073709551615 a=b\n")}) {
    const auto tar = TarMaker().add({.name = "h", .type = 'x', .size = payload.size()}, payload).file("a", "").end();
    EXPECT_EQ(failure_of(tar, "PAX"), ErrorKind::kCorrupt) << payload;
  }
}

TEST(TarReader, HostileSparseMaps) {
  const auto with = [](const std::string& map, const std::string& content = "abcde") {
    return TarMaker().pax({{"GNU.sparse.size", "10000"}, {"GNU.sparse.map", map}}).file("s", content).end();
  };
  EXPECT_EQ(failure_of(with("1000,3,1002,2"), "overlaps"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(with("1000,3,500,2"), "overlaps"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(with("9999,5"), "exceeds"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(with("9223372036854775807,5"), "exceeds"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(with("0,4"), "different lengths"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(with("0,5,7"), "PAX"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(with("0,x"), "PAX"), ErrorKind::kCorrupt);
  const TarMaker::Records map10 = {{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "9"}};
  for (const std::string& head : {std::string("x\n"), std::string("99999999999999999999\n"), std::string("2\n1\n\n"),
                                  std::string("-1\n"), std::string("1\n1\n")}) {
    std::string content = head;
    content.resize(512);
    EXPECT_EQ(failure_of(TarMaker().pax(map10).file("s", content + "abcde").end(), "sparse"), ErrorKind::kCorrupt)
        << head;
  }
  EXPECT_EQ(failure_of(TarMaker().pax(map10).file("s", "").end(), "sparse map"), ErrorKind::kCorrupt);
  EXPECT_EQ(failure_of(TarMaker().pax(map10).file("s", std::string(512, '1')).end(), "sparse map"),
            ErrorKind::kCorrupt);
}

TEST(TarReader, Limits) {
  TarReaderLimits limits;
  limits.max_path = 10;
  limits.max_entries = 2;
  limits.max_file_size = 100;
  limits.max_xattrs = 50;
  EXPECT_EQ(failure_of(TarMaker().file("12345678901", "").end(), "longer than 10", limits), ErrorKind::kInvalid);
  EXPECT_EQ(failure_of(TarMaker().gnu_long('L', std::string(50, 'n')).end(), "limit", limits), ErrorKind::kInvalid);
  EXPECT_EQ(failure_of(TarMaker().pax({{"path", "12345678901"}}).file("a", "").end(), "limit", limits),
            ErrorKind::kInvalid);
  EXPECT_EQ(failure_of(TarMaker().file("1", "").file("2", "").file("3", "").end(), "entries", limits),
            ErrorKind::kInvalid);
  EXPECT_EQ(failure_of(TarMaker().file("1", std::string(101, 'x')).end(), "exceeds", limits), ErrorKind::kInvalid);
  EXPECT_EQ(failure_of(TarMaker().pax({{"SCHILY.xattr.user.a", std::string(50, 'x')}}).file("a", "").end(),
                       "attributes", limits),
            ErrorKind::kInvalid);
  EXPECT_EQ(failure_of(TarMaker().add({.name = "h", .type = 'x', .size = 1ULL << 40}).end(), "limit", {}),
            ErrorKind::kInvalid);
}

}  // namespace
}  // namespace hull::store
