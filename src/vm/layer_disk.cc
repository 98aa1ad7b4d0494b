#include "vm/layer_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::vm {
namespace {

constexpr uint64_t kSector = 512;
constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kFirstSector = kLayerHeaderBytes / kSector;
constexpr size_t kEntryBytes = 128;
constexpr size_t kEntriesAt = 2 * kSector;
constexpr size_t kHeaderBytes = 92;
constexpr uint64_t kMostBytes = uint64_t{1} << 60;
constexpr uint32_t kErofsMagic = 0xE0F5E1E2;  // super block at 1,024 (Documentation/filesystems/erofs.rst)
constexpr off_t kErofsSuperBlock = 1024;
static_assert(kEntriesAt + kMostLayers * kEntryBytes <= kLayerHeaderBytes && kLayerHeaderBytes % kAlignment == 0);

// "Linux filesystem data", 0FC63DAF-8483-4772-8E79-3D69D8477DE4: the first three fields are little-endian.
constexpr std::array<unsigned char, 16> kLinuxData = {0xAF, 0x3D, 0xC6, 0x0F, 0x83, 0x84, 0x72, 0x47,
                                                      0x8E, 0x79, 0x3D, 0x69, 0xD8, 0x47, 0x7D, 0xE4};

template <typename T>
void put(std::string& bytes, size_t offset, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) bytes[offset + i] = static_cast<char>(value >> (8 * i) & 0xFF);
}

/// CRC-32 of IEEE 802.3, as UEFI 2.10, 4.2 asks.
uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320U : 0);
  }
  return ~crc;
}

/// A GUID for disk (index 0) and partitions; unique within the disk is all that is needed, and the same each time.
void put_guid(std::string& bytes, size_t offset, uint16_t index) {
  constexpr std::string_view kFixed("hull-layer\x00\x40\x80\x00\x00\x00", 16);  // version 4, variant 1 by their bits
  std::copy(kFixed.begin(), kFixed.end(), bytes.begin() + static_cast<ptrdiff_t>(offset));
  bytes[offset + 7] = static_cast<char>(0x40 | (kFixed[7] & 0x0F));
  bytes[offset + 8] = static_cast<char>(0x80 | (kFixed[8] & 0x3F));
  put<uint16_t>(bytes, offset + 14, index);
}

/// The MBR that keeps tools that know no GPT away (UEFI 2.10, 5.2.3).
void put_protective_mbr(std::string& bytes, uint64_t sectors) {
  put<uint32_t>(bytes, 446, 0x00020000);  // not active; first CHS 0/0/2
  put<uint32_t>(bytes, 450, 0xFFFFFFEE);  // type 0xEE; last CHS: beyond what CHS can say
  put<uint32_t>(bytes, 454, 1);
  put<uint32_t>(bytes, 458, static_cast<uint32_t>(std::min<uint64_t>(sectors - 1, 0xFFFFFFFF)));
  put<uint16_t>(bytes, 510, 0xAA55);
}

void put_entry(std::string& bytes, size_t index, uint64_t first, uint64_t last) {
  const size_t at = kEntriesAt + index * kEntryBytes;
  std::memcpy(bytes.data() + at, kLinuxData.data(), kLinuxData.size());
  put_guid(bytes, at + 16, static_cast<uint16_t>(index + 1));
  put<uint64_t>(bytes, at + 32, first);
  put<uint64_t>(bytes, at + 40, last);
  put<uint64_t>(bytes, at + 48, uint64_t{1} << 60);  // read-only, the bit that systemd and Microsoft use
  const std::string name = fmt::format("layer {}", index + 1);
  for (size_t i = 0; i < name.size(); ++i) bytes[at + 56 + 2 * i] = name[i];
}

/// UEFI 2.10, 5.3.2.
void put_header(std::string& bytes, uint64_t sectors) {
  const size_t at = kSector;
  std::memcpy(bytes.data() + at, "EFI PART", 8);
  put<uint32_t>(bytes, at + 8, 0x00010000);
  put<uint32_t>(bytes, at + 12, kHeaderBytes);
  put<uint64_t>(bytes, at + 24, 1);            // this header
  put<uint64_t>(bytes, at + 32, sectors - 1);  // where the backup would be
  put<uint64_t>(bytes, at + 40, kFirstSector);
  put<uint64_t>(bytes, at + 48, sectors - 1);
  put_guid(bytes, at + 56, 0);
  put<uint64_t>(bytes, at + 72, kEntriesAt / kSector);
  put<uint32_t>(bytes, at + 80, kMostLayers);
  put<uint32_t>(bytes, at + 84, kEntryBytes);
  put<uint32_t>(bytes, at + 88, crc32(std::string_view(bytes).substr(kEntriesAt, kMostLayers * kEntryBytes)));
  put<uint32_t>(bytes, at + 16, crc32(std::string_view(bytes).substr(at, kHeaderBytes)));  // its own field is 0 still
}

/// The size of a layer blob, having looked whether it is one.
Result<uint64_t> blob_size(const std::string& path) {
  auto file = sys::open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK);
  if (!file.ok()) return std::move(file.error()).context("layer blob");
  struct stat info{};
  if (::fstat(file->get(), &info) != 0) return errnof("layer blob {}", path);
  std::array<unsigned char, 4> magic{};
  if (!S_ISREG(info.st_mode) || info.st_size <= 0 || static_cast<uint64_t>(info.st_size) % kAlignment != 0 ||
      ::pread(file->get(), magic.data(), magic.size(), kErofsSuperBlock) != static_cast<ssize_t>(magic.size()) ||
      (magic[0] | magic[1] << 8 | magic[2] << 16 | uint32_t{magic[3]} << 24) != kErofsMagic) {
    return errorf(ErrorKind::kCorrupt,
                  "{} is not a layer blob (an EROFS file of whole 4,096-byte blocks): "
                  "'hull system check --deep' tells which image it belongs to",
                  path);
  }
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

Result<std::string> layer_disk_header(std::span<const uint64_t> blob_bytes) {
  if (blob_bytes.empty()) return Error(ErrorKind::kInvalid, "a layer disk needs at least one layer");
  if (blob_bytes.size() > kMostLayers) {
    return errorf(ErrorKind::kUnsupported, "the image has {} layers; a virtual machine takes at most {}",
                  blob_bytes.size(), kMostLayers);
  }
  uint64_t total = kLayerHeaderBytes;
  for (const uint64_t size : blob_bytes) {
    if (size == 0 || size % kAlignment != 0 || size > kMostBytes - total) {
      return errorf(ErrorKind::kInvalid, "a layer of {} bytes: expected whole blocks of {}", size, kAlignment);
    }
    total += size;
  }
  std::string bytes(kLayerHeaderBytes, '\0');
  put_protective_mbr(bytes, total / kSector);
  uint64_t first = kFirstSector;
  for (size_t i = 0; i < blob_bytes.size(); ++i) {
    const uint64_t sectors = blob_bytes[i] / kSector;
    put_entry(bytes, i, first, first + sectors - 1);
    first += sectors;
  }
  put_header(bytes, total / kSector);
  return bytes;
}

Result<vmm::DiskConfig> make_layer_disk(const std::vector<std::string>& blobs, const std::string& header_path) {
  std::vector<uint64_t> sizes;
  for (const std::string& blob : blobs) {
    TRY_ASSIGN(const uint64_t size, blob_size(blob));
    sizes.push_back(size);
  }
  TRY_ASSIGN(const std::string header, layer_disk_header(sizes));
  TRY(sys::replace_file(header_path, header, 0600, false));
  vmm::DiskConfig disk;
  disk.extents.push_back(header_path);
  disk.extents.insert(disk.extents.end(), blobs.begin(), blobs.end());
  disk.read_only = true;
  disk.serial = "layers";
  return disk;
}

Result<std::string> vmdk_descriptor(std::span<const FlatExtent> extents) {
  std::string out =
      "# Disk DescriptorFile\n"
      "version=1\n"
      "CID=fffffffe\n"
      "parentCID=ffffffff\n"
      "createType=\"twoGbMaxExtentFlat\"\n\n"
      "# Extent description\n";
  uint64_t sectors = 0;
  for (const FlatExtent& extent : extents) {
    if (extent.bytes == 0 || extent.bytes % kSector != 0) {
      return errorf(ErrorKind::kInvalid, "disk file {} has {} bytes: expected whole sectors of {}", extent.path,
                    extent.bytes, kSector);
    }
    if (!extent.path.starts_with('/') || extent.path.size() > 511 ||
        extent.path.find_first_of("\"\r\n") != std::string::npos || extent.path.find('\0') != std::string::npos) {
      return errorf(ErrorKind::kInvalid,
                    "disk file \"{}\": expected an absolute path of at most 511 bytes without quotes", extent.path);
    }
    // QEMU skips extents that are not RW; what makes the disk read-only is its own option.
    fmt::format_to(std::back_inserter(out), "RW {} FLAT \"{}\" 0\n", extent.bytes / kSector, extent.path);
    sectors += extent.bytes / kSector;
  }
  fmt::format_to(std::back_inserter(out),
                 "\n# The Disk Data Base\n#DDB\n\n"
                 "ddb.virtualHWVersion = \"4\"\n"
                 "ddb.geometry.cylinders = \"{}\"\n"
                 "ddb.geometry.heads = \"16\"\n"
                 "ddb.geometry.sectors = \"63\"\n"
                 "ddb.adapterType = \"ide\"\n",
                 std::min<uint64_t>(sectors / (16 * 63), 16383));
  return out;
}

}  // namespace hull::vm
