#include "store/registry/pull.h"

#include <atomic>

#include "base/error_format.h"
#include "store/ingest/ingest.h"
#include "store/registry/blob_source.h"
#include "store/registry/http_answers.h"

namespace hull::store {
namespace {

constexpr int kMaxIndexDepth = 3;

struct Resolved {
  ManifestAnswer manifest;  // of one platform
  Digest top;               // what the reference names
};

/// From tag or digest through indexes to the manifest of the platform.
Result<Resolved> resolve_manifest(RegistrySession& session, const PullOptions& options) {
  const oci::Reference& ref = options.reference;
  Resolved out;
  TRY_ASSIGN(out.manifest, session.manifest(ref.repository, ref.digest.empty() ? ref.tag : ref.digest.str()));
  out.top = out.manifest.digest;
  const oci::Platform platform = options.platform.value_or(oci::host_platform());
  for (int depth = 0;; ++depth) {
    auto index_or_not = oci::is_index(out.manifest.body, out.manifest.content_type);
    if (!index_or_not.ok()) {
      const ErrorAnswer told = parse_error_answer(out.manifest.body, out.manifest.content_type);
      if (told.html) {
        return errorf(ErrorKind::kUnavailable,
                      "registry {}: manifest of {}: an HTML page{} came instead (a proxy or login portal in between?)",
                      session.endpoint().registry, ref.familiar(),
                      told.message.empty() ? "" : " (\"" + told.message + "\")");
      }
      return std::move(index_or_not).error();
    }
    if (!*index_or_not) return out;
    if (depth >= kMaxIndexDepth) {
      return errorf(ErrorKind::kInvalid, "{}: indexes are nested deeper than {}", ref.familiar(), kMaxIndexDepth);
    }
    TRY_ASSIGN(const oci::Index index, oci::parse_index(out.manifest.body));
    TRY_ASSIGN(const oci::Descriptor chosen, oci::choose_platform(index, platform));
    TRY_ASSIGN(out.manifest, session.manifest(ref.repository, chosen.digest.str()));
    if (out.manifest.body.size() != static_cast<size_t>(chosen.size)) {
      return errorf(ErrorKind::kCorrupt, "manifest {} has {} bytes, the index says {}", chosen.digest.short_hex(),
                    out.manifest.body.size(), chosen.size);
    }
  }
}

Result<void> check_layers(const oci::Manifest& manifest, const oci::ImageConfig& config,
                          const RegistrySettings& settings) {
  if (manifest.layers.size() != config.diff_ids.size()) {
    return errorf(ErrorKind::kCorrupt, "the manifest has {} layers, the image config {}", manifest.layers.size(),
                  config.diff_ids.size());
  }
  uint64_t total = 0;
  for (const oci::Descriptor& layer : manifest.layers) {
    if (!layer.urls.empty() || layer.media_type.find("nondistributable") != std::string::npos ||
        layer.media_type.find("foreign") != std::string::npos) {
      return errorf(ErrorKind::kUnsupported, "layer {} is a foreign layer, kept outside of the registry: refused",
                    layer.digest.short_hex());
    }
    TRY(compression_of_media_type(layer.media_type));
    total += static_cast<uint64_t>(layer.size);
    if (total > settings.max_image_bytes || total < static_cast<uint64_t>(layer.size)) {
      return errorf(ErrorKind::kInvalid, "its layers have more than {} bytes (hull.toml: limits.max_image_bytes)",
                    settings.max_image_bytes);
    }
  }
  return {};
}

Result<PullOutcome> pull_from(const std::shared_ptr<RegistrySession>& session, ImageWriter& writer,
                              const PullOptions& options, TransferProgress& progress) {
  const oci::Reference& ref = options.reference;
  const RegistrySettings& settings = session->settings();
  TRY_ASSIGN(const Resolved found, resolve_manifest(*session, options));
  TRY_ASSIGN(const oci::Manifest manifest, oci::parse_manifest(found.manifest.body));

  const Digest blobs[] = {manifest.config.digest, found.manifest.digest};
  TRY(writer.protect(blobs));
  NewImage image;
  image.id = manifest.config.digest;
  image.manifest_digest = found.manifest.digest;
  image.manifest_json = found.manifest.body;
  TRY_ASSIGN(std::optional<std::string> known_config, writer.read_blob(manifest.config.digest));
  if (known_config && sha256_of(*known_config) == manifest.config.digest) {
    image.config_json = *std::move(known_config);
  } else {
    TRY_ASSIGN(image.config_json, session->small_blob(ref.repository, manifest.config, oci::kMaxConfigBytes));
  }
  TRY_ASSIGN(const oci::ImageConfig config, oci::parse_image_config(image.config_json));
  TRY(check_layers(manifest, config, settings));
  image.diff_ids = config.diff_ids;
  if (!ref.tag.empty() && ref.digest.empty()) image.tags.push_back(ref);
  oci::Reference by_digest = ref;
  by_digest.tag.clear();
  by_digest.digest = found.top;
  image.digests.push_back(by_digest);

  TRY(writer.protect(config.diff_ids));
  const auto given_up = std::make_shared<std::atomic<bool>>(false);
  std::vector<LayerJob> jobs;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const oci::Descriptor& blob = manifest.layers[i];
    TRY_ASSIGN(LayerJob job, layer_job(blob, config.diff_ids[i]));
    job.repository = ref.registry + "/" + ref.repository;
    job.open = [session, &ref, &progress, blob, given_up, label = job.label]() -> Result<std::unique_ptr<ByteSource>> {
      const auto total = static_cast<uint64_t>(blob.size);
      return std::unique_ptr<ByteSource>(std::make_unique<BlobSource>(
          session, ref.repository, blob,
          [&progress, label, total](uint64_t done) { progress.bytes(label, done, total); }, given_up));
    };
    jobs.push_back(std::move(job));
  }
  TRY(ingest_layers(writer, std::move(jobs), layer_limits(settings), settings.parallel_layers, progress,
                    [session, given_up] {
                      *given_up = true;
                      session->http().end_transfers();
                    }));
  TRY_ASSIGN(const CommittedImage committed, writer.commit_image(image));
  PullOutcome out;
  out.digest = found.top;
  out.image_id = image.id;
  out.newer = committed.fresh || committed.tag_moved;
  return out;
}

}  // namespace

LayerLimits layer_limits(const RegistrySettings& settings) {
  LayerLimits limits;
  limits.max_unpacked_bytes = settings.max_layer_bytes;
  limits.max_ratio = settings.max_ratio;
  limits.max_entries = settings.max_entries;
  return limits;
}

Result<PullOutcome> pull_image(HttpEngine& http, const RegistrySettings& settings, const CredentialStore& credentials,
                               ImageWriter& writer, const PullOptions& options, TransferProgress& progress) {
  const oci::Reference& ref = options.reference;
  TRY_ASSIGN(const std::vector<Endpoint> endpoints, endpoints_of(ref.registry, settings, false));
  std::optional<Error> last;
  for (const Endpoint& endpoint : endpoints) {
    TRY_ASSIGN(Credentials login, credentials.find(endpoint.registry));
    auto session = RegistrySession::connect(http, settings, endpoint, std::move(login));
    auto outcome =
        session.ok() ? pull_from(*session, writer, options, progress) : Result<PullOutcome>(std::move(session).error());
    if (outcome.ok()) return outcome;
    if (http.interrupted()) return outcome;
    // A full disk or a limit of ours is the same at every mirror.
    const ErrorKind kind = outcome.error().kind();
    if (endpoint.is_mirror && kind != ErrorKind::kNoSpace && kind != ErrorKind::kIo) {
      progress.line(fmt::format("Mirror {}: {}; trying the next", endpoint.registry, outcome.error().message()));
      last = std::move(outcome).error();
      continue;
    }
    return std::move(outcome).error().context(fmt::format("pull {}", ref.familiar()));
  }
  return *std::move(last);
}

Result<std::vector<std::string>> remote_tags(HttpEngine& http, const RegistrySettings& settings,
                                             const CredentialStore& credentials, const oci::Reference& reference) {
  TRY_ASSIGN(const std::vector<Endpoint> endpoints, endpoints_of(reference.registry, settings, true));
  TRY_ASSIGN(Credentials login, credentials.find(reference.registry));
  TRY_ASSIGN(const auto session, RegistrySession::connect(http, settings, endpoints.front(), std::move(login)));
  return session->tags(reference.repository);
}

}  // namespace hull::store
