#pragma once
// What of a tar stream is not the content of files in the artifact: headers, extensions, padding, and the content of
// entries that were replaced later. Kept zstd-compressed beside the artifact, some bytes per entry.
//
// File: 16 bytes SkeletonHeader, then one zstd frame of records. A record is a type byte, then varints (LEB128) and
// bytes as listed:
//   L length bytes                          as they are
//   F length path-length path extents (offset length)*   content of a file of the layer: whole (no extents), or those
//                                           stretches of it
//   O number length bytes                   the content of the number-th F record (from 0), which the layer has no more
//   E tar-size diff-id-length diff-id       the end

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/unique_fd.h"
#include "store/layer/tar_entry.h"

struct ZSTD_CCtx_s;

namespace hull::store {

struct SkeletonHeader {
  char magic[8];
  uint32_t has_overrides;  ///< O records exist: read them first
  uint32_t reserved;
};
static_assert(sizeof(SkeletonHeader) == 16);
inline constexpr char kSkeletonMagic[8] = {'h', 'u', 'l', 'l', 't', 's', '0', '1'};

class SkeletonWriter {
 public:
  /// Takes an empty file, open for writing.
  explicit SkeletonWriter(UniqueFd file);
  ~SkeletonWriter();
  SkeletonWriter(const SkeletonWriter&) = delete;
  SkeletonWriter& operator=(const SkeletonWriter&) = delete;

  Result<void> literal(std::span<const std::byte> bytes);
  /// Here stands the content of the file `path`, `length` bytes of the stream; `extents` of a sparse one.
  Result<void> content(std::string_view path, uint64_t length, const std::vector<Extent>& extents);
  /// The layer will not have the number-th content any more. `read` fetches from an offset in the file.
  using ReadBack = std::function<Result<void>(uint64_t offset, std::span<std::byte> into)>;
  Result<void> override_content(uint32_t number, const ReadBack& read);
  /// Completes the file; returns its size in bytes.
  Result<uint64_t> finish(uint64_t tar_size, const Digest& diff_id);

 private:
  void put_varint(uint64_t value);
  Result<void> end_literal();
  Result<void> compress(std::span<const std::byte> bytes, bool last);

  struct FreeContext {
    void operator()(ZSTD_CCtx_s* context) const;
  };
  UniqueFd file_;
  std::unique_ptr<ZSTD_CCtx_s, FreeContext> context_;
  std::vector<std::byte> literal_;  // a run of literal bytes that is not written yet
  std::vector<std::byte> record_;   // the record that is put together
  std::vector<std::byte> out_;
  uint64_t size_ = sizeof(SkeletonHeader);
  std::vector<uint64_t> lengths_;                    // of the contents
  std::map<uint32_t, std::vector<Extent>> extents_;  // of the sparse ones
  bool has_overrides_ = false;
};

}  // namespace hull::store
