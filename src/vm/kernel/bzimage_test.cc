#include "vm/kernel/bzimage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>

#include "vm/kernel/test_files.h"

namespace hull::vm {
namespace {

using testing::HasSubstr;

std::string gzip(const std::string& in) {
  z_stream stream{};
  ::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string copy = in;
  std::string out(in.size() + 1000, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(copy.data());
  stream.avail_in = static_cast<uInt>(copy.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  ::deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

std::string xz(const std::string& in) {
  std::string out(in.size() + 1000, '\0');
  size_t size = 0;
  ::lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const uint8_t*>(in.data()), in.size(),
                            reinterpret_cast<uint8_t*>(out.data()), &size, out.size());
  out.resize(size);
  return out;
}

std::string lz4_legacy(const std::string& in) {
  std::string out = "\x02\x21\x4c\x18";
  for (size_t at = 0; at < in.size(); at += 8 << 20) {
    const std::string part = in.substr(at, 8 << 20);
    std::string block(static_cast<size_t>(::LZ4_compressBound(static_cast<int>(part.size()))), '\0');
    const int size = ::LZ4_compress_default(part.data(), block.data(), static_cast<int>(part.size()),
                                            static_cast<int>(block.size()));
    append(out, static_cast<uint32_t>(size));
    out.append(block, 0, static_cast<size_t>(size));
  }
  return out;
}

/// Compressible and longer than one block of LZ4.
std::string big_kernel() { return make_vmlinux("6.1", true) + std::string(20 << 20, 'k') + "end"; }

TEST(BzImage, UnpacksEachCompression) {
  const std::string kernel = big_kernel();
  const auto size = static_cast<uint32_t>(kernel.size());
  const std::string zstd = *compress_zstd(kernel, 1);
  for (const std::string& image : {make_bzimage("6.1", gzip(kernel), 0, false), make_bzimage("6.1", xz(kernel), size),
                                   make_bzimage("6.1", zstd, size), make_bzimage("6.1", lz4_legacy(kernel), size),
                                   make_bzimage("6.1", kernel, 0, false), gzip(kernel), zstd, kernel}) {
    const auto unpacked = unpack_vmlinux(image);
    ASSERT_TRUE(unpacked.ok()) << unpacked.error().message();
    EXPECT_EQ(*unpacked == kernel, true);
  }
}

TEST(BzImage, TellsItsVersion) {
  const std::string image = make_bzimage("6.1.0-56-cloud-amd64", gzip("x"), 0, false);
  const auto parsed = parse_bzimage(image);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message();
  EXPECT_EQ(parsed->version, "6.1.0-56-cloud-amd64");
  EXPECT_EQ(parsed->compression, Compression::kGzip);
}

TEST(BzImage, NamesWhatItCannotRead) {
  const auto unknown = unpack_vmlinux(make_bzimage("6.1", "\x01\x02\x03\x04 payload", 0));
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(unknown.error().message(), HasSubstr("01 02 03 04"));
  const auto bzip2 = unpack_vmlinux(make_bzimage("6.1", "BZh9 payload", 12));
  ASSERT_FALSE(bzip2.ok());
  EXPECT_EQ(bzip2.error().kind(), ErrorKind::kUnsupported);
  EXPECT_THAT(bzip2.error().message(), HasSubstr("bzip2"));
  EXPECT_THAT(unpack_vmlinux("#!/bin/sh").error().message(), HasSubstr("neither a bzImage nor an ELF file"));
}

TEST(BzImage, DamagedOnesAreErrors) {
  const std::string kernel = make_vmlinux("6.1", true) + std::string(5000, 'k');
  const std::string zstd = *compress_zstd(kernel, 1);
  EXPECT_FALSE(unpack_vmlinux(make_bzimage("6.1", zstd, static_cast<uint32_t>(kernel.size()) + 1)).ok());
  const std::string image = make_bzimage("6.1", zstd, static_cast<uint32_t>(kernel.size()));
  for (size_t size = 0; size + 7 < image.size(); size += 11) EXPECT_FALSE(unpack_vmlinux(image.substr(0, size)).ok());
  std::string far = image;
  far.replace(0x248, 4, "\xff\xff\xff\xff");
  EXPECT_FALSE(unpack_vmlinux(far).ok());
  std::string old = image;
  old[0x206] = 7;
  EXPECT_EQ(unpack_vmlinux(old).error().kind(), ErrorKind::kUnsupported);
}

TEST(BzImage, BombsStopAtTheSizeThatTheyGive) {
  const std::string zeroes(64 << 20, '\0');
  const auto bomb = unpack_vmlinux(make_bzimage("6.1", *compress_zstd(zeroes, 1), 1 << 20));
  ASSERT_FALSE(bomb.ok());
  EXPECT_THAT(bomb.error().message(), HasSubstr("more than 1048576 bytes"));
  const auto huge = unpack_vmlinux(make_bzimage("6.1", *compress_zstd(zeroes, 1), 0xffffffff));
  ASSERT_FALSE(huge.ok());
  EXPECT_THAT(huge.error().message(), HasSubstr("4294967295 bytes"));
}

TEST(Decompress, KeepsTheLimitExactly) {
  const std::string text(100000, 'a');
  const std::vector<std::pair<Compression, std::string>> all = {{Compression::kGzip, gzip(text)},
                                                                {Compression::kXz, xz(text)},
                                                                {Compression::kZstd, *compress_zstd(text, 1)},
                                                                {Compression::kLz4Legacy, lz4_legacy(text)}};
  for (const auto& [compression, packed] : all) {
    EXPECT_EQ(compression_of(packed), compression);
    EXPECT_EQ(*decompress(compression, packed, text.size()), text) << to_string(compression);
    EXPECT_FALSE(decompress(compression, packed, text.size() - 1).ok()) << to_string(compression);
    EXPECT_FALSE(decompress(compression, packed.substr(0, packed.size() / 2), text.size()).ok())
        << to_string(compression);
    EXPECT_EQ(decompress(compression, packed + "more", text.size()).ok(), compression != Compression::kLz4Legacy);
  }
}

}  // namespace
}  // namespace hull::vm
