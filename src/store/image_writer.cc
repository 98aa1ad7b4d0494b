#include "store/image_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/error_format.h"
#include "base/units.h"
#include "store/store_impl.h"

namespace hull::store {
namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

/// The byte of layer.locks for a layer: 62 bits of its digest. Two layers that share it would only wait for each other.
off_t lock_offset(const Digest& diff_id) {
  uint64_t bits = 0;
  for (const char c : diff_id.hex().substr(0, 16)) {
    bits = bits << 4 | static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  return static_cast<off_t>(bits >> 2);
}

}  // namespace

Result<std::unique_ptr<ImageWriter>> ImageWriter::open(const StorePaths& paths) {
  std::unique_ptr<ImageWriter> writer(new ImageWriter());
  TRY_ASSIGN(writer->store_, StoreImpl::open(paths));
  TRY_ASSIGN(writer->layers_fd_, writer->store_->layers_fd());
  const Layout& layout = writer->store_->layout();
  // Under gc.lock: between making the file and locking it a collector would take the lease for a dead one.
  TRY_ASSIGN(const sys::FileLock lock, sys::FileLock::acquire(layout.gc_lock(), false, true));
  unsigned char random[12];
  if (::getrandom(random, sizeof random, 0) != sizeof random) return errno_error("getrandom");
  writer->lease_name_ = to_hex(random, sizeof random);
  writer->lease_path_ = layout.leases() + "/" + writer->lease_name_;
  TRY_ASSIGN(writer->lease_, sys::open(writer->lease_path_, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600));
  if (::flock(writer->lease_.get(), LOCK_EX | LOCK_NB) != 0) return errnof("lock {}", writer->lease_path_);
  return writer;
}

ImageWriter::~ImageWriter() {
  if (lease_) ::unlink(lease_path_.c_str());
}

ImageStore& ImageWriter::store() { return *store_; }
int ImageWriter::layers_fd() const { return layers_fd_; }
std::string ImageWriter::layers_path() const { return store_->layout().layers(); }

LayerPlaces ImageWriter::layer_places() const { return {layers_path(), store_->paths().run + "/layers"}; }

std::string ImageWriter::staging_name() {
  const std::lock_guard guard(mutex_);
  return fmt::format("{}{}-{}", kStagePrefix, lease_name_, next_stage_++);
}

Result<void> ImageWriter::protect(std::span<const Digest> digests) {
  const std::lock_guard guard(mutex_);
  std::string lines;
  for (const Digest& digest : digests) {
    if (protected_.insert(digest.str()).second) lines += digest.str() + "\n";
  }
  if (lines.empty()) return {};
  TRY_ASSIGN(const sys::FileLock lock, sys::FileLock::acquire(store_->layout().gc_lock(), false, true));
  return sys::write_all(lease_.get(), lines).context("write lease");
}

Result<bool> ImageWriter::has_layer(const Digest& diff_id) {
  const std::lock_guard guard(mutex_);
  TRY_ASSIGN(Statement row, store_->db().prepare("SELECT synced, boot FROM layers WHERE diff_id = ?1"));
  TRY_ASSIGN(const bool found, row.bind(1, diff_id.str()).step());
  if (!found || !layer_files_exist(layers_fd_, diff_id)) return false;
  return row.number(0) != 0 || row.text(1) == boot_id();
}

Result<uint64_t> ImageWriter::layer_size(const Digest& diff_id) {
  const std::lock_guard guard(mutex_);
  TRY_ASSIGN(Statement row, store_->db().prepare("SELECT size FROM layers WHERE diff_id = ?1"));
  TRY_ASSIGN(const bool found, row.bind(1, diff_id.str()).step());
  if (!found) return errorf(ErrorKind::kNotFound, "layer {} is not in the store", diff_id.short_hex());
  return static_cast<uint64_t>(row.number(0));
}

Result<std::optional<Digest>> ImageWriter::diff_id_of_blob(const Digest& blob) {
  const std::lock_guard guard(mutex_);
  TRY_ASSIGN(Statement row, store_->db().prepare("SELECT diff_id FROM blobs WHERE digest = ?1"));
  TRY_ASSIGN(const bool found, row.bind(1, blob.str()).step());
  if (!found) return std::optional<Digest>();
  TRY_ASSIGN(Digest diff_id, Digest::parse(row.text(0)));
  return std::optional<Digest>(std::move(diff_id));
}

Result<std::optional<LayerLock>> ImageWriter::lock_layer(const Digest& diff_id, bool wait) {
  // A description of its own for each lock, so that threads of one process exclude each other too.
  TRY_ASSIGN(UniqueFd fd, sys::open(store_->layout().layer_locks(), O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = lock_offset(diff_id);
  range.l_len = 1;
  if (::fcntl(fd.get(), wait ? F_OFD_SETLKW : F_OFD_SETLK, &range) != 0) {
    if (errno == EAGAIN || errno == EACCES) return std::optional<LayerLock>();
    if (errno == EINTR) return errorf(ErrorKind::kUnavailable, "wait for layer {}: interrupted", diff_id.short_hex());
    return errnof("lock layer {}", diff_id.short_hex());
  }
  return std::optional<LayerLock>(LayerLock(std::move(fd)));
}

Result<void> ImageWriter::add_layer(const LayerRecord& layer, std::string_view repository) {
  const std::lock_guard guard(mutex_);
  Database& db = store_->db();
  TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(db));
  TRY_ASSIGN(Statement insert,
             db.prepare("INSERT INTO layers(diff_id, size, disk, synced, boot) VALUES(?1, ?2, ?3, 0, ?4) "
                        "ON CONFLICT(diff_id) DO UPDATE SET size = excluded.size, disk = excluded.disk, "
                        "synced = 0, boot = excluded.boot"));
  const std::string boot = boot_id();
  TRY(insert.bind(1, layer.diff_id.str())
          .bind(2, static_cast<int64_t>(layer.tar_size))
          .bind(3, static_cast<int64_t>(layer_files_size(layers_fd_, layer.diff_id)))
          .bind(4, boot)
          .run());
  if (!repository.empty() && !layer.blob_digest.empty()) TRY(insert_blob(layer, repository));
  TRY(transaction.commit());
  unsynced_.push_back(layer.diff_id);
  return {};
}

Result<void> ImageWriter::insert_blob(const LayerRecord& layer, std::string_view repository) {
  Database& db = store_->db();
  TRY_ASSIGN(Statement insert, db.prepare("INSERT INTO blobs(digest, diff_id, size, media_type) VALUES(?1, ?2, ?3, ?4) "
                                          "ON CONFLICT(digest) DO UPDATE SET diff_id = excluded.diff_id"));
  TRY(insert.bind(1, layer.blob_digest.str())
          .bind(2, layer.diff_id.str())
          .bind(3, static_cast<int64_t>(layer.blob_size))
          .bind(4, layer.media_type)
          .run());
  if (repository.empty()) return {};
  TRY_ASSIGN(Statement source, db.prepare("INSERT OR IGNORE INTO blob_sources(digest, repository) VALUES(?1, ?2)"));
  return source.bind(1, layer.blob_digest.str()).bind(2, repository).run();
}

Result<void> ImageWriter::add_blob(const LayerRecord& layer, std::string_view repository) {
  const std::lock_guard guard(mutex_);
  Database& db = store_->db();
  {
    // The common case of a second pull: all is known, nothing is written.
    TRY_ASSIGN(Statement known, db.prepare("SELECT 1 FROM blob_sources s JOIN blobs b ON b.digest = s.digest "
                                           "WHERE s.digest = ?1 AND s.repository = ?2 AND b.diff_id = ?3"));
    TRY_ASSIGN(const bool found,
               known.bind(1, layer.blob_digest.str()).bind(2, repository).bind(3, layer.diff_id.str()).step());
    if (found) return {};
  }
  TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(db));
  TRY(insert_blob(layer, repository));
  return transaction.commit();
}

Result<std::vector<ImageWriter::BlobForm>> ImageWriter::blob_forms(const Digest& diff_id) {
  const std::lock_guard guard(mutex_);
  TRY_ASSIGN(Statement rows, store_->db().prepare("SELECT b.digest, b.size, b.media_type, s.repository FROM blobs b "
                                                  "LEFT JOIN blob_sources s ON s.digest = b.digest "
                                                  "WHERE b.diff_id = ?1 ORDER BY b.digest"));
  rows.bind(1, diff_id.str());
  std::vector<BlobForm> out;
  while (true) {
    TRY_ASSIGN(const bool more, rows.step());
    if (!more) return out;
    if (out.empty() || out.back().digest.str() != rows.text(0)) {
      BlobForm form;
      TRY_ASSIGN(form.digest, Digest::parse(rows.text(0)));
      form.size = static_cast<uint64_t>(rows.number(1));
      form.media_type = rows.text(2);
      out.push_back(std::move(form));
    }
    if (!rows.is_null(3)) out.back().repositories.push_back(rows.text(3));
  }
}

Result<std::optional<std::string>> ImageWriter::read_blob(const Digest& digest) {
  auto text = sys::read_file(store_->layout().blob(digest), oci::kMaxConfigBytes);
  if (text.ok()) return std::optional<std::string>(std::move(text).value());
  if (text.error().kind() == ErrorKind::kNotFound) return std::optional<std::string>();
  return std::move(text).error();
}

Result<void> ImageWriter::write_blob(const Digest& digest, std::string_view data) {
  const std::string path = store_->layout().blob(digest);
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 && static_cast<uint64_t>(info.st_size) == data.size()) return {};
  TRY(sys::make_dirs(path.substr(0, path.rfind('/'))));
  return sys::replace_file(path, data);
}

Result<CommittedImage> ImageWriter::commit_image(const NewImage& image) {
  const Digest blobs[] = {image.id, image.manifest_digest};
  TRY(protect(blobs));
  TRY(write_blob(image.id, image.config_json).context("write image config"));
  TRY(write_blob(image.manifest_digest, image.manifest_json).context("write image manifest"));
  TRY_ASSIGN(const oci::ImageConfig config, oci::parse_image_config(image.config_json));
  int64_t created = 0;
  if (auto when = parse_rfc3339(config.created); when.ok()) {
    created = std::chrono::duration_cast<std::chrono::nanoseconds>(when->time_since_epoch()).count();
  }

  const std::lock_guard guard(mutex_);
  Database& db = store_->db();
  CommittedImage out;
  TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(db));
  int64_t size = 0;
  {
    TRY_ASSIGN(Statement layer, db.prepare("SELECT size FROM layers WHERE diff_id = ?1"));
    for (const Digest& diff_id : image.diff_ids) {
      layer.bind(1, diff_id.str());
      TRY_ASSIGN(const bool found, layer.step());
      if (!found)
        return errorf(ErrorKind::kInternal, "commit image: layer {} is not in the store", diff_id.short_hex());
      size += layer.number(0);
      layer.reset();
    }
  }
  TRY_ASSIGN(Statement known, db.prepare("SELECT 1 FROM images WHERE id = ?1"));
  TRY_ASSIGN(const bool exists, known.bind(1, image.id.str()).step());
  known.reset();
  out.fresh = !exists;
  TRY_ASSIGN(Statement insert,
             db.prepare("INSERT INTO images(id, manifest_digest, created, added, size) VALUES(?1, ?2, ?3, ?4, ?5) "
                        "ON CONFLICT(id) DO UPDATE SET manifest_digest = excluded.manifest_digest WHERE ?6 = 0"));
  TRY(insert.bind(1, image.id.str())
          .bind(2, image.manifest_digest.str())
          .bind(3, created)
          .bind(4, now_ns())
          .bind(5, size)
          .bind(6, int64_t{image.manifest_is_made_up})
          .run());
  if (!exists || !image.manifest_is_made_up) {
    TRY_ASSIGN(Statement manifest, db.prepare("INSERT OR IGNORE INTO manifests(digest, image_id) VALUES(?1, ?2)"));
    TRY(manifest.bind(1, image.manifest_digest.str()).bind(2, image.id.str()).run());
  }
  if (!exists) {
    TRY_ASSIGN(Statement layer, db.prepare("INSERT INTO image_layers(image_id, position, diff_id) VALUES(?1, ?2, ?3)"));
    for (size_t i = 0; i < image.diff_ids.size(); ++i) {
      TRY(layer.bind(1, image.id.str()).bind(2, static_cast<int64_t>(i)).bind(3, image.diff_ids[i].str()).run());
    }
  }
  TRY_ASSIGN(Statement tag,
             db.prepare("INSERT INTO tags(reference, image_id) VALUES(?1, ?2) ON CONFLICT(reference) "
                        "DO UPDATE SET image_id = excluded.image_id WHERE image_id != excluded.image_id"));
  for (oci::Reference name : image.tags) {
    name.digest = {};
    const std::string text = name.canonical();
    TRY(tag.bind(1, text).bind(2, image.id.str()).run());
    out.tag_moved = out.tag_moved || db.rows_changed() > 0;
  }
  TRY_ASSIGN(Statement digest,
             db.prepare("INSERT INTO digests(reference, image_id) VALUES(?1, ?2) ON CONFLICT(reference) "
                        "DO UPDATE SET image_id = excluded.image_id"));
  for (oci::Reference name : image.digests) {
    name.tag.clear();
    const std::string text = name.canonical();
    TRY(digest.bind(1, text).bind(2, image.id.str()).run());
  }
  TRY(transaction.commit());
  return out;
}

std::vector<Digest> ImageWriter::unsynced() {
  const std::lock_guard guard(mutex_);
  return unsynced_;
}

Result<void> ImageWriter::mark_synced(std::span<const Digest> diff_ids) {
  const std::lock_guard guard(mutex_);
  Database& db = store_->db();
  TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(db));
  TRY_ASSIGN(Statement update, db.prepare("UPDATE layers SET synced = 1 WHERE diff_id = ?1"));
  for (const Digest& diff_id : diff_ids) TRY(update.bind(1, diff_id.str()).run());
  TRY(transaction.commit());
  std::erase_if(unsynced_,
                [&](const Digest& one) { return std::find(diff_ids.begin(), diff_ids.end(), one) != diff_ids.end(); });
  return {};
}

}  // namespace hull::store
