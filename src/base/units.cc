#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <ctime>

#include "base/error_format.h"

namespace hull {
namespace {

Result<double> parse_decimal(std::string_view text, size_t* used) {
  size_t end = 0;
  bool digit = false;
  while (end < text.size() && ((text[end] >= '0' && text[end] <= '9') || text[end] == '.')) {
    digit = digit || text[end] != '.';
    ++end;
  }
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + end, value, std::chars_format::fixed);
  if (!digit || error != std::errc() || rest != text.data() + end) {
    return errorf(ErrorKind::kInvalid, "\"{:.60}\" is not a number", text);
  }
  *used = end;
  return value;
}

std::string format_scaled(double value, double step, const char* const* names, size_t count) {
  size_t i = 0;
  while (value >= step && i + 1 < count) {
    value /= step;
    ++i;
  }
  return fmt::format("{:.4g}{}", value, names[i]);
}

}  // namespace

Result<int64_t> parse_size(std::string_view text) {
  size_t used = 0;
  auto number = parse_decimal(text, &used);
  std::string unit(text.substr(number.ok() ? used : 0));
  for (char& c : unit) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (unit.starts_with(' ')) unit.erase(0, 1);
  static constexpr std::string_view kUnits = "bkmgtp";
  double factor = 1;
  bool good = number.ok();
  if (good && !unit.empty()) {
    const size_t at = kUnits.find(unit[0]);
    const std::string_view tail = std::string_view(unit).substr(1);
    good = at != std::string_view::npos && (tail.empty() || (at > 0 && (tail == "b" || tail == "ib")));
    if (good) factor = std::pow(1024.0, static_cast<double>(at));
  }
  if (!good || *number * factor >= 9.2e18) {
    return errorf(ErrorKind::kInvalid, "size \"{:.60}\": expected a number with b, k, m, g or t, such as 512m", text);
  }
  return static_cast<int64_t>(*number * factor);
}

std::string format_size(uint64_t bytes) {
  static constexpr std::array kNames = {"B", "kB", "MB", "GB", "TB", "PB"};
  return format_scaled(static_cast<double>(bytes), 1000, kNames.data(), kNames.size());
}

std::string format_size_binary(uint64_t bytes) {
  static constexpr std::array kNames = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  return format_scaled(static_cast<double>(bytes), 1024, kNames.data(), kNames.size());
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  const auto bad = [&] {
    return errorf(ErrorKind::kInvalid, "duration \"{:.60}\": expected forms such as 300ms, 10s or 1h30m", text);
  };
  if (text == "0") return std::chrono::nanoseconds(0);
  std::string_view rest = text;
  const bool negative = rest.starts_with('-');
  if (negative) rest.remove_prefix(1);
  if (rest.empty()) return bad();
  double total = 0;
  while (!rest.empty()) {
    size_t used = 0;
    auto number = parse_decimal(rest, &used);
    if (!number.ok()) return bad();
    rest.remove_prefix(used);
    struct Unit {
      std::string_view name;
      double ns;
    };
    static constexpr std::array kUnits = {Unit{"ns", 1},  Unit{"us", 1e3}, Unit{"µs", 1e3},  Unit{"ms", 1e6},
                                          Unit{"s", 1e9}, Unit{"m", 60e9}, Unit{"h", 3600e9}};
    const Unit* found = nullptr;
    for (const Unit& unit : kUnits) {
      if (rest.starts_with(unit.name)) {
        found = &unit;
        break;
      }
    }
    if (found == nullptr) return bad();
    rest.remove_prefix(found->name.size());
    total += *number * found->ns;
  }
  if (total > 9.2e18) return bad();
  return std::chrono::nanoseconds(static_cast<int64_t>(negative ? -total : total));
}

std::string format_age(std::chrono::seconds age) {
  const int64_t s = age.count();
  if (s < 1) return "Less than a second";
  if (s == 1) return "1 second";
  if (s < 60) return fmt::format("{} seconds", s);
  const int64_t minutes = s / 60;
  if (minutes == 1) return "About a minute";
  if (minutes < 60) return fmt::format("{} minutes", minutes);
  const int64_t hours = (s + 1800) / 3600;
  if (hours == 1) return "About an hour";
  if (hours < 48) return fmt::format("{} hours", hours);
  if (hours < 24 * 7 * 2) return fmt::format("{} days", hours / 24);
  if (hours < 24 * 30 * 2) return fmt::format("{} weeks", hours / 24 / 7);
  if (hours < 24 * 365 * 2) return fmt::format("{} months", hours / 24 / 30);
  return fmt::format("{} years", s / (3600 * 24 * 365));
}

Result<int64_t> parse_int(std::string_view text, int64_t lowest, int64_t highest) {
  int64_t value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size() || text.empty() || value < lowest || value > highest) {
    return errorf(ErrorKind::kInvalid, "\"{:.60}\" is not a whole number from {} to {}", text, lowest, highest);
  }
  return value;
}

std::string format_rfc3339(std::chrono::system_clock::time_point when) {
  const int64_t ns = std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
  int64_t seconds = ns / 1'000'000'000;
  int64_t part = ns % 1'000'000'000;
  if (part < 0) {
    part += 1'000'000'000;
    --seconds;
  }
  // Not gmtime_r: glibc's reads /etc/localtime first, and this is on the way of every container's start.
  const std::chrono::sys_seconds whole{std::chrono::seconds(seconds)};
  const auto day = std::chrono::floor<std::chrono::days>(whole);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(whole - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), time.hours().count(),
                     time.minutes().count(), time.seconds().count(), part);
}

Result<std::chrono::system_clock::time_point> parse_rfc3339(std::string_view text) {
  const auto bad = [&] {
    return errorf(ErrorKind::kInvalid, "time \"{:.60}\": expected RFC 3339, such as 2026-11-23T14:00:00Z", text);
  };
  const auto digits = [&](size_t at, size_t count) -> int {
    int value = 0;
    for (size_t i = at; i < at + count; ++i) {
      if (i >= text.size() || text[i] < '0' || text[i] > '9') return -1;
      value = value * 10 + (text[i] - '0');
    }
    return value;
  };
  if (text.size() < 20 || text[4] != '-' || text[7] != '-' || (text[10] != 'T' && text[10] != 't' && text[10] != ' ') ||
      text[13] != ':' || text[16] != ':') {
    return bad();
  }
  tm parts{};
  parts.tm_year = digits(0, 4) - 1900;
  parts.tm_mon = digits(5, 2) - 1;
  parts.tm_mday = digits(8, 2);
  parts.tm_hour = digits(11, 2);
  parts.tm_min = digits(14, 2);
  parts.tm_sec = digits(17, 2);
  if (parts.tm_year < -1900 || parts.tm_mon < 0 || parts.tm_mon > 11 || parts.tm_mday < 1 || parts.tm_mday > 31 ||
      parts.tm_hour < 0 || parts.tm_hour > 23 || parts.tm_min < 0 || parts.tm_min > 59 || parts.tm_sec < 0 ||
      parts.tm_sec > 60) {
    return bad();
  }
  size_t at = 19;
  int64_t nanos = 0;
  if (text[at] == '.') {
    int64_t scale = 100'000'000;
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
      nanos += scale * (text[at] - '0');
      scale /= 10;
    }
  }
  int64_t offset = 0;
  if (at < text.size() && (text[at] == 'Z' || text[at] == 'z')) {
    ++at;
  } else if (at + 6 == text.size() && (text[at] == '+' || text[at] == '-') && text[at + 3] == ':') {
    const int hours = digits(at + 1, 2);
    const int minutes = digits(at + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return bad();
    offset = (hours * 3600 + minutes * 60) * (text[at] == '-' ? -1 : 1);
    at += 6;
  }
  if (at != text.size()) return bad();
  const int64_t seconds = static_cast<int64_t>(::timegm(&parts)) - offset;
  if (seconds > 9'200'000'000 || seconds < -9'200'000'000) return bad();
  return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(
      std::chrono::nanoseconds(seconds * 1'000'000'000 + nanos)));
}

}  // namespace hull
