#include "store/archive/tar_output.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::store {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kBuffer = 1 << 20;

struct Header {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6], version[2],
      user[32], group[32], major[8], minor[8], prefix[155], padding[12];
};
static_assert(sizeof(Header) == kBlock);

void put_octal(char* field, size_t width, uint64_t value) {
  const std::string text = fmt::format("{:0{}o}", value, width - 1);
  std::memcpy(field, text.data(), width - 1);
}

}  // namespace

Result<void> TarOutput::header(std::string_view name, char type, uint64_t size) {
  Header h{};
  if (name.size() > sizeof h.name) return errorf(ErrorKind::kInternal, "archive member name {} is too long", name);
  std::memcpy(h.name, name.data(), name.size());
  put_octal(h.mode, sizeof h.mode, type == '5' ? 0755 : 0644);
  put_octal(h.uid, sizeof h.uid, 0);
  put_octal(h.gid, sizeof h.gid, 0);
  if (size < (1ULL << 33)) {
    put_octal(h.size, sizeof h.size, size);
  } else {
    uint64_t rest = size;
    for (size_t i = sizeof h.size; i-- > 1; rest >>= 8) h.size[i] = static_cast<char>(rest & 0xff);
    h.size[0] = static_cast<char>(0x80);
  }
  put_octal(h.mtime, sizeof h.mtime, 0);
  h.type = type;
  std::memcpy(h.magic, "ustar", 6);
  std::memcpy(h.version, "00", 2);
  std::memset(h.checksum, ' ', sizeof h.checksum);
  unsigned sum = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(&h);
  for (size_t i = 0; i < kBlock; ++i) sum += bytes[i];
  const std::string text = fmt::format("{:06o}", sum);
  std::memcpy(h.checksum, text.c_str(), 7);
  return sys::write_all(fd_, std::string_view(reinterpret_cast<const char*>(&h), kBlock)).context("write archive");
}

Result<void> TarOutput::pad(uint64_t size) {
  static constexpr char kZeros[kBlock] = {};
  const size_t rest = size % kBlock;
  if (rest == 0) return {};
  return sys::write_all(fd_, std::string_view(kZeros, kBlock - rest)).context("write archive");
}

Result<void> TarOutput::folder(std::string_view name) { return header(name, '5', 0); }

Result<void> TarOutput::file(std::string_view name, std::string_view data) {
  TRY(header(name, '0', data.size()));
  TRY(sys::write_all(fd_, data).context("write archive"));
  return pad(data.size());
}

Result<void> TarOutput::file(std::string_view name, ByteSource& data, uint64_t size) {
  TRY(header(name, '0', size));
  std::vector<std::byte> buffer(kBuffer);
  uint64_t written = 0;
  while (true) {
    TRY_ASSIGN(const size_t got, data.read(buffer));
    if (got == 0) break;
    written += got;
    if (written > size) break;
    TRY(sys::write_all(fd_, std::string_view(reinterpret_cast<const char*>(buffer.data()), got))
            .context("write archive"));
  }
  if (written != size) {
    return errorf(ErrorKind::kInternal, "archive member {}: {} bytes came, {} were announced", name, written, size);
  }
  return pad(size);
}

Result<void> TarOutput::finish() {
  static constexpr char kZeros[2 * kBlock] = {};
  return sys::write_all(fd_, std::string_view(kZeros, sizeof kZeros)).context("write archive");
}

}  // namespace hull::store
