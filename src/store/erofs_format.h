#pragma once
// The EROFS on-disk format (kernel Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h), as far as Hull writes
// and checks it. All numbers are little-endian; Hull runs on little-endian hosts.

#include <bit>
#include <cstddef>
#include <cstdint>

namespace hull::store::erofs {

static_assert(std::endian::native == std::endian::little);

inline constexpr uint32_t kMagic = 0xE0F5E1E2;
inline constexpr size_t kSuperOffset = 1024;
inline constexpr uint32_t kBlockBits = 12;
inline constexpr size_t kBlockSize = 1U << kBlockBits;
inline constexpr size_t kSlotSize = 32;  ///< a nid counts slots from the start of the metadata area

inline constexpr uint32_t kCompatSuperChecksum = 0x1;  ///< crc32c of block 0 from the superblock on
inline constexpr uint32_t kCompatMtime = 0x2;          ///< inode times are modification times
inline constexpr uint32_t kIncompatChunkedFile = 0x4;  ///< Linux 5.15

struct SuperBlock {
  uint32_t magic;
  uint32_t checksum;
  uint32_t feature_compat;
  uint8_t blkszbits;
  uint8_t sb_extslots;
  uint16_t root_nid;
  uint64_t inos;
  uint64_t build_time;
  uint32_t build_time_nsec;
  uint32_t blocks;
  uint32_t meta_blkaddr;
  uint32_t xattr_blkaddr;
  uint8_t uuid[16];
  uint8_t volume_name[16];
  uint32_t feature_incompat;
  uint16_t available_compr_algs;
  uint16_t extra_devices;
  uint16_t devt_slotoff;
  uint8_t dirblkbits;
  uint8_t xattr_prefix_count;
  uint32_t xattr_prefix_start;
  uint64_t packed_nid;
  uint8_t xattr_filter_reserved;
  uint8_t reserved[23];
};
static_assert(sizeof(SuperBlock) == 128);

enum DataLayout : uint16_t { kFlatPlain = 0, kFlatInline = 2, kChunkBased = 4 };

/// i_format: bit 0 set for the extended form, the data layout above it.
constexpr uint16_t inode_format(DataLayout layout) { return static_cast<uint16_t>(1 | layout << 1); }

struct ExtendedInode {
  uint16_t i_format;
  uint16_t i_xattr_icount;
  uint16_t i_mode;
  uint16_t i_reserved;
  uint64_t i_size;
  uint32_t i_u;  ///< first block, device number, or chunk format
  uint32_t i_ino;
  uint32_t i_uid, i_gid;
  uint64_t i_mtime;
  uint32_t i_mtime_nsec;
  uint32_t i_nlink;
  uint8_t i_reserved2[16];
};
static_assert(sizeof(ExtendedInode) == 64);

inline constexpr uint32_t kNullAddress = 0xffffffffU;  ///< a chunk that is a hole

struct __attribute__((packed)) Dirent {
  uint64_t nid;
  uint16_t nameoff;
  uint8_t file_type;
  uint8_t reserved;
};
static_assert(sizeof(Dirent) == 12);

struct XattrBodyHeader {
  uint32_t h_name_filter;
  uint8_t h_shared_count;
  uint8_t h_reserved2[7];
};
static_assert(sizeof(XattrBodyHeader) == 12);

struct XattrEntry {
  uint8_t e_name_len;
  uint8_t e_name_index;
  uint16_t e_value_size;
};
static_assert(sizeof(XattrEntry) == 4);

/// The checksum of a superblock block (from kSuperOffset to the end of block 0) whose checksum field is zero.
inline uint32_t super_checksum(const std::byte* data, size_t count) {
  uint32_t crc = 0xffffffffU;
  for (size_t i = 0; i < count; ++i) {
    crc ^= static_cast<uint32_t>(data[i]);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (0x82F63B78U & (0U - (crc & 1)));
  }
  return crc;
}

}  // namespace hull::store::erofs
