#include "tar/tar_writer.h"

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "sys/file.h"
#include "tar/tar_header.h"

namespace hull::tar {
namespace {

struct Header {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2],
      user[32], group[32], major[8], minor[8], prefix[155], padding[12];
};
static_assert(sizeof(Header) == kTarBlock);
constexpr char kZeros[16 * kTarBlock] = {};

constexpr uint64_t largest(size_t width) { return (1ULL << (3 * (width - 1))) - 1; }

void put_octal(char* field, size_t width, uint64_t value) {
  const std::string text = fmt::format("{:0{}o}", std::min(value, largest(width)), width - 1);
  std::memcpy(field, text.data(), width - 1);
}

char type_of(EntryType type) {
  switch (type) {
    case EntryType::kFile:
      return '0';
    case EntryType::kHardLink:
      return '1';
    case EntryType::kSymlink:
      return '2';
    case EntryType::kCharDevice:
      return '3';
    case EntryType::kBlockDevice:
      return '4';
    case EntryType::kDirectory:
      return '5';
    case EntryType::kFifo:
      return '6';
  }
  return '0';
}

/// "length key=value\n", where the length counts itself.
void add_record(std::string& records, std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (length != rest + fmt::formatted_size("{}", length)) length = rest + fmt::formatted_size("{}", length);
  records += fmt::format("{} {}={}\n", length, key, value);
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string pax_records(const TarEntry& entry, std::string_view path) {
  std::string records;
  if (path.size() > sizeof Header::name || !is_ascii(path)) add_record(records, "path", path);
  if (entry.link.size() > sizeof Header::link || !is_ascii(entry.link)) add_record(records, "linkpath", entry.link);
  if (entry.size > largest(12)) add_record(records, "size", fmt::format("{}", entry.size));
  if (entry.uid > largest(8)) add_record(records, "uid", fmt::format("{}", entry.uid));
  if (entry.gid > largest(8)) add_record(records, "gid", fmt::format("{}", entry.gid));
  if (entry.mtime_ns != 0 && entry.mtime >= 0) {
    add_record(records, "mtime", fmt::format("{}.{:09}", entry.mtime, entry.mtime_ns));
  } else if (entry.mtime < 0) {
    add_record(records, "mtime", fmt::format("{}", entry.mtime));
  }
  for (const Xattr& attribute : entry.xattrs) add_record(records, "SCHILY.xattr." + attribute.name, attribute.value);
  return records;
}

}  // namespace

ByteSink sink_to(int fd) {
  return [fd](std::string_view bytes) { return sys::write_all(fd, bytes); };
}

Result<void> TarWriter::block(const TarEntry& entry, char type, std::string_view name, uint64_t size) {
  Header h{};
  std::memcpy(h.name, name.data(), std::min(name.size(), sizeof h.name));
  std::memcpy(h.link, entry.link.data(), std::min(entry.link.size(), sizeof h.link));
  put_octal(h.mode, sizeof h.mode, entry.mode);
  put_octal(h.uid, sizeof h.uid, entry.uid);
  put_octal(h.gid, sizeof h.gid, entry.gid);
  put_octal(h.size, sizeof h.size, size);
  put_octal(h.mtime, sizeof h.mtime, entry.mtime < 0 ? 0 : static_cast<uint64_t>(entry.mtime));
  put_octal(h.major, sizeof h.major, entry.dev_major);
  put_octal(h.minor, sizeof h.minor, entry.dev_minor);
  h.type = type;
  std::memcpy(h.magic, "ustar", 6);
  std::memcpy(h.version, "00", 2);
  std::memset(h.checksum, ' ', sizeof h.checksum);
  unsigned sum = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&h);
  for (size_t i = 0; i < kTarBlock; ++i) sum += bytes[i];
  const std::string text = fmt::format("{:06o}", sum);
  std::memcpy(h.checksum, text.c_str(), 7);
  return sink_(std::string_view(reinterpret_cast<const char*>(&h), kTarBlock));
}

Result<void> TarWriter::begin(const TarEntry& entry) {
  std::string path = entry.path;
  if (entry.type == EntryType::kDirectory && !path.ends_with('/')) path += '/';
  const std::string records = pax_records(entry, path);
  if (!records.empty()) {
    TarEntry extended;
    extended.mode = 0644;
    TRY(block(extended, 'x', "PaxHeaders/" + path.substr(0, 80), records.size()));
    TRY(sink_(records));
    if (const size_t rest = records.size() % kTarBlock; rest != 0) {
      TRY(sink_(std::string_view(kZeros, kTarBlock - rest)));
    }
  }
  const bool has_data = entry.type == EntryType::kFile;
  TRY(block(entry, type_of(entry.type), path, has_data ? entry.size : 0));
  left_ = has_data ? entry.size : 0;
  padding_ = static_cast<size_t>((kTarBlock - left_ % kTarBlock) % kTarBlock);
  return {};
}

Result<void> TarWriter::data(std::string_view bytes) {
  bytes = bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(bytes.size(), left_)));
  left_ -= bytes.size();
  return sink_(bytes);
}

Result<void> TarWriter::end() {
  while (left_ > 0) {
    const auto count = static_cast<size_t>(std::min<uint64_t>(left_, sizeof kZeros));
    TRY(sink_(std::string_view(kZeros, count)));
    left_ -= count;
  }
  if (padding_ > 0) TRY(sink_(std::string_view(kZeros, padding_)));
  padding_ = 0;
  return {};
}

Result<void> TarWriter::finish() { return sink_(std::string_view(kZeros, 2 * kTarBlock)); }

}  // namespace hull::tar
