#include "store/layer/decompress.h"

#include <gtest/gtest.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "store/layer/hasher.h"
#include "store/layer/layer_pipeline.h"

namespace hull::store {
namespace {

std::string gzip(std::string_view data) {
  std::string out(data.size() * 2 + 1000, '\0');
  isal_zstream stream;
  isal_deflate_init(&stream);
  std::vector<uint8_t> level_buffer(ISAL_DEF_LVL1_DEFAULT);
  std::string input(data);
  stream.gzip_flag = IGZIP_GZIP;
  stream.level = 1;
  stream.level_buf = level_buffer.data();
  stream.level_buf_size = static_cast<uint32_t>(level_buffer.size());
  stream.end_of_stream = 1;
  stream.next_in = reinterpret_cast<uint8_t*>(input.data());
  stream.avail_in = static_cast<uint32_t>(input.size());
  stream.next_out = reinterpret_cast<uint8_t*>(out.data());
  stream.avail_out = static_cast<uint32_t>(out.size());
  EXPECT_EQ(isal_deflate(&stream), COMP_OK);
  out.resize(stream.total_out);
  return out;
}

std::string zstd(std::string_view data) {
  std::string out(ZSTD_compressBound(data.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), data.data(), data.size(), 3));
  return out;
}

std::string sample(size_t size) {
  std::mt19937 random(static_cast<unsigned>(size));
  std::string out(size, '\0');
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>(i % 7 < 3 ? random() : i / 100);
  return out;
}

/// Gives at most `step` bytes at a time.
class SlowSource final : public ByteSource {
 public:
  SlowSource(std::string_view data, size_t step) : data_(data), step_(step) {}
  Result<size_t> read(std::span<std::byte> into) override {
    const size_t count = std::min({into.size(), data_.size(), step_});
    std::memcpy(into.data(), data_.data(), count);
    data_.remove_prefix(count);
    return count;
  }

 private:
  std::string_view data_;
  size_t step_;
};

Result<std::string> inflate(std::string_view blob, LayerCompression compression, size_t in_step = 1 << 20,
                            size_t out_step = 1 << 16) {
  SlowSource source(blob, in_step);
  TRY_ASSIGN(const auto stream, decompressed(source, compression));
  std::string out, piece(out_step, '\0');
  for (;;) {
    TRY_ASSIGN(const size_t got, stream->read(std::as_writable_bytes(std::span(piece))));
    if (got == 0) return out;
    out.append(piece, 0, got);
  }
}

/// Through the threads, collected.
Result<std::string> pipeline(std::string_view blob, LayerOptions options = {}) {
  MemorySource source(blob);
  std::string out;
  TRY_ASSIGN(const LayerInfo info, run_pipeline(source, options, [&](std::span<const std::byte> chunk) -> Result<void> {
               out.append(reinterpret_cast<const char*>(chunk.data()), chunk.size());
               return {};
             }));
  auto hasher = Hasher::create();
  hasher->update(std::as_bytes(std::span(blob)));
  EXPECT_EQ(info.blob_digest, hasher->finish());
  auto diff = Hasher::create();
  diff->update(std::as_bytes(std::span(out)));
  EXPECT_EQ(info.diff_id, diff->finish());
  EXPECT_EQ(info.blob_size, blob.size());
  EXPECT_EQ(info.tar_size, out.size());
  return out;
}

TEST(Decompress, Sniffs) {
  const auto kind = [](std::string_view head) { return sniff_compression(std::as_bytes(std::span(head))); };
  EXPECT_EQ(kind(gzip("x")), LayerCompression::kGzip);
  EXPECT_EQ(kind(zstd("x")), LayerCompression::kZstd);
  EXPECT_EQ(kind(std::string_view("\x5a\x2a\x4d\x18\1\0\0\0", 8)), LayerCompression::kZstd);
  EXPECT_EQ(kind("plain"), LayerCompression::kNone);
  EXPECT_EQ(kind(""), LayerCompression::kNone);
  EXPECT_EQ(kind("\x1f"), LayerCompression::kNone);
}

TEST(Decompress, AllSizesAndSteps) {
  for (const size_t size : {0UL, 1UL, 1000UL, 65'536UL, 600'000UL, 3'000'001UL}) {
    const std::string data = sample(size);
    const std::string zipped = gzip(data), packed = zstd(data);
    for (const auto& [in_step, out_step] : {std::pair{1UL << 20, 1UL << 16}, {1000UL, 777UL}, {17UL, 1UL << 20}}) {
      if (size > 1'000'000 && in_step == 17) continue;
      EXPECT_EQ(inflate(zipped, LayerCompression::kGzip, in_step, out_step).value_or("failed"), data) << size;
      EXPECT_EQ(inflate(packed, LayerCompression::kZstd, in_step, out_step).value_or("failed"), data) << size;
    }
    EXPECT_EQ(pipeline(zipped).value_or("failed"), data);
    EXPECT_EQ(pipeline(packed).value_or("failed"), data);
    EXPECT_EQ(pipeline(data).value_or("failed"), data);
  }
}

TEST(Decompress, SeveralMembersAndFrames) {
  const std::string a = sample(100'000), b = sample(5), c = sample(70'000);
  const std::string zipped = gzip(a) + gzip("") + gzip(b) + gzip(c);
  const std::string skippable("\x50\x2a\x4d\x18\4\0\0\0skip", 12);
  const std::string packed = skippable + zstd(a) + zstd(b) + skippable + zstd(c);
  for (const size_t step : {1UL << 20, 1000UL, 1UL}) {
    EXPECT_EQ(inflate(zipped, LayerCompression::kGzip, step).value_or("failed"), a + b + c) << step;
    EXPECT_EQ(inflate(packed, LayerCompression::kZstd, step).value_or("failed"), a + b + c) << step;
    EXPECT_EQ(inflate(zipped + std::string(3000, '\0'), LayerCompression::kGzip, step).value_or("failed"), a + b + c);
  }
  EXPECT_EQ(pipeline(zipped).value_or("failed"), a + b + c);
  EXPECT_EQ(pipeline(packed).value_or("failed"), a + b + c);
}

TEST(Decompress, EveryTruncationIsAnError) {
  const std::string data = sample(3000);
  const std::string zipped = gzip(data), packed = zstd(data);
  for (size_t cut = 0; cut < zipped.size(); ++cut) {
    const auto result = inflate(std::string_view(zipped).substr(0, cut), LayerCompression::kGzip);
    ASSERT_FALSE(result.ok()) << cut;
    EXPECT_EQ(result.error().kind(), ErrorKind::kCorrupt);
  }
  for (size_t cut = 0; cut < packed.size(); ++cut) {
    const auto result = inflate(std::string_view(packed).substr(0, cut), LayerCompression::kZstd);
    ASSERT_FALSE(result.ok()) << cut;
    EXPECT_EQ(result.error().kind(), ErrorKind::kCorrupt);
  }
  EXPECT_FALSE(pipeline(std::string_view(zipped).substr(0, zipped.size() - 1)).ok());
  EXPECT_FALSE(pipeline(std::string_view(packed).substr(0, packed.size() - 1)).ok());
}

TEST(Decompress, EveryFlippedBitIsAnErrorOrFound) {
  const std::string data = sample(3000);
  std::string zipped = gzip(data);
  for (size_t i = 0; i < zipped.size(); ++i) {
    zipped[i] = static_cast<char>(zipped[i] ^ 0x10);
    const auto result = inflate(zipped, LayerCompression::kGzip);
    // Some header fields say nothing.
    EXPECT_TRUE(!result.ok() || *result == data) << "byte " << i;
    zipped[i] = static_cast<char>(zipped[i] ^ 0x10);
  }
  std::string damaged = gzip(data) + "garbage";
  EXPECT_FALSE(inflate(damaged, LayerCompression::kGzip).ok());
  EXPECT_FALSE(inflate(zstd(data) + "garbage", LayerCompression::kZstd).ok());
  EXPECT_FALSE(inflate("not gzip at all", LayerCompression::kGzip).ok());
}

TEST(Decompress, BombsStopAtTheLimit) {
  const std::string zeros(64 << 20, '\0');
  LayerOptions options;
  options.limits.max_unpacked_bytes = 1 << 20;
  for (const std::string& bomb : {zstd(zeros), gzip(zeros)}) {
    const auto result = pipeline(bomb, options);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().kind(), ErrorKind::kInvalid);
    EXPECT_NE(result.error().message().find("limit"), std::string::npos);
  }
  // More than a gibibyte out of a few kilobytes.
  std::string many;
  const std::string frame = zstd(zeros);
  for (int i = 0; i < 20; ++i) many += frame;
  MemorySource source(many);
  const auto result = run_pipeline(source, {}, [](std::span<const std::byte>) -> Result<void> { return {}; });
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("bomb"), std::string::npos) << result.error().message();
}

TEST(Pipeline, AnErrorOfAnyStageEndsAll) {
  const std::string zipped = gzip(sample(8 << 20));
  MemorySource source(zipped);
  const auto result = run_pipeline(source, {}, [](std::span<const std::byte>) -> Result<void> {
    return Error(ErrorKind::kNoSpace, "the disk is full");
  });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::kNoSpace);

  class FailingSource final : public ByteSource {
   public:
    explicit FailingSource(std::string_view data) : inner_(data, 1000) {}
    Result<size_t> read(std::span<std::byte> into) override {
      if (++calls_ > 50) return Error(ErrorKind::kUnavailable, "connection lost");
      return inner_.read(into);
    }

   private:
    SlowSource inner_;
    int calls_ = 0;
  };
  FailingSource failing(zipped);
  const auto lost = run_pipeline(failing, {}, [](std::span<const std::byte>) -> Result<void> { return {}; });
  ASSERT_FALSE(lost.ok());
  EXPECT_EQ(lost.error().kind(), ErrorKind::kUnavailable);
}

TEST(Pipeline, Sha512DigestsToo) {
  const std::string data = sample(1000);
  auto hasher = Hasher::create("sha512");
  hasher->update(std::as_bytes(std::span(data)));
  LayerOptions options;
  options.expected_blob = hasher->finish();
  MemorySource source(data);
  EXPECT_TRUE(run_pipeline(source, options, [](std::span<const std::byte>) -> Result<void> { return {}; }).ok());
}

TEST(MediaTypes, AreMapped) {
  const auto of = [](std::string_view type) { return compression_of_media_type(type); };
  EXPECT_EQ(of("application/vnd.oci.image.layer.v1.tar").value_or(LayerCompression::kAny), LayerCompression::kNone);
  EXPECT_EQ(of("application/vnd.oci.image.layer.v1.tar+gzip").value_or(LayerCompression::kAny),
            LayerCompression::kGzip);
  EXPECT_EQ(of("application/vnd.oci.image.layer.v1.tar+zstd").value_or(LayerCompression::kAny),
            LayerCompression::kZstd);
  EXPECT_EQ(of("application/vnd.docker.image.rootfs.diff.tar.gzip").value_or(LayerCompression::kAny),
            LayerCompression::kGzip);
  EXPECT_EQ(of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip").value_or(LayerCompression::kAny),
            LayerCompression::kGzip);
  EXPECT_FALSE(of("application/vnd.oci.image.layer.v1.tar+gzip+encrypted").ok());
  EXPECT_FALSE(of("application/vnd.oci.image.config.v1+json").ok());
  EXPECT_FALSE(of("").ok());
}

}  // namespace
}  // namespace hull::store
