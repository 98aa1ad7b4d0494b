#include "vmm/machine_config.h"

#include <sys/un.h>

#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"

namespace hull::vmm {

namespace {
constexpr size_t kLongestDocument = 1 << 20;
constexpr uint64_t kPage = 4096;
constexpr uint64_t kLeastMemory = 32ull << 20;
constexpr uint64_t kMostMemory = 4ull << 40;
constexpr uint32_t kMostVcpus = 64;
constexpr uint16_t kMostQueuePairs = 16;
constexpr size_t kLongestSerial = 20;         // virtio 1.2, 5.2.6, VIRTIO_BLK_T_GET_ID
constexpr size_t kLongestTag = 36;            // virtio 1.2, 5.11.4
constexpr size_t kLongestCommandLine = 2047;  // COMMAND_LINE_SIZE of Linux on x86, with its NUL
constexpr uint64_t kLeastGuestCid = 3;        // 0 to 2 are reserved, VMADDR_CID_HOST is 2
constexpr uint64_t kMostGuestCid = 0xfffffffe;
/// What fits behind the socket's own path: "_" and a port.
constexpr size_t kLongestSocket = sizeof(sockaddr_un::sun_path) - 1 - 11;

/// A reader whose objects refuse members that they do not know.
class StrictReader {
 public:
  explicit StrictReader(std::string_view text) : json_(text) {}

  template <typename F>
  bool object(F&& member) {
    json_.object([&](std::string_view key) {
      if (!member(key)) json_.fail("is not a member that a machine has");
      return true;
    });
    return true;
  }
  template <typename T, typename F>
  bool list(std::vector<T>& out, F&& element) {
    json_.array([&] { element(out.emplace_back()); });
    return true;
  }
  template <typename T>
  bool value(T& out) {
    return json_.value(out);
  }
  Result<void> finish() { return json_.finish(); }

 private:
  JsonReader json_;
};

bool read_limit(StrictReader& json, RateLimit& limit) {
  return json.object([&](std::string_view key) {
    if (key == "bytes_per_second") return json.value(limit.bytes_per_second);
    if (key == "operations_per_second") return json.value(limit.operations_per_second);
    return false;
  });
}

void read_disk(StrictReader& json, DiskConfig& disk) {
  json.object([&](std::string_view key) {
    if (key == "extents") return json.value(disk.extents);
    if (key == "read_only") return json.value(disk.read_only);
    if (key == "serial") return json.value(disk.serial);
    if (key == "limit") return read_limit(json, disk.limit);
    return false;
  });
}

void read_net(StrictReader& json, NetConfig& net) {
  json.object([&](std::string_view key) {
    if (key == "tap_fd") return json.value(net.tap_fd);
    if (key == "mac") return json.value(net.mac);
    if (key == "queue_pairs") return json.value(net.queue_pairs);
    if (key == "further_tap_fds") return json.list(net.further_tap_fds, [&](int& fd) { json.value(fd); });
    if (key == "limit") return read_limit(json, net.limit);
    return false;
  });
}

void read_filesystem(StrictReader& json, FsConfig& fs) {
  json.object([&](std::string_view key) {
    if (key == "tag") return json.value(fs.tag);
    if (key == "socket") return json.value(fs.socket);
    return false;
  });
}

bool read_machine_member(StrictReader& json, std::string_view key, MachineConfig& config) {
  if (key == "memory_bytes") return json.value(config.memory_bytes);
  if (key == "vcpus") return json.value(config.vcpus);
  if (key == "huge_pages") return json.value(config.huge_pages);
  if (key == "kernel") return json.value(config.kernel);
  if (key == "initramfs") return json.value(config.initramfs);
  if (key == "command_line") return json.value(config.command_line);
  if (key == "disks") return json.list(config.disks, [&](DiskConfig& disk) { read_disk(json, disk); });
  if (key == "nets") return json.list(config.nets, [&](NetConfig& net) { read_net(json, net); });
  if (key == "filesystems") return json.list(config.filesystems, [&](FsConfig& fs) { read_filesystem(json, fs); });
  if (key == "pmem") return json.value(config.pmem);
  if (key == "vsock_socket") return json.value(config.vsock_socket);
  if (key == "vsock_cid") return json.value(config.vsock_cid);
  if (key == "balloon") return json.value(config.balloon);
  if (key == "rng") return json.value(config.rng);
  if (key == "virtio_console") return json.value(config.virtio_console);
  if (key == "console_log") return json.value(config.console_log);
  if (key == "api_socket") return json.value(config.api_socket);
  if (key == "gdb") return json.value(config.gdb);
  return false;
}

bool is_mac(std::string_view text) {
  if (text.size() != 17) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
    if (i % 3 == 2 ? c != ':' : !hex) return false;
  }
  return (static_cast<unsigned>(text[1] >= 'a'   ? text[1] - 'a' + 10
                                : text[1] >= 'A' ? text[1] - 'A' + 10
                                                 : text[1]) &
          1) == 0;  // no group address
}

Result<void> check_disks(const MachineConfig& config) {
  for (size_t i = 0; i < config.disks.size(); ++i) {
    const DiskConfig& disk = config.disks[i];
    if (disk.extents.empty()) return errorf(ErrorKind::kInvalid, "disks[{}].extents: a disk needs a file", i);
    for (const std::string& extent : disk.extents) {
      if (extent.empty()) return errorf(ErrorKind::kInvalid, "disks[{}].extents: an empty file name", i);
    }
    if (disk.serial.size() > kLongestSerial) {
      return errorf(ErrorKind::kInvalid, "disks[{}].serial: longer than {} bytes", i, kLongestSerial);
    }
  }
  return {};
}

Result<void> check_devices(const MachineConfig& config) {
  TRY(check_disks(config));
  for (size_t i = 0; i < config.nets.size(); ++i) {
    const NetConfig& net = config.nets[i];
    if (net.tap_fd < 0)
      return errorf(ErrorKind::kInvalid, "nets[{}].tap_fd: the descriptor of an open tap is needed", i);
    if (!is_mac(net.mac)) {
      return errorf(ErrorKind::kInvalid, "nets[{}].mac: '{}' is not a station's address such as 02:42:ac:11:00:02", i,
                    net.mac);
    }
    if (net.queue_pairs < 1 || net.queue_pairs > kMostQueuePairs) {
      return errorf(ErrorKind::kInvalid, "nets[{}].queue_pairs: {} is outside 1 to {}", i, net.queue_pairs,
                    kMostQueuePairs);
    }
  }
  for (size_t i = 0; i < config.filesystems.size(); ++i) {
    const FsConfig& fs = config.filesystems[i];
    if (fs.tag.empty() || fs.tag.size() > kLongestTag) {
      return errorf(ErrorKind::kInvalid, "filesystems[{}].tag: has to be 1 to {} bytes long", i, kLongestTag);
    }
    if (fs.socket.empty()) return errorf(ErrorKind::kInvalid, "filesystems[{}].socket: is missing", i);
  }
  for (size_t i = 0; i < config.pmem.size(); ++i) {
    if (config.pmem[i].empty()) return errorf(ErrorKind::kInvalid, "pmem[{}]: an empty file name", i);
  }
  if (config.vsock_cid < kLeastGuestCid || config.vsock_cid > kMostGuestCid) {
    return errorf(ErrorKind::kInvalid, "vsock_cid: {} is outside {} to {}", config.vsock_cid, kLeastGuestCid,
                  kMostGuestCid);
  }
  if (config.vsock_socket.size() > kLongestSocket) {
    return errorf(ErrorKind::kInvalid, "vsock_socket: the path is longer than {} bytes", kLongestSocket);
  }
  return {};
}

Result<void> check(const MachineConfig& config) {
  if (config.memory_bytes < kLeastMemory || config.memory_bytes > kMostMemory) {
    return errorf(ErrorKind::kInvalid, "memory_bytes: {} is outside {} (32 MiB) to {} (4 TiB)", config.memory_bytes,
                  kLeastMemory, kMostMemory);
  }
  if (config.memory_bytes % kPage != 0) {
    return errorf(ErrorKind::kInvalid, "memory_bytes: {} is no multiple of {}", config.memory_bytes, kPage);
  }
  if (config.vcpus < 1 || config.vcpus > kMostVcpus) {
    return errorf(ErrorKind::kInvalid, "vcpus: {} is outside 1 to {}", config.vcpus, kMostVcpus);
  }
  if (config.kernel.empty()) return errorf(ErrorKind::kInvalid, "kernel: the file of a kernel is needed");
  if (config.command_line.size() > kLongestCommandLine) {
    return errorf(ErrorKind::kInvalid, "command_line: longer than {} bytes", kLongestCommandLine);
  }
  return check_devices(config);
}

void print_limit(JsonWriter& json, const RateLimit& limit) {
  if (limit.bytes_per_second == 0 && limit.operations_per_second == 0) return;
  json.object("limit", [&] {
    json.member_opt("bytes_per_second", limit.bytes_per_second);
    json.member_opt("operations_per_second", limit.operations_per_second);
  });
}

void print_devices(JsonWriter& json, const MachineConfig& config) {
  json.array("disks", [&] {
    for (const DiskConfig& disk : config.disks) {
      json.object([&] {
        json.member("extents", disk.extents);
        json.member("read_only", disk.read_only);
        json.member_opt("serial", disk.serial);
        print_limit(json, disk.limit);
      });
    }
  });
  json.array("nets", [&] {
    for (const NetConfig& net : config.nets) {
      json.object([&] {
        json.member("tap_fd", net.tap_fd);
        json.member("mac", net.mac);
        json.member("queue_pairs", net.queue_pairs);
        if (!net.further_tap_fds.empty()) {
          json.array("further_tap_fds", [&] {
            for (const int fd : net.further_tap_fds) json.value(fd);
          });
        }
        print_limit(json, net.limit);
      });
    }
  });
  json.array("filesystems", [&] {
    for (const FsConfig& fs : config.filesystems) {
      json.object([&] {
        json.member("tag", fs.tag);
        json.member("socket", fs.socket);
      });
    }
  });
  json.member("pmem", config.pmem);
}
}  // namespace

Result<MachineConfig> parse_machine_config(std::string_view json) {
  if (json.size() > kLongestDocument) {
    return errorf(ErrorKind::kInvalid, "a machine's description is longer than {} bytes", kLongestDocument);
  }
  MachineConfig config;
  StrictReader reader(json);
  reader.object([&](std::string_view key) { return read_machine_member(reader, key, config); });
  TRY(reader.finish());
  TRY(check(config));
  return config;
}

Result<DiskConfig> parse_disk_config(std::string_view json) {
  DiskConfig disk;
  StrictReader reader(json);
  read_disk(reader, disk);
  TRY(reader.finish());
  if (!disk.extents.empty()) {
    return errorf(ErrorKind::kInvalid, "extents: the machine sees no files: pass them as descriptors");
  }
  if (disk.serial.size() > kLongestSerial) {
    return errorf(ErrorKind::kInvalid, "serial: longer than {} bytes", kLongestSerial);
  }
  return disk;
}

Result<NetConfig> parse_net_config(std::string_view json) {
  NetConfig net;
  StrictReader reader(json);
  read_net(reader, net);
  TRY(reader.finish());
  if (net.tap_fd >= 0 || !net.further_tap_fds.empty()) {
    return errorf(ErrorKind::kInvalid, "tap_fd: taps come along as descriptors");
  }
  if (!is_mac(net.mac)) return errorf(ErrorKind::kInvalid, "mac: '{}' is not a station's address", net.mac);
  return net;
}

std::string to_json(const MachineConfig& config) {
  JsonWriter json;
  json.object([&] {
    json.member("memory_bytes", config.memory_bytes);
    json.member("vcpus", config.vcpus);
    json.member("huge_pages", config.huge_pages);
    json.member("kernel", config.kernel);
    json.member("initramfs", config.initramfs);
    json.member("command_line", config.command_line);
    print_devices(json, config);
    json.member("vsock_socket", config.vsock_socket);
    json.member("vsock_cid", config.vsock_cid);
    json.member("balloon", config.balloon);
    json.member("rng", config.rng);
    json.member("virtio_console", config.virtio_console);
    json.member("console_log", config.console_log);
    json.member("api_socket", config.api_socket);
    json.member("gdb", config.gdb);
  });
  return std::move(json).take();
}

}  // namespace hull::vmm
