#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hull::tar {

enum class EntryType : uint8_t { kFile, kHardLink, kSymlink, kCharDevice, kBlockDevice, kDirectory, kFifo };

/// A stretch of a file that holds data, in bytes; what lies between two is a hole.
struct Extent {
  uint64_t offset = 0;
  uint64_t length = 0;
  bool operator==(const Extent&) const = default;
};

struct Xattr {
  std::string name;  ///< in full: "security.capability"
  std::string value;
  bool operator==(const Xattr&) const = default;
};

/// One tar entry with every extension (PAX, GNU) applied. Names are bytes as they stand in the archive: not cleaned,
/// not checked for "..", in any encoding; never with NUL.
struct TarEntry {
  EntryType type = EntryType::kFile;
  std::string path;
  std::string link;   ///< target of a hard link or symlink
  uint16_t mode = 0;  ///< permission bits, 07777
  uint32_t uid = 0, gid = 0;
  int64_t mtime = 0;      ///< seconds
  uint32_t mtime_ns = 0;  ///< 0 to 999,999,999
  uint32_t dev_major = 0, dev_minor = 0;
  uint64_t size = 0;         ///< apparent size of a file
  uint64_t stored_size = 0;  ///< bytes of content in the stream (less than size for a sparse file)
  bool sparse = false;
  std::vector<Extent> extents;  ///< of a sparse file: ascending, apart, their lengths sum up to stored_size
  std::vector<Xattr> xattrs;
};

}  // namespace hull::tar
