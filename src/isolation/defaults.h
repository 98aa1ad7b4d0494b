#pragma once
// What a container gets when nobody says otherwise: the specification's default devices, and the paths and device
// rules that Docker and Podman use.

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "oci/runtime_spec.h"

namespace hull::isolation {

struct DefaultDevice {
  const char* path;  // absolute, below /dev
  const char* name;  // below /dev
  uint32_t major;
  uint32_t minor;
};
/// config-linux.md, "Default Devices". All character devices, mode 0666, owner root. (/dev/console is bound from the
/// terminal and /dev/ptmx is a link to pts/ptmx.)
inline constexpr std::array<DefaultDevice, 6> kDefaultDevices = {{
    {"/dev/null", "null", 1, 3},
    {"/dev/zero", "zero", 1, 5},
    {"/dev/full", "full", 1, 7},
    {"/dev/random", "random", 1, 8},
    {"/dev/urandom", "urandom", 1, 9},
    {"/dev/tty", "tty", 5, 0},
}};
inline constexpr mode_t kDefaultDeviceMode = 0666;

struct DefaultLink {
  const char* name;  // below /dev
  const char* target;
};
/// The symbolic links that a runtime makes in /dev (runtime-linux.md, "Dev symbolic links", and ptmx).
inline constexpr std::array<DefaultLink, 5> kDefaultLinks = {{
    {"fd", "/proc/self/fd"},
    {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"},
    {"ptmx", "pts/ptmx"},
}};

/// Hidden from the container (Docker's list).
inline constexpr std::array<std::string_view, 12> kDefaultMaskedPaths = {
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
};
/// Read-only in the container (Docker's list).
inline constexpr std::array<std::string_view, 5> kDefaultReadonlyPaths = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

/// What an engine writes into linux.resources.devices: deny all, then what Docker allows (mknod of anything, the
/// default devices, console, ptmx, pts, tun is not among them).
std::vector<oci::DeviceCgroup> default_device_rules();
/// What a runtime allows whatever the document says (config-linux.md: the default devices must be usable): appended
/// after the document's own rules.
std::vector<oci::DeviceCgroup> required_device_rules();

}  // namespace hull::isolation
