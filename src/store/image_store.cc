#include "store/image_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "store/layer_mount.h"
#include "store/store_impl.h"

namespace hull::store {
namespace {

// References are stored in full (docker.io/library/busybox:latest) and shown short, so that a changed default registry
// never changes what a stored name means.
constexpr const char* kSchema = R"sql(
CREATE TABLE images(
  id TEXT PRIMARY KEY,                -- digest of the config
  manifest_digest TEXT NOT NULL,
  created INTEGER NOT NULL,           -- ns since 1970
  added INTEGER NOT NULL,             -- ns since 1970
  size INTEGER NOT NULL               -- unpacked bytes of all layers
) WITHOUT ROWID;
CREATE TABLE manifests(               -- every manifest by which an image came, newest last
  digest TEXT NOT NULL,
  image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  PRIMARY KEY(digest, image_id)
) WITHOUT ROWID;
CREATE INDEX manifests_image ON manifests(image_id);
CREATE TABLE layers(
  diff_id TEXT PRIMARY KEY,
  size INTEGER NOT NULL,              -- bytes of the tar stream
  disk INTEGER NOT NULL,              -- bytes that its files take
  synced INTEGER NOT NULL,            -- 0: written in boot `boot`, and not yet waited for
  boot TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE image_layers(
  image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
  position INTEGER NOT NULL,          -- 0: lowest
  diff_id TEXT NOT NULL REFERENCES layers,
  PRIMARY KEY(image_id, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_diff ON image_layers(diff_id);
CREATE TABLE tags(
  reference TEXT PRIMARY KEY,         -- registry/repository:tag
  image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX tags_image ON tags(image_id);
CREATE TABLE digests(
  reference TEXT PRIMARY KEY,         -- registry/repository@sha256:...
  image_id TEXT NOT NULL REFERENCES images ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX digests_image ON digests(image_id);
CREATE TABLE blobs(                   -- layer blobs as registries have them
  digest TEXT PRIMARY KEY,
  diff_id TEXT NOT NULL REFERENCES layers ON DELETE CASCADE,
  size INTEGER NOT NULL,
  media_type TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX blobs_diff ON blobs(diff_id);
CREATE TABLE blob_sources(            -- where a blob was seen, for mounting it across repositories
  digest TEXT NOT NULL REFERENCES blobs ON DELETE CASCADE,
  repository TEXT NOT NULL,           -- registry/repository
  PRIMARY KEY(digest, repository)
) WITHOUT ROWID;
PRAGMA application_id=1215651948;     -- "Hull"
PRAGMA user_version=1;
)sql";

bool is_hex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

bool valid_workload_id(std::string_view id) {
  return !id.empty() && id.size() <= 128 && id.find('/') == std::string_view::npos && id.front() != '.' &&
         id.find('\0') == std::string_view::npos;
}

std::chrono::system_clock::time_point time_of(int64_t ns) {
  return std::chrono::system_clock::time_point(
      std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::nanoseconds(ns)));
}

}  // namespace

Result<std::unique_ptr<ImageStore>> ImageStore::open(const StorePaths& paths) {
  TRY_ASSIGN(std::unique_ptr<StoreImpl> store, StoreImpl::open(paths));
  return std::unique_ptr<ImageStore>(std::move(store));
}

Result<std::unique_ptr<StoreImpl>> StoreImpl::open(const StorePaths& paths) {
  std::unique_ptr<StoreImpl> store(new StoreImpl(paths));
  const db::Options options{.subject = "image index", .lock_path = store->layout_.index_lock(), .foreign_keys = true};
  auto db = Database::open(store->layout_.index(), options);
  if (!db.ok() && !sys::exists(paths.data)) {
    TRY(sys::make_dirs(paths.data, 0700).context("make the data folder"));
    db = Database::open(store->layout_.index(), options);
  }
  if (!db.ok()) return std::move(db).error().context(fmt::format("image store {}", paths.data));
  store->db_ = std::move(db).value();
  TRY_ASSIGN(const int64_t version, store->db_->query_number("PRAGMA user_version"));
  if (version != kSchemaVersion) TRY(store->migrate());
  return store;
}

/// From nothing to the newest schema. Each later version adds its step here; all run in one transaction, so a process
/// killed in between leaves the old version.
Result<void> StoreImpl::migrate() {
  TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(*db_));
  // Another process may have been first.
  TRY_ASSIGN(const int64_t version, db_->query_number("PRAGMA user_version"));
  if (version > kSchemaVersion) {
    return errorf(ErrorKind::kUnsupported,
                  "image store {}: its index has version {}, this Hull knows up to {}; use a newer Hull", paths_.data,
                  version, kSchemaVersion);
  }
  if (version == 0) {
    TRY(db_->execute(kSchema));
    TRY(sys::make_dirs(layout_.blobs() + "/sha256", 0700));
    TRY(sys::make_dirs(layout_.layers(), 0700));
    TRY(sys::make_dirs(layout_.leases(), 0700));
    TRY(sys::make_dirs(layout_.holders(), 0700));
  }
  return transaction.commit();
}

Result<int> StoreImpl::layers_fd() {
  if (!layers_fd_) {
    TRY_ASSIGN(layers_fd_, sys::open(layout_.layers(), O_RDONLY | O_DIRECTORY));
  }
  return layers_fd_.get();
}

std::string StoreImpl::show(const std::string& canonical) const {
  if (paths_.default_registry != "docker.io") return canonical;
  auto reference = oci::parse_reference(canonical);
  return reference.ok() ? reference->familiar() : canonical;
}

Result<std::optional<StoreImpl::Resolved>> StoreImpl::resolve_name(std::string_view sql, const std::string& name,
                                                                   Resolved::By by) {
  TRY_ASSIGN(Statement statement, db_->prepare(sql));
  TRY_ASSIGN(const bool found, statement.bind(1, name).step());
  if (!found) return std::optional<Resolved>();
  Resolved out;
  out.id = statement.text(0);
  out.manifest_digest = statement.text(1);
  out.created_ns = statement.number(2);
  out.size = statement.number(3);
  out.by = by;
  out.name = name;
  return std::optional<Resolved>(std::move(out));
}

Result<StoreImpl::Resolved> StoreImpl::resolve(std::string_view text) {
  // As Docker: a whole id first, then a name, then a prefix of an id.
  std::string_view hex = text;
  const bool has_algorithm = hex.starts_with("sha256:");
  if (has_algorithm) hex.remove_prefix(7);
  const bool may_be_id = hex.size() >= 4 && hex.size() <= 64 && is_hex(hex);
  if (!(may_be_id && (has_algorithm || hex.size() == 64))) {
    auto parsed = oci::parse_reference(text, paths_.default_registry);
    if (!parsed.ok()) return std::move(parsed).error();
    oci::Reference reference = std::move(parsed).value();
    std::optional<Resolved> found;
    if (!reference.digest.empty()) {
      reference.tag.clear();
      TRY_ASSIGN(found, resolve_name("SELECT i.id, i.manifest_digest, i.created, i.size FROM digests d JOIN images i "
                                     "ON i.id = d.image_id WHERE d.reference = ?1",
                                     reference.canonical(), Resolved::By::kDigest));
    } else {
      TRY_ASSIGN(found, resolve_name("SELECT i.id, i.manifest_digest, i.created, i.size FROM tags t JOIN images i "
                                     "ON i.id = t.image_id WHERE t.reference = ?1",
                                     reference.canonical(), Resolved::By::kTag));
    }
    if (found) return *std::move(found);
    if (!may_be_id) return errorf(ErrorKind::kNotFound, "no such image: {}", text);
  }
  TRY_ASSIGN(Statement statement,
             db_->prepare("SELECT id, manifest_digest, created, size FROM images WHERE id >= ?1 AND id < ?2 LIMIT 2"));
  const std::string first = "sha256:" + std::string(hex);
  const std::string last = first + "g";
  TRY_ASSIGN(const bool found, statement.bind(1, first).bind(2, last).step());
  if (!found) return errorf(ErrorKind::kNotFound, "no such image: {}", text);
  Resolved out;
  out.id = statement.text(0);
  out.manifest_digest = statement.text(1);
  out.created_ns = statement.number(2);
  out.size = statement.number(3);
  out.by = Resolved::By::kId;
  TRY_ASSIGN(const bool second, statement.step());
  if (second) {
    return errorf(ErrorKind::kConflict, "image id \"{}\" fits more than one image; write more digits of it", text);
  }
  return out;
}

Result<std::string> StoreImpl::config_text(const std::string& image_id) const {
  TRY_ASSIGN(const Digest id, Digest::parse(image_id));
  auto text = sys::read_file(layout_.blob(id), oci::kMaxConfigBytes);
  if (!text.ok()) {
    return std::move(text)
        .error()
        .as(ErrorKind::kCorrupt)
        .context(
            fmt::format("config of image {} (run 'hull system check --repair' and pull it again)", id.short_hex()));
  }
  return text;
}

Result<Image> StoreImpl::find(std::string_view text) {
  Image image;
  {
    TRY_ASSIGN(const ReadTransaction view, ReadTransaction::begin(*db_));
    TRY_ASSIGN(const Resolved row, resolve(text));
    TRY_ASSIGN(image.id, Digest::parse(row.id));
    TRY_ASSIGN(image.manifest_digest, Digest::parse(row.manifest_digest));
    image.size = static_cast<uint64_t>(row.size);
    image.created = time_of(row.created_ns);
    // One statement for the three lists: preparing costs more than stepping.
    TRY_ASSIGN(Statement lists, db_->prepare("SELECT 0, reference, 0, 0 FROM tags WHERE image_id = ?1 UNION ALL "
                                             "SELECT 1, reference, 0, 0 FROM digests WHERE image_id = ?1 UNION ALL "
                                             "SELECT 2, diff_id, position, size FROM image_layers JOIN layers "
                                             "USING (diff_id) WHERE image_id = ?1"));
    lists.bind(1, row.id);
    struct Layer {
      int64_t position = 0;
      Digest diff_id;
      uint64_t size = 0;
    };
    std::vector<Layer> layers;
    while (true) {
      TRY_ASSIGN(const bool more, lists.step());
      if (!more) break;
      switch (lists.number(0)) {
        case 0:
          image.tags.push_back(show(lists.text(1)));
          break;
        case 1:
          image.digests.push_back(show(lists.text(1)));
          break;
        default: {
          TRY_ASSIGN(Digest diff_id, Digest::parse(lists.text(1)));
          layers.push_back({lists.number(2), std::move(diff_id), static_cast<uint64_t>(lists.number(3))});
        }
      }
    }
    std::sort(layers.begin(), layers.end(), [](const Layer& a, const Layer& b) { return a.position < b.position; });
    for (Layer& layer : layers) {
      image.diff_ids.push_back(std::move(layer.diff_id));
      image.layer_sizes.push_back(layer.size);
    }
  }
  TRY_ASSIGN(image.config_json, config_text(image.id.str()));
  auto config = oci::parse_image_config(image.config_json);
  if (!config.ok()) {
    return std::move(config).error().as(ErrorKind::kCorrupt).context(fmt::format("image {}", image.id.short_hex()));
  }
  image.config = std::move(config).value();
  return image;
}

Result<std::vector<ImageSummary>> StoreImpl::list(bool all) {
  std::map<std::string, ImageSummary> by_id;
  {
    TRY_ASSIGN(const ReadTransaction view, ReadTransaction::begin(*db_));
    TRY_ASSIGN(Statement rows, db_->prepare("SELECT id, created, size FROM images"));
    while (true) {
      TRY_ASSIGN(const bool more, rows.step());
      if (!more) break;
      ImageSummary one;
      TRY_ASSIGN(one.id, Digest::parse(rows.text(0)));
      one.created = time_of(rows.number(1));
      one.size = static_cast<uint64_t>(rows.number(2));
      by_id.emplace(rows.text(0), std::move(one));
    }
    TRY_ASSIGN(Statement names, db_->prepare("SELECT image_id, reference, 0 FROM tags UNION ALL "
                                             "SELECT image_id, reference, 1 FROM digests ORDER BY 2"));
    while (true) {
      TRY_ASSIGN(const bool more, names.step());
      if (!more) break;
      const auto it = by_id.find(names.text(0));
      if (it == by_id.end()) continue;
      (names.number(2) == 0 ? it->second.tags : it->second.digests).push_back(show(names.text(1)));
    }
  }
  TRY_ASSIGN(const auto holding, holder_map());
  for (const auto& [workload, id] : holding) {
    if (const auto it = by_id.find(id); it != by_id.end()) ++it->second.containers;
  }
  std::vector<ImageSummary> out;
  out.reserve(by_id.size());
  // `all` adds intermediate images of builds; there are none, and dangling ones are always listed, as Docker does.
  static_cast<void>(all);
  for (auto& [id, summary] : by_id) out.push_back(std::move(summary));
  std::stable_sort(out.begin(), out.end(),
                   [](const ImageSummary& a, const ImageSummary& b) { return a.created > b.created; });
  return out;
}

Result<void> StoreImpl::tag(std::string_view source, std::string_view target) {
  auto reference = oci::parse_reference(target, paths_.default_registry);
  if (!reference.ok()) return std::move(reference).error();
  if (!reference->digest.empty()) {
    return errorf(ErrorKind::kInvalid, "tag \"{}\": a new name can't hold a digest", target);
  }
  TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(*db_));
  TRY_ASSIGN(const Resolved image, resolve(source));
  TRY_ASSIGN(Statement insert, db_->prepare("INSERT INTO tags(reference, image_id) VALUES(?1, ?2) "
                                            "ON CONFLICT(reference) DO UPDATE SET image_id = excluded.image_id"));
  const std::string name = reference->canonical();
  TRY(insert.bind(1, name).bind(2, image.id).run());
  TRY(transaction.commit());
  notify("tag", image.id, show(name));
  return {};
}

// A holder is a symbolic link: one system call to make, atomic, no wait for the disk on the way of `run`.
Result<void> StoreImpl::hold(const Digest& image_id, std::string_view workload_id) {
  if (!valid_workload_id(workload_id)) {
    return errorf(ErrorKind::kInvalid, "hold image: \"{:.130}\" is not a workload id", workload_id);
  }
  TRY_ASSIGN(const sys::FileLock lock, sys::FileLock::acquire(layout_.gc_lock(), false, true));
  TRY_ASSIGN(Statement exists, db_->prepare("SELECT 1 FROM images WHERE id = ?1"));
  TRY_ASSIGN(const bool found, exists.bind(1, image_id.str()).step());
  if (!found) return errorf(ErrorKind::kNotFound, "no such image: {}", image_id.str());
  const std::string path = layout_.holders() + "/" + std::string(workload_id);
  if (::symlink(image_id.str().c_str(), path.c_str()) == 0) return {};
  if (errno != EEXIST) return errnof("hold image {} for {}", image_id.short_hex(), workload_id);
  char target[128];
  const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
  if (length < 0) return errnof("read {}", path);
  if (std::string_view(target, static_cast<size_t>(length)) == image_id.str()) return {};
  const std::string fresh = layout_.holders() + "/.new-" + std::string(workload_id);
  ::unlink(fresh.c_str());
  if (::symlink(image_id.str().c_str(), fresh.c_str()) != 0) return errnof("hold image {}", image_id.short_hex());
  if (::rename(fresh.c_str(), path.c_str()) != 0) return errnof("hold image {}", image_id.short_hex());
  return {};
}

Result<void> StoreImpl::release(std::string_view workload_id) {
  if (!valid_workload_id(workload_id)) {
    return errorf(ErrorKind::kInvalid, "release image: \"{:.130}\" is not a workload id", workload_id);
  }
  const std::string path = layout_.holders() + "/" + std::string(workload_id);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return errnof("release the image of {}", workload_id);
  return {};
}

Result<std::map<std::string, std::string>> StoreImpl::holder_map() const {
  std::map<std::string, std::string> out;
  TRY_ASSIGN(const std::vector<std::string> names, folder_entries(layout_.holders()));
  for (const std::string& name : names) {
    if (name.front() == '.') continue;
    char target[160];
    const ssize_t length = ::readlink((layout_.holders() + "/" + name).c_str(), target, sizeof target);
    if (length > 0) out.emplace(name, std::string(target, static_cast<size_t>(length)));
  }
  return out;
}

Result<std::vector<std::string>> StoreImpl::holders() {
  TRY_ASSIGN(const auto map, holder_map());
  std::vector<std::string> out;
  for (const auto& [workload, id] : map) out.push_back(workload);
  return out;
}

/// A layer that was written just before the machine lost power may be torn: only its own boot may use it unverified.
Result<void> StoreImpl::refuse_unsynced(const Image& image) {
  TRY_ASSIGN(Statement rows, db_->prepare("SELECT y.diff_id, y.boot FROM image_layers l JOIN layers y ON "
                                          "y.diff_id = l.diff_id WHERE l.image_id = ?1 AND y.synced = 0"));
  rows.bind(1, image.id.str());
  std::string boot;
  while (true) {
    TRY_ASSIGN(const bool more, rows.step());
    if (!more) return {};
    if (boot.empty()) boot = boot_id();
    if (rows.text(1) == boot) continue;
    return errorf(ErrorKind::kCorrupt,
                  "image {}: the machine went down before layer {:.19} was on the disk; pull the image again",
                  image.id.short_hex(), rows.text(0));
  }
}

namespace {

/// The same layer may occur twice (empty layers do). Overlayfs refuses a folder named twice, and the lower occurrence
/// adds nothing: all that it holds is in the upper one, above whatever lies between.
std::vector<Digest> uppermost_layers_first(const Image& image) {
  std::vector<Digest> layers;
  std::set<std::string_view> seen;
  for (auto it = image.diff_ids.rbegin(); it != image.diff_ids.rend(); ++it) {
    if (seen.insert(it->str()).second) layers.push_back(*it);
  }
  return layers;
}

}  // namespace

Result<std::vector<std::string>> StoreImpl::layer_blobs(const Image& image) {
  TRY(refuse_unsynced(image));
  std::vector<std::string> files;
  for (const Digest& layer : uppermost_layers_first(image)) {
    const std::string base = layout_.layers() + "/" + std::string(layer.hex());
    struct stat info{};
    if (::lstat((base + ".erofs").c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
      files.push_back(base + ".erofs");
      continue;
    }
    if (::lstat(base.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
      return errorf(ErrorKind::kUnsupported,
                    "image {} was unpacked to folders, because this host could not mount EROFS then, and a virtual "
                    "machine needs its layers as files: remove it ('hull rmi') and pull it again where it can",
                    image.id.short_hex());
    }
    return errorf(ErrorKind::kNotFound, "layer {} of image {} is missing: pull the image again", layer.short_hex(),
                  image.id.short_hex());
  }
  return files;
}

Result<std::vector<std::string>> StoreImpl::lower_dirs(const Image& image) {
  const LayerPlaces places{layout_.layers(), paths_.run + "/layers"};
  const std::vector<Digest> uppermost_first = uppermost_layers_first(image);
  TRY(refuse_unsynced(image));
  auto dirs = ensure_mounted(places, uppermost_first);
  if (!dirs.ok()) {
    return std::move(dirs).error().context(fmt::format("layers of image {}", image.id.short_hex()));
  }
  return dirs;
}

Result<ImageStore::Usage> StoreImpl::usage() {
  Usage out;
  {
    TRY_ASSIGN(const ReadTransaction view, ReadTransaction::begin(*db_));
    TRY_ASSIGN(Statement sums,
               db_->prepare("SELECT coalesce(sum(disk), 0), (SELECT count(*) FROM images) FROM layers"));
    TRY_ASSIGN(const bool row, sums.step());
    if (row) {
      out.layers_bytes = static_cast<uint64_t>(sums.number(0));
      out.images = static_cast<int>(sums.number(1));
    }
  }
  TRY_ASSIGN(const auto holding, holder_map());
  std::set<std::string> used;
  for (const auto& [workload, id] : holding) used.insert(id);
  // Reclaimable is what `prune --all` would free: layers that no held image uses.
  std::set<std::string> kept;
  TRY_ASSIGN(Statement rows, db_->prepare("SELECT l.image_id, l.diff_id, y.disk FROM image_layers l "
                                          "JOIN layers y ON y.diff_id = l.diff_id"));
  uint64_t kept_bytes = 0;
  std::set<std::string> held_images;
  while (true) {
    TRY_ASSIGN(const bool more, rows.step());
    if (!more) break;
    if (!used.contains(rows.text(0))) continue;
    held_images.insert(rows.text(0));
    if (kept.insert(rows.text(1)).second) kept_bytes += static_cast<uint64_t>(rows.number(2));
  }
  out.images_in_use = static_cast<int>(held_images.size());
  out.reclaimable_bytes = out.layers_bytes - std::min(out.layers_bytes, kept_bytes);
  return out;
}

}  // namespace hull::store
