#pragma once
// An archive as a tree of files, below one folder of a root.

#include <sys/types.h>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"
#include "sys/root.h"
#include "tar/tar_reader.h"

namespace hull::tar {

struct UnpackOptions {
  /// Links that lead to an entry's folder are followed inside the root (a workload's own files, as it would see them).
  /// Otherwise they are refused: no link that the archive made, or that was there, leads anywhere.
  bool follow_links = true;
  /// Owners as the archive says; otherwise the caller's, and without set-id bits.
  bool keep_owner = true;
  /// Everything belongs to these.
  std::optional<std::pair<uid_t, gid_t>> owner;
  /// A folder is not replaced by something else, nor something else by a folder: kConflict.
  bool no_overwrite_dir_non_dir = false;
  /// Device nodes are made; otherwise kUnsupported.
  bool devices = true;
  /// Entries below the first name get the second: what Docker calls rebasing.
  std::string rebase_from, rebase_to;
};

/// Feed it to a TarReader. Existing files are replaced, never written through; existing folders are kept and get the
/// entry's mode and owner. A path with ".." is kInvalid.
class Unpacker final : public TarHandler {
 public:
  /// `base`: a folder inside the root. The root must outlive this.
  Unpacker(const sys::Root& root, std::string base, UnpackOptions options)
      : root_(root), base_(std::move(base)), options_(std::move(options)) {}

  Result<void> on_raw(std::span<const std::byte>) override { return {}; }
  Result<void> on_entry(TarEntry& entry) override;
  Result<void> on_data(std::span<const std::byte> bytes) override;
  Result<void> on_entry_end() override;
  /// Gives the folders their times. After the last entry.
  void finish();

 private:
  struct Place {
    UniqueFd parent;
    std::string name;
  };
  struct FolderTime {
    std::string path;
    timespec time;
  };
  Result<std::string> cleaned(const std::string& path) const;
  Result<UniqueFd> open_folder(const std::string& path) const;
  Result<UniqueFd> folder_at(const std::string& path) const;
  Result<Place> place_of(const std::string& path) const;
  Result<bool> make_way(const Place& place, const TarEntry& entry) const;
  Result<void> make(const Place& place, const TarEntry& entry);
  Result<void> make_hard_link(const Place& place, const TarEntry& entry) const;
  std::pair<uid_t, gid_t> owner_of(const TarEntry& entry) const;
  mode_t mode_of(const TarEntry& entry) const;
  Result<void> attributes(int fd, const TarEntry& entry) const;

  const sys::Root& root_;
  std::string base_;
  UnpackOptions options_;
  std::vector<FolderTime> folders_;
  UniqueFd file_;
  TarEntry entry_;
  uint64_t position_ = 0;  // in the stored content
  size_t extent_ = 0;
  uint64_t extent_done_ = 0;
};

/// Fills a buffer with at least one byte; 0 at the end.
using ByteSource = std::function<Result<size_t>(char* buffer, size_t size)>;
/// From a descriptor that stays the caller's.
ByteSource source_of(int fd);
/// Reads a whole archive. A compressed one is kUnsupported, with what to do in the message.
Result<void> unpack(const ByteSource& source, Unpacker& unpacker);

}  // namespace hull::tar
