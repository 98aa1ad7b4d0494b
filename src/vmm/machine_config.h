#pragma once
// What a virtual machine consists of: the one description that both hypervisor back ends (hull-vmm on KVM, QEMU) are
// started from, and the JSON document that `hull-vmm --config` reads.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace hull::vmm {

/// Bytes and operations that a device may move a second; 0 means no limit.
struct RateLimit {
  uint64_t bytes_per_second = 0;
  uint64_t operations_per_second = 0;
};

/// A block device. Its extents follow one another: a disk of several layer blobs is a header with a partition table
/// (vm/layer_disk.h) and then the blobs. Every extent but the last is a multiple of 4,096 bytes.
struct DiskConfig {
  std::vector<std::string> extents;  ///< regular files (or "/proc/self/fd/N")
  bool read_only = true;
  std::string serial;  ///< at most 20 bytes
  RateLimit limit;
};

struct NetConfig {
  int tap_fd = -1;  ///< inherited descriptor of an open tap (IFF_TAP|IFF_NO_PI|IFF_VNET_HDR)
  std::string mac;  ///< "02:42:ac:11:00:02"
  uint16_t queue_pairs = 1;
  RateLimit limit;
  std::vector<int> further_tap_fds;  ///< one for each queue pair behind the first: the same tap, IFF_MULTI_QUEUE
};

/// virtio-fs through a vhost-user daemon.
struct FsConfig {
  std::string tag;
  std::string socket;  ///< of virtiofsd, already listening
};

struct MachineConfig {
  uint64_t memory_bytes = 512ull << 20;
  uint32_t vcpus = 1;
  bool huge_pages = false;
  std::string kernel;  ///< vmlinux with a PVH note, or bzImage
  std::string initramfs;
  std::string command_line;  ///< the user's part; the back end adds what its machine needs
  std::vector<DiskConfig> disks;
  std::vector<NetConfig> nets;
  std::vector<FsConfig> filesystems;
  /// Read-only files as persistent memory (/dev/pmem0 and so on), read without copies; machines share their pages.
  std::vector<std::string> pmem;
  /// Unix socket of virtio-vsock on the host: connect and say "CONNECT <port>\n"; the guest's own connections to port
  /// P arrive at "<path>_<P>". Empty: no vsock.
  std::string vsock_socket;
  uint64_t vsock_cid = 3;
  bool balloon = true;  ///< with free-page reporting and deflate-on-oom
  bool rng = true;
  std::string console_log;      ///< file that gets what the serial console says; "-": standard output; "": dropped
  bool virtio_console = false;  ///< /dev/hvc0: hull-vmm's standard input and output
  std::string api_socket;       ///< control API of hull-vmm; "": none
  std::string gdb;              ///< "unix:PATH" or "tcp:127.0.0.1:PORT" of the GDB stub; "": none
};

/// Checks and parses; an unknown member is an error that names it.
Result<MachineConfig> parse_machine_config(std::string_view json);
std::string to_json(const MachineConfig& config);
/// One disk or card for a running machine: the same members, but what the descriptors that come along stand for.
Result<DiskConfig> parse_disk_config(std::string_view json);
Result<NetConfig> parse_net_config(std::string_view json);

}  // namespace hull::vmm
