#pragma once
// An archive of images (docker-archive or oci-archive, plain or compressed, file or pipe) or an OCI layout folder as
// named members that can be read in any order. Nothing is unpacked.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "store/layer/byte_source.h"
#include "sys/root.h"

namespace hull::store {

class MemberSource {
 public:
  virtual ~MemberSource() = default;
  virtual bool has(std::string_view name) const = 0;
  /// A small document, at most `limit` bytes.
  virtual Result<std::string> read(std::string_view name, size_t limit) const = 0;
  virtual Result<std::unique_ptr<ByteSource>> open(std::string_view name) const = 0;
  virtual Result<uint64_t> size(std::string_view name) const = 0;
};

/// `fd` is read from its offset: a regular plain file is indexed where it is, anything else (pipe, gzip, zstd) goes
/// through an unnamed temporary file in `spool_folder`, at most `limit` bytes. `name` is for messages.
Result<std::unique_ptr<MemberSource>> open_archive(UniqueFd fd, const std::string& name,
                                                   const std::string& spool_folder, uint64_t limit);
/// A folder that holds an OCI layout (or the content of a docker-archive).
Result<std::unique_ptr<MemberSource>> open_layout_folder(const std::string& path);

}  // namespace hull::store
