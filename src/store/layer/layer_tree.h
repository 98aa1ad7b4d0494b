#pragma once
// The file tree of one layer, in memory, without the content of its files. Both back ends build their artifact from
// it, so that both agree on every odd case: what replaces what, links in the middle of paths, whiteouts.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "store/layer/tar_entry.h"

namespace hull::store {

using NodeId = uint32_t;   ///< a name in a folder; 0 is the layer's root
using InodeId = uint32_t;  ///< what a name stands for; 0 is the root folder
inline constexpr uint32_t kNone = 0xffffffffU;

struct TreeInode {
  uint16_t mode = 0;      ///< type and permission bits, as st_mode
  bool opaque = false;    ///< a folder that hides the lower layers' folder of that name
  bool whiteout = false;  ///< a mark that hides the lower layers' entry: becomes a character device 0/0
  uint32_t uid = 0, gid = 0;
  uint32_t nlink = 0;  ///< names; of a folder 2 + its folders
  uint32_t mtime_ns = 0;
  int64_t mtime = 0;
  uint64_t size = 0;  ///< of a file; length of a symlink's target
  uint64_t data = 0;  ///< a back end's reference to a file's content; where a symlink's target is in the pool
  uint32_t rdev_major = 0, rdev_minor = 0;
  uint32_t xattrs = kNone;   ///< index for LayerTree::xattrs()
  uint32_t content = kNone;  ///< running number of the stored content, in the order of the stream
};

/// Names are checked (no "..", no NUL, at most 255 bytes), links on the way are followed inside the tree, as a chroot
/// would. Memory: about 130 bytes for an entry, and its name.
class LayerTree {
 public:
  LayerTree();

  /// Called when the name that was made together with a content goes away (replaced or below a replaced folder), just
  /// before: the last chance to read that content under its name.
  std::function<Result<void>(InodeId)> on_content_lost;

  /// Splits, cleans and checks a name: no empty or "." components. kCorrupt for "..", a component over 255 bytes.
  static Result<std::vector<std::string_view>> components(std::string_view path);

  struct Added {
    NodeId node = 0;
    InodeId inode = kNone;  ///< kNone: nothing came of the entry (a redundant whiteout, aufs' own marks)
  };
  /// Puts an entry in, with whatever it replaces. Missing parents become folders of mode 0755, owner root.
  /// kCorrupt: "..", a parent that is no folder, a hard link to nothing or to a folder, a root that is no folder.
  Result<Added> add(const TarEntry& entry);

  TreeInode& inode(InodeId id) { return inodes_[id]; }
  const TreeInode& inode(InodeId id) const { return inodes_[id]; }
  size_t inode_count() const { return inodes_.size(); }
  size_t node_count() const { return nodes_.size(); }
  InodeId inode_of(NodeId node) const { return nodes_[node].inode; }
  NodeId parent_of(NodeId node) const { return nodes_[node].parent; }
  std::string_view name(NodeId node) const { return {names_.data() + nodes_[node].name_at, nodes_[node].name_length}; }
  std::string_view symlink_target(const TreeInode& inode) const { return {names_.data() + inode.data, inode.size}; }
  const std::vector<Xattr>& xattrs(uint32_t index) const { return xattrs_[index]; }
  /// The names in a folder, sorted by their bytes.
  void sorted_children(NodeId folder, std::vector<NodeId>& into) const;
  /// "a/b/c" from the layer's root.
  std::string path(NodeId node) const;

 private:
  struct Node {
    NodeId parent = kNone;
    NodeId first_child = kNone;
    NodeId next_sibling = kNone;
    InodeId inode = kNone;
    uint64_t name_at : 48 = 0;
    uint64_t name_length : 16 = 0;
  };

  Result<NodeId> resolve_parent(std::span<const std::string_view> folders, std::string_view whole, bool make);
  NodeId find(NodeId parent, std::string_view name) const;
  NodeId insert(NodeId parent, std::string_view name, InodeId inode);
  void rehash(size_t slots);
  uint64_t hash(NodeId parent, std::string_view name) const;
  Result<void> detach(NodeId node);
  Result<void> drop_children(NodeId node);
  Result<void> add_hard_link(NodeId parent, std::string_view name, const TarEntry& entry, Added& added);
  Result<void> add_whiteout(NodeId parent, std::string_view name, Added& added);
  Result<void> set_attributes(InodeId id, const TarEntry& entry);
  InodeId new_folder_inode();
  bool is_folder(NodeId node) const;
  uint64_t intern(std::string_view text);

  std::vector<Node> nodes_;
  std::vector<TreeInode> inodes_;
  std::vector<char> names_;
  std::vector<std::vector<Xattr>> xattrs_;
  std::vector<NodeId> content_nodes_;  // by content number
  // (parent, name) -> node: open addressing, seeded so that a hostile archive can't choose collisions.
  std::vector<NodeId> slots_;
  size_t used_slots_ = 0;
  uint64_t seed_[2];
  // The parent folder of the entry before: archives list folders one after another.
  std::string last_parent_path_;
  NodeId last_parent_ = kNone;
};

}  // namespace hull::store
