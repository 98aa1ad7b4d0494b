#pragma once
// Writing linux.resources into control group files: one function for each controller and version. For this room's
// cgroup_apply*.cc.

#include <string>
#include <string_view>

#include "base/error.h"
#include "isolation/cgroup.h"

namespace hull::isolation::cgroup_apply {

using Folder = Cgroup::Folder;

Result<void> memory_v1(const Folder& folder, const oci::MemoryResources& memory);
Result<void> memory_v2(const Folder& folder, const oci::MemoryResources& memory);
Result<void> cpu_v1(const Folder& folder, const oci::CpuResources& cpu);
Result<void> cpu_v2(const Folder& folder, const oci::CpuResources& cpu);
/// v1 and v2 have the same file names.
Result<void> cpuset(const Folder& folder, const oci::CpuResources& cpu);
Result<void> block_io_v1(const Folder& folder, const oci::BlockIoResources& io);
Result<void> block_io_v2(const Folder& folder, const oci::BlockIoResources& io);
Result<void> pids(const Folder& folder, int64_t limit);
Result<void> hugepages(const Folder& folder, const std::vector<oci::HugepageLimit>& limits);
Result<void> network_class(const Folder& folder, uint32_t class_id);
Result<void> network_priorities(const Folder& folder, const std::vector<oci::InterfacePriority>& priorities);
Result<void> rdma(const Folder& folder, const std::map<std::string, oci::RdmaLimit>& limits);
Result<void> unified(const Folder& folder, const std::map<std::string, std::string>& values);

/// A number that means "set": many documents write 0 for "not given", and other runtimes read it so.
template <typename T>
bool is_set(const std::optional<T>& value) {
  return value && *value != 0;
}

}  // namespace hull::isolation::cgroup_apply
