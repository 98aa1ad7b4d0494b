#pragma once
// Writes an uncompressed EROFS image from a stream: block 0 is left free, the content of files follows as it arrives,
// then folders, inodes, short tails of files and symlinks, and last the superblock, so that a file that is cut off
// anywhere is no file system.

#include <sys/uio.h>

#include <vector>

#include "base/unique_fd.h"
#include "store/layer/layer_sink.h"
#include "store/layer/tail_store.h"

namespace hull::store {

class ErofsWriter final : public LayerSink {
 public:
  /// Takes an empty file, open for reading and writing. `userxattr`: opaque folders are marked for overlayfs' option
  /// of that name too.
  ErofsWriter(UniqueFd file, bool userxattr) : file_(std::move(file)), userxattr_(userxattr), tails_(file_.get()) {}

  Result<void> begin_file(LayerTree& tree, InodeId inode, const TarEntry& entry) override;
  Result<void> write(std::span<const std::byte> data) override;
  Result<void> end_file() override;
  Result<void> flush() override;
  Result<void> read_back(const LayerTree& tree, InodeId inode, uint64_t offset, std::span<std::byte> into) override;
  Result<uint64_t> finish(const LayerTree& tree, const Digest& diff_id) override;

  /// Where the content of a file is; TreeInode::data is an index for places_ (plus one; 0 is no content).
  struct Place {
    uint32_t first_block = 0;
    uint32_t tail_length = 0;  ///< bytes at the file's end that stand with the inode
    uint64_t tail_at = 0;      ///< where they are in tails_
    uint32_t chunk_bits = 0;   ///< not 0: the file is mapped in chunks of this size
    uint64_t chunks_at = 0;    ///< where its map is in chunks_
  };

 private:
  friend class ErofsMetadata;
  Result<uint32_t> take_blocks(uint64_t bytes);
  Result<void> begin_sparse(Place& place, const TarEntry& entry);
  Result<void> put(std::span<const std::byte> data);
  Result<void> put_around_zeros(std::span<const std::byte> data);
  Result<void> seek(uint64_t offset);

  UniqueFd file_;
  bool userxattr_;
  std::vector<Place> places_;
  TailStore tails_;
  std::vector<uint32_t> chunks_;
  uint64_t next_block_ = 1;

  // The file that is being written.
  uint64_t blocks_left_ = 0;     // bytes that still go to blocks, before the tail
  size_t pad_ = 0;               // zeros after them
  std::vector<Extent> targets_;  // of a sparse file: where its stored bytes go
  size_t target_ = 0;

  // Writes that wait for flush(): they follow one another in the image, from pending_at_ on.
  std::vector<iovec> pending_;
  uint64_t pending_at_ = 0, pending_bytes_ = 0;
};

/// The extended attributes of an inode as they stand behind it (header and entries), empty when it has none.
std::vector<std::byte> erofs_xattr_body(const LayerTree& tree, const TreeInode& inode, bool userxattr);

/// Whether `size` bytes may stand behind an inode with that much of attributes: inline data must not cross a block, and
/// larger pieces would only tear the inodes apart.
bool erofs_fits_inline(size_t xattr_size, uint64_t size);

/// Writes everything after the content: folders, inodes, superblock. Sizes first, then bytes.
class ErofsMetadata {
 public:
  ErofsMetadata(const ErofsWriter& writer, const LayerTree& tree) : writer_(writer), tree_(tree) {}
  /// Returns the image's size in bytes.
  Result<uint64_t> write(const Digest& diff_id);

 private:
  struct FolderPlan {
    NodeId node = 0;
    uint32_t first_child = 0, child_count = 0;  // in children_
    uint32_t first_block = 0, block_count = 0;  // whole blocks
    uint32_t tail = 0;                          // bytes in the last, partial block
    bool tail_inline = false;
  };
  struct Named {
    std::string_view name;
    InodeId inode;
  };

  Result<void> plan_folders();
  void pack_folder(FolderPlan& folder, size_t xattr_size);
  Result<void> plan_inodes();
  Result<void> place(InodeId id);
  const ErofsWriter::Place* content_of(const TreeInode& inode) const;
  void folder_entries(const FolderPlan& folder, std::vector<Named>& into) const;
  Result<void> emit_folders();
  Result<void> emit_inodes();
  Result<void> emit_inode(InodeId id);
  Result<void> emit_super(const Digest& diff_id);
  void fill_folder_block(std::span<const Named> entries, std::byte* block) const;

  Result<void> append(const void* data, size_t count);
  Result<void> pad_to(uint64_t offset);
  Result<void> drain();
  uint64_t nid(InodeId id) const { return slots_[id]; }

  const ErofsWriter& writer_;
  const LayerTree& tree_;
  std::vector<FolderPlan> folders_;       // breadth first
  std::vector<NodeId> children_;          // of all folders, sorted within each
  std::vector<uint32_t> slots_;           // nid by inode; 0 when it is not reachable
  std::vector<InodeId> order_;            // inodes as they stand in the image
  std::vector<uint32_t> plan_of_;         // by inode: a folder's index for folders_; a symlink's block, when not inline
  uint64_t meta_start_ = 0, cursor_ = 0;  // bytes in the image
  bool chunked_ = false;

  std::vector<std::byte> buffer_;
  uint64_t out_at_ = 0;  // of the buffer's first byte
};

}  // namespace hull::store
