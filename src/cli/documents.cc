#include "cli/documents.h"

#include "base/error_format.h"
#include "base/units.h"
#include "cli/table.h"

namespace hull::cli {
Result<Value> image_document(const store::Image& image) {
  TRY_ASSIGN(const Value whole, Value::parse(image.config_json).context("the image's configuration"));
  const auto member = [&](std::string_view name, Value otherwise) {
    const Value* found = whole.find(name);
    return found != nullptr && !found->is_null() ? *found : std::move(otherwise);
  };
  Value out = Value::object();
  out.set("Id", image.id.str());
  out.set("RepoTags", to_value(image.tags));
  out.set("RepoDigests", to_value(image.digests));
  out.set("Parent", "");
  out.set("Comment", image.config.history.empty() ? "" : image.config.history.back().comment);
  out.set("Created", image.config.created.empty() ? format_rfc3339(image.created) : image.config.created);
  out.set("Author", image.config.author);
  out.set("Config", member("config", Value::object()));
  out.set("Architecture", image.config.platform.architecture);
  if (!image.config.platform.variant.empty()) out.set("Variant", image.config.platform.variant);
  out.set("Os", image.config.platform.os);
  out.set("Size", image.size);
  Value layers = Value::array();
  for (const Digest& layer : image.diff_ids) layers.push(layer.str());
  out.set("RootFS", Value::object().set("Type", "layers").set("Layers", std::move(layers)));
  if (!image.manifest_digest.empty()) {
    out.set("Descriptor", Value::object().set("digest", image.manifest_digest.str()));
  }
  return out;
}

Value volume_document(const engine::Volume& volume) {
  Value out = Value::object();
  out.set("CreatedAt", format_rfc3339(volume.created));
  out.set("Driver", volume.driver);
  out.set("Labels", to_value(volume.labels));
  out.set("Mountpoint", volume.mountpoint);
  out.set("Name", volume.name);
  out.set("Options", volume.options.empty() ? Value() : to_value(volume.options));
  out.set("Scope", volume.scope);
  if (volume.size) {
    out.set("UsageData", Value::object().set("RefCount", volume.references).set("Size", *volume.size));
  }
  return out;
}

Result<void> print_inspected(Output& out, std::string_view format, const std::vector<Value>& documents) {
  if (!format.empty()) return print_documents(out, format, documents);
  Value all = Value::array();
  for (const Value& document : documents) all.push(document);
  out.print("{}\n", all.dump(4));
  return {};
}

}  // namespace hull::cli
