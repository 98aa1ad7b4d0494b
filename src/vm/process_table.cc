#include "vm/process_table.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>

#include "base/error_format.h"

namespace hull::vm {
namespace {

using guest::proto::Process;
using guest::proto::ProcessesResponse;

constexpr size_t kMostProcesses = 65536;
constexpr int64_t kSecondNs = 1'000'000'000;

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 4096)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out;
}

std::string word(std::string_view text) {
  std::string out = printable(text);
  std::replace(out.begin(), out.end(), ' ', '?');
  return out.empty() ? "?" : out;
}

std::string command(const Process& process) {
  std::string out;
  for (const std::string& argument : process.arguments()) {
    if (!out.empty()) out += ' ';
    out += argument;
    if (out.size() > 4096) break;
  }
  return out.empty() ? fmt::format("[{}]", printable(process.name())) : printable(out);
}

std::string clock_text(int64_t started_ns) {
  const auto seconds = static_cast<time_t>(started_ns / kSecondNs);
  const time_t now = ::time(nullptr);
  tm broken{};
  ::localtime_r(&seconds, &broken);
  constexpr int64_t kDay = 86400;
  std::array<char, 16> text{};
  std::strftime(text.data(), text.size(), now - seconds < kDay ? "%H:%M" : "%b%d", &broken);
  return text.data();
}

std::string elapsed(int64_t seconds) {
  seconds = std::max<int64_t>(seconds, 0);
  if (seconds >= 86400) {
    return fmt::format("{}-{:02}:{:02}:{:02}", seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
  }
  if (seconds >= 3600) return fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
  return fmt::format("{:02}:{:02}", seconds / 60, seconds % 60);
}

std::string cpu_time(uint64_t ms) {
  const uint64_t seconds = ms / 1000;
  return fmt::format("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
}

double age_s(const Process& process) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t age_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count() - process.started_ns();
  return std::max(0.001, static_cast<double>(age_ns) / static_cast<double>(kSecondNs));
}

double cpu_percent(const Process& process) {
  return std::min(9999.0, static_cast<double>(process.cpu_time_ms()) / 10.0 / age_s(process));
}

struct Column {
  std::string_view name, title;
  bool right = false;
  std::string (*text)(const Process&, const ProcessesResponse&);
};

const std::array kColumns = {
    Column{"user", "USER", false, [](const Process& p, const ProcessesResponse&) { return word(p.user()); }},
    Column{"uid", "UID", true, [](const Process& p, const ProcessesResponse&) { return fmt::to_string(p.uid()); }},
    Column{"pid", "PID", true, [](const Process& p, const ProcessesResponse&) { return fmt::to_string(p.pid()); }},
    Column{"ppid", "PPID", true, [](const Process& p, const ProcessesResponse&) { return fmt::to_string(p.parent()); }},
    Column{"c", "C", true,
           [](const Process& p, const ProcessesResponse&) { return fmt::format("{:.0f}", cpu_percent(p)); }},
    Column{"pcpu", "%CPU", true,
           [](const Process& p, const ProcessesResponse&) { return fmt::format("{:.1f}", cpu_percent(p)); }},
    Column{"pmem", "%MEM", true,
           [](const Process& p, const ProcessesResponse& all) {
             const auto total = static_cast<double>(std::max<uint64_t>(all.memory_total_kib(), 1));
             return fmt::format("{:.1f}", std::min(100.0, 100.0 * static_cast<double>(p.rss_kib()) / total));
           }},
    Column{"vsz", "VSZ", true,
           [](const Process& p, const ProcessesResponse&) { return fmt::to_string(p.virtual_kib()); }},
    Column{"rss", "RSS", true, [](const Process& p, const ProcessesResponse&) { return fmt::to_string(p.rss_kib()); }},
    Column{"nlwp", "NLWP", true,
           [](const Process& p, const ProcessesResponse&) { return fmt::to_string(p.threads()); }},
    Column{"ni", "NI", true, [](const Process& p, const ProcessesResponse&) { return fmt::to_string(p.nice()); }},
    Column{"tty", "TTY", false, [](const Process& p, const ProcessesResponse&) { return word(p.terminal()); }},
    Column{"stat", "STAT", false, [](const Process& p, const ProcessesResponse&) { return word(p.state()); }},
    Column{"stime", "STIME", false,
           [](const Process& p, const ProcessesResponse&) { return clock_text(p.started_ns()); }},
    Column{"start", "START", false,
           [](const Process& p, const ProcessesResponse&) { return clock_text(p.started_ns()); }},
    Column{"etime", "ELAPSED", true,
           [](const Process& p, const ProcessesResponse&) { return elapsed(static_cast<int64_t>(age_s(p))); }},
    Column{"time", "TIME", true, [](const Process& p, const ProcessesResponse&) { return cpu_time(p.cpu_time_ms()); }},
    Column{"comm", "COMMAND", false, [](const Process& p, const ProcessesResponse&) { return printable(p.name()); }},
    Column{"cmd", "CMD", false, [](const Process& p, const ProcessesResponse&) { return command(p); }},
    Column{"command", "COMMAND", false, [](const Process& p, const ProcessesResponse&) { return command(p); }},
};

const Column* find_column(std::string_view name) {
  constexpr std::array<std::array<std::string_view, 2>, 10> kOther = {{{"args", "command"},
                                                                       {"%cpu", "pcpu"},
                                                                       {"%mem", "pmem"},
                                                                       {"ucmd", "comm"},
                                                                       {"euser", "user"},
                                                                       {"euid", "uid"},
                                                                       {"s", "stat"},
                                                                       {"state", "stat"},
                                                                       {"tt", "tty"},
                                                                       {"nice", "ni"}}};
  for (const auto& [other, meant] : kOther) {
    if (name == other) name = meant;
  }
  for (const Column& column : kColumns) {
    if (column.name == name) return &column;
  }
  return nullptr;
}

std::vector<std::string> split(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    const size_t end = list.find_first_of(", ");
    if (end != 0) out.emplace_back(list.substr(0, end));
    list.remove_prefix(end == std::string_view::npos ? list.size() : end + 1);
  }
  return out;
}

}  // namespace

Result<ProcessColumns> ProcessColumns::parse(const std::vector<std::string>& ps_options) {
  ProcessColumns out;
  const std::vector<std::string> full = {"uid", "pid", "ppid", "c", "stime", "tty", "time", "cmd"};
  const std::vector<std::string> users = {"user", "pid",  "pcpu",  "pmem", "vsz",    "rss",
                                          "tty",  "stat", "start", "time", "command"};
  out.names_ = full;
  bool chosen = false;
  for (size_t i = 0; i < ps_options.size(); ++i) {
    std::string option = ps_options[i];
    if (option == "-o" || option == "-eo" || option == "-Ao" || option == "o") {
      if (++i == ps_options.size()) return errorf(ErrorKind::kInvalid, "ps: -o needs a list of columns");
      option = "-o" + ps_options[i];
    }
    if (option.starts_with("-o") || option.starts_with("--format=")) {
      if (!chosen) out.names_.clear();
      chosen = true;
      for (const std::string& name : split(std::string_view(option).substr(option[1] == 'o' ? 2 : 9))) {
        if (find_column(name) == nullptr) {
          std::string known;
          for (const Column& column : kColumns) known += fmt::format("{}{}", known.empty() ? "" : ", ", column.name);
          return errorf(ErrorKind::kInvalid, "ps: a virtual machine's processes have no column \"{}\": {}", name,
                        known);
        }
        out.names_.push_back(name);
      }
      continue;
    }
    const bool dashed = option.starts_with('-');
    const std::string_view letters = std::string_view(option).substr(dashed ? 1 : 0);
    if (letters.empty() || letters.find_first_not_of(dashed ? "efAw" : "aeuxw") != std::string_view::npos) {
      return errorf(ErrorKind::kInvalid,
                    "ps: option \"{}\" is not known for a virtual machine's processes: -ef, aux, or -o COLUMN,...",
                    option);
    }
    if (!chosen && !dashed && letters.find('u') != std::string_view::npos) out.names_ = users;
  }
  if (out.names_.empty()) return errorf(ErrorKind::kInvalid, "ps: -o needs a list of columns");
  return out;
}

std::string ProcessColumns::draw(const ProcessesResponse& processes) const {
  std::vector<std::vector<std::string>> rows(1);
  std::vector<const Column*> columns;
  for (const std::string& name : names_) {
    columns.push_back(find_column(name));
    rows[0].emplace_back(columns.back()->title);
  }
  for (const Process& process : processes.processes()) {
    if (rows.size() > kMostProcesses) break;
    std::vector<std::string>& row = rows.emplace_back();
    for (const Column* column : columns) row.push_back(column->text(process, processes));
  }
  std::vector<size_t> widths(columns.size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const bool last = i + 1 == row.size();
      if (columns[i]->right) {
        out += fmt::format("{:>{}}", row[i], widths[i]);
      } else {
        out += last ? row[i] : fmt::format("{:<{}}", row[i], widths[i]);
      }
      out += last ? '\n' : ' ';
    }
  }
  return out;
}

}  // namespace hull::vm
