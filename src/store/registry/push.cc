#include "store/registry/push.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/error_format.h"
#include "store/ingest/gzip_source.h"
#include "store/ingest/ingest.h"
#include "store/ingest/stored_layer.h"
#include "store/registry/upload.h"

namespace hull::store {
namespace {

/// Packs while it is read.
class PackedLayer final : public ByteSource {
 public:
  explicit PackedLayer(std::unique_ptr<ByteSource> tar) : tar_(std::move(tar)), gzip_(*tar_) {}
  Result<size_t> read(std::span<std::byte> into) override { return gzip_.read(into); }

 private:
  std::unique_ptr<ByteSource> tar_;
  GzipSource gzip_;
};

bool is_packed(const std::string& media_type) { return media_type.ends_with("gzip") || media_type.ends_with("zstd"); }

struct LayerPush {
  Digest diff_id;
  oci::Descriptor original;  // what the manifest says
  oci::Descriptor result;    // what the registry has in the end
};

class Pusher {
 public:
  Pusher(RegistrySession& session, ImageWriter& writer, const oci::Reference& reference, bool docker_types,
         TransferProgress& progress)
      : session_(session), writer_(writer), ref_(reference), docker_types_(docker_types), progress_(progress) {}

  Result<void> push_layer(LayerPush& layer) {
    const std::string label(layer.diff_id.short_hex());
    progress_.layer(label, LayerState::kPreparing);
    // The form of the manifest first, then others that are known.
    std::vector<oci::Descriptor> forms;
    if (is_packed(layer.original.media_type)) forms.push_back(layer.original);
    TRY_ASSIGN(const auto known, writer_.blob_forms(layer.diff_id));
    for (const auto& form : known) {
      if (form.digest == layer.original.digest || !is_packed(form.media_type)) continue;
      oci::Descriptor other;
      other.media_type = form.media_type;
      other.digest = form.digest;
      other.size = static_cast<int64_t>(form.size);
      forms.push_back(std::move(other));
    }
    for (const oci::Descriptor& form : forms) {
      TRY_ASSIGN(const std::optional<uint64_t> there, session_.blob_exists(ref_.repository, form.digest));
      if (!there) continue;
      layer.result = form;
      progress_.layer(label, LayerState::kRemoteExists);
      return note(layer);
    }
    std::string upload_url;
    for (const oci::Descriptor& form : forms) {
      TRY_ASSIGN(const bool mounted, mount(form, known, &upload_url));
      if (!mounted) continue;
      layer.result = form;
      progress_.layer(label, LayerState::kMounted);
      return note(layer);
    }
    progress_.layer(label, LayerState::kPushing);
    TRY_ASSIGN(const UploadedBlob blob,
               upload_stream(
                   session_, ref_.repository, upload_url,
                   [&]() -> Result<std::unique_ptr<ByteSource>> {
                     TRY_ASSIGN(std::unique_ptr<ByteSource> tar, open_stored_layer(writer_, layer.diff_id));
                     return std::unique_ptr<ByteSource>(std::make_unique<PackedLayer>(std::move(tar)));
                   },
                   [&](uint64_t sent) { progress_.bytes(label, sent, 0); }));
    layer.result.digest = blob.digest;
    layer.result.size = static_cast<int64_t>(blob.size);
    layer.result.media_type = docker_types_ ? oci::kMediaTypeDockerLayerGzip : oci::kMediaTypeLayerGzip;
    if (blob.digest == layer.original.digest) layer.result = layer.original;
    progress_.layer(label, LayerState::kPushed);
    return note(layer);
  }

 private:
  Result<void> note(const LayerPush& layer) {
    LayerRecord record;
    record.diff_id = layer.diff_id;
    record.blob_digest = layer.result.digest;
    record.blob_size = static_cast<uint64_t>(layer.result.size);
    record.media_type = layer.result.media_type;
    return writer_.add_blob(record, ref_.registry + "/" + ref_.repository);
  }

  Result<bool> mount(const oci::Descriptor& form, const std::vector<ImageWriter::BlobForm>& known,
                     std::string* upload_url) {
    const std::string prefix = ref_.registry + "/";
    for (const auto& one : known) {
      if (one.digest != form.digest) continue;
      for (const std::string& place : one.repositories) {
        if (!place.starts_with(prefix) || place == prefix + ref_.repository) continue;
        TRY_ASSIGN(const bool mounted,
                   session_.mount_blob(ref_.repository, form.digest, place.substr(prefix.size()), upload_url));
        if (mounted) return true;
      }
    }
    return false;
  }

  RegistrySession& session_;
  ImageWriter& writer_;
  const oci::Reference& ref_;
  const bool docker_types_;
  TransferProgress& progress_;
};

}  // namespace

Result<PushOutcome> push_image(HttpEngine& http, const RegistrySettings& settings, const CredentialStore& credentials,
                               ImageWriter& writer, const oci::Reference& ref, TransferProgress& progress) {
  if (!ref.digest.empty()) return errorf(ErrorKind::kInvalid, "push {}: a name with a tag is needed", ref.familiar());
  TRY_ASSIGN(const StoredImage image, open_stored_image(writer, ref.canonical()));
  TRY_ASSIGN(const oci::Manifest manifest, oci::parse_manifest(image.manifest_json));
  if (manifest.layers.size() != image.image.diff_ids.size()) {
    return errorf(ErrorKind::kCorrupt, "push {}: its manifest does not fit its config", ref.familiar());
  }
  TRY_ASSIGN(const std::vector<Endpoint> endpoints, endpoints_of(ref.registry, settings, true));
  TRY_ASSIGN(Credentials login, credentials.find(ref.registry));
  TRY_ASSIGN(const std::shared_ptr<RegistrySession> session,
             RegistrySession::connect(http, settings, endpoints.front(), std::move(login)));

  const bool docker_types = manifest.media_type == oci::kMediaTypeDockerManifest;
  std::vector<LayerPush> layers;
  std::vector<size_t> unique;  // first occurrence of each layer
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const auto same = std::find_if(layers.begin(), layers.end(),
                                   [&](const LayerPush& one) { return one.diff_id == image.image.diff_ids[i]; });
    if (same == layers.end()) unique.push_back(i);
    layers.push_back({image.image.diff_ids[i], manifest.layers[i], {}});
  }
  Pusher pusher(*session, writer, ref, docker_types, progress);
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::optional<Error> first_error;
  const auto work = [&] {
    while (true) {
      const size_t index = next.fetch_add(1);
      if (index >= unique.size()) return;
      {
        const std::lock_guard guard(mutex);
        if (first_error) return;
      }
      auto pushed = pusher.push_layer(layers[unique[index]]);
      if (pushed.ok()) continue;
      const std::lock_guard guard(mutex);
      if (!first_error) first_error = std::move(pushed).error();
      http.end_transfers();
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < std::min(settings.parallel_layers, static_cast<int>(unique.size())); ++i) {
    threads.emplace_back(work);
  }
  work();
  for (std::thread& thread : threads) thread.join();
  if (first_error) return (*std::move(first_error)).context(fmt::format("push {}", ref.familiar()));

  TRY_ASSIGN(const std::optional<uint64_t> config_there, session->blob_exists(ref.repository, image.image.id));
  if (!config_there) TRY(session->upload_small(ref.repository, image.image.id, image.image.config_json));

  oci::Manifest final = manifest;
  bool changed = false;
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto first = std::find_if(layers.begin(), layers.end(),
                                    [&](const LayerPush& one) { return one.diff_id == layers[i].diff_id; });
    if (first->result.digest == final.layers[i].digest) continue;
    final.layers[i] = first->result;
    final.layers[i].urls.clear();
    changed = true;
  }
  const std::string body = changed ? oci::to_json(final) : image.manifest_json;
  PushOutcome out;
  out.digest = changed ? sha256_of(body) : image.image.manifest_digest;
  out.size = body.size();
  TRY(session->put_manifest(ref.repository, ref.tag, final.media_type, body, out.digest));

  // From now on the image is known by that digest too.
  NewImage known;
  known.id = image.image.id;
  known.config_json = image.image.config_json;
  known.manifest_digest = out.digest;
  known.manifest_json = body;
  known.diff_ids = image.image.diff_ids;
  oci::Reference by_digest = ref;
  by_digest.tag.clear();
  by_digest.digest = out.digest;
  known.digests.push_back(std::move(by_digest));
  TRY(writer.commit_image(known));
  return out;
}

}  // namespace hull::store
