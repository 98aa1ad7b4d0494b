#include "store/archive/load.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error_format.h"
#include "base/json_nesting.h"
#include "store/ingest/ingest.h"
#include "store/layer/decompress.h"
#include "store/layer/hasher.h"
#include "store/registry/http_answers.h"

namespace hull::store {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxArchiveManifest = 8 << 20;
constexpr int kMaxDepth = 16;  // three are needed: list, object, list
constexpr size_t kMaxImages = 1000;
constexpr int kMaxIndexDepth = 3;
constexpr std::string_view kContainerdName = "io.containerd.image.name";
constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";

std::string blob_member(const Digest& digest) {
  return "blobs/" + std::string(digest.algorithm()) + "/" + std::string(digest.hex());
}

/// A document of the layout, verified.
Result<std::string> read_blob(const MemberSource& archive, const oci::Descriptor& descriptor, size_t limit) {
  TRY_ASSIGN(std::string text, archive.read(blob_member(descriptor.digest), limit));
  TRY_ASSIGN(Hasher hasher, Hasher::create(descriptor.digest.algorithm()));
  hasher.update(std::as_bytes(std::span(text)));
  if (hasher.finish() != descriptor.digest) {
    return errorf(ErrorKind::kCorrupt, "archive: blob {} does not have the digest that names it",
                  descriptor.digest.short_hex());
  }
  return text;
}

/// Names that an index entry gives its image.
std::vector<oci::Reference> names_of(const oci::Descriptor& entry, const LoadOptions& options) {
  std::vector<oci::Reference> out;
  const auto add = [&](const std::string& text) {
    if (text.empty()) return;
    auto reference = oci::parse_reference(text, options.default_registry);
    if (reference.ok() && reference->digest.empty()) out.push_back(*std::move(reference));
  };
  if (const auto it = entry.annotations.find(std::string(kContainerdName)); it != entry.annotations.end()) {
    add(it->second);
  } else if (const auto ref = entry.annotations.find(std::string(kRefName)); ref != entry.annotations.end()) {
    // A bare tag ("latest", "1.2") names no repository; a full reference does.
    if (ref->second.find_first_of("/:") != std::string::npos) add(ref->second);
  }
  return out;
}

LoadedImage result_of(const NewImage& image, const CommittedImage& committed) {
  LoadedImage out;
  out.id = image.id;
  for (const oci::Reference& tag : image.tags) out.tags.push_back(tag.familiar());
  out.newer = committed.fresh || committed.tag_moved;
  return out;
}

Result<LoadedImage> load_manifest(ImageWriter& writer, const MemberSource& archive, const oci::Descriptor& descriptor,
                                  std::vector<oci::Reference> names, const LoadOptions& options,
                                  TransferProgress& progress) {
  NewImage image;
  TRY_ASSIGN(image.manifest_json, read_blob(archive, descriptor, oci::kMaxManifestBytes));
  image.manifest_digest = descriptor.digest;
  TRY_ASSIGN(const oci::Manifest manifest, oci::parse_manifest(image.manifest_json));
  TRY_ASSIGN(image.config_json, read_blob(archive, manifest.config, oci::kMaxConfigBytes));
  image.id = manifest.config.digest;
  TRY_ASSIGN(const oci::ImageConfig config, oci::parse_image_config(image.config_json));
  if (manifest.layers.size() != config.diff_ids.size()) {
    return errorf(ErrorKind::kCorrupt, "archive: the manifest has {} layers, the image config {}",
                  manifest.layers.size(), config.diff_ids.size());
  }
  image.diff_ids = config.diff_ids;
  image.tags = std::move(names);
  const Digest blobs[] = {image.id, image.manifest_digest};
  TRY(writer.protect(blobs));
  TRY(writer.protect(image.diff_ids));
  std::vector<LayerJob> jobs;
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    const oci::Descriptor& blob = manifest.layers[i];
    TRY_ASSIGN(LayerJob job, layer_job(blob, config.diff_ids[i]));
    job.open = [&archive, member = blob_member(blob.digest)] { return archive.open(member); };
    jobs.push_back(std::move(job));
  }
  TRY(ingest_layers(writer, std::move(jobs), options.limits, options.parallel, progress, {}));
  TRY_ASSIGN(const CommittedImage committed, writer.commit_image(image));
  return result_of(image, committed);
}

/// Follows indexes to the manifest of the platform.
Result<oci::Descriptor> choose_manifest(const MemberSource& archive, oci::Descriptor entry,
                                        const LoadOptions& options) {
  for (int depth = 0;; ++depth) {
    if (entry.media_type != oci::kMediaTypeIndex && entry.media_type != oci::kMediaTypeDockerList) return entry;
    if (depth >= kMaxIndexDepth) return errorf(ErrorKind::kInvalid, "archive: its indexes are nested too deeply");
    TRY_ASSIGN(const std::string text, read_blob(archive, entry, oci::kMaxManifestBytes));
    TRY_ASSIGN(const oci::Index index, oci::parse_index(text));
    TRY_ASSIGN(entry, oci::choose_platform(index, options.platform.value_or(oci::host_platform())));
  }
}

/// Entries of index.json that are not for the wanted platform, when others of the same name are.
Result<std::vector<LoadedImage>> load_layout(ImageWriter& writer, const MemberSource& archive,
                                             const LoadOptions& options, TransferProgress& progress) {
  TRY_ASSIGN(const std::string text, archive.read("index.json", oci::kMaxManifestBytes));
  TRY_ASSIGN(const oci::Index index, oci::parse_index(text));
  if (index.manifests.empty()) return errorf(ErrorKind::kInvalid, "archive: its index.json names no image");
  if (index.manifests.size() > kMaxImages) {
    return errorf(ErrorKind::kInvalid, "archive: its index.json names more than {} images", kMaxImages);
  }
  std::vector<LoadedImage> out;
  const bool all_have_platforms = std::all_of(index.manifests.begin(), index.manifests.end(),
                                              [](const oci::Descriptor& one) { return one.platform.has_value(); });
  const bool nameless = std::all_of(index.manifests.begin(), index.manifests.end(),
                                    [&](const oci::Descriptor& one) { return names_of(one, options).empty(); });
  if (index.manifests.size() > 1 && all_have_platforms && nameless) {
    // One image for several platforms.
    TRY_ASSIGN(const oci::Descriptor chosen,
               oci::choose_platform(index, options.platform.value_or(oci::host_platform())));
    TRY_ASSIGN(const oci::Descriptor manifest, choose_manifest(archive, chosen, options));
    std::vector<oci::Reference> names;
    if (options.name_as) names.push_back(*options.name_as);
    TRY_ASSIGN(LoadedImage image, load_manifest(writer, archive, manifest, std::move(names), options, progress));
    out.push_back(std::move(image));
    return out;
  }
  for (const oci::Descriptor& entry : index.manifests) {
    if (entry.platform && entry.platform->os == "unknown") continue;  // attestations
    std::vector<oci::Reference> names = names_of(entry, options);
    if (options.name_as) names = {*options.name_as};
    TRY_ASSIGN(const oci::Descriptor manifest, choose_manifest(archive, entry, options));
    // Several names of one image are several entries with one digest.
    TRY_ASSIGN(LoadedImage image, load_manifest(writer, archive, manifest, std::move(names), options, progress));
    const auto same = std::find_if(out.begin(), out.end(), [&](const LoadedImage& one) { return one.id == image.id; });
    if (same == out.end()) {
      out.push_back(std::move(image));
    } else {
      same->tags.insert(same->tags.end(), image.tags.begin(), image.tags.end());
    }
  }
  return out;
}

/// docker-archive keeps no manifest. The image gets one of its own, over the layers as plain tar streams.
Result<LoadedImage> load_docker_image(ImageWriter& writer, const MemberSource& archive, const DockerArchiveImage& entry,
                                      const LoadOptions& options, TransferProgress& progress) {
  NewImage image;
  TRY_ASSIGN(image.config_json, archive.read(entry.config, oci::kMaxConfigBytes));
  image.id = sha256_of(image.config_json);
  TRY_ASSIGN(const oci::ImageConfig config, oci::parse_image_config(image.config_json));
  if (config.diff_ids.size() != entry.layers.size()) {
    return errorf(ErrorKind::kCorrupt, "archive: manifest.json names {} layers, the image config {}",
                  entry.layers.size(), config.diff_ids.size());
  }
  for (const std::string& tag : entry.repo_tags) {
    TRY_ASSIGN(oci::Reference reference, oci::parse_reference(tag, options.default_registry));
    image.tags.push_back(std::move(reference));
  }
  if (options.name_as) image.tags = {*options.name_as};
  image.diff_ids = config.diff_ids;
  TRY(writer.protect(image.diff_ids));
  oci::Manifest manifest;
  manifest.media_type = oci::kMediaTypeDockerManifest;
  manifest.config.media_type = oci::kMediaTypeDockerConfig;
  manifest.config.digest = image.id;
  manifest.config.size = static_cast<int64_t>(image.config_json.size());
  std::vector<LayerJob> jobs;
  for (size_t i = 0; i < entry.layers.size(); ++i) {
    LayerJob job;
    job.label = config.diff_ids[i].short_hex();
    job.diff_id = config.diff_ids[i];
    job.open = [&archive, member = entry.layers[i]] { return archive.open(member); };
    jobs.push_back(std::move(job));
    oci::Descriptor layer;
    layer.media_type = oci::kMediaTypeDockerLayer;
    layer.digest = config.diff_ids[i];
    TRY_ASSIGN(const uint64_t size, archive.size(entry.layers[i]));
    layer.size = static_cast<int64_t>(size);
    manifest.layers.push_back(std::move(layer));
  }
  TRY(ingest_layers(writer, std::move(jobs), options.limits, options.parallel, progress, {}));
  image.manifest_json = oci::to_json(manifest);
  image.manifest_is_made_up = true;
  image.manifest_digest = sha256_of(image.manifest_json);
  TRY_ASSIGN(const CommittedImage committed, writer.commit_image(image));
  return result_of(image, committed);
}

}  // namespace

Result<std::vector<DockerArchiveImage>> parse_docker_archive_manifest(std::string_view text) {
  const auto bad = [](std::string_view why) { return errorf(ErrorKind::kInvalid, "archive: manifest.json: {}", why); };
  if (text.size() > kMaxArchiveManifest) return bad("it is too large");
  if (!json_nests_within(text, kMaxDepth)) return bad("it is nested too deeply");
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_array()) return bad("expected a list");
  if (json.empty()) return bad("it names no image");
  if (json.size() > kMaxImages) return bad(fmt::format("it names more than {} images", kMaxImages));
  std::vector<DockerArchiveImage> out;
  const auto list_of = [](const Json& object, const char* key, std::vector<std::string>* into) {
    const auto it = object.find(key);
    if (it == object.end() || it->is_null()) return true;
    if (!it->is_array() || it->size() > oci::kMaxLayers * 2) return false;
    for (const Json& one : *it) {
      if (!one.is_string()) return false;
      into->push_back(one.get<std::string>());
    }
    return true;
  };
  for (const Json& entry : json) {
    if (!entry.is_object()) return bad("expected a list of objects");
    DockerArchiveImage image;
    const auto config = entry.find("Config");
    if (config == entry.end() || !config->is_string()) return bad("an image has no \"Config\"");
    image.config = config->get<std::string>();
    if (!list_of(entry, "RepoTags", &image.repo_tags)) return bad("\"RepoTags\" is not a list of strings");
    if (!list_of(entry, "Layers", &image.layers)) return bad("\"Layers\" is not a list of strings");
    out.push_back(std::move(image));
  }
  return out;
}

Result<std::vector<LoadedImage>> load_images(ImageWriter& writer, const MemberSource& archive,
                                             const LoadOptions& options, TransferProgress& progress) {
  const bool docker = archive.has("manifest.json");
  const bool layout = archive.has("index.json");
  if (layout && !docker) return load_layout(writer, archive, options, progress);
  if (!docker) {
    return errorf(ErrorKind::kInvalid,
                  "archive: it has neither manifest.json (docker-archive) nor index.json (OCI layout); a plain file "
                  "system archive is for 'hull import'");
  }
  TRY_ASSIGN(const std::string text, archive.read("manifest.json", kMaxArchiveManifest));
  TRY_ASSIGN(const std::vector<DockerArchiveImage> entries, parse_docker_archive_manifest(text));
  const bool tagged =
      std::any_of(entries.begin(), entries.end(), [](const DockerArchiveImage& one) { return !one.repo_tags.empty(); });
  // Docker 25 and newer write both; the OCI side keeps manifests and compressed blobs as they were.
  if (layout && !tagged) return load_layout(writer, archive, options, progress);
  std::vector<LoadedImage> out;
  for (const DockerArchiveImage& entry : entries) {
    TRY_ASSIGN(LoadedImage image, load_docker_image(writer, archive, entry, options, progress));
    out.push_back(std::move(image));
  }
  return out;
}

Result<LoadedImage> load_layout_image(ImageWriter& writer, const std::string& folder, const LoadOptions& options,
                                      TransferProgress& progress) {
  TRY_ASSIGN(const std::unique_ptr<MemberSource> members, open_layout_folder(folder));
  TRY_ASSIGN(std::vector<LoadedImage> images, load_layout(writer, *members, options, progress));
  if (images.size() != 1) {
    return errorf(ErrorKind::kInvalid, "{}: expected one image, it holds {}", folder, images.size());
  }
  return std::move(images.front());
}

}  // namespace hull::store
