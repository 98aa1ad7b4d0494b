// Removing references and images, and what nothing refers to any more. Rows go first, files after: a process killed in
// between leaves files without rows, which the next sweep takes. What runs or pulls at the same time is spared by
// holders and leases, both read under gc.lock.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "store/layer_mount.h"
#include "store/store_impl.h"

namespace hull::store {
namespace {

std::string repository_of(const std::string& reference) {
  const size_t at = reference.find('@');
  if (at != std::string::npos) return reference.substr(0, at);
  const size_t slash = reference.rfind('/');
  return reference.substr(0, reference.find(':', slash == std::string::npos ? 0 : slash));
}

}  // namespace

Result<std::vector<std::string>> StoreImpl::layers_of(const std::string& image_id) {
  return db_->texts("SELECT diff_id FROM image_layers WHERE image_id = ?1", image_id);
}

Result<RemoveReport> StoreImpl::remove(std::string_view text, bool force) {
  std::string id;
  TRY_ASSIGN(RemoveReport report, take_away(text, force, &id));
  for (const std::string& name : report.untagged) notify("untag", id, name);
  if (!report.deleted.empty()) notify("delete", id, id);
  return report;
}

Result<RemoveReport> StoreImpl::take_away(std::string_view text, bool force, std::string* image_id) {
  TRY_ASSIGN(const sys::FileLock lock, sys::FileLock::acquire(layout_.gc_lock(), true, true));
  RemoveReport report;
  std::set<std::string> touched;
  {
    TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(*db_));
    TRY_ASSIGN(const Resolved image, resolve(text));
    *image_id = image.id;
    TRY_ASSIGN(const std::vector<std::string> tags,
               db_->texts("SELECT reference FROM tags WHERE image_id = ?1 ORDER BY 1", image.id));
    TRY_ASSIGN(const std::vector<std::string> digests,
               db_->texts("SELECT reference FROM digests WHERE image_id = ?1 ORDER BY 1", image.id));
    TRY_ASSIGN(const auto holding, holder_map());
    std::string holder;
    for (const auto& [workload, id] : holding) {
      if (id == image.id) holder = workload;
    }
    const std::string_view short_id = std::string_view(image.id).substr(7, 12);

    const bool by_tag = image.by == Resolved::By::kTag;
    const bool by_digest = image.by == Resolved::By::kDigest;
    const bool others_remain = (by_tag && tags.size() > 1) || (by_digest && (!tags.empty() || digests.size() > 1));
    if (by_tag && others_remain) {
      TRY(db_->run("DELETE FROM tags WHERE reference = ?1", image.name));
      report.untagged.push_back(show(image.name));
      // The digest names of a repository go with its last tag.
      const std::string repository = repository_of(image.name);
      const bool still_tagged = std::any_of(tags.begin(), tags.end(), [&](const std::string& other) {
        return other != image.name && repository_of(other) == repository;
      });
      for (const std::string& digest : digests) {
        if (still_tagged || repository_of(digest) != repository) continue;
        TRY(db_->run("DELETE FROM digests WHERE reference = ?1", digest));
        report.untagged.push_back(show(digest));
      }
      TRY(transaction.commit());
      return report;
    }
    if (by_digest && others_remain) {
      TRY(db_->run("DELETE FROM digests WHERE reference = ?1", image.name));
      report.untagged.push_back(show(image.name));
      TRY(transaction.commit());
      return report;
    }
    if (image.by == Resolved::By::kId && !force) {
      std::set<std::string> repositories;
      for (const std::string& name : tags) repositories.insert(repository_of(name));
      if (repositories.size() > 1) {
        return errorf(ErrorKind::kConflict,
                      "remove image {}: it is referenced in {} repositories; remove by name, or force with -f",
                      short_id, repositories.size());
      }
    }
    if (!holder.empty() && !force) {
      return errorf(ErrorKind::kConflict,
                    "remove image {}: workload {} uses it; remove that first ('hull rm'), or force with -f to remove "
                    "only the name",
                    text, std::string_view(holder).substr(0, 12));
    }
    for (const std::string& name : tags) report.untagged.push_back(show(name));
    for (const std::string& name : digests) report.untagged.push_back(show(name));
    if (!holder.empty()) {
      TRY(db_->run("DELETE FROM tags WHERE image_id = ?1", image.id));
      TRY(db_->run("DELETE FROM digests WHERE image_id = ?1", image.id));
      TRY(transaction.commit());
      return report;
    }
    TRY_ASSIGN(const std::vector<std::string> layers, layers_of(image.id));
    touched.insert(layers.begin(), layers.end());
    TRY(db_->run("DELETE FROM images WHERE id = ?1", image.id));
    TRY_ASSIGN(Digest id, Digest::parse(image.id));
    report.deleted.push_back(std::move(id));
    TRY(transaction.commit());
  }
  TRY_ASSIGN(const LiveLeases live, live_leases(layout_));
  TRY_ASSIGN(Collected collected, collect(live, &touched));
  for (Digest& layer : collected.layers) report.deleted.push_back(std::move(layer));
  return report;
}

Result<StoreImpl::Collected> StoreImpl::collect(const LiveLeases& live, const std::set<std::string>* only) {
  Collected out;
  std::vector<Digest> victims;
  {
    TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(*db_));
    TRY_ASSIGN(Statement rows, db_->prepare("SELECT diff_id FROM layers WHERE NOT EXISTS "
                                            "(SELECT 1 FROM image_layers i WHERE i.diff_id = layers.diff_id)"));
    while (true) {
      TRY_ASSIGN(const bool more, rows.step());
      if (!more) break;
      const std::string diff_id = rows.text(0);
      if (live.digests.contains(diff_id) || (only != nullptr && !only->contains(diff_id))) continue;
      TRY_ASSIGN(Digest digest, Digest::parse(diff_id));
      victims.push_back(std::move(digest));
    }
    rows.reset();
    for (const Digest& digest : victims) TRY(db_->run("DELETE FROM layers WHERE diff_id = ?1", digest.str()));
    TRY(transaction.commit());
  }
  TRY_ASSIGN(const int layers, layers_fd());
  const LayerPlaces places{layout_.layers(), paths_.run + "/layers"};
  for (Digest& digest : victims) {
    // A layer that can't be unmounted or removed now has no row any more: the next sweep tries again.
    ignore_result(unmount_layer(places, digest));
    auto removed = remove_layer_files(layers, digest);
    if (removed.ok()) out.bytes += *removed;
    out.layers.push_back(std::move(digest));
  }
  // Manifests and configs of images that are gone.
  TRY_ASSIGN(const std::set<std::string> known, known_blobs());
  TRY_ASSIGN(const std::vector<std::string> names, folder_entries(layout_.blobs() + "/sha256"));
  for (const std::string& name : names) {
    const std::string digest = "sha256:" + name;
    if (known.contains(digest) || live.spares_blob(name)) continue;
    const std::string path = layout_.blobs() + "/sha256/" + name;
    struct stat info{};
    if (::stat(path.c_str(), &info) == 0) out.bytes += static_cast<uint64_t>(info.st_size);
    ::unlink(path.c_str());
  }
  return out;
}

Result<std::set<std::string>> StoreImpl::known_blobs() {
  TRY_ASSIGN(const std::vector<std::string> names,
             db_->texts("SELECT id FROM images UNION SELECT manifest_digest FROM images "
                        "UNION SELECT digest FROM manifests"));
  return std::set<std::string>(names.begin(), names.end());
}

namespace {

/// "key", "key=value", "!key", "!key=value" (Docker's label and label! filters).
bool label_matches(const std::map<std::string, std::string>& labels, std::string_view filter) {
  const bool negate = filter.starts_with('!');
  if (negate) filter.remove_prefix(1);
  const size_t equals = filter.find('=');
  const auto it = labels.find(std::string(filter.substr(0, equals)));
  const bool has = it != labels.end() && (equals == std::string_view::npos || it->second == filter.substr(equals + 1));
  return has != negate;
}

}  // namespace

Result<PruneReport> StoreImpl::prune(bool all, const std::vector<std::string>& label_filters,
                                     std::chrono::system_clock::time_point until) {
  TRY_ASSIGN(const sys::FileLock lock, sys::FileLock::acquire(layout_.gc_lock(), true, true));
  TRY_ASSIGN(const LiveLeases live, live_leases(layout_));
  TRY_ASSIGN(const auto holding, holder_map());
  std::set<std::string> held;
  for (const auto& [workload, id] : holding) held.insert(id);
  // min() or max() or the epoch: no limit.
  const bool limited = until.time_since_epoch().count() > 0 && until != std::chrono::system_clock::time_point::max();
  const int64_t until_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(until.time_since_epoch()).count();

  PruneReport report;
  std::vector<std::pair<std::string, std::vector<std::string>>> gone;  // ids with what they were called
  {
    TRY_ASSIGN(WriteTransaction transaction, WriteTransaction::begin(*db_));
    std::vector<std::string> candidates;
    TRY_ASSIGN(Statement rows, db_->prepare("SELECT id, created, EXISTS(SELECT 1 FROM tags WHERE image_id = images.id) "
                                            "FROM images"));
    while (true) {
      TRY_ASSIGN(const bool more, rows.step());
      if (!more) break;
      const std::string id = rows.text(0);
      if (held.contains(id) || live.digests.contains(id)) continue;
      if (!all && rows.number(2) != 0) continue;
      if (limited && rows.number(1) > until_ns) continue;
      candidates.push_back(id);
    }
    rows.reset();
    for (const std::string& id : candidates) {
      if (!label_filters.empty()) {
        // An image whose config can't be read has no labels that could be matched: it stays.
        auto text = config_text(id);
        if (!text.ok()) continue;
        auto config = oci::parse_image_config(*text);
        if (!config.ok()) continue;
        const auto& labels = config->config.labels;
        if (!std::all_of(label_filters.begin(), label_filters.end(),
                         [&](const std::string& filter) { return label_matches(labels, filter); })) {
          continue;
        }
      }
      TRY_ASSIGN(const std::vector<std::string> names,
                 db_->texts("SELECT reference FROM tags WHERE image_id = ?1 UNION ALL "
                            "SELECT reference FROM digests WHERE image_id = ?1",
                            id));
      for (const std::string& name : names) report.deleted.push_back("untagged: " + show(name));
      report.deleted.push_back("deleted: " + id);
      TRY(db_->run("DELETE FROM images WHERE id = ?1", id));
      gone.emplace_back(id, names);
    }
    TRY(transaction.commit());
  }
  for (const auto& [id, names] : gone) {
    for (const std::string& name : names) notify("untag", id, show(name));
    notify("delete", id, id);
  }
  TRY_ASSIGN(const Collected collected, collect(live, nullptr));
  for (const Digest& layer : collected.layers) report.deleted.push_back("deleted: " + layer.str());
  report.reclaimed = collected.bytes;
  std::vector<std::string> found;
  TRY_ASSIGN(const uint64_t swept, sweep(live, true, &found));
  report.reclaimed += swept;
  return report;
}

}  // namespace hull::store
