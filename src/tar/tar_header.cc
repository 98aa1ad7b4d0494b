#include "tar/tar_header.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error_format.h"

namespace hull::tar {

namespace {

// Offsets and lengths of the fields (POSIX.1-1988, and GNU tar's <tar.h> for the sparse ones).
constexpr size_t kChecksumAt = 148;
constexpr size_t kMagicAt = 257;
constexpr size_t kGnuSparseAt = 386, kGnuSparseCount = 4, kGnuExtendedAt = 482, kGnuRealSizeAt = 483;
constexpr size_t kGnuExtensionCount = 21, kGnuExtensionMoreAt = 504;
constexpr size_t kSparseNumber = 12;

std::string_view text_of(std::span<const std::byte, kTarBlock> block) {
  return {reinterpret_cast<const char*>(block.data()), block.size()};
}

std::string_view until_nul(std::string_view field) { return field.substr(0, field.find('\0')); }

bool checksum_matches(std::string_view block) {
  // The checksum field counts as blanks. Old programs summed signed characters, so both sums are good.
  uint32_t plain = 0;
  int32_t as_signed = 0;
  for (const char c : block) {
    plain += static_cast<unsigned char>(c);
    as_signed += static_cast<signed char>(c);
  }
  for (const char c : block.substr(kChecksumAt, 8)) {
    plain -= static_cast<unsigned char>(c);
    as_signed -= static_cast<signed char>(c);
  }
  plain += 8 * ' ';
  as_signed += 8 * ' ';
  const auto stored = parse_tar_number(block.substr(kChecksumAt, 8));
  return stored && (*stored == static_cast<int64_t>(plain) || *stored == static_cast<int64_t>(as_signed));
}

Result<uint64_t> unsigned_field(std::string_view block, size_t at, size_t length, std::string_view what) {
  const auto number = parse_tar_number(block.substr(at, length));
  if (!number || *number < 0) {
    return errorf(ErrorKind::kCorrupt, "tar entry \"{:.200}\": its {} is malformed, negative or too large",
                  until_nul(block.substr(0, 100)), what);
  }
  return static_cast<uint64_t>(*number);
}

Result<void> add_sparse_pairs(std::string_view block, size_t at, size_t count, GnuSparse& sparse) {
  for (size_t i = 0; i < count; ++i, at += 2 * kSparseNumber) {
    if (block[at] == '\0') break;
    TRY_ASSIGN(const uint64_t offset, unsigned_field(block, at, kSparseNumber, "sparse map"));
    TRY_ASSIGN(const uint64_t length, unsigned_field(block, at + kSparseNumber, kSparseNumber, "sparse map"));
    if (sparse.extents.size() >= kMaxExtents) return errorf(ErrorKind::kInvalid, "tar: a sparse map is too long");
    sparse.extents.push_back({offset, length});
  }
  return {};
}

}  // namespace

std::optional<int64_t> parse_tar_number(std::string_view field) {
  if (!field.empty() && (static_cast<unsigned char>(field[0]) & 0x80) != 0) {
    const bool negative = (static_cast<unsigned char>(field[0]) & 0x40) != 0;
    uint64_t value = negative ? ~0ULL : 0;
    for (size_t i = 0; i < field.size(); ++i) {
      uint64_t byte = static_cast<unsigned char>(field[i]);
      if (i == 0) byte = negative ? byte : byte & 0x7f;
      // What is shifted out must be sign bits only.
      if (value >> 56 != (negative ? 0xffU : 0U)) return std::nullopt;
      value = value << 8 | byte;
    }
    if ((static_cast<int64_t>(value) < 0) != negative) return std::nullopt;
    return static_cast<int64_t>(value);
  }
  while (!field.empty() && (field.front() == ' ' || field.front() == '\0')) field.remove_prefix(1);
  while (!field.empty() && (field.back() == ' ' || field.back() == '\0')) field.remove_suffix(1);
  // GNU and v7 fields may end with a blank or NUL and garbage after it.
  field = field.substr(0, field.find_first_of(std::string_view(" \0", 2)));
  int64_t value = 0;
  for (const char c : field) {
    if (c < '0' || c > '7') return std::nullopt;
    if (value > (std::numeric_limits<int64_t>::max() >> 3)) return std::nullopt;
    value = value << 3 | (c - '0');
  }
  return value;
}

bool is_zero_block(std::span<const std::byte, kTarBlock> block) {
  const char* data = reinterpret_cast<const char*>(block.data());
  return data[0] == 0 && std::memcmp(data, data + 1, kTarBlock - 1) == 0;
}

Result<TarHeader> parse_tar_header(std::span<const std::byte, kTarBlock> raw) {
  const std::string_view block = text_of(raw);
  if (!checksum_matches(block)) {
    return errorf(ErrorKind::kCorrupt, "tar: a header's checksum does not match (not a tar archive, or damaged)");
  }
  TarHeader header;
  const std::string_view magic = block.substr(kMagicAt, 8);
  if (magic == std::string_view("ustar  \0", 8)) {
    header.format = TarFormat::kGnu;
  } else if (magic.starts_with(std::string_view("ustar\0", 6))) {
    header.format = block.substr(508) == std::string_view("tar\0", 4) ? TarFormat::kStar : TarFormat::kUstar;
  }
  header.name = until_nul(block.substr(0, 100));
  header.type = block[156];
  header.link = until_nul(block.substr(157, 100));
  TRY_ASSIGN(const uint64_t mode, unsigned_field(block, 100, 8, "mode"));
  header.mode = static_cast<uint16_t>(mode & 07777);
  TRY_ASSIGN(header.uid, unsigned_field(block, 108, 8, "user id"));
  TRY_ASSIGN(header.gid, unsigned_field(block, 116, 8, "group id"));
  TRY_ASSIGN(header.size, unsigned_field(block, 124, 12, "size"));
  const auto mtime = parse_tar_number(block.substr(136, 12));
  if (!mtime) {
    return errorf(ErrorKind::kCorrupt, "tar entry \"{:.200}\": its modification time is malformed", header.name);
  }
  header.mtime = *mtime;
  if (header.format != TarFormat::kV7) {
    if (header.type == '3' || header.type == '4') {
      TRY_ASSIGN(header.dev_major, unsigned_field(block, 329, 8, "device number"));
      TRY_ASSIGN(header.dev_minor, unsigned_field(block, 337, 8, "device number"));
    }
    // GNU keeps times and the sparse map where POSIX has the prefix; star keeps times behind a shorter one.
    if (header.format == TarFormat::kUstar) header.prefix = until_nul(block.substr(345, 155));
    if (header.format == TarFormat::kStar) header.prefix = until_nul(block.substr(345, 131));
  }
  return header;
}

Result<bool> parse_gnu_sparse_header(std::span<const std::byte, kTarBlock> raw, GnuSparse& sparse) {
  const std::string_view block = text_of(raw);
  TRY(add_sparse_pairs(block, kGnuSparseAt, kGnuSparseCount, sparse));
  TRY_ASSIGN(sparse.real_size, unsigned_field(block, kGnuRealSizeAt, kSparseNumber, "real size"));
  return block[kGnuExtendedAt] != '\0';
}

Result<bool> parse_gnu_sparse_extension(std::span<const std::byte, kTarBlock> raw, GnuSparse& sparse) {
  const std::string_view block = text_of(raw);
  TRY(add_sparse_pairs(block, 0, kGnuExtensionCount, sparse));
  return block[kGnuExtensionMoreAt] != '\0';
}

Result<bool> Pax10SparseMap::feed(std::span<const std::byte, kTarBlock> raw) {
  for (const char c : text_of(raw)) {
    if (c >= '0' && c <= '9') {
      if (number_ > (std::numeric_limits<int64_t>::max() - 9) / 10) {
        return errorf(ErrorKind::kCorrupt, "tar: a number in a sparse map is too large");
      }
      number_ = number_ * 10 + static_cast<uint64_t>(c - '0');
      digits_ = true;
      continue;
    }
    if (c != '\n' || !digits_) return errorf(ErrorKind::kCorrupt, "tar: a sparse map is malformed");
    const uint64_t number = std::exchange(number_, 0);
    digits_ = false;
    if (!count_) {
      if (number > kMaxExtents) return errorf(ErrorKind::kInvalid, "tar: a sparse map is too long");
      count_ = number;
    } else if (!offset_) {
      offset_ = number;
    } else {
      extents_.push_back({*std::exchange(offset_, std::nullopt), number});
    }
    if (extents_.size() == *count_ && !offset_) return true;
  }
  return false;
}

}  // namespace hull::tar
