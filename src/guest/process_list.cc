#include "guest/process_list.h"

#include <fcntl.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "base/units.h"
#include "runtime/user_lookup.h"
#include "sys/file.h"

namespace hull::guest {
namespace {

constexpr size_t kMaxArguments = 2 << 20;  // of all processes; a frame holds 4 MiB
constexpr size_t kMaxCommandLine = 16 << 10;
constexpr int64_t kNanoseconds = 1'000'000'000;

int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return now.tv_sec * kNanoseconds + now.tv_nsec;
}

template <typename T>
T number(std::string_view text) {
  const bool negative = text.starts_with('-');
  const auto value = parse_int(negative ? text.substr(1) : text, 0, INT64_MAX);
  return static_cast<T>(value.ok() ? (negative ? -*value : *value) : 0);
}

uint32_t effective_uid(const std::string& status) {
  const size_t at = status.find("\nUid:\t");
  if (at == std::string::npos) return 0;
  const size_t first = at + 6, tab = status.find('\t', first);
  if (tab == std::string::npos) return 0;
  const size_t end = status.find_first_of("\t\n", tab + 1);
  return number<uint32_t>(std::string_view(status).substr(tab + 1, end - tab - 1));
}

void add_arguments(std::string_view text, proto::Process& process) {
  while (!text.empty()) {
    const size_t end = text.find('\0');
    process.add_arguments(std::string(text.substr(0, end)));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

}  // namespace

bool parse_stat(std::string_view text, StatLine& out) {
  // The name stands in parentheses and may hold anything, also these.
  const size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) return false;
  out.name = text.substr(open + 1, close - open - 1);
  text.remove_prefix(close + 1);
  constexpr size_t kFields = 22;  // from the third, "state", to "rss"
  std::array<std::string_view, kFields> fields;
  for (std::string_view& field : fields) {
    if (!text.starts_with(' ')) return false;
    text.remove_prefix(1);
    field = text.substr(0, text.find_first_of(" \n"));
    if (field.empty()) return false;
    text.remove_prefix(field.size());
  }
  const auto at = [&](size_t place) { return fields[place - 3]; };  // as proc(5) counts
  out.state = at(3)[0];
  out.parent = number<uint32_t>(at(4));
  out.terminal = number<uint32_t>(at(7));
  out.cpu_ticks = number<uint64_t>(at(14)) + number<uint64_t>(at(15));
  out.nice = number<int>(at(19));
  out.threads = number<uint32_t>(at(20));
  out.start_ticks = number<uint64_t>(at(22));
  out.virtual_bytes = number<uint64_t>(at(23));
  out.rss_pages = number<uint64_t>(at(24));
  return true;
}

std::string terminal_name(uint32_t device) {
  const uint32_t major = (device >> 8) & 0xFFF;
  const uint32_t minor = (device & 0xFF) | ((device >> 12) & 0xFFF00);
  constexpr uint32_t kFirstPts = 136, kLastPts = 143, kTty = 4, kOther = 5, kFirstSerial = 64;
  if (major >= kFirstPts && major <= kLastPts) return fmt::format("pts/{}", (major - kFirstPts) * 256 + minor);
  if (major == kTty) {
    return minor < kFirstSerial ? fmt::format("tty{}", minor) : fmt::format("ttyS{}", minor - kFirstSerial);
  }
  if (major == kOther && minor == 1) return "console";
  return "?";
}

Result<proto::ProcessesResponse> list_processes(const std::vector<int>& pids, std::string_view passwd) {
  proto::ProcessesResponse response;
  const int64_t uptime_ns = clock_ns(CLOCK_BOOTTIME);
  const int64_t boot_ns = clock_ns(CLOCK_REALTIME) - uptime_ns;
  const int64_t ticks = ::sysconf(_SC_CLK_TCK), page = ::sysconf(_SC_PAGESIZE);
  size_t room = kMaxArguments;
  for (const int pid : pids) {
    const std::string folder = fmt::format("/proc/{}/", pid);
    const auto stat = sys::read_file(folder + "stat", 4096);
    const auto status = sys::read_file(folder + "status", 64 << 10);
    StatLine line;
    // It may have ended since the list was made.
    if (!stat.ok() || !status.ok() || !parse_stat(*stat, line)) continue;
    proto::Process& process = *response.add_processes();
    process.set_pid(static_cast<uint32_t>(pid));
    process.set_parent(line.parent);
    process.set_uid(effective_uid(*status));
    process.set_user(runtime::user_name_in(passwd, process.uid()));
    process.set_state(std::string(1, line.state));
    process.set_started_ns(boot_ns + static_cast<int64_t>(line.start_ticks) * (kNanoseconds / ticks));
    process.set_cpu_time_ms(line.cpu_ticks * static_cast<uint64_t>(1000 / ticks));
    process.set_terminal(terminal_name(line.terminal));
    process.set_rss_kib(line.rss_pages * static_cast<uint64_t>(page) / 1024);
    process.set_virtual_kib(line.virtual_bytes / 1024);
    process.set_threads(line.threads);
    process.set_name(std::string(line.name));
    process.set_nice(line.nice);
    const auto fd = sys::open(folder + "cmdline", O_RDONLY);
    if (!fd.ok()) continue;
    std::string text(std::min(kMaxCommandLine, room), '\0');
    const ssize_t got = ::read(fd->get(), text.data(), text.size());
    if (got <= 0) continue;
    room -= static_cast<size_t>(got);
    add_arguments(std::string_view(text).substr(0, static_cast<size_t>(got)), process);
  }
  response.set_uptime_ms(uptime_ns / 1'000'000);
  struct sysinfo info{};
  if (::sysinfo(&info) == 0) response.set_memory_total_kib(info.totalram * info.mem_unit / 1024);
  return response;
}

}  // namespace hull::guest
