#pragma once
// Makes tar streams by hand for tests, the broken ones too.

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hull::store::test {

/// The fields of one header block, as text where a test wants to write nonsense.
struct Header {
  std::string name;
  char type = '0';
  uint64_t size = 0;
  unsigned mode = 0644;
  uint64_t uid = 0, gid = 0;
  int64_t mtime = 1'600'000'000;
  std::string link;
  unsigned major = 0, minor = 0;
  std::string prefix;
  std::string_view magic = std::string_view("ustar\00000", 8);
  std::string raw_size;  // instead of size
};

class TarMaker {
 public:
  static std::string block(const Header& header) {
    std::string out(512, '\0');
    const auto text = [&](size_t at, size_t width, std::string_view value) {
      std::memcpy(out.data() + at, value.data(), std::min(width, value.size()));
    };
    const auto octal = [&](size_t at, int width, uint64_t value) {
      char digits[32];
      std::snprintf(digits, sizeof digits, "%0*llo", width - 1, static_cast<unsigned long long>(value));
      text(at, static_cast<size_t>(width), digits);
    };
    text(0, 100, header.name);
    octal(100, 8, header.mode);
    octal(108, 8, header.uid);
    octal(116, 8, header.gid);
    octal(124, 12, header.size);
    if (!header.raw_size.empty()) {
      std::memset(out.data() + 124, 0, 12);
      text(124, 12, header.raw_size);
    }
    octal(136, 12, static_cast<uint64_t>(header.mtime));
    out[156] = header.type;
    text(157, 100, header.link);
    text(257, 8, header.magic);
    octal(329, 8, header.major);
    octal(337, 8, header.minor);
    text(345, 155, header.prefix);
    seal(out);
    return out;
  }

  /// Writes the checksum of a block that was changed by hand.
  static void seal(std::string& block) {
    std::memset(block.data() + 148, ' ', 8);
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    char digits[8];
    std::snprintf(digits, sizeof digits, "%06o", sum);
    std::memcpy(block.data() + 148, digits, 7);
  }

  TarMaker& raw(std::string_view bytes) {
    out_ += bytes;
    return *this;
  }
  TarMaker& add(const Header& header, std::string_view content = {}) {
    out_ += block(header);
    out_ += content;
    out_.append((512 - content.size() % 512) % 512, '\0');
    return *this;
  }
  TarMaker& file(std::string_view name, std::string_view content, unsigned mode = 0644) {
    return add({.name = std::string(name), .size = content.size(), .mode = mode}, content);
  }
  TarMaker& folder(std::string_view name, unsigned mode = 0755) {
    return add({.name = std::string(name), .type = '5', .mode = mode});
  }
  TarMaker& symlink(std::string_view name, std::string_view target) {
    return add({.name = std::string(name), .type = '2', .mode = 0777, .link = std::string(target)});
  }
  TarMaker& hard_link(std::string_view name, std::string_view target) {
    return add({.name = std::string(name), .type = '1', .link = std::string(target)});
  }
  TarMaker& device(std::string_view name, char type, unsigned major, unsigned minor) {
    return add({.name = std::string(name), .type = type, .mode = 0600, .major = major, .minor = minor});
  }
  using Records = std::vector<std::pair<std::string, std::string>>;
  static std::string pax_payload(const Records& records) {
    std::string payload;
    for (const auto& [key, value] : records) {
      const size_t body = key.size() + value.size() + 3;
      size_t total = body + 1;
      while (std::to_string(total).size() + body != total) ++total;
      payload += std::to_string(total) + " " + key + "=" + value + "\n";
    }
    return payload;
  }
  TarMaker& pax(const Records& records, char type = 'x') {
    const std::string payload = pax_payload(records);
    return add({.name = "PaxHeaders/x", .type = type, .size = payload.size()}, payload);
  }
  TarMaker& gnu_long(char type, std::string_view value) {
    return add(
        {.name = "././@LongLink", .type = type, .size = value.size() + 1, .magic = std::string_view("ustar  \0", 8)},
        std::string(value) + '\0');
  }
  std::string end() const { return out_ + std::string(1024, '\0'); }
  const std::string& open_end() const { return out_; }

 private:
  std::string out_;
};

}  // namespace hull::store::test
