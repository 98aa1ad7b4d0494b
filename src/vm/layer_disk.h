#pragma once
// Every layer of an image as one read-only disk: extent 0 is a small generated file with a protective MBR and a GPT
// (UEFI 2.10, chapter 5), whose partition i is layer blob i; the blobs follow as they are. The guest sees /dev/vda1
// (the first blob given), /dev/vda2, ... One device for any number of layers: machines have few device slots, and each
// further device costs time at boot.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "vmm/machine_config.h"

namespace hull::vm {

inline constexpr size_t kMostLayers = 128;
inline constexpr uint64_t kLayerHeaderBytes = 20480;  ///< 34 sectors of table, up to a multiple of 4,096

/// Extent 0 for blobs of these sizes in bytes, each a multiple of 4,096 and not 0; 1 to kMostLayers of them. The backup
/// table at the end of the disk is left out: nobody writes to this disk. The same sizes give the same bytes.
Result<std::string> layer_disk_header(std::span<const uint64_t> blob_bytes);

/// The disk of these blobs (absolute paths of EROFS files, in partition order): checks each (kCorrupt names the one
/// that is no layer blob) and writes extent 0 to `header_path`. serial is "layers".
Result<vmm::DiskConfig> make_layer_disk(const std::vector<std::string>& blobs, const std::string& header_path);

/// One extent of a VMDK descriptor.
struct FlatExtent {
  std::string path;    ///< absolute; no quotes or line breaks, at most 511 bytes
  uint64_t bytes = 0;  ///< a multiple of 512
};
/// The descriptor of a disk that is these files one after the other (VMDK 5.0, "Extent description", createType
/// twoGbMaxExtentFlat), which QEMU opens as one disk.
Result<std::string> vmdk_descriptor(std::span<const FlatExtent> extents);

}  // namespace hull::vm
