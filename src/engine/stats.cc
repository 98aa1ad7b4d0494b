#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/links.h"
#include "oci/json_reader.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

using oci::JsonReader;

/// Blank-separated words of a line.
std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) break;
    line.remove_prefix(begin);
    const size_t end = std::min(line.find_first_of(" \t"), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return words;
}

uint64_t number_of(std::string_view text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

void read_system(ContainerStats* out) {
  const auto text = sys::read_file("/proc/stat", 4 << 20);
  if (!text.ok()) return;
  std::string_view rest = *text;
  const uint64_t tick_ns = 1'000'000'000ULL / static_cast<uint64_t>(::sysconf(_SC_CLK_TCK));
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (!line.starts_with("cpu")) break;
    if (!line.starts_with("cpu ")) {
      ++out->online_cpus;
      continue;
    }
    const auto words = words_of(line);
    for (size_t i = 1; i < words.size() && i <= 8; ++i) out->system_cpu_ns += number_of(words[i]) * tick_ns;
  }
}

}  // namespace

std::vector<LinkStats> read_links(int pid, std::string_view only) {
  std::vector<LinkStats> links;
  const auto text = sys::read_file(fmt::format("/proc/{}/net/dev", pid), 1 << 20);
  if (!text.ok()) return links;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const auto name = words_of(line.substr(0, colon));
    if (name.size() != 1 || name[0] == "lo" || (!only.empty() && name[0] != only)) continue;
    const auto words = words_of(line.substr(colon + 1));
    if (words.size() < 12) continue;
    const auto direction = [&](size_t at) {
      return LinkStats::Direction{number_of(words[at]), number_of(words[at + 1]), number_of(words[at + 2]),
                                  number_of(words[at + 3])};
    };
    links.push_back({std::string(name[0]), direction(0), direction(8)});
  }
  return links;
}

Result<ContainerStats> EngineImpl::stats(std::string_view ref) {
  TRY_ASSIGN(const WorkloadRow row, find(ref));
  TRY_ASSIGN(const RunState state, settled_state(row));
  ContainerStats out;
  out.id = row.id;
  out.name = row.name;
  out.isolation = row.isolation;
  // Docker's client shows zeros for what does not run.
  if (state.status != Status::kRunning && state.status != Status::kPaused) return out;
  TRY_ASSIGN(const std::string json, driver(row.isolation).stats(row.id));
  std::map<std::string, uint64_t> raw;
  JsonReader r(json);
  const auto object = [&](auto&& member) {
    r.object(member);
    return true;
  };
  r.object([&](std::string_view top) {
    if (top != "data") return false;
    return object([&](std::string_view key) {
      if (key == "cpu") {
        return object([&](std::string_view part) {
          if (part != "usage") return false;
          return object([&](std::string_view name) { return name == "total" && r.value(out.cpu_total_ns); });
        });
      }
      if (key == "memory") {
        return object([&](std::string_view part) {
          if (part == "cache") return r.value(out.memory_cache);
          if (part == "raw") {
            return object([&](std::string_view name) { return r.value(raw[std::string(name)]); });
          }
          if (part != "usage") return false;
          return object([&](std::string_view name) {
            if (name == "usage") return r.value(out.memory_used);
            return name == "limit" && r.value(out.memory_limit);
          });
        });
      }
      if (key == "pids") {
        return object([&](std::string_view name) {
          if (name == "current") return r.value(out.pids);
          return name == "limit" && r.value(out.pids_limit);
        });
      }
      if (key == "blkio") {
        return object([&](std::string_view name) {
          if (name != "ioServiceBytesRecursive") return false;
          r.array([&] {
            std::string op;
            uint64_t value = 0;
            r.object([&](std::string_view part) {
              if (part == "op") return r.value(op);
              return part == "value" && r.value(value);
            });
            if (op == "Read" || op == "read") out.block_read += value;
            if (op == "Write" || op == "write") out.block_write += value;
          });
          return true;
        });
      }
      return false;
    });
  });
  TRY(r.finish().context("statistics of the container"));
  // Page cache that can be dropped is not what the container needs (docker stats subtracts it too).
  for (const char* name : {"total_inactive_file", "inactive_file"}) {
    const auto it = raw.find(name);
    if (it == raw.end()) continue;
    if (it->second < out.memory_used) out.memory_used -= it->second;
    break;
  }
  const uint64_t host = host_memory();
  if (out.memory_limit == 0 || out.memory_limit > host) out.memory_limit = host;
  read_system(&out);
  if (row.network != "host") {
    for (const LinkStats& link : read_links(state.pid, row.isolation == Isolation::kVm ? "eth0" : "")) {
      out.net_rx += link.received.bytes;
      out.net_tx += link.sent.bytes;
    }
  }
  return out;
}

}  // namespace hull::engine
