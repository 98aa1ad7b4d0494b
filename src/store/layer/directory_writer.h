#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/unique_fd.h"
#include "store/layer/layer_sink.h"
#include "sys/root.h"

namespace hull::store {

/// Unpacks a layer into a folder in overlayfs form. While the tar streams, contents become plain numbered files in a
/// folder of their own; at the end the tree is made from the top, each name once, in folders that only this process
/// knows: no path of the archive is ever looked up through something that the archive made.
class DirectoryWriter final : public LayerSink {
 public:
  /// `name`: the new folder to make in parent_fd (which must outlive this); `<name>.content` is used on the way.
  static Result<std::unique_ptr<DirectoryWriter>> create(int parent_fd, const std::string& name, bool userxattr);

  Result<void> begin_file(LayerTree& tree, InodeId inode, const TarEntry& entry) override;
  Result<void> write(std::span<const std::byte> data) override;
  Result<void> end_file() override;
  Result<void> flush() override;
  Result<void> read_back(const LayerTree& tree, InodeId inode, uint64_t offset, std::span<std::byte> into) override;
  Result<uint64_t> finish(const LayerTree& tree, const Digest& diff_id) override;

 private:
  DirectoryWriter(int parent_fd, std::string name, bool userxattr, sys::Root root, UniqueFd content)
      : parent_fd_(parent_fd),
        name_(std::move(name)),
        userxattr_(userxattr),
        root_(std::move(root)),
        content_(std::move(content)) {}

  Result<void> make_node(const LayerTree& tree, int folder_fd, NodeId node);
  Result<void> set_attributes(const LayerTree& tree, int folder_fd, const std::string& name, const TreeInode& inode);
  Result<void> set_xattr(int folder_fd, const std::string& name, const TreeInode& inode, const Xattr& xattr);

  int parent_fd_;
  std::string name_;
  bool userxattr_;
  sys::Root root_;    // the new folder
  UniqueFd content_;  // the folder of numbered files
  uint64_t files_ = 0;
  uint64_t content_bytes_ = 0;

  UniqueFd file_;  // that is being written
  uint64_t offset_ = 0;
  std::vector<Extent> extents_;
  size_t extent_ = 0;

  std::unordered_map<InodeId, NodeId> made_;  // inodes with several names: where the first was made
};

}  // namespace hull::store
