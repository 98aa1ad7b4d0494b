#include "store/ingest/ingest.h"

#include <fcntl.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "base/error_format.h"
#include "store/layer/hasher.h"
#include "store/layer_mount.h"
#include "sys/file.h"
#include "sys/user_namespace.h"

namespace hull::store {
namespace {

LayerOptions options_for(const LayerJob& job, const LayerLimits& limits, LayerBackend backend) {
  LayerOptions options;
  options.backend = backend;
  options.userxattr = backend == LayerBackend::kDirectory && sys::in_user_namespace();
  options.compression = job.compression;
  options.limits = limits;
  options.expected_blob = job.blob_digest;
  options.expected_blob_size = job.blob_size;
  options.expected_diff_id = job.diff_id;
  return options;
}

LayerRecord record_of(const LayerJob& job) {
  LayerRecord record;
  record.diff_id = job.diff_id;
  if (job.blob_digest) record.blob_digest = *job.blob_digest;
  record.blob_size = job.blob_size.value_or(0);
  record.media_type = job.media_type;
  return record;
}

/// What lies in layers/ without an index entry is of a process that was killed, or of a power cut: not to be trusted.
/// Under the layer's lock.
Result<void> clear_untrusted(ImageWriter& writer, const Digest& diff_id) {
  if (!layer_exists(writer.layers_fd(), diff_id)) return {};
  ignore_result(unmount_layer(writer.layer_places(), diff_id));
  return remove_layer(writer.layers_fd(), diff_id);
}

/// Lets the kernel begin to write while other layers are still on their way, so that the wait at the end is short.
void begin_writeback(const ImageWriter& writer, const Digest& diff_id) {
  auto fd = sys::open_at(writer.layers_fd(), std::string(diff_id.hex()) + ".erofs", O_RDONLY);
  if (fd.ok()) ::sync_file_range(fd->get(), 0, 0, SYNC_FILE_RANGE_WRITE);
}

Result<void> ingest_one(ImageWriter& writer, const LayerJob& job, const LayerLimits& limits, LayerBackend backend,
                        TransferProgress& progress) {
  const auto note_blob = [&]() -> Result<void> {
    return job.blob_digest && !job.repository.empty() ? writer.add_blob(record_of(job), job.repository)
                                                      : Result<void>();
  };
  TRY_ASSIGN(bool there, writer.has_layer(job.diff_id));
  if (there) {
    progress.layer(job.label, LayerState::kExists);
    return note_blob();
  }
  TRY_ASSIGN(std::optional<LayerLock> lock, writer.lock_layer(job.diff_id, false));
  if (!lock) {
    progress.layer(job.label, LayerState::kWaiting);
    TRY_ASSIGN(lock, writer.lock_layer(job.diff_id, true));
    TRY_ASSIGN(there, writer.has_layer(job.diff_id));
    if (there) {
      progress.layer(job.label, LayerState::kExists);
      return note_blob();
    }
  }
  TRY(clear_untrusted(writer, job.diff_id));
  TRY_ASSIGN(const std::unique_ptr<ByteSource> source, job.open());
  progress.layer(job.label, LayerState::kDownloading);
  TRY_ASSIGN(StagedLayer staged,
             convert_layer(*source, writer.layers_fd(), writer.staging_name(), options_for(job, limits, backend)));
  TRY(staged.commit());
  LayerRecord record = record_of(job);
  record.tar_size = staged.info().tar_size;
  TRY(writer.add_layer(record, job.repository));
  begin_writeback(writer, job.diff_id);
  progress.layer(job.label, LayerState::kDone);
  return {};
}

}  // namespace

Digest sha256_of(std::string_view data) {
  auto hasher = Hasher::create();
  if (!hasher.ok()) return {};
  hasher->update(std::as_bytes(std::span(data)));
  return hasher->finish();
}

Result<LayerBackend> host_layer_backend(const ImageWriter& writer) {
  if (const char* wish = ::getenv("HULL_LAYER_BACKEND"); wish != nullptr && *wish != '\0') {
    const std::string_view name = wish;
    if (name == "erofs") return LayerBackend::kErofs;
    if (name == "directory") return LayerBackend::kDirectory;
    return errorf(ErrorKind::kInvalid, "HULL_LAYER_BACKEND=\"{:.40}\": expected erofs or directory", name);
  }
  static std::mutex mutex;
  static std::optional<bool> mountable;
  const std::lock_guard guard(mutex);
  if (!mountable) mountable = can_mount_erofs(writer.layers_path());
  return *mountable ? LayerBackend::kErofs : LayerBackend::kDirectory;
}

Result<void> ingest_layers(ImageWriter& writer, std::vector<LayerJob> jobs, const LayerLimits& limits, int parallel,
                           TransferProgress& progress, const std::function<void()>& abandon) {
  // The same layer twice in one image is one job.
  std::set<std::string> seen;
  std::erase_if(jobs, [&](const LayerJob& job) { return !seen.insert(job.diff_id.str()).second; });
  bool any_missing = false;
  for (const LayerJob& job : jobs) {
    TRY_ASSIGN(const bool there, writer.has_layer(job.diff_id));
    any_missing = any_missing || !there;
    if (!there) progress.layer(job.label, LayerState::kPending);
  }
  LayerBackend backend = LayerBackend::kErofs;
  if (any_missing) {
    TRY_ASSIGN(backend, host_layer_backend(writer));
  } else {
    parallel = 1;
  }

  std::mutex mutex;
  std::optional<Error> first_error;
  std::atomic<size_t> next{0};
  const auto work = [&] {
    while (true) {
      const size_t index = next.fetch_add(1);
      if (index >= jobs.size()) return;
      {
        const std::lock_guard guard(mutex);
        if (first_error) return;
      }
      auto done = ingest_one(writer, jobs[index], limits, backend, progress);
      if (done.ok()) continue;
      bool first = false;
      {
        const std::lock_guard guard(mutex);
        first = !first_error.has_value();
        if (first) first_error = std::move(done).error().context(fmt::format("layer {}", jobs[index].label));
      }
      if (first && abandon) abandon();
    }
  };
  const size_t count = std::min(jobs.size(), static_cast<size_t>(std::max(1, parallel)));
  std::vector<std::thread> threads;
  for (size_t i = 1; i < count; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (first_error) return *std::move(first_error);
  return {};
}

Result<LayerJob> layer_job(const oci::Descriptor& blob, const Digest& diff_id) {
  LayerJob job;
  job.label = blob.digest.short_hex();
  job.diff_id = diff_id;
  TRY_ASSIGN(job.compression, compression_of_media_type(blob.media_type));
  job.blob_digest = blob.digest;
  job.blob_size = static_cast<uint64_t>(blob.size);
  job.media_type = blob.media_type;
  return job;
}

Result<LayerInfo> ingest_unknown(ImageWriter& writer, ByteSource& tar, const LayerLimits& limits) {
  LayerOptions options;
  TRY_ASSIGN(options.backend, host_layer_backend(writer));
  options.limits = limits;
  TRY_ASSIGN(StagedLayer staged, convert_layer(tar, writer.layers_fd(), writer.staging_name(), options));
  const LayerInfo info = staged.info();
  TRY(writer.protect(std::span(&info.diff_id, 1)));
  TRY_ASSIGN(const std::optional<LayerLock> lock, writer.lock_layer(info.diff_id, true));
  TRY_ASSIGN(const bool there, writer.has_layer(info.diff_id));
  if (there) return info;
  TRY(clear_untrusted(writer, info.diff_id));
  TRY(staged.commit());
  LayerRecord record;
  record.diff_id = info.diff_id;
  record.tar_size = info.tar_size;
  TRY(writer.add_layer(record));
  return info;
}

Result<void> sync_written_layers(ImageWriter& writer) {
  const std::vector<Digest> layers = writer.unsynced();
  if (layers.empty()) return {};
  for (const Digest& diff_id : layers) TRY(sync_layer(writer.layers_fd(), diff_id));
  return writer.mark_synced(layers);
}

}  // namespace hull::store
