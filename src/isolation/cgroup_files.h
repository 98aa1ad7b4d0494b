#pragma once
// Reading and writing control group files through the descriptor of their folder. For this room's cgroup_*.cc only.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "isolation/cgroup.h"

namespace hull::isolation::cgroup_files {

/// One write(2). ENOENT becomes kUnsupported: the kernel has no such file. `member` is what of config.json asked for
/// it.
Result<void> write(const Cgroup::Folder& folder, const std::string& file, std::string_view value,
                   std::string_view member);
/// The same where the caller acts on the errno: 0, or the errno of open or write.
int try_write(const Cgroup::Folder& folder, const std::string& file, std::string_view value);

Result<std::string> read(const Cgroup::Folder& folder, const std::string& file);
/// Nothing when the file doesn't exist or can't be read for lack of support (ENOENT, EOPNOTSUPP, ENODEV).
std::optional<std::string> read_optional(const Cgroup::Folder& folder, const std::string& file);
/// A single number; "max" is UINT64_MAX. Nothing when the file is absent or holds no number.
std::optional<uint64_t> read_number(const Cgroup::Folder& folder, const std::string& file);

bool has_file(const Cgroup::Folder& folder, const std::string& file);

/// Text without white space at its ends.
std::string_view trimmed(std::string_view text);
/// The text's parts between any of `separators`, empty ones left out. Views into `text`.
std::vector<std::string_view> split(std::string_view text, std::string_view separators);
/// "key value" lines; what has no number is left out.
std::vector<std::pair<std::string_view, uint64_t>> key_values(std::string_view text);
std::optional<uint64_t> to_number(std::string_view text);

/// Names of the sub folders of an open folder.
std::vector<std::string> sub_folders(int dir_fd);

}  // namespace hull::isolation::cgroup_files
