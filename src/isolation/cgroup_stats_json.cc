// CgroupStats as the data object that `runc events --stats` prints; containerd and Docker read it.

#include <algorithm>

#include "isolation/cgroup.h"
#include "isolation/process_attributes.h"
#include "oci/json_writer.h"

namespace hull::isolation {

namespace {

void memory_entry(oci::JsonWriter& out, std::string_view name, const CgroupStats::Memory& memory) {
  if (memory.limit == 0 && memory.usage == 0 && memory.max_usage == 0 && memory.failcnt == 0) return;
  out.object(name, [&] {
    out.member("limit", memory.limit);
    out.member_opt("usage", memory.usage);
    out.member_opt("max", memory.max_usage);
    out.member("failcnt", memory.failcnt);
  });
}

void pressure(oci::JsonWriter& out, const std::optional<CgroupStats::Pressure>& psi) {
  if (!psi) return;
  const auto part = [&](std::string_view name, double avg10, double avg60, double avg300, uint64_t total) {
    out.object(name, [&] {
      out.number("avg10", avg10);
      out.number("avg60", avg60);
      out.number("avg300", avg300);
      out.member("total", total);
    });
  };
  out.object("psi", [&] {
    part("some", psi->some_avg10, psi->some_avg60, psi->some_avg300, psi->some_total);
    part("full", psi->full_avg10, psi->full_avg60, psi->full_avg300, psi->full_total);
  });
}

/// "0-2,5" as [0,1,2,5].
void cpu_numbers(oci::JsonWriter& out, std::string_view name, const std::string& list) {
  if (list.empty()) return;
  const Result<CpuMask> mask = parse_cpu_list(list, name);
  if (!mask.ok()) return;
  out.array(name, [&] {
    for (size_t cpu = 0; cpu < CpuMask::kMaxCpus; ++cpu) {
      if (mask->test(cpu)) out.value(cpu);
    }
  });
}

}  // namespace

std::string stats_json(const CgroupStats& stats) {
  oci::JsonWriter out;
  out.object([&] {
    out.object("cpu", [&] {
      out.object("usage", [&] {
        out.member_opt("total", stats.cpu_total_ns);
        out.member_opt("percpu", stats.cpu_percpu_ns);
        out.member("kernel", stats.cpu_kernel_ns);
        out.member("user", stats.cpu_user_ns);
      });
      out.object("throttling", [&] {
        out.member_opt("periods", stats.cpu_periods);
        out.member_opt("throttledPeriods", stats.cpu_throttled_periods);
        out.member_opt("throttledTime", stats.cpu_throttled_ns);
      });
      pressure(out, stats.cpu_pressure);
    });
    out.object("cpuset", [&] {
      cpu_numbers(out, "cpus", stats.cpuset_cpus);
      cpu_numbers(out, "mems", stats.cpuset_mems);
    });
    out.object("memory", [&] {
      out.member_opt("cache", stats.memory_cache);
      memory_entry(out, "usage", stats.memory);
      memory_entry(out, "swap", stats.memory_swap);
      memory_entry(out, "kernel", stats.memory_kernel);
      memory_entry(out, "kernelTCP", stats.memory_kernel_tcp);
      if (!stats.memory_raw.empty()) {
        out.object("raw", [&] {
          for (const auto& [key, value] : stats.memory_raw) out.member(key, value);
        });
      }
      pressure(out, stats.memory_pressure);
    });
    out.object("pids", [&] {
      out.member_opt("current", stats.pids_current);
      out.member_opt("limit", stats.pids_limit);
    });
    out.object("blkio", [&] {
      for (const auto& list : stats.blkio) {
        out.array(list.first, [&] {
          for (const CgroupStats::BlkioEntry& entry : list.second) {
            out.object([&] {
              out.member_opt("major", entry.major);
              out.member_opt("minor", entry.minor);
              out.member_opt("op", entry.op);
              out.member_opt("value", entry.value);
            });
          }
        });
      }
      pressure(out, stats.io_pressure);
    });
    out.object("hugetlb", [&] {
      for (const auto& page : stats.hugetlb) {
        const CgroupStats::Hugetlb& entry = page.second;
        out.object(page.first, [&] {
          out.member_opt("usage", entry.usage);
          out.member_opt("max", entry.max);
          out.member("failcnt", entry.failcnt);
        });
      }
    });
    if (!stats.rdma_current.empty() || !stats.rdma_limit.empty()) {
      const auto list = [&](std::string_view name, const std::vector<CgroupStats::Rdma>& entries) {
        out.array(name, [&] {
          for (const CgroupStats::Rdma& entry : entries) {
            out.object([&] {
              out.member("device", entry.device);
              out.member("hcaHandles", entry.hca_handles);
              out.member("hcaObjects", entry.hca_objects);
            });
          }
        });
      };
      out.object("rdma", [&] {
        list("current", stats.rdma_current);
        list("limit", stats.rdma_limit);
      });
    }
    // Of intelRdt nothing is measured here; the object is there for readers that expect it.
    out.object("intel_rdt", [] {});
    out.member("network_interfaces", std::vector<std::string>());
  });
  return std::move(out).take();
}

}  // namespace hull::isolation
