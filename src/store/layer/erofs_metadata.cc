#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/error_format.h"
#include "store/erofs_format.h"
#include "store/layer/erofs_writer.h"

namespace hull::store {

using erofs::kBlockSize;
using erofs::kSlotSize;

namespace {

constexpr size_t kInodeSize = sizeof(erofs::ExtendedInode);
constexpr size_t kBufferSize = 1 << 20;
constexpr uint64_t kFirstSlot = 2;  // nid 0 would be inode number 0, which programs take for "deleted"

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

/// The dirent's file_type (as d_type counts it on disk: FT_REG_FILE 1 to FT_SYMLINK 7).
uint8_t file_type(uint16_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return 1;
    case S_IFDIR:
      return 2;
    case S_IFCHR:
      return 3;
    case S_IFBLK:
      return 4;
    case S_IFIFO:
      return 5;
    case S_IFSOCK:
      return 6;
    case S_IFLNK:
      return 7;
    default:
      return 0;
  }
}

struct XattrPrefix {
  std::string_view prefix;
  uint8_t index;
};
// fs/erofs/xattr.h
constexpr XattrPrefix kXattrPrefixes[] = {
    {"user.", 1}, {"system.posix_acl_access", 2}, {"system.posix_acl_default", 3}, {"trusted.", 4}, {"security.", 6}};

void add_xattr(std::vector<std::byte>& body, std::string_view name, std::string_view value) {
  for (const XattrPrefix& known : kXattrPrefixes) {
    if (!name.starts_with(known.prefix)) continue;
    name.remove_prefix(known.prefix.size());
    if (body.empty()) body.resize(sizeof(erofs::XattrBodyHeader));
    const erofs::XattrEntry entry{static_cast<uint8_t>(name.size()), known.index, static_cast<uint16_t>(value.size())};
    size_t at = body.size();
    body.resize(round_up(at + sizeof entry + name.size() + value.size(), 4));
    std::memcpy(body.data() + at, &entry, sizeof entry);
    at += sizeof entry;
    std::memcpy(body.data() + at, name.data(), name.size());
    if (!value.empty()) std::memcpy(body.data() + at + name.size(), value.data(), value.size());
    return;
  }
}

/// new_encode_dev() of the kernel.
uint32_t encode_device(uint32_t major, uint32_t minor) { return (minor & 0xff) | major << 8 | (minor & ~0xffU) << 12; }

}  // namespace

std::vector<std::byte> erofs_xattr_body(const LayerTree& tree, const TreeInode& inode, bool userxattr) {
  std::vector<std::byte> body;
  if (inode.opaque) {
    add_xattr(body, "trusted.overlay.opaque", "y");
    if (userxattr) add_xattr(body, "user.overlay.opaque", "y");
  }
  if (inode.xattrs != kNone) {
    for (const Xattr& xattr : tree.xattrs(inode.xattrs)) add_xattr(body, xattr.name, xattr.value);
  }
  return body;
}

const ErofsWriter::Place* ErofsMetadata::content_of(const TreeInode& inode) const {
  if (!S_ISREG(inode.mode) || inode.data == 0) return nullptr;
  return &writer_.places_[inode.data - 1];
}

/// The entries of a folder in the order in which lookup expects them: by bytes, "." and ".." among the others.
void ErofsMetadata::folder_entries(const FolderPlan& folder, std::vector<Named>& into) const {
  into.clear();
  const auto first = children_.begin() + folder.first_child;
  for (auto child = first; child != first + folder.child_count; ++child) {
    into.push_back({tree_.name(*child), tree_.inode_of(*child)});
  }
  const auto by_name = [](const Named& entry, std::string_view name) { return entry.name < name; };
  const InodeId self = tree_.inode_of(folder.node), parent = tree_.inode_of(tree_.parent_of(folder.node));
  for (const Named& dots : {Named{".", self}, Named{"..", parent}}) {
    into.insert(std::lower_bound(into.begin(), into.end(), dots.name, by_name), dots);
  }
}

/// How many blocks the entries need, and how much of the last one.
void ErofsMetadata::pack_folder(FolderPlan& folder, size_t xattr_size) {
  std::vector<Named> entries;
  folder_entries(folder, entries);
  size_t used = 0;
  for (const Named& entry : entries) {
    const size_t need = sizeof(erofs::Dirent) + entry.name.size();
    if (used + need > kBlockSize) {
      ++folder.block_count;
      used = 0;
    }
    used += need;
  }
  folder.tail = static_cast<uint32_t>(used);
  folder.tail_inline = erofs_fits_inline(xattr_size, used);
}

Result<void> ErofsMetadata::plan_folders() {
  plan_of_.assign(tree_.inode_count(), kNone);
  std::vector<NodeId> sorted;
  const auto block_limit = [] { return errorf(ErrorKind::kInvalid, "the layer's folders do not fit into one image"); };
  uint64_t block = writer_.next_block_;
  folders_.push_back({});
  plan_of_[0] = 0;
  for (size_t i = 0; i < folders_.size(); ++i) {
    FolderPlan folder = folders_[i];
    tree_.sorted_children(folder.node, sorted);
    folder.first_child = static_cast<uint32_t>(children_.size());
    folder.child_count = static_cast<uint32_t>(sorted.size());
    children_.insert(children_.end(), sorted.begin(), sorted.end());
    for (const NodeId child : sorted) {
      const InodeId id = tree_.inode_of(child);
      const TreeInode& inode = tree_.inode(id);
      if (S_ISDIR(inode.mode)) {
        plan_of_[id] = static_cast<uint32_t>(folders_.size());
        folders_.push_back({});
        folders_.back().node = child;
      } else if (S_ISLNK(inode.mode) && plan_of_[id] == kNone &&
                 !erofs_fits_inline(erofs_xattr_body(tree_, inode, writer_.userxattr_).size(), inode.size)) {
        if (block >= TailStore::kScratchAt / kBlockSize) return block_limit();
        plan_of_[id] = static_cast<uint32_t>(block++);
      }
    }
    const TreeInode& self = tree_.inode(tree_.inode_of(folder.node));
    pack_folder(folder, erofs_xattr_body(tree_, self, writer_.userxattr_).size());
    folder.first_block = static_cast<uint32_t>(block);
    block += folder.block_count + (folder.tail_inline ? 0 : 1);
    if (block >= TailStore::kScratchAt / kBlockSize) return block_limit();
    folders_[i] = folder;
  }
  meta_start_ = block * kBlockSize;
  return {};
}

/// Finds the place of an inode and all that stands behind it: attributes, then a chunk map or inline data.
Result<void> ErofsMetadata::place(InodeId id) {
  if (slots_[id] != 0) return {};
  const TreeInode& inode = tree_.inode(id);
  const size_t head = kInodeSize + erofs_xattr_body(tree_, inode, writer_.userxattr_).size();
  size_t inline_size = 0, map_size = 0;
  if (S_ISDIR(inode.mode)) {
    const FolderPlan& folder = folders_[plan_of_[id]];
    if (folder.tail_inline) inline_size = folder.tail;
  } else if (S_ISLNK(inode.mode)) {
    if (plan_of_[id] == kNone) inline_size = inode.size;
  } else if (const ErofsWriter::Place* content = content_of(inode)) {
    inline_size = content->tail_length;
    if (content->chunk_bits != 0) map_size = (((inode.size - 1) >> content->chunk_bits) + 1) * sizeof(uint32_t);
  }
  uint64_t at = cursor_;
  if (at % kBlockSize + kInodeSize > kBlockSize) at = round_up(at, kBlockSize);
  if (inline_size > 0 && (at + head) % kBlockSize + inline_size > kBlockSize) at = round_up(at, kBlockSize);
  const uint64_t slot = (at - meta_start_) / kSlotSize;
  cursor_ = round_up(at + head + map_size + inline_size, kSlotSize);
  if (slot >= kNone || cursor_ >= TailStore::kScratchAt) {
    return errorf(ErrorKind::kInvalid, "the layer's inodes do not fit into one image");
  }
  slots_[id] = static_cast<uint32_t>(slot);
  order_.push_back(id);
  return {};
}

Result<void> ErofsMetadata::plan_inodes() {
  slots_.assign(tree_.inode_count(), 0);
  cursor_ = meta_start_ + kFirstSlot * kSlotSize;
  TRY(place(0));
  // A folder's inodes stand together: reading a folder and the attributes of all in it touches few blocks.
  for (const NodeId child : children_) TRY(place(tree_.inode_of(child)));
  return {};
}

Result<void> ErofsMetadata::drain() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t put =
        ::pwrite(writer_.file_.get(), buffer_.data() + done, buffer_.size() - done, static_cast<off_t>(out_at_ + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno_error("write the layer image");
    done += static_cast<size_t>(put);
  }
  out_at_ += buffer_.size();
  buffer_.clear();
  return {};
}

Result<void> ErofsMetadata::append(const void* data, size_t count) {
  if (buffer_.size() + count > kBufferSize) TRY(drain());
  const auto* bytes = static_cast<const std::byte*>(data);
  buffer_.insert(buffer_.end(), bytes, bytes + count);
  return {};
}

Result<void> ErofsMetadata::pad_to(uint64_t offset) {
  static constexpr std::byte kZeros[kBlockSize]{};
  for (uint64_t at = out_at_ + buffer_.size(); at < offset;) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(offset - at, kBlockSize));
    TRY(append(kZeros, count));
    at += count;
  }
  return {};
}

void ErofsMetadata::fill_folder_block(std::span<const Named> entries, std::byte* block) const {
  size_t name_at = entries.size() * sizeof(erofs::Dirent);
  for (const Named& entry : entries) {
    const erofs::Dirent dirent{nid(entry.inode), static_cast<uint16_t>(name_at),
                               file_type(tree_.inode(entry.inode).mode), 0};
    std::memcpy(block, &dirent, sizeof dirent);
    block += sizeof dirent;
    name_at += entry.name.size();
  }
  for (const Named& entry : entries) {
    std::memcpy(block, entry.name.data(), entry.name.size());
    block += entry.name.size();
  }
}

Result<void> ErofsMetadata::emit_folders() {
  out_at_ = writer_.next_block_ * kBlockSize;
  std::vector<Named> entries;
  std::byte block[kBlockSize];
  for (const FolderPlan& folder : folders_) {
    // The blocks of long symlink targets lie before the folder in which they were met.
    const auto first = children_.begin() + folder.first_child;
    for (auto child = first; child != first + folder.child_count; ++child) {
      const InodeId id = tree_.inode_of(*child);
      const TreeInode& inode = tree_.inode(id);
      if (!S_ISLNK(inode.mode) || plan_of_[id] == kNone) continue;
      const uint64_t at = static_cast<uint64_t>(plan_of_[id]) * kBlockSize;
      if (at < out_at_ + buffer_.size()) continue;  // a second name of it
      TRY(append(tree_.symlink_target(inode).data(), inode.size));
      TRY(pad_to(at + kBlockSize));
    }
    if (folder.block_count == 0 && folder.tail_inline) continue;
    folder_entries(folder, entries);
    std::span<const Named> rest(entries);
    const uint32_t blocks = folder.block_count + (folder.tail_inline ? 0 : 1);
    for (uint32_t i = 0; i < blocks; ++i) {
      size_t used = 0, count = 0;
      while (count < rest.size() && used + sizeof(erofs::Dirent) + rest[count].name.size() <= kBlockSize) {
        used += sizeof(erofs::Dirent) + rest[count++].name.size();
      }
      std::memset(block, 0, sizeof block);
      fill_folder_block(rest.first(count), block);
      rest = rest.subspan(count);
      TRY(append(block, sizeof block));
    }
  }
  return {};
}

Result<void> ErofsMetadata::emit_inode(InodeId id) {
  const TreeInode& inode = tree_.inode(id);
  const std::vector<std::byte> xattrs = erofs_xattr_body(tree_, inode, writer_.userxattr_);
  erofs::ExtendedInode out{};
  erofs::DataLayout layout = erofs::kFlatPlain;
  out.i_mode = inode.mode;
  out.i_xattr_icount =
      xattrs.empty() ? uint16_t{0} : static_cast<uint16_t>((xattrs.size() - sizeof(erofs::XattrBodyHeader)) / 4 + 1);
  out.i_size = S_ISREG(inode.mode) || S_ISLNK(inode.mode) ? inode.size : 0;
  out.i_ino = slots_[id];
  out.i_uid = inode.uid;
  out.i_gid = inode.gid;
  out.i_mtime = static_cast<uint64_t>(inode.mtime);
  out.i_mtime_nsec = inode.mtime_ns;
  out.i_nlink = inode.nlink;

  std::span<const std::byte> behind;
  std::vector<std::byte> tail;
  if (S_ISDIR(inode.mode)) {
    const FolderPlan& folder = folders_[plan_of_[id]];
    out.i_size = static_cast<uint64_t>(folder.block_count) * kBlockSize + folder.tail;
    out.i_u = folder.first_block;
    if (folder.tail_inline) {
      layout = erofs::kFlatInline;
      std::vector<Named> entries;
      folder_entries(folder, entries);
      size_t count = 0, used = 0;
      while (used < folder.tail) used += sizeof(erofs::Dirent) + entries[entries.size() - ++count].name.size();
      tail.resize(folder.tail);
      fill_folder_block(std::span(entries).last(count), tail.data());
      behind = tail;
    }
  } else if (S_ISLNK(inode.mode)) {
    if (plan_of_[id] == kNone) {
      layout = erofs::kFlatInline;
      behind = std::as_bytes(std::span(tree_.symlink_target(inode)));
    } else {
      out.i_u = plan_of_[id];
    }
  } else if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
    out.i_u = encode_device(inode.rdev_major, inode.rdev_minor);
  } else if (const ErofsWriter::Place* content = content_of(inode)) {
    out.i_u = content->first_block;
    if (content->chunk_bits != 0) {
      layout = erofs::kChunkBased;
      out.i_u = content->chunk_bits - erofs::kBlockBits;
      const size_t count = ((inode.size - 1) >> content->chunk_bits) + 1;
      behind = std::as_bytes(std::span(writer_.chunks_).subspan(content->chunks_at, count));
      chunked_ = true;
    } else if (content->tail_length > 0) {
      layout = erofs::kFlatInline;
      tail.resize(content->tail_length);
      TRY(writer_.tails_.read(content->tail_at, tail));
      behind = tail;
    }
  }
  out.i_format = erofs::inode_format(layout);
  TRY(append(&out, sizeof out));
  TRY(append(xattrs.data(), xattrs.size()));
  return append(behind.data(), behind.size());
}

Result<void> ErofsMetadata::emit_inodes() {
  TRY(pad_to(meta_start_));
  for (const InodeId id : order_) {
    TRY(pad_to(meta_start_ + static_cast<uint64_t>(slots_[id]) * kSlotSize));
    TRY(emit_inode(id));
  }
  return {};
}

Result<void> ErofsMetadata::emit_super(const Digest& diff_id) {
  std::byte block[kBlockSize]{};
  erofs::SuperBlock super{};
  super.magic = erofs::kMagic;
  super.feature_compat = erofs::kCompatSuperChecksum | erofs::kCompatMtime;
  super.feature_incompat = chunked_ ? erofs::kIncompatChunkedFile : 0;
  super.blkszbits = erofs::kBlockBits;
  super.root_nid = static_cast<uint16_t>(slots_[0]);
  super.inos = order_.size();
  super.blocks = static_cast<uint32_t>(out_at_ / kBlockSize);
  super.meta_blkaddr = static_cast<uint32_t>(meta_start_ / kBlockSize);
  // The first 16 bytes of the diff id: what a mount checks the file's name against.
  const std::string_view hex = diff_id.hex();
  for (size_t i = 0; i < sizeof super.uuid && i * 2 + 1 < hex.size(); ++i) {
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    super.uuid[i] = static_cast<uint8_t>(digit(hex[i * 2]) << 4 | digit(hex[i * 2 + 1]));
  }
  std::memcpy(super.volume_name, "hull", 4);
  std::memcpy(block + erofs::kSuperOffset, &super, sizeof super);
  super.checksum = erofs::super_checksum(block + erofs::kSuperOffset, kBlockSize - erofs::kSuperOffset);
  std::memcpy(block + erofs::kSuperOffset, &super, sizeof super);
  buffer_.assign(block, block + kBlockSize);
  out_at_ = 0;
  return drain();
}

Result<uint64_t> ErofsMetadata::write(const Digest& diff_id) {
  TRY(plan_folders());
  TRY(plan_inodes());
  buffer_.reserve(kBufferSize);
  TRY(emit_folders());
  TRY(emit_inodes());
  TRY(pad_to(round_up(cursor_, kBlockSize)));
  TRY(drain());
  const uint64_t size = out_at_;
  // Cuts scratch space off; a superblock that says how long the file is comes after.
  if (::ftruncate(writer_.file_.get(), static_cast<off_t>(size)) != 0)
    return errno_error("cut the layer image to size");
  TRY(emit_super(diff_id));
  return size;
}

}  // namespace hull::store
