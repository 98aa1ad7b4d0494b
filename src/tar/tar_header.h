#pragma once
// Fields of the 512-byte header block (POSIX.1-1988 ustar, GNU tar's and star's variants, v7) and PAX records
// (POSIX.1-2001, "pax Extended Header").

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "tar/tar_entry.h"

namespace hull::tar {

inline constexpr size_t kTarBlock = 512;

enum class TarFormat { kV7, kUstar, kStar, kGnu };

/// One header block, its numbers decoded, its strings cut at NUL. Views point into the block.
struct TarHeader {
  TarFormat format = TarFormat::kV7;
  char type = 0;
  std::string_view name, prefix, link;
  uint16_t mode = 0;
  uint64_t uid = 0, gid = 0, size = 0;
  int64_t mtime = 0;
  uint64_t dev_major = 0, dev_minor = 0;
};

/// kCorrupt when the checksum does not match or a number is malformed, negative or out of range.
Result<TarHeader> parse_tar_header(std::span<const std::byte, kTarBlock> block);

bool is_zero_block(std::span<const std::byte, kTarBlock> block);

/// A numeric field: octal digits between blanks and NULs, or base-256 when the first bit is set (GNU, star).
std::optional<int64_t> parse_tar_number(std::string_view field);

/// GNU's old sparse form ('S'): the map in the header and in extension blocks.
struct GnuSparse {
  std::vector<Extent> extents;
  uint64_t real_size = 0;
};
/// From the header block. Returns whether an extension block follows.
Result<bool> parse_gnu_sparse_header(std::span<const std::byte, kTarBlock> block, GnuSparse& sparse);
Result<bool> parse_gnu_sparse_extension(std::span<const std::byte, kTarBlock> block, GnuSparse& sparse);

/// What PAX records changed; a field that is absent is taken from the header block.
struct PaxOverrides {
  std::optional<std::string> path, link;
  std::optional<uint64_t> size, uid, gid, dev_major, dev_minor;
  struct Time {
    int64_t seconds = 0;
    uint32_t nanoseconds = 0;
  };
  std::optional<Time> mtime;
  std::vector<Xattr> xattrs;
  // GNU.sparse.*
  std::optional<uint64_t> sparse_major, sparse_minor, sparse_real_size;
  std::optional<std::string> sparse_name;
  std::optional<uint64_t> sparse_blocks;
  std::vector<Extent> sparse_map;             ///< of forms 0.0 and 0.1
  std::optional<uint64_t> sparse_map_offset;  ///< of a pair whose length has not come yet (0.0)

  bool is_sparse() const { return sparse_major || sparse_real_size || sparse_blocks || !sparse_map.empty(); }
  void clear() { *this = PaxOverrides(); }
};

/// Applies the records of one extended header. Unknown keywords are ignored, as POSIX asks.
Result<void> parse_pax_records(std::string_view payload, uint32_t max_path, uint32_t max_xattrs, PaxOverrides& into);

/// "[-]seconds[.fraction]", rounded down to nanoseconds.
std::optional<PaxOverrides::Time> parse_pax_time(std::string_view text);

/// The map at the head of the content of a PAX 1.0 sparse file: "count\n" then "offset\nlength\n" for each.
/// Feed it blocks until it says that it is complete.
class Pax10SparseMap {
 public:
  /// True when this block completed the map.
  Result<bool> feed(std::span<const std::byte, kTarBlock> block);
  std::vector<Extent> take() { return std::move(extents_); }

 private:
  std::optional<uint64_t> count_;
  std::vector<Extent> extents_;
  std::optional<uint64_t> offset_;
  uint64_t number_ = 0;
  bool digits_ = false;
};

/// A map has at most this many stretches: 16 MiB of memory.
inline constexpr size_t kMaxExtents = 1 << 20;

}  // namespace hull::tar
