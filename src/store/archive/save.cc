#include "store/archive/save.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error_format.h"
#include "store/archive/tar_output.h"
#include "store/ingest/ingest.h"
#include "store/ingest/stored_layer.h"

namespace hull::store {
namespace {

using Json = nlohmann::ordered_json;

struct Entry {
  StoredImage stored;
  std::vector<std::string> tags;  // in full
};

/// What was asked for, grouped by image: a tag saves that tag, an id or digest all tags of the image.
Result<std::vector<Entry>> collect(ImageWriter& writer, const std::vector<std::string>& references,
                                   std::string_view default_registry) {
  std::vector<Entry> out;
  for (const std::string& text : references) {
    TRY_ASSIGN(StoredImage stored, open_stored_image(writer, text));
    auto it =
        std::find_if(out.begin(), out.end(), [&](const Entry& one) { return one.stored.image.id == stored.image.id; });
    if (it == out.end()) it = out.insert(out.end(), Entry{std::move(stored), {}});
    auto reference = oci::parse_reference(text, default_registry);
    std::vector<std::string> names;
    if (reference.ok() && reference->digest.empty()) {
      const std::string familiar = reference->familiar();
      const auto& tags = it->stored.image.tags;
      if (std::find(tags.begin(), tags.end(), familiar) != tags.end() ||
          std::find(tags.begin(), tags.end(), reference->canonical()) != tags.end()) {
        names.push_back(familiar);
      }
    }
    for (std::string& name : names) {
      if (std::find(it->tags.begin(), it->tags.end(), name) == it->tags.end()) it->tags.push_back(std::move(name));
    }
  }
  return out;
}

Result<void> write_layer(ImageWriter& writer, TarOutput& tar, const Digest& diff_id, const std::string& member) {
  TRY_ASSIGN(const uint64_t size, writer.layer_size(diff_id));
  TRY_ASSIGN(const std::unique_ptr<ByteSource> source, open_stored_layer(writer, diff_id));
  return tar.file(member, *source, size);
}

Result<void> save_docker(ImageWriter& writer, const std::vector<Entry>& entries, int fd) {
  TarOutput tar(fd);
  std::set<std::string> written;
  Json manifest = Json::array();
  for (const Entry& entry : entries) {
    const Image& image = entry.stored.image;
    const std::string config = std::string(image.id.hex()) + ".json";
    Json layers = Json::array();
    for (const Digest& diff_id : image.diff_ids) {
      const std::string member = std::string(diff_id.hex()) + ".tar";
      layers.push_back(member);
      if (written.insert(member).second) TRY(write_layer(writer, tar, diff_id, member));
    }
    if (written.insert(config).second) TRY(tar.file(config, image.config_json));
    Json one;
    one["Config"] = config;
    one["RepoTags"] = entry.tags;
    one["Layers"] = std::move(layers);
    manifest.push_back(std::move(one));
  }
  TRY(tar.file("manifest.json", manifest.dump()));
  return tar.finish();
}

Result<void> save_oci(ImageWriter& writer, const std::vector<Entry>& entries, int fd) {
  TarOutput tar(fd);
  TRY(tar.file("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  TRY(tar.folder("blobs/"));
  TRY(tar.folder("blobs/sha256/"));
  std::set<std::string> written;
  const auto blob = [](const Digest& digest) { return "blobs/sha256/" + std::string(digest.hex()); };
  oci::Index index;
  for (const Entry& entry : entries) {
    const Image& image = entry.stored.image;
    // The packed form of the layers is not kept: the archive holds them plain, under a manifest that says so.
    oci::Manifest manifest;
    manifest.config.media_type = oci::kMediaTypeConfig;
    manifest.config.digest = image.id;
    manifest.config.size = static_cast<int64_t>(image.config_json.size());
    for (const Digest& diff_id : image.diff_ids) {
      oci::Descriptor layer;
      layer.media_type = oci::kMediaTypeLayer;
      layer.digest = diff_id;
      TRY_ASSIGN(const uint64_t size, writer.layer_size(diff_id));
      layer.size = static_cast<int64_t>(size);
      manifest.layers.push_back(std::move(layer));
      if (written.insert(diff_id.str()).second) TRY(write_layer(writer, tar, diff_id, blob(diff_id)));
    }
    if (written.insert(image.id.str()).second) TRY(tar.file(blob(image.id), image.config_json));
    const std::string body = oci::to_json(manifest);
    oci::Descriptor descriptor;
    descriptor.media_type = oci::kMediaTypeManifest;
    descriptor.digest = sha256_of(body);
    descriptor.size = static_cast<int64_t>(body.size());
    descriptor.platform = image.config.platform;
    if (written.insert(descriptor.digest.str()).second) TRY(tar.file(blob(descriptor.digest), body));
    if (entry.tags.empty()) index.manifests.push_back(descriptor);
    for (const std::string& tag : entry.tags) {
      TRY_ASSIGN(const oci::Reference reference, oci::parse_reference(tag));
      descriptor.annotations["io.containerd.image.name"] = reference.canonical();
      descriptor.annotations["org.opencontainers.image.ref.name"] = reference.tag;
      index.manifests.push_back(descriptor);
    }
  }
  TRY(tar.file("index.json", oci::to_json(index)));
  return tar.finish();
}

}  // namespace

Result<void> save_images(ImageWriter& writer, const std::vector<std::string>& references, ArchiveFormat format, int fd,
                         std::string_view default_registry) {
  TRY_ASSIGN(const std::vector<Entry> entries, collect(writer, references, default_registry));
  return format == ArchiveFormat::kDocker ? save_docker(writer, entries, fd) : save_oci(writer, entries, fd);
}

}  // namespace hull::store
