#include "vmm/cmos.h"

#include <chrono>
#include <cstring>
#include <ctime>

namespace hull::vmm {

namespace {
constexpr uint8_t kStatusB24Hours = 0x02;
constexpr uint8_t kStatusDValid = 0x80;

uint8_t bcd(int value) { return static_cast<uint8_t>(value / 10 % 10 << 4 | value % 10); }
}  // namespace

uint8_t CmosClock::value(uint8_t index, int64_t seconds) {
  // Not gmtime: it opens the time zone's file, which no thread of a guest may.
  const std::chrono::sys_seconds when{std::chrono::seconds(seconds)};
  const auto day = std::chrono::floor<std::chrono::days>(when);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(when - day);
  const auto number = [](unsigned value) { return bcd(static_cast<int>(value)); };
  switch (index) {
    case 0x00:
      return bcd(static_cast<int>(time.seconds().count()));
    case 0x02:
      return bcd(static_cast<int>(time.minutes().count()));
    case 0x04:
      return bcd(static_cast<int>(time.hours().count()));
    case 0x06:
      return number(std::chrono::weekday(day).c_encoding() + 1);
    case 0x07:
      return number(static_cast<unsigned>(date.day()));
    case 0x08:
      return number(static_cast<unsigned>(date.month()));
    case 0x09:
      return bcd(static_cast<int>(date.year()) % 100);
    case 0x0b:
      return kStatusB24Hours;
    case 0x0d:
      return kStatusDValid;
    case 0x32:
      return bcd(static_cast<int>(date.year()) / 100);
    default:
      return 0;
  }
}

void CmosClock::read(uint64_t offset, std::span<std::byte> out) {
  std::memset(out.data(), 0, out.size());
  if (offset == 1) out[0] = static_cast<std::byte>(value(index_.load(std::memory_order_relaxed), ::time(nullptr)));
}

void CmosClock::write(uint64_t offset, std::span<const std::byte> in) {
  if (offset == 0) index_.store(std::to_integer<uint8_t>(in[0]) & 0x7f, std::memory_order_relaxed);
}

}  // namespace hull::vmm
