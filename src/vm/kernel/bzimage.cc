#include "vm/kernel/bzimage.h"

#include <algorithm>
#include <optional>

#include "base/error_format.h"
#include "vm/kernel/elf.h"

namespace hull::vm {
namespace {

// Offsets in the file, Documentation/x86/boot.rst "Details of Header Fields".
constexpr size_t kSetupSectors = 0x1F1;
constexpr size_t kBootFlag = 0x1FE;
constexpr size_t kMagic = 0x202;  // "HdrS"
constexpr size_t kProtocol = 0x206;
constexpr size_t kVersionText = 0x20E;
constexpr size_t kPayloadOffset = 0x248;
constexpr size_t kPayloadLength = 0x24C;
constexpr size_t kSector = 512;

uint32_t little(std::string_view file, size_t offset, size_t size) {
  uint32_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(file[offset + i]);
  return value;
}

}  // namespace

bool is_bzimage(std::string_view file) {
  return file.size() > kPayloadLength + 4 && file.substr(kMagic, 4) == "HdrS" && little(file, kBootFlag, 2) == 0xAA55;
}

Result<BzImage> parse_bzimage(std::string_view file) {
  if (!is_bzimage(file)) return Error(ErrorKind::kInvalid, "not a Linux kernel image (bzImage)");
  if (little(file, kProtocol, 2) < 0x208) {
    return Error(ErrorKind::kUnsupported, "a kernel image of a boot protocol before 2.08 (Linux 2.6.26)");
  }
  BzImage image;
  const uint64_t version_at = uint64_t{little(file, kVersionText, 2)} + kSector;
  if (version_at > kSector && version_at < file.size()) {
    const std::string_view text = file.substr(version_at, 128);
    const size_t end = text.find_first_of(std::string_view(" \0", 2));
    if (end != std::string_view::npos) image.version = text.substr(0, end);
  }
  const uint32_t setup_sectors = std::max(little(file, kSetupSectors, 1), 1U) == 1 && file[kSetupSectors] == 0
                                     ? 4
                                     : little(file, kSetupSectors, 1);
  const uint64_t offset = (uint64_t{setup_sectors} + 1) * kSector + little(file, kPayloadOffset, 4);
  const uint64_t length = little(file, kPayloadLength, 4);
  if (length < 8 || offset > file.size() || length > file.size() - offset) {
    return Error(ErrorKind::kInvalid, "a damaged kernel image: its payload lies beyond its end");
  }
  image.payload = file.substr(offset, length);
  image.compression = compression_of(image.payload);
  if (image.compression == Compression::kNone && !image.payload.starts_with("\x7f"
                                                                            "ELF")) {
    return errorf(
        ErrorKind::kUnsupported,
        "a kernel image whose payload is in no known compression (it begins with {:02x} {:02x} {:02x} {:02x})",
        little(image.payload, 0, 1), little(image.payload, 1, 1), little(image.payload, 2, 1),
        little(image.payload, 3, 1));
  }
  // gzip ends in the length anyway; the build appends it to the others, and an uncompressed payload is what it is.
  if (image.compression != Compression::kNone) {
    image.unpacked_bytes = little(image.payload, image.payload.size() - 4, 4);
    if (image.compression != Compression::kGzip) image.payload.remove_suffix(4);
  }
  return image;
}

Result<std::string> unpack_vmlinux(std::string_view file) {
  Compression compression = compression_of(file);
  std::string_view payload = file;
  uint32_t expected = 0;
  if (is_bzimage(file)) {
    TRY_ASSIGN(const BzImage image, parse_bzimage(file));
    compression = image.compression;
    payload = image.payload;
    expected = image.unpacked_bytes;
  } else if (compression == Compression::kNone && !file.starts_with("\x7f"
                                                                    "ELF")) {
    return Error(ErrorKind::kInvalid, "neither a bzImage nor an ELF file (vmlinux)");
  }
  if (expected > kMostVmlinuxBytes) {
    return errorf(ErrorKind::kInvalid, "a damaged kernel image: it says that it unpacks to {} bytes", expected);
  }
  // What unpacks to more than it says is stopped there, not at what a kernel may have at most.
  auto unpacked = decompress(compression, payload, expected != 0 ? expected : kMostVmlinuxBytes);
  if (!unpacked.ok()) return std::move(unpacked.error()).context("unpack the kernel");
  if (expected != 0 && unpacked->size() != expected) {
    return errorf(ErrorKind::kInvalid, "a damaged kernel image: it unpacks to {} bytes, and says {}", unpacked->size(),
                  expected);
  }
  return unpacked;
}

}  // namespace hull::vm
