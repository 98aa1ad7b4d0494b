#pragma once
// What a container leaves on disk while it exists: <root>/<id>/record, beside it `gate` (a socket, until started).
//
// The record is one file, since every file costs: a first line of fixed size with pid and start time, which is filled
// in when the process exists; a second line of JSON, written before anything else of the container is made, so that
// whatever a killed runtime leaves behind can be found; then the compiled seccomp filter for later processes.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "isolation/seccomp.h"
#include "oci/runtime_spec.h"
#include "sys/root.h"

namespace hull::runtime {

inline constexpr const char* kRecordFile = "record";
inline constexpr const char* kGateFile = "gate";

/// What a record has beside when the container is a virtual machine. pid is its supervisor's.
struct VmRecord {
  uint64_t memory_bytes = 0;  ///< of the machine
  uint32_t vcpus = 0;
  std::string hypervisor;  ///< "kvm" or "qemu"
  bool emulated = false;   ///< no KVM: everything takes longer
};

struct Record {
  std::string id;
  int pid = 0;              ///< 0 while it is being made
  uint64_t start_time = 0;  ///< of pid, clock ticks since boot
  std::string oci_version;
  std::string bundle;
  std::string config = "config.json";
  std::string rootfs;
  std::string created;
  std::string cgroup;  ///< isolation::Cgroup::record()
  bool systemd_cgroup = false;
  bool terminal = false;
  uint64_t namespaces = 0;  ///< CLONE_NEW* that init does not share with the host's caller: what exec joins
  bool rootless = false;
  std::string program;                           ///< process.args[0], for messages of start
  std::string listener_path, listener_metadata;  ///< of linux.seccomp
  std::string rdt_path, rdt_monitor_path;
  bool rdt_made_here = false;
  std::vector<oci::Hook> poststart, poststop, start_container;
  std::map<std::string, std::string> annotations;
  std::optional<VmRecord> vm;  ///< present: a virtual machine
};

/// The folder <root>/<id>, opened. kNotFound "container does not exist" without one; kInvalid for a bad id.
Result<UniqueFd> open_container(const std::string& root, const std::string& id);
/// `filter`, where given, gets the seccomp filter.
Result<Record> read_record(int folder_fd, const std::string& id, isolation::SeccompFilter* filter = nullptr);
/// Makes the record; the descriptor is for set_process. Not durable: it lives in /run.
Result<UniqueFd> create_record(int folder_fd, const Record& record, const isolation::SeccompFilter& filter);
/// Fills in the process.
Result<void> set_process(int record_fd, pid_t pid, uint64_t start_time);
/// Puts another record in its place, atomically.
Result<void> replace_record(int folder_fd, const Record& record, const isolation::SeccompFilter& filter);

enum class Status { kCreating, kCreated, kRunning, kPaused, kStopped };
std::string_view to_string(Status status);
/// From the process and the gate; kPaused is not looked for (that needs the cgroup).
Status status_of(int folder_fd, const Record& record);
/// Whether the cgroup of the record is frozen.
bool is_paused(const Record& record);

/// The JSON state document that hooks and `state` get.
oci::State state_document(const Record& record, std::string_view status);

}  // namespace hull::runtime
