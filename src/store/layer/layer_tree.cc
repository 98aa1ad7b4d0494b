#include "store/layer/layer_tree.h"

#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"

namespace hull::store {

namespace {

constexpr size_t kMaxComponent = 255;  // NAME_MAX
constexpr size_t kMaxDepth = 2048;     // PATH_MAX / 2
constexpr int kMaxLinkHops = 40;       // as the kernel (MAXSYMLINKS)
constexpr uint32_t kTombstone = 0xfffffffeU;
constexpr std::string_view kWhiteout = ".wh.", kWhiteoutMeta = ".wh..wh.", kOpaque = ".wh..wh..opq";

uint64_t mix(uint64_t a, uint64_t b) {
  const auto product = static_cast<unsigned __int128>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

uint16_t type_bits(EntryType type) {
  switch (type) {
    case EntryType::kFile:
    case EntryType::kHardLink:
      return S_IFREG;
    case EntryType::kSymlink:
      return S_IFLNK;
    case EntryType::kCharDevice:
      return S_IFCHR;
    case EntryType::kBlockDevice:
      return S_IFBLK;
    case EntryType::kDirectory:
      return S_IFDIR;
    case EntryType::kFifo:
      return S_IFIFO;
  }
  return S_IFREG;
}

// What both back ends can hold (Linux' limits, and EROFS' for one inode).
constexpr size_t kMaxXattrName = 255, kMaxXattrValue = 65535, kMaxXattrTotal = 65534 * 4;

/// Whether the kernel has a place for an attribute of that name at all.
bool is_known_xattr(std::string_view name) {
  return name.starts_with("user.") || name.starts_with("trusted.") || name.starts_with("security.") ||
         name == "system.posix_acl_access" || name == "system.posix_acl_default";
}

/// Attributes that must not come from an archive: overlayfs' own (a layer could redirect into another or forge
/// whiteouts), and the labels of the host that made the image.
bool is_foreign_xattr(std::string_view name) {
  return name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.") || name == "security.selinux";
}

}  // namespace

LayerTree::LayerTree() {
  // Only how entries spread over slots depends on the seed, never the artifact.
  if (::getrandom(seed_, sizeof seed_, 0) != sizeof seed_) seed_[0] = seed_[1] = reinterpret_cast<uintptr_t>(this);
  inodes_.emplace_back();
  inodes_[0].mode = S_IFDIR | 0755;
  inodes_[0].nlink = 2;
  nodes_.emplace_back();
  nodes_[0].parent = 0;
  nodes_[0].inode = 0;
  slots_.assign(1024, kNone);
}

Result<std::vector<std::string_view>> LayerTree::components(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") return errorf(ErrorKind::kCorrupt, "the name holds \"..\", which would leave its folder");
    if (part.size() > kMaxComponent) return errorf(ErrorKind::kCorrupt, "a part of the name is over 255 bytes long");
    parts.push_back(part);
  }
  if (parts.size() > kMaxDepth) return errorf(ErrorKind::kCorrupt, "the name has more than {} folders", kMaxDepth);
  return parts;
}

uint64_t LayerTree::hash(NodeId parent, std::string_view name) const {
  uint64_t state = mix(seed_[0] ^ parent, seed_[1] ^ name.size());
  const char* at = name.data();
  size_t left = name.size();
  while (left >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, at, 8);
    state = mix(state ^ word, 0x9e3779b97f4a7c15ULL ^ seed_[1]);
    at += 8;
    left -= 8;
  }
  uint64_t word = 0;
  std::memcpy(&word, at, left);
  return mix(state ^ word, 0xe7037ed1a0b428dbULL ^ seed_[0]);
}

NodeId LayerTree::find(NodeId parent, std::string_view wanted) const {
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash(parent, wanted) & mask;; i = (i + 1) & mask) {
    const NodeId node = slots_[i];
    if (node == kNone) return kNone;
    if (node != kTombstone && nodes_[node].parent == parent && name(node) == wanted) return node;
  }
}

void LayerTree::rehash(size_t count) {
  std::vector<NodeId> old(count, kNone);
  old.swap(slots_);
  used_slots_ = 0;
  const size_t mask = slots_.size() - 1;
  for (const NodeId node : old) {
    if (node == kNone || node == kTombstone) continue;
    size_t i = hash(nodes_[node].parent, name(node)) & mask;
    while (slots_[i] != kNone) i = (i + 1) & mask;
    slots_[i] = node;
    ++used_slots_;
  }
}

uint64_t LayerTree::intern(std::string_view text) {
  const uint64_t at = names_.size();
  names_.insert(names_.end(), text.begin(), text.end());
  return at;
}

NodeId LayerTree::insert(NodeId parent, std::string_view text, InodeId id) {
  if ((used_slots_ + 1) * 3 > slots_.size() * 2) rehash(slots_.size() * 2);
  const auto node = static_cast<NodeId>(nodes_.size());
  Node fresh;
  fresh.parent = parent;
  fresh.next_sibling = nodes_[parent].first_child;
  fresh.inode = id;
  fresh.name_at = intern(text);
  fresh.name_length = text.size();
  nodes_.push_back(fresh);
  nodes_[parent].first_child = node;
  const size_t mask = slots_.size() - 1;
  size_t i = hash(parent, text) & mask;
  while (slots_[i] != kNone) i = (i + 1) & mask;  // tombstones stay: rehash() clears them
  slots_[i] = node;
  ++used_slots_;
  return node;
}

bool LayerTree::is_folder(NodeId node) const { return S_ISDIR(inodes_[nodes_[node].inode].mode); }

InodeId LayerTree::new_folder_inode() {
  TreeInode folder;
  folder.mode = S_IFDIR | 0755;
  folder.nlink = 2;
  inodes_.push_back(folder);
  return static_cast<InodeId>(inodes_.size() - 1);
}

/// Lets go of what a name stands for; the name itself stays for what comes in its place.
Result<void> LayerTree::detach(NodeId node) {
  const InodeId id = nodes_[node].inode;
  if (id == kNone) return {};
  last_parent_ = kNone;  // what goes away may stand in the path of the folder that was remembered
  if (S_ISDIR(inodes_[id].mode)) {
    TRY(drop_children(node));
    --inodes_[nodes_[nodes_[node].parent].inode].nlink;
    inodes_[id].nlink = 0;
  } else {
    const uint32_t content = inodes_[id].content;
    if (content != kNone && content_nodes_[content] == node) {
      if (on_content_lost) TRY(on_content_lost(id));
      content_nodes_[content] = kNone;
    }
    --inodes_[id].nlink;
  }
  nodes_[node].inode = kNone;
  return {};
}

Result<void> LayerTree::drop_children(NodeId top) {
  std::vector<NodeId> pending;
  const auto take = [&](NodeId folder) {
    for (NodeId child = nodes_[folder].first_child; child != kNone; child = nodes_[child].next_sibling) {
      pending.push_back(child);
    }
    nodes_[folder].first_child = kNone;
  };
  take(top);
  const size_t mask = slots_.size() - 1;
  while (!pending.empty()) {
    const NodeId node = pending.back();
    pending.pop_back();
    size_t i = hash(nodes_[node].parent, name(node)) & mask;
    while (slots_[i] != node) i = (i + 1) & mask;
    slots_[i] = kTombstone;
    const InodeId id = nodes_[node].inode;
    if (S_ISDIR(inodes_[id].mode)) {
      take(node);
      inodes_[id].nlink = 0;
      continue;
    }
    TRY(detach(node));
  }
  // All folders below are gone with their names.
  inodes_[nodes_[top].inode].nlink = 2;
  return {};
}

/// Walks (and makes) the folders of a name. A symlink among them is followed inside the layer, as the kernel would do
/// in a chroot.
Result<NodeId> LayerTree::resolve_parent(std::span<const std::string_view> folders, std::string_view whole, bool make) {
  NodeId at = 0;
  // Components still to walk, last first. The strings of a symlink's target are copied: the pool may move.
  std::vector<std::string> pending;
  size_t next = 0;
  int hops = 0;
  while (!pending.empty() || next < folders.size()) {
    std::string owned;
    std::string_view part;
    if (!pending.empty()) {
      owned = std::move(pending.back());
      pending.pop_back();
      part = owned;
    } else {
      part = folders[next++];
    }
    if (part == "..") {  // only out of a symlink's target
      at = nodes_[at].parent;
      continue;
    }
    NodeId child = find(at, part);
    if (child == kNone) {
      if (!make) return errorf(ErrorKind::kCorrupt, "its folder \"{:.200}\" does not exist in the layer", part);
      child = insert(at, part, new_folder_inode());
      ++inodes_[nodes_[at].inode].nlink;
      at = child;
      continue;
    }
    TreeInode& found = inodes_[nodes_[child].inode];
    if (S_ISDIR(found.mode)) {
      at = child;
      continue;
    }
    if (found.whiteout && make) {
      // The whiteout hides what was there in lower layers; what comes into the folder now is new.
      nodes_[child].inode = new_folder_inode();
      inodes_[nodes_[child].inode].opaque = true;
      ++inodes_[nodes_[at].inode].nlink;
      at = child;
      continue;
    }
    if (!S_ISLNK(found.mode)) {
      return errorf(ErrorKind::kCorrupt, "\"{:.200}\" in its path is not a folder", part);
    }
    if (++hops > kMaxLinkHops) return errorf(ErrorKind::kCorrupt, "too many symbolic links in its path {:.200}", whole);
    const std::string target(symlink_target(found));
    if (target.starts_with('/')) at = 0;
    const size_t before = pending.size();
    std::string_view rest = target;
    while (!rest.empty()) {
      const size_t slash = rest.find('/');
      const std::string_view piece = rest.substr(0, slash);
      rest = slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1);
      if (piece.empty() || piece == ".") continue;
      if (piece.size() > kMaxComponent) return errorf(ErrorKind::kCorrupt, "a part of a link in its path is too long");
      pending.emplace_back(piece);
    }
    std::reverse(pending.begin() + static_cast<ptrdiff_t>(before), pending.end());
  }
  return at;
}

Result<void> LayerTree::set_attributes(InodeId id, const TarEntry& entry) {
  TreeInode& inode = inodes_[id];
  inode.mode = static_cast<uint16_t>(type_bits(entry.type) | entry.mode);
  inode.uid = entry.uid;
  inode.gid = entry.gid;
  inode.mtime = entry.mtime;
  inode.mtime_ns = entry.mtime_ns;
  if (entry.xattrs.empty()) return {};
  // A folder that comes twice keeps what the second does not name, as extraction over it would.
  std::vector<Xattr> merged = inode.xattrs == kNone ? std::vector<Xattr>() : xattrs_[inode.xattrs];
  for (const Xattr& xattr : entry.xattrs) {
    if (!is_known_xattr(xattr.name) || is_foreign_xattr(xattr.name)) continue;
    if (xattr.name.size() > kMaxXattrName || xattr.name.ends_with('.') || xattr.value.size() > kMaxXattrValue) {
      return errorf(ErrorKind::kCorrupt, "its extended attribute \"{:.260}\" ({} bytes) can't exist on Linux",
                    xattr.name, xattr.value.size());
    }
    std::erase_if(merged, [&](const Xattr& x) { return x.name == xattr.name; });
    merged.push_back(xattr);
  }
  if (merged.empty()) return {};
  size_t total = 0;
  for (const Xattr& xattr : merged) total += xattr.name.size() + xattr.value.size() + 8;
  if (total > kMaxXattrTotal) {
    return errorf(ErrorKind::kInvalid, "its extended attributes take {} bytes, the limit is {}", total, kMaxXattrTotal);
  }
  std::sort(merged.begin(), merged.end(), [](const Xattr& a, const Xattr& b) { return a.name < b.name; });
  if (inode.xattrs != kNone) {
    xattrs_[inode.xattrs] = std::move(merged);
  } else {
    inode.xattrs = static_cast<uint32_t>(xattrs_.size());
    xattrs_.push_back(std::move(merged));
  }
  return {};
}

Result<void> LayerTree::add_hard_link(NodeId parent, std::string_view text, const TarEntry& entry, Added& added) {
  TRY_ASSIGN(const auto parts, components(entry.link));
  if (parts.empty()) return errorf(ErrorKind::kCorrupt, "it is a hard link to the root folder");
  TRY_ASSIGN(const NodeId target_parent, resolve_parent(std::span(parts).first(parts.size() - 1), entry.link, false));
  const NodeId target = find(target_parent, parts.back());
  if (target == kNone || inodes_[nodes_[target].inode].whiteout) {
    return errorf(ErrorKind::kCorrupt, "it is a hard link to \"{:.200}\", which does not exist in the layer",
                  entry.link);
  }
  const InodeId id = nodes_[target].inode;
  if (S_ISDIR(inodes_[id].mode)) {
    return errorf(ErrorKind::kCorrupt, "it is a hard link to the folder \"{:.200}\"", entry.link);
  }
  NodeId node = find(parent, text);
  if (node == target) return {};  // a link to itself changes nothing
  ++inodes_[id].nlink;            // first: replacing the name may drop the target's other names
  if (node == kNone) {
    node = insert(parent, text, id);
  } else {
    // The target may stand below the folder that goes away; its inode lives on under the new name.
    TRY(detach(node));
    nodes_[node].inode = id;
  }
  added = {node, id};
  return {};
}

Result<void> LayerTree::add_whiteout(NodeId parent, std::string_view text, Added& added) {
  if (text.empty() || text == "." || text == "..") {
    return errorf(ErrorKind::kCorrupt, "it is a whiteout of nothing");
  }
  NodeId node = find(parent, text);
  if (node != kNone) {
    // image-spec, layer.md, "Whiteouts": a whiteout applies to lower layers only; what this layer has stays.
    TreeInode& there = inodes_[nodes_[node].inode];
    if (S_ISDIR(there.mode)) there.opaque = true;
    return {};
  }
  TreeInode whiteout;
  whiteout.mode = S_IFCHR;
  whiteout.whiteout = true;
  whiteout.nlink = 1;
  inodes_.push_back(whiteout);
  const auto id = static_cast<InodeId>(inodes_.size() - 1);
  node = insert(parent, text, id);
  added = {node, id};
  return {};
}

Result<LayerTree::Added> LayerTree::add(const TarEntry& entry) {
  TRY_ASSIGN(const auto parts, components(entry.path));
  Added added;
  if (parts.empty()) {
    if (entry.type != EntryType::kDirectory) {
      return errorf(ErrorKind::kCorrupt, "it stands for the root folder and is not a folder");
    }
    TRY(set_attributes(0, entry));
    return Added{0, 0};
  }
  const std::string_view text = parts.back();
  const size_t parent_length = static_cast<size_t>(text.data() - entry.path.data());
  const std::string_view parent_path = std::string_view(entry.path).substr(0, parent_length);
  if (last_parent_ == kNone || parent_path != last_parent_path_) {
    TRY_ASSIGN(last_parent_, resolve_parent(std::span(parts).first(parts.size() - 1), entry.path, true));
    last_parent_path_ = parent_path;
  }
  const NodeId parent = last_parent_;

  if (text.starts_with(kWhiteout)) {
    if (text == kOpaque) {
      inodes_[nodes_[parent].inode].opaque = true;
      return added;
    }
    if (text.starts_with(kWhiteoutMeta)) return added;  // aufs' own files
    TRY(add_whiteout(parent, text.substr(kWhiteout.size()), added));
    return added;
  }
  if (entry.type == EntryType::kHardLink) {
    // The name goes away before the link is made, and with it what it may be part of.
    TRY(add_hard_link(parent, text, entry, added));
    return added;
  }

  NodeId node = find(parent, text);
  bool opaque = false;
  if (node != kNone) {
    if (entry.type == EntryType::kDirectory && is_folder(node)) {
      TRY(set_attributes(nodes_[node].inode, entry));
      return Added{node, nodes_[node].inode};
    }
    opaque = inodes_[nodes_[node].inode].whiteout;
    TRY(detach(node));
  }
  TreeInode fresh;
  fresh.nlink = 1;
  if (entry.type == EntryType::kSymlink) {
    if (entry.link.empty() || entry.link.size() >= 4096) {
      return errorf(ErrorKind::kCorrupt, "it is a symbolic link with an empty target or one over 4095 bytes");
    }
    fresh.size = entry.link.size();
    fresh.data = intern(entry.link);
  } else if (entry.type == EntryType::kFile) {
    fresh.size = entry.size;
  } else if (entry.type == EntryType::kCharDevice || entry.type == EntryType::kBlockDevice) {
    fresh.rdev_major = entry.dev_major;
    fresh.rdev_minor = entry.dev_minor;
  } else if (entry.type == EntryType::kDirectory) {
    fresh.nlink = 2;
    fresh.opaque = opaque;
    ++inodes_[nodes_[parent].inode].nlink;
  }
  inodes_.push_back(fresh);
  const auto id = static_cast<InodeId>(inodes_.size() - 1);
  if (node == kNone) {
    node = insert(parent, text, id);
  } else {
    nodes_[node].inode = id;
  }
  if (entry.type == EntryType::kFile && entry.stored_size > 0) {
    inodes_[id].content = static_cast<uint32_t>(content_nodes_.size());
    content_nodes_.push_back(node);
  }
  TRY(set_attributes(id, entry));
  return Added{node, id};
}

void LayerTree::sorted_children(NodeId folder, std::vector<NodeId>& into) const {
  into.clear();
  for (NodeId child = nodes_[folder].first_child; child != kNone; child = nodes_[child].next_sibling) {
    if (nodes_[child].inode != kNone) into.push_back(child);
  }
  std::sort(into.begin(), into.end(), [this](NodeId a, NodeId b) { return name(a) < name(b); });
}

std::string LayerTree::path(NodeId node) const {
  std::vector<std::string_view> parts;
  for (; node != 0; node = nodes_[node].parent) parts.push_back(name(node));
  std::string out;
  for (size_t i = parts.size(); i-- > 0;) {
    if (!out.empty()) out += '/';
    out += parts[i];
  }
  return out;
}

}  // namespace hull::store
