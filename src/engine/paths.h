#pragma once
// Where the engine keeps what. All folders are 0700.

#include <string>
#include <string_view>

namespace hull::engine {

struct Paths {
  std::string data;  // survives a boot
  std::string run;   // of this boot

  std::string index() const { return data + "/engine.db"; }
  std::string events() const { return data + "/events"; }
  std::string workloads() const { return data + "/workloads"; }
  std::string runs() const { return run + "/workloads"; }
  /// One file for each change that is under way; see transition.h.
  std::string changes() const { return run + "/changes"; }
  /// What root.path names in every bundle; the root itself is a mount of the specification.
  std::string empty_root() const { return run + "/empty"; }
  std::string volumes() const { return data + "/volumes"; }
  std::string runtime_root() const { return run + "/runtime"; }
  /// Short: sockets of machines are below.
  std::string vm_runtime_root() const { return run + "/vm"; }
  /// Templates of machines' writable disks.
  std::string scratch_templates() const { return data + "/vm/scratch"; }
  std::string scratch_disk(std::string_view id) const { return workload(id) + "/scratch.ext4"; }
  std::string console_log(std::string_view id) const { return workload(id) + "/console.log"; }
  std::string oom_file(std::string_view id) const { return run_of(id) + "/oom"; }

  /// config.json of the bundle, upper and work of the overlay, host files, log, exit record.
  std::string workload(std::string_view id) const { return workloads() + "/" + std::string(id); }
  /// Sockets, pid, state and exit of the current run; the folder is there while a run is, or was not cleaned up.
  std::string run_of(std::string_view id) const { return runs() + "/" + std::string(id); }
  /// A run folder on its way out: it is taken out of sight at once, then emptied.
  std::string ended(std::string_view id) const { return run + "/ended-" + std::string(id); }
  std::string change(std::string_view id) const { return changes() + "/" + std::string(id); }
};

}  // namespace hull::engine
