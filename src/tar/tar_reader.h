#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "tar/tar_entry.h"
#include "tar/tar_header.h"

namespace hull::tar {

/// What a tar stream consists of, in its order. Spans are valid only during the call to TarReader::feed().
class TarHandler {
 public:
  virtual ~TarHandler() = default;
  /// Every byte of the stream that is not handed to on_data: headers, extensions, padding, what follows the end.
  virtual Result<void> on_raw(std::span<const std::byte> bytes) = 0;
  virtual Result<void> on_entry(TarEntry& entry) = 0;
  /// Content of the entry, `stored_size` bytes in all, in pieces.
  virtual Result<void> on_data(std::span<const std::byte> bytes) = 0;
  virtual Result<void> on_entry_end() = 0;
};

struct TarReaderLimits {
  uint32_t max_path = 4096;         ///< bytes; 0 means unbounded
  uint32_t max_xattrs = 256 << 10;  ///< bytes for one entry
  uint64_t max_entries = 16U << 20;
  uint64_t max_file_size = 1ULL << 44;  ///< apparent
};

/// Reads a tar stream that is pushed into it in pieces of any size: v7, ustar, star, GNU (long names, base-256 numbers,
/// sparse files) and PAX (global and local headers, xattrs, GNU sparse 0.0, 0.1 and 1.0). Reads as Go's archive/tar
/// where the specifications leave room, since that is what makes and reads images. No seeking, no allocation per
/// entry beyond its strings. The bytes may be hostile; every failure is kCorrupt or kInvalid (a limit).
class TarReader {
 public:
  TarReader(TarHandler& handler, const TarReaderLimits& limits) : handler_(handler), limits_(limits) {}

  Result<void> feed(std::span<const std::byte> bytes);
  /// The stream has ended. kCorrupt when it ended inside an entry.
  Result<void> finish();

  uint64_t entries() const { return entries_; }

 private:
  enum class State { kHeader, kPayload, kGnuSparse, kPaxSparse, kData, kPadding, kTrailer };
  using Block = std::span<const std::byte, kTarBlock>;

  Result<void> on_block(Block block);
  Result<void> on_header(Block block);
  Result<void> begin_payload(const TarHeader& header);
  Result<void> end_payload();
  Result<void> begin_entry(const TarHeader& header, Block block);
  Result<void> apply_pax();
  Result<void> apply_sparse_pax();
  Result<void> finish_gnu_sparse();
  Result<void> check_sparse();
  Result<void> start_content();
  Error entry_error(ErrorKind kind, std::string_view what) const;

  TarHandler& handler_;
  TarReaderLimits limits_;
  State state_ = State::kHeader;
  uint64_t entries_ = 0;
  bool seen_zero_block_ = false;
  std::byte partial_[kTarBlock];  // a block that is split over two pieces
  size_t partial_size_ = 0;
  uint64_t remaining_ = 0;  // bytes of content or payload still to come
  size_t padding_ = 0;      // bytes from there to the block's end

  char payload_type_ = 0;
  std::string payload_;
  std::string long_name_, long_link_;
  bool has_long_name_ = false, has_long_link_ = false;
  PaxOverrides global_, local_;
  TarEntry entry_;
  GnuSparse gnu_sparse_;
  Pax10SparseMap pax_map_;
};

}  // namespace hull::tar
