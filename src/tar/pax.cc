// PAX extended header records.

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/error_format.h"
#include "tar/tar_header.h"

namespace hull::tar {

namespace {

constexpr size_t kMaxXattrs = 1024;  // the kernel's list of names ends at 64 KiB

std::optional<uint64_t> parse_decimal(std::string_view text) {
  if (text.empty() || text.size() > 20) return std::nullopt;
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (value > (static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) - digit) / 10) return std::nullopt;
    value = value * 10 + digit;
  }
  return value;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::string url_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::optional<std::string> base64_decoded(std::string_view text) {
  static constexpr auto kTable = [] {
    std::array<int, 256> table{};
    table.fill(-1);
    constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < kDigits.size(); ++i) table[static_cast<unsigned char>(kDigits[i])] = static_cast<int>(i);
    return table;
  }();
  std::string out;
  uint32_t bits = 0;
  int have = 0;
  for (const char c : text) {
    if (c == '=') break;
    const int digit = kTable[static_cast<unsigned char>(c)];
    if (digit < 0) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    have += 6;
    if (have >= 8) {
      have -= 8;
      out += static_cast<char>(bits >> have & 0xff);
    }
  }
  return out;
}

/// One keyword with its value; the state of the parse across keywords is in PaxOverrides.
class RecordParser {
 public:
  RecordParser(uint32_t max_path, uint32_t max_xattrs, PaxOverrides& into)
      : max_path_(max_path), max_xattrs_(max_xattrs), into_(into) {}

  Result<void> apply(std::string_view key, std::string_view value) {
    if (key == "path") return text(key, value, into_.path);
    if (key == "linkpath") return text(key, value, into_.link);
    if (key == "size") return number(key, value, into_.size);
    if (key == "uid") return number(key, value, into_.uid);
    if (key == "gid") return number(key, value, into_.gid);
    if (key == "mtime") return time(value);
    if (key == "SCHILY.devmajor") return number(key, value, into_.dev_major);
    if (key == "SCHILY.devminor") return number(key, value, into_.dev_minor);
    constexpr std::string_view kSchily = "SCHILY.xattr.", kLibarchive = "LIBARCHIVE.xattr.", kSparse = "GNU.sparse.";
    if (key.starts_with(kSchily)) return xattr(std::string(key.substr(kSchily.size())), std::string(value));
    if (key.starts_with(kLibarchive)) {
      auto decoded = base64_decoded(value);
      if (!decoded) return malformed(key);
      return xattr(url_decoded(key.substr(kLibarchive.size())), std::move(*decoded));
    }
    if (key.starts_with(kSparse)) return sparse(key, key.substr(kSparse.size()), value);
    return {};
  }

 private:
  static Error malformed(std::string_view key) {
    return errorf(ErrorKind::kCorrupt, "tar: the PAX record \"{:.80}\" is malformed", key);
  }

  Result<void> text(std::string_view key, std::string_view value, std::optional<std::string>& field) const {
    if (value.size() > max_path_ && max_path_ != 0) {
      return errorf(ErrorKind::kInvalid, "tar: a name of {} bytes is longer than the limit of {}", value.size(),
                    max_path_);
    }
    if (value.find('\0') != std::string_view::npos) return malformed(key);
    field.reset();
    if (!value.empty()) field = std::string(value);  // an empty value takes an earlier one back (POSIX)
    return {};
  }

  static Result<void> number(std::string_view key, std::string_view value, std::optional<uint64_t>& field) {
    field.reset();
    if (value.empty()) return {};
    field = parse_decimal(value);
    if (!field) return malformed(key);
    return {};
  }

  Result<void> time(std::string_view value) {
    into_.mtime.reset();
    if (value.empty()) return {};
    into_.mtime = parse_pax_time(value);
    if (!into_.mtime) return malformed("mtime");
    return {};
  }

  Result<void> xattr(std::string name, std::string value) {
    if (name.empty() || name.find('\0') != std::string::npos) return malformed("xattr");
    auto same = std::find_if(into_.xattrs.begin(), into_.xattrs.end(), [&](const Xattr& x) { return x.name == name; });
    if (same != into_.xattrs.end()) {
      same->value = std::move(value);
    } else {
      into_.xattrs.push_back({std::move(name), std::move(value)});
    }
    if (into_.xattrs.size() > kMaxXattrs) {
      return errorf(ErrorKind::kInvalid, "tar: an entry has more than {} extended attributes", kMaxXattrs);
    }
    size_t total = 0;
    for (const Xattr& x : into_.xattrs) total += x.name.size() + x.value.size() + 4;
    if (max_xattrs_ != 0 && total > max_xattrs_) {
      return errorf(ErrorKind::kInvalid, "tar: extended attributes of one entry take {} bytes, the limit is {}", total,
                    max_xattrs_);
    }
    return {};
  }

  Result<void> sparse(std::string_view key, std::string_view what, std::string_view value) {
    if (what == "major") return number(key, value, into_.sparse_major);
    if (what == "minor") return number(key, value, into_.sparse_minor);
    if (what == "name") return text(key, value, into_.sparse_name);
    if (what == "realsize" || what == "size") return number(key, value, into_.sparse_real_size);
    if (what == "numblocks") return number(key, value, into_.sparse_blocks);
    if (what == "offset") return number(key, value, into_.sparse_map_offset);
    if (what == "numbytes") {
      const auto length = parse_decimal(value);
      if (!length || !into_.sparse_map_offset) return malformed(key);
      return extent(*std::exchange(into_.sparse_map_offset, std::nullopt), *length);
    }
    if (what != "map") return {};
    into_.sparse_map.clear();
    std::optional<uint64_t> offset;
    while (!value.empty()) {
      const size_t comma = value.find(',');
      const auto one = parse_decimal(value.substr(0, comma));
      value = comma == std::string_view::npos ? std::string_view() : value.substr(comma + 1);
      if (!one) return malformed(key);
      if (offset) {
        TRY(extent(*std::exchange(offset, std::nullopt), *one));
      } else {
        offset = one;
      }
    }
    if (offset) return malformed(key);
    return {};
  }

  Result<void> extent(uint64_t offset, uint64_t length) {
    if (into_.sparse_map.size() >= kMaxExtents) return errorf(ErrorKind::kInvalid, "tar: a sparse map is too long");
    into_.sparse_map.push_back({offset, length});
    return {};
  }

  uint32_t max_path_, max_xattrs_;
  PaxOverrides& into_;
};

}  // namespace

std::optional<PaxOverrides::Time> parse_pax_time(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  const size_t dot = text.find('.');
  const auto whole = parse_decimal(text.substr(0, dot));
  if (!whole) return std::nullopt;
  uint64_t fraction = 0;
  bool more = false;
  if (dot != std::string_view::npos) {
    const std::string_view digits = text.substr(dot + 1);
    if (digits.size() > 64 || !std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      return std::nullopt;
    }
    for (size_t i = 0; i < 9; ++i)
      fraction = fraction * 10 + (i < digits.size() ? static_cast<uint64_t>(digits[i] - '0') : 0);
    more = digits.size() > 9 && digits.substr(9).find_first_not_of('0') != std::string_view::npos;
  }
  PaxOverrides::Time time{static_cast<int64_t>(*whole), static_cast<uint32_t>(fraction)};
  if (!negative) return time;
  if (more) ++time.nanoseconds;  // down means away from zero here
  time.seconds = -time.seconds;
  if (time.nanoseconds > 0) {
    --time.seconds;
    time.nanoseconds = 1'000'000'000 - time.nanoseconds;
  }
  return time;
}

Result<void> parse_pax_records(std::string_view payload, uint32_t max_path, uint32_t max_xattrs, PaxOverrides& into) {
  RecordParser parser(max_path, max_xattrs, into);
  const auto malformed = [] { return errorf(ErrorKind::kCorrupt, "tar: a PAX header is malformed"); };
  while (!payload.empty()) {
    // Some writers fill the rest with NULs.
    if (payload.front() == '\0') {
      if (payload.find_first_not_of('\0') == std::string_view::npos) break;
      return malformed();
    }
    const size_t blank = payload.substr(0, 21).find(' ');
    if (blank == std::string_view::npos) return malformed();
    const auto length = parse_decimal(payload.substr(0, blank));
    if (!length || *length < blank + 4 || *length > payload.size()) return malformed();
    std::string_view record = payload.substr(blank + 1, *length - blank - 1);
    payload.remove_prefix(*length);
    if (record.back() != '\n') return malformed();
    record.remove_suffix(1);
    const size_t equals = record.find('=');
    if (equals == 0 || equals == std::string_view::npos) return malformed();
    TRY(parser.apply(record.substr(0, equals), record.substr(equals + 1)));
  }
  if (into.sparse_map_offset) return malformed();
  return {};
}

}  // namespace hull::tar
