#include "tar/tar_reader.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error_format.h"

namespace hull::tar {

namespace {

constexpr size_t kMaxPaxPayload = 4 << 20;

/// Entries of these types have no content, whatever their size field says (as Go's archive/tar reads them).
bool is_header_only(char type) {
  switch (type) {
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
      return true;
    default:
      return false;
  }
}

size_t padding_of(uint64_t size) { return static_cast<size_t>((kTarBlock - size % kTarBlock) % kTarBlock); }

std::string_view until_nul(std::string_view text) { return text.substr(0, text.find('\0')); }

}  // namespace

Error TarReader::entry_error(ErrorKind kind, std::string_view what) const {
  return errorf(kind, "tar entry {} \"{:.200}\": {}", entries_, entry_.path, what);
}

Result<void> TarReader::feed(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    switch (state_) {
      case State::kTrailer:
        return handler_.on_raw(bytes);
      case State::kData: {
        const size_t count = static_cast<size_t>(std::min<uint64_t>(remaining_, bytes.size()));
        TRY(handler_.on_data(bytes.first(count)));
        bytes = bytes.subspan(count);
        remaining_ -= count;
        if (remaining_ == 0) {
          TRY(handler_.on_entry_end());
          state_ = padding_ > 0 ? State::kPadding : State::kHeader;
        }
        break;
      }
      case State::kPadding: {
        const size_t count = std::min(padding_, bytes.size());
        TRY(handler_.on_raw(bytes.first(count)));
        bytes = bytes.subspan(count);
        padding_ -= count;
        if (padding_ == 0) state_ = State::kHeader;
        break;
      }
      case State::kPayload: {
        const size_t count = static_cast<size_t>(std::min<uint64_t>(remaining_, bytes.size()));
        payload_.append(reinterpret_cast<const char*>(bytes.data()), count);
        TRY(handler_.on_raw(bytes.first(count)));
        bytes = bytes.subspan(count);
        remaining_ -= count;
        if (remaining_ == 0) TRY(end_payload());
        break;
      }
      case State::kHeader:
      case State::kGnuSparse:
      case State::kPaxSparse: {
        if (partial_size_ == 0 && bytes.size() >= kTarBlock) {
          TRY(on_block(bytes.first<kTarBlock>()));
          bytes = bytes.subspan(kTarBlock);
          break;
        }
        const size_t count = std::min(kTarBlock - partial_size_, bytes.size());
        std::memcpy(partial_ + partial_size_, bytes.data(), count);
        partial_size_ += count;
        bytes = bytes.subspan(count);
        if (partial_size_ == kTarBlock) {
          partial_size_ = 0;
          TRY(on_block(Block(partial_)));
        }
        break;
      }
    }
  }
  return {};
}

Result<void> TarReader::finish() {
  if (state_ == State::kTrailer) return {};
  if (state_ == State::kHeader && partial_size_ == 0 && !has_long_name_ && !has_long_link_) return {};
  return errorf(ErrorKind::kCorrupt, "tar: the stream ends in the middle of entry {} \"{:.200}\" (truncated)", entries_,
                entry_.path);
}

Result<void> TarReader::on_block(Block block) {
  TRY(handler_.on_raw(block));
  switch (state_) {
    case State::kGnuSparse: {
      TRY_ASSIGN(const bool more, parse_gnu_sparse_extension(block, gnu_sparse_));
      return more ? Result<void>() : finish_gnu_sparse();
    }
    case State::kPaxSparse: {
      if (entry_.stored_size < kTarBlock) {
        return entry_error(ErrorKind::kCorrupt, "its sparse map is longer than its content");
      }
      entry_.stored_size -= kTarBlock;
      TRY_ASSIGN(const bool complete, pax_map_.feed(block));
      if (!complete) return {};
      entry_.extents = pax_map_.take();
      TRY(check_sparse());
      return start_content();
    }
    default:
      return on_header(block);
  }
}

Result<void> TarReader::on_header(Block block) {
  if (is_zero_block(block)) {
    if (seen_zero_block_) state_ = State::kTrailer;
    seen_zero_block_ = true;
    return {};
  }
  if (seen_zero_block_) {
    return errorf(ErrorKind::kCorrupt, "tar: data after a single zero block (two end an archive)");
  }
  TRY_ASSIGN(const TarHeader header, parse_tar_header(block));
  switch (header.type) {
    case 'x':
    case 'X':
    case 'g':
    case 'L':
    case 'K':
      return begin_payload(header);
    default:
      return begin_entry(header, block);
  }
}

Result<void> TarReader::begin_payload(const TarHeader& header) {
  const bool pax = header.type == 'x' || header.type == 'X' || header.type == 'g';
  const uint64_t limit = pax ? kMaxPaxPayload : limits_.max_path == 0 ? kMaxPaxPayload : limits_.max_path + 1ULL;
  if (header.size > limit) {
    return errorf(ErrorKind::kInvalid, "tar: an extended header or name of {} bytes is longer than the limit of {}",
                  header.size, limit);
  }
  payload_type_ = header.type;
  payload_.clear();
  remaining_ = header.size;
  padding_ = padding_of(header.size);
  state_ = State::kPayload;
  return remaining_ == 0 ? end_payload() : Result<void>();
}

Result<void> TarReader::end_payload() {
  switch (payload_type_) {
    case 'L':
      long_name_ = until_nul(payload_);
      has_long_name_ = true;
      break;
    case 'K':
      long_link_ = until_nul(payload_);
      has_long_link_ = true;
      break;
    default: {
      PaxOverrides& into = payload_type_ == 'g' ? global_ : local_;
      TRY(parse_pax_records(payload_, limits_.max_path, limits_.max_xattrs, into));
    }
  }
  state_ = padding_ > 0 ? State::kPadding : State::kHeader;
  return {};
}

Result<void> TarReader::begin_entry(const TarHeader& header, Block block) {
  ++entries_;
  entry_ = TarEntry();
  if (limits_.max_entries != 0 && entries_ > limits_.max_entries) {
    return errorf(ErrorKind::kInvalid, "tar: more than the limit of {} entries", limits_.max_entries);
  }
  if (has_long_name_) {
    entry_.path = std::move(long_name_);
  } else if (!header.prefix.empty()) {
    entry_.path.append(header.prefix).append("/").append(header.name);
  } else {
    entry_.path = header.name;
  }
  entry_.link = has_long_link_ ? std::move(long_link_) : std::string(header.link);
  has_long_name_ = has_long_link_ = false;
  entry_.mode = header.mode;
  entry_.mtime = header.mtime;
  entry_.stored_size = header.size;

  bool skip_content = false;
  switch (header.type) {
    case '0':
    case '\0':
    case '7':
    case 'S':
      entry_.type = EntryType::kFile;
      break;
    case '1':
      entry_.type = EntryType::kHardLink;
      break;
    case '2':
      entry_.type = EntryType::kSymlink;
      break;
    case '3':
      entry_.type = EntryType::kCharDevice;
      break;
    case '4':
      entry_.type = EntryType::kBlockDevice;
      break;
    case '5':
    case 'D':
      entry_.type = EntryType::kDirectory;
      break;
    case '6':
      entry_.type = EntryType::kFifo;
      break;
    default:
      return entry_error(ErrorKind::kCorrupt,
                         fmt::format("its type {:#04x} is unknown", static_cast<unsigned char>(header.type)));
  }
  if (local_.uid || global_.uid ? (local_.uid ? *local_.uid : *global_.uid) >= 0xffffffffU
                                : header.uid >= 0xffffffffU) {
    return entry_error(ErrorKind::kCorrupt, "its user id does not fit in 32 bits");
  }
  if (local_.gid || global_.gid ? (local_.gid ? *local_.gid : *global_.gid) >= 0xffffffffU
                                : header.gid >= 0xffffffffU) {
    return entry_error(ErrorKind::kCorrupt, "its group id does not fit in 32 bits");
  }
  entry_.uid = static_cast<uint32_t>(header.uid);
  entry_.gid = static_cast<uint32_t>(header.gid);
  uint64_t major = header.dev_major, minor = header.dev_minor;
  for (const PaxOverrides* pax : {&global_, &local_}) {
    if (pax->dev_major) major = *pax->dev_major;
    if (pax->dev_minor) minor = *pax->dev_minor;
  }
  // 12 and 20 bits: the kernel's dev_t.
  if (major >= 1U << 12 || minor >= 1U << 20) {
    return entry_error(ErrorKind::kCorrupt, "its device number does not fit in 12 and 20 bits");
  }
  entry_.dev_major = static_cast<uint32_t>(major);
  entry_.dev_minor = static_cast<uint32_t>(minor);
  TRY(apply_pax());
  if (limits_.max_path != 0 && (entry_.path.size() > limits_.max_path || entry_.link.size() > limits_.max_path)) {
    return entry_error(ErrorKind::kInvalid, fmt::format("its name is longer than {} bytes", limits_.max_path));
  }
  // v7 has no type for folders: a trailing slash marks one, as Go has it in every format.
  if (header.type == '\0' && entry_.path.ends_with('/')) {
    entry_.type = EntryType::kDirectory;
  }
  if (is_header_only(header.type)) entry_.stored_size = 0;
  if (entry_.stored_size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) - kTarBlock) {
    return entry_error(ErrorKind::kCorrupt, "its size is absurd");
  }
  skip_content = entry_.type != EntryType::kFile;
  entry_.size = skip_content ? 0 : entry_.stored_size;
  padding_ = padding_of(entry_.stored_size);

  if (header.type == 'S') {
    gnu_sparse_ = GnuSparse();
    TRY_ASSIGN(const bool more, parse_gnu_sparse_header(block, gnu_sparse_));
    state_ = State::kGnuSparse;
    return more ? Result<void>() : finish_gnu_sparse();
  }
  if (entry_.type == EntryType::kFile && (local_.is_sparse() || global_.is_sparse())) return apply_sparse_pax();
  return start_content();
}

Result<void> TarReader::apply_pax() {
  for (PaxOverrides* pax : {&global_, &local_}) {
    if (pax->path) entry_.path = *pax->path;
    if (pax->link) entry_.link = *pax->link;
    if (pax->size) entry_.stored_size = *pax->size;
    if (pax->uid) entry_.uid = static_cast<uint32_t>(*pax->uid);
    if (pax->gid) entry_.gid = static_cast<uint32_t>(*pax->gid);
    if (pax->mtime) {
      entry_.mtime = pax->mtime->seconds;
      entry_.mtime_ns = pax->mtime->nanoseconds;
    }
  }
  entry_.xattrs = global_.xattrs;
  for (const Xattr& xattr : local_.xattrs) {
    std::erase_if(entry_.xattrs, [&](const Xattr& x) { return x.name == xattr.name; });
    entry_.xattrs.push_back(xattr);
  }
  if (local_.sparse_name) entry_.path = *local_.sparse_name;
  return {};
}

Result<void> TarReader::apply_sparse_pax() {
  if (!local_.is_sparse()) return entry_error(ErrorKind::kCorrupt, "a global PAX header makes files sparse");
  entry_.sparse = true;
  if (!local_.sparse_real_size) return entry_error(ErrorKind::kCorrupt, "it is sparse and has no real size");
  entry_.size = *local_.sparse_real_size;
  if (local_.sparse_major.value_or(0) == 1 && local_.sparse_minor.value_or(0) == 0) {
    pax_map_ = Pax10SparseMap();
    state_ = State::kPaxSparse;
    return {};
  }
  if (local_.sparse_major.value_or(0) != 0) return entry_error(ErrorKind::kCorrupt, "its sparse format is unknown");
  if (local_.sparse_blocks && *local_.sparse_blocks != local_.sparse_map.size()) {
    return entry_error(ErrorKind::kCorrupt, "its sparse map has not the length that it claims");
  }
  entry_.extents = std::move(local_.sparse_map);
  TRY(check_sparse());
  return start_content();
}

Result<void> TarReader::finish_gnu_sparse() {
  entry_.sparse = true;
  entry_.size = gnu_sparse_.real_size;
  entry_.extents = std::move(gnu_sparse_.extents);
  TRY(check_sparse());
  return start_content();
}

Result<void> TarReader::check_sparse() {
  std::erase_if(entry_.extents, [](const Extent& extent) { return extent.length == 0; });
  uint64_t end = 0, sum = 0;
  for (const Extent& extent : entry_.extents) {
    if (extent.offset < end || extent.length > entry_.size || extent.offset > entry_.size - extent.length) {
      return entry_error(ErrorKind::kCorrupt, "its sparse map overlaps, is out of order or exceeds its size");
    }
    end = extent.offset + extent.length;
    sum += extent.length;  // can't overflow: the stretches lie apart inside size
  }
  if (sum != entry_.stored_size) {
    return entry_error(ErrorKind::kCorrupt, "its sparse map and its content have different lengths");
  }
  return {};
}

Result<void> TarReader::start_content() {
  local_.clear();
  if (limits_.max_file_size != 0 && entry_.size > limits_.max_file_size) {
    return entry_error(ErrorKind::kInvalid,
                       fmt::format("its size of {} bytes exceeds the limit of {}", entry_.size, limits_.max_file_size));
  }
  remaining_ = entry_.stored_size;
  TRY(handler_.on_entry(entry_));
  if (remaining_ > 0) {
    state_ = State::kData;
    return {};
  }
  state_ = State::kHeader;
  return handler_.on_entry_end();
}

}  // namespace hull::tar
