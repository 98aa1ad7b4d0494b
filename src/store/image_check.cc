// `hull system check`, the store's part: the index against itself, against the disk, and (deep) the content of layers.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "store/layer_mount.h"
#include "store/store_impl.h"

namespace hull::store {
namespace {

Result<void> check_index(Database& db, bool deep, CheckReport* report) {
  TRY_ASSIGN(Statement integrity, db.prepare(deep ? "PRAGMA integrity_check(20)" : "PRAGMA quick_check(20)"));
  while (true) {
    TRY_ASSIGN(const bool more, integrity.step());
    if (!more) break;
    if (integrity.text(0) != "ok") report->problems.push_back("image index: " + integrity.text(0));
  }
  TRY_ASSIGN(Statement keys, db.prepare("PRAGMA foreign_key_check"));
  while (true) {
    TRY_ASSIGN(const bool more, keys.step());
    if (!more) return {};
    report->problems.push_back(
        fmt::format("image index: a row of {} refers to a missing row of {}", keys.text(0), keys.text(2)));
  }
}

/// A stem that names a layer ("<64 hex>", "<64 hex>.erofs", "<64 hex>.tarsplit"), or nothing.
std::optional<std::string> layer_of_file(std::string_view name) {
  const std::string_view stem = name.substr(0, name.find('.'));
  auto digest = Digest::parse("sha256:" + std::string(stem));
  if (!digest.ok()) return std::nullopt;
  return digest->str();
}

}  // namespace

Result<uint64_t> StoreImpl::sweep(const LiveLeases& live, bool repair, std::vector<std::string>* found) {
  uint64_t bytes = 0;
  TRY_ASSIGN(const std::vector<std::string> rows, db_->texts("SELECT diff_id FROM layers"));
  const std::set<std::string> known(rows.begin(), rows.end());
  TRY_ASSIGN(const int layers, layers_fd());
  const LayerPlaces places{layout_.layers(), paths_.run + "/layers"};
  TRY_ASSIGN(const std::vector<std::string> names, folder_entries(layout_.layers()));
  std::set<std::string> orphans;
  for (const std::string& name : names) {
    if (name.starts_with(kStagePrefix)) {
      // .stage-<lease>-<n>…
      std::string lease = name.substr(kStagePrefix.size());
      lease = lease.substr(0, lease.find('-'));
      if (live.names.contains(lease)) continue;
      found->push_back(fmt::format("layers/{}: left by a pull that was killed", name));
      if (!repair) continue;
      struct stat info{};
      if (::fstatat(layers, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
        bytes += static_cast<uint64_t>(info.st_blocks) * 512;
      }
      TRY(sys::remove_tree_at(layers, name));
    } else if (const auto diff_id = layer_of_file(name)) {
      if (!known.contains(*diff_id) && !live.digests.contains(*diff_id)) orphans.insert(*diff_id);
    }
  }
  for (const std::string& diff_id : orphans) {
    TRY_ASSIGN(const Digest digest, Digest::parse(diff_id));
    found->push_back(fmt::format("layers/{}: no index entry", digest.short_hex()));
    if (!repair) continue;
    ignore_result(unmount_layer(places, digest));
    TRY_ASSIGN(const uint64_t freed, remove_layer_files(layers, digest));
    bytes += freed;
  }
  TRY_ASSIGN(const std::set<std::string> blobs, known_blobs());
  TRY_ASSIGN(const std::vector<std::string> files, folder_entries(layout_.blobs() + "/sha256"));
  for (const std::string& name : files) {
    const std::string digest = "sha256:" + name;
    if (blobs.contains(digest) || live.spares_blob(name)) continue;
    found->push_back(fmt::format("blobs/sha256/{:.12}: no image uses it", name));
    if (!repair) continue;
    const std::string path = layout_.blobs() + "/sha256/" + name;
    struct stat info{};
    if (::stat(path.c_str(), &info) == 0) bytes += static_cast<uint64_t>(info.st_size);
    ::unlink(path.c_str());
  }
  return bytes;
}

/// What running workloads read is in the page cache and would hide a damaged disk: the layer is looked at through a
/// mount of its own, after its cached pages were dropped.
Result<void> StoreImpl::verify_afresh(const Digest& diff_id) {
  TRY_ASSIGN(const int layers, layers_fd());
  if (const auto file = sys::open_at(layers, std::string(diff_id.hex()) + ".erofs", O_RDONLY); file.ok()) {
    ::posix_fadvise(file->get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  const LayerPlaces places{layout_.layers(), fmt::format("{}/verify-{}", paths_.run, ::getpid())};
  auto dirs = ensure_mounted(places, std::span(&diff_id, 1));
  auto verified = dirs.ok() ? verifier_(diff_id, dirs->front()) : Result<void>(std::move(dirs).error());
  ignore_result(unmount_layer(places, diff_id));
  ignore_result(sys::remove_tree(places.mounts));
  return verified;
}

Result<CheckReport> StoreImpl::check(bool deep, bool repair) {
  if (deep && !verifier_) {
    return errorf(ErrorKind::kUnsupported,
                  "deep check: this program can't read layer content; use 'hull-images check'");
  }
  CheckReport report;
  TRY_ASSIGN(const sys::FileLock lock, sys::FileLock::acquire(layout_.gc_lock(), true, true));
  TRY(check_index(*db_, deep, &report));
  TRY_ASSIGN(const LiveLeases live, live_leases(layout_));
  TRY_ASSIGN(const auto holding, holder_map());
  TRY_ASSIGN(const int layers, layers_fd());

  // Layers whose artifact is missing or wrong take the images that need them with them: a pull brings both back.
  std::vector<std::string> bad_layers;
  TRY_ASSIGN(const std::vector<std::string> all_layers, db_->texts("SELECT diff_id FROM layers"));
  for (const std::string& diff_id : all_layers) {
    TRY_ASSIGN(const Digest digest, Digest::parse(diff_id));
    if (!layer_files_exist(layers, digest)) {
      report.problems.push_back(fmt::format("layer {}: its file is missing", digest.short_hex()));
      bad_layers.push_back(diff_id);
      continue;
    }
    if (!deep) continue;
    auto verified = verify_afresh(digest);
    if (!verified.ok()) {
      report.problems.push_back(fmt::format("layer {}: {}", digest.short_hex(), verified.error().message()));
      bad_layers.push_back(diff_id);
    }
  }

  std::set<std::string> bad_images;
  for (const std::string& diff_id : bad_layers) {
    TRY_ASSIGN(const std::vector<std::string> users,
               db_->texts("SELECT DISTINCT image_id FROM image_layers WHERE diff_id = ?1", diff_id));
    bad_images.insert(users.begin(), users.end());
  }
  std::vector<std::pair<std::string, std::string>> images;
  {
    TRY_ASSIGN(Statement rows, db_->prepare("SELECT id, manifest_digest FROM images"));
    while (true) {
      TRY_ASSIGN(const bool more, rows.step());
      if (!more) break;
      images.emplace_back(rows.text(0), rows.text(1));
    }
  }
  for (const auto& [id, manifest] : images) {
    const std::string_view short_id = std::string_view(id).substr(7, 12);
    auto text = config_text(id);
    auto config = text.ok() ? oci::parse_image_config(*text) : Result<oci::ImageConfig>(std::move(text).error());
    if (!config.ok()) {
      report.problems.push_back(fmt::format("image {}: {}", short_id, config.error().message()));
      bad_images.insert(id);
    }
    TRY_ASSIGN(const Digest manifest_digest, Digest::parse(manifest));
    if (!sys::exists(layout_.blob(manifest_digest))) {
      report.problems.push_back(
          fmt::format("image {}: its manifest {} is missing", short_id, manifest_digest.short_hex()));
      bad_images.insert(id);
    }
  }
  for (const auto& [workload, id] : holding) {
    bool found = false;
    for (const auto& image : images) found = found || image.first == id;
    if (!found) report.problems.push_back(fmt::format("workload {:.12}: its image {:.19} is gone", workload, id));
  }

  if (repair && (!bad_images.empty() || !bad_layers.empty())) {
    TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(*db_));
    for (const std::string& id : bad_images) {
      TRY(db_->run("DELETE FROM images WHERE id = ?1", id));
      report.repaired.push_back(fmt::format("image {:.19}: taken out of the index; pull it again", id));
    }
    for (const std::string& id : bad_layers) TRY(db_->run("DELETE FROM layers WHERE diff_id = ?1", id));
    TRY(transaction.commit());
  }
  std::vector<std::string> leftovers;
  TRY_ASSIGN(report.reclaimed, sweep(live, repair, &leftovers));
  for (std::string& one : leftovers) {
    if (repair) report.repaired.push_back(one + ": removed");
    report.problems.push_back(std::move(one));
  }
  return report;
}

}  // namespace hull::store
