// images, history, rmi, tag, image inspect, image prune.
#include <fnmatch.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/documents.h"
#include "cli/filters.h"
#include "cli/format.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/values.h"

namespace hull::cli {
namespace {

constexpr Flag kImagesFlags[] = {
    {.name = "all", .short_name = 'a', .help = "Show images without a name of their own too"},
    {.name = "digests", .help = "Show digests"},
    kFilterFlag,
    kFormatFlag,
    kNoTruncFlag,
    {.name = "quiet", .short_name = 'q', .help = "Print only ids"},
};
constexpr std::span<const Flag> kImagesTables[] = {kImagesFlags};

constexpr Column kImageColumns[] = {
    {"Repository", "REPOSITORY"},
    {"Tag", "TAG"},
    {"Digest", "DIGEST"},
    {"ID", "IMAGE ID"},
    {"CreatedSince", "CREATED"},
    {"CreatedAt", "CREATED AT"},
    {"Size", "SIZE"},
    {"VirtualSize", "VIRTUAL SIZE"},
    {"SharedSize", "SHARED SIZE"},
    {"UniqueSize", "UNIQUE SIZE"},
    {"Containers", "CONTAINERS"},
};

/// Repository and tag of a familiar reference; the colon of a port is not a tag's.
std::pair<std::string, std::string> split_reference(const std::string& reference) {
  const size_t slash = reference.rfind('/');
  const size_t colon = reference.rfind(':');
  if (colon == std::string::npos || (slash != std::string::npos && colon < slash)) return {reference, "<none>"};
  return {reference.substr(0, colon), reference.substr(colon + 1)};
}

Value image_row(const store::ImageSummary& image, const std::string& repository, const std::string& tag,
                const std::string& digest, bool truncate) {
  Value row = Value::object();
  row.set("Repository", repository).set("Tag", tag).set("Digest", digest);
  row.set("ID", truncate ? short_id(image.id.str()) : image.id.str());
  row.set("CreatedSince", ago(image.created)).set("CreatedAt", format_local(image.created));
  row.set("Size", format_size(image.size)).set("VirtualSize", format_size(image.size));
  row.set("SharedSize", "N/A").set("UniqueSize", "N/A");
  row.set("Containers", std::to_string(image.containers));
  return row;
}

/// One row a tag; with `digests` one a tag and digest; "<none>" for what is missing.
void add_rows(std::vector<Value>& rows, const store::ImageSummary& image, bool digests, bool truncate,
              const std::function<bool(const std::string& reference)>& wanted) {
  const auto digest_of = [&](const std::string& repository) -> std::string {
    for (const std::string& one : image.digests) {
      if (one.starts_with(repository + "@")) return one.substr(repository.size() + 1);
    }
    return "<none>";
  };
  for (const std::string& reference : image.tags) {
    if (!wanted(reference)) continue;
    const auto [repository, tag] = split_reference(reference);
    rows.push_back(image_row(image, repository, tag, digest_of(repository), truncate));
  }
  if (!image.tags.empty()) return;
  if (image.digests.empty()) {
    if (wanted("")) rows.push_back(image_row(image, "<none>", "<none>", "<none>", truncate));
    return;
  }
  std::vector<std::string> seen;
  for (const std::string& reference : image.digests) {
    const std::string repository = reference.substr(0, reference.find('@'));
    if (!wanted(reference)) continue;
    if (!digests && std::find(seen.begin(), seen.end(), repository) != seen.end()) continue;
    seen.push_back(repository);
    rows.push_back(image_row(image, repository, "<none>", reference.substr(repository.size() + 1), truncate));
  }
}

/// "debian", "debian:12", "deb*": against a familiar reference.
bool reference_matches(const std::string& pattern, const std::string& reference) {
  if (reference.empty()) return false;
  const std::string repository = split_reference(reference.substr(0, reference.find('@'))).first;
  return ::fnmatch(pattern.c_str(), reference.c_str(), FNM_PATHNAME) == 0 ||
         ::fnmatch(pattern.c_str(), repository.c_str(), FNM_PATHNAME) == 0;
}

class ImageFilter {
 public:
  static Result<ImageFilter> make(store::ImageStore& images, const Parsed& parsed) {
    ImageFilter filter(images);
    TRY_ASSIGN(filter.filters_, parse_filters(parsed.values("filter"), {"before", "dangling", "label", "label!",
                                                                        "reference", "since", "until"}));
    if (!parsed.arguments.empty()) filter.filters_.emplace("reference", parsed.arguments[0]);
    for (const auto& [key, value] : filter.filters_) {
      if (key == "dangling") {
        const auto wanted = parse_bool(value);
        if (!wanted) return errorf(ErrorKind::kInvalid, "invalid filter 'dangling={:.80}' (true or false)", value);
        filter.dangling_ = wanted;
      } else if (key == "before" || key == "since") {
        TRY_ASSIGN(const store::Image other, images.find(value));
        auto& bound = key == "before" ? filter.before_ : filter.since_;
        bound = other.created;
      } else if (key == "until") {
        TRY_ASSIGN(filter.before_, parse_time(value, engine::TimePoint::clock::now()));
      }
    }
    return filter;
  }

  Result<bool> takes(const store::ImageSummary& image) const {
    if (dangling_ && *dangling_ != image.tags.empty()) return false;
    if (before_ && image.created >= *before_) return false;
    if (since_ && image.created <= *since_) return false;
    if (filters_.contains("label") || filters_.contains("label!")) {
      TRY_ASSIGN(const store::Image whole, images_->find(image.id.str()));
      if (!labels_match(whole.config.config.labels, filters_)) return false;
    }
    return true;
  }
  bool takes_reference(const std::string& reference) const {
    const auto [first, last] = filters_.equal_range("reference");
    return first == last ||
           std::any_of(first, last, [&](const auto& filter) { return reference_matches(filter.second, reference); });
  }

 private:
  explicit ImageFilter(store::ImageStore& images) : images_(&images) {}
  store::ImageStore* images_;
  std::multimap<std::string, std::string> filters_;
  std::optional<bool> dangling_;
  std::optional<engine::TimePoint> before_, since_;
};

Result<int> images_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  store::ImageStore& images = engine->images();
  TRY_ASSIGN(const ImageFilter filter, ImageFilter::make(images, parsed));
  TRY_ASSIGN(auto summaries, images.list(parsed.on("all")));
  std::stable_sort(summaries.begin(), summaries.end(),
                   [](const auto& a, const auto& b) { return a.created > b.created; });
  const bool digests = parsed.on("digests") || parsed.value("format").find(".Digest") != std::string_view::npos;
  const bool truncate = !parsed.on("no-trunc");
  std::vector<Value> rows;
  for (const auto& image : summaries) {
    TRY_ASSIGN(const bool taken, filter.takes(image));
    if (!taken) continue;
    add_rows(rows, image, digests, truncate,
             [&](const std::string& reference) { return filter.takes_reference(reference); });
  }
  Listing listing = {kImageColumns, {"Repository", "Tag", "ID", "CreatedSince", "Size"}, "ID"};
  if (parsed.on("digests")) listing.columns.insert(listing.columns.begin() + 2, "Digest");
  TRY(print_rows(context.out, listing, parsed.value("format"), parsed.on("quiet"), parsed.on("no-trunc"), rows));
  return 0;
}

constexpr Flag kHistoryFlags[] = {
    kFormatFlag,
    {.name = "human", .short_name = 'H', .help = "Print sizes and dates for people", .fallback = "true"},
    kNoTruncFlag,
    {.name = "quiet", .short_name = 'q', .help = "Print only ids"},
};
constexpr std::span<const Flag> kHistoryTables[] = {kHistoryFlags};

constexpr Column kHistoryColumns[] = {
    {"ID", "IMAGE"},  {"CreatedSince", "CREATED"}, {"CreatedAt", "CREATED AT"}, {"CreatedBy", "CREATED BY"},
    {"Size", "SIZE"}, {"Comment", "COMMENT"},
};

Result<int> history_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const store::Image image, engine->images().find(parsed.arguments[0]));
  const bool truncate = !parsed.on("no-trunc");
  const bool human = parse_bool(parsed.value("human", "true")).value_or(true);
  std::vector<Value> rows;
  const auto& history = image.config.history;
  size_t layer = image.layer_sizes.size();
  for (size_t i = history.size(); i > 0; --i) {
    const oci::HistoryEntry& entry = history[i - 1];
    uint64_t size = 0;
    if (!entry.empty_layer && layer > 0) size = image.layer_sizes[--layer];
    Value row = Value::object();
    const std::string id = i == history.size() ? image.id.str() : "<missing>";
    row.set("ID", truncate ? short_id(id) : id);
    const auto created = parse_rfc3339(entry.created);
    row.set("CreatedSince", !created.ok() ? "N/A" : human ? ago(*created) : entry.created);
    row.set("CreatedAt", entry.created);
    std::string by = entry.created_by;
    std::replace(by.begin(), by.end(), '\t', ' ');
    row.set("CreatedBy", truncate ? ellipsis(by, 45) : by);
    row.set("Size", human ? format_size(size) : std::to_string(size));
    row.set("Comment", entry.comment);
    rows.push_back(std::move(row));
  }
  const Listing listing = {kHistoryColumns, {"ID", "CreatedSince", "CreatedBy", "Size", "Comment"}, "ID"};
  TRY(print_rows(context.out, listing, parsed.value("format"), parsed.on("quiet"), parsed.on("no-trunc"), rows));
  return 0;
}

constexpr Flag kRemoveFlags[] = {
    {.name = "force", .short_name = 'f', .help = "Remove the name even when a workload uses the image"},
    {.name = "no-prune", .help = "", .hidden = true},
};
constexpr std::span<const Flag> kRemoveTables[] = {kRemoveFlags};

Result<int> remove_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  const bool force = parsed.on("force");
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    auto report = engine->images().remove(name, force);
    if (!report.ok() && force && report.error().kind() == ErrorKind::kNotFound) return {};
    if (!report.ok()) return std::move(report).error();
    for (const std::string& reference : report->untagged) context.out.print("Untagged: {}\n", reference);
    for (const Digest& id : report->deleted) context.out.print("Deleted: {}\n", id.str());
    return {};
  });
}

Result<int> tag_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY(engine->images().tag(parsed.arguments[0], parsed.arguments[1]));
  return 0;
}

constexpr Flag kInspectFlags[] = {kDocumentFormatFlag};
constexpr std::span<const Flag> kInspectTables[] = {kInspectFlags};

Result<int> inspect_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  std::vector<Value> documents;
  const int code = for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(const store::Image image, engine->images().find(name));
    TRY_ASSIGN(Value document, image_document(image));
    documents.push_back(std::move(document));
    return {};
  });
  TRY(print_inspected(context.out, parsed.value("format"), documents));
  return code;
}

constexpr Flag kPruneFlags[] = {
    {.name = "all", .short_name = 'a', .help = "Remove every image that no workload uses, not only unnamed ones"},
    {.name = "filter",
     .kind = ValueKind::kText,
     .metavar = "KEY=VALUE",
     .help = "Only those: until=TIME, label=KEY[=VALUE]",
     .repeatable = true},
    {.name = "force", .short_name = 'f', .help = "Do not ask"},
};
constexpr std::span<const Flag> kPruneTables[] = {kPruneFlags};

Result<int> prune_main(Context& context, const Parsed& parsed) {
  const bool all = parsed.on("all");
  TRY_ASSIGN(const auto filters, parse_filters(parsed.values("filter"), {"until", "label"}));
  std::vector<std::string> labels;
  auto until = engine::TimePoint::max();
  for (const auto& [key, value] : filters) {
    if (key == "label") labels.push_back(value);
    if (key == "until") {
      TRY_ASSIGN(until, parse_time(value, engine::TimePoint::clock::now()));
    }
  }
  if (!parsed.on("force")) {
    TRY_ASSIGN(const bool yes, confirm(context, all ? "WARNING! This will remove all images without at least one "
                                                      "container associated to them."
                                                    : "WARNING! This will remove all dangling images."));
    if (!yes) return 0;
  }
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const store::PruneReport report, engine->images().prune(all, labels, until));
  if (!report.deleted.empty()) context.out.write("Deleted Images:\n");
  for (const std::string& line : report.deleted) context.out.print("{}\n", line);
  if (!report.deleted.empty()) context.out.write("\n");
  context.out.print("Total reclaimed space: {}\n", format_size(report.reclaimed));
  return 0;
}

}  // namespace

constinit const Command kImages = {
    .path = "images",
    .aliases = "image ls,image list",
    .arguments = "[REPOSITORY[:TAG]]",
    .summary = "List images",
    .description =
        "Filters: before=IMAGE, dangling=true|false, label=KEY[=VALUE], reference=PATTERN, since=IMAGE, "
        "until=TIME.\n\nFields of templates: .ID .Repository .Tag .Digest .CreatedSince .CreatedAt .Size "
        ".Containers",
    .examples = "hull images 'registry.example.org/*'\nhull images --filter dangling=true -q\n",
    .flags = kImagesTables,
    .most = 1,
    .complete = Complete::kImage,
    .section = Section::kCommon,
    .run = images_main};

constinit const Command kHistory = {.path = "history",
                                    .aliases = "image history",
                                    .arguments = "IMAGE",
                                    .summary = "Show how an image was made",
                                    .flags = kHistoryTables,
                                    .least = 1,
                                    .most = 1,
                                    .complete = Complete::kImage,
                                    .section = Section::kImages,
                                    .run = history_main};

constinit const Command kRemoveImage = {.path = "rmi",
                                        .aliases = "image rm,image remove",
                                        .arguments = "IMAGE [IMAGE...]",
                                        .summary = "Remove images",
                                        .flags = kRemoveTables,
                                        .least = 1,
                                        .most = -1,
                                        .complete = Complete::kImage,
                                        .section = Section::kImages,
                                        .run = remove_main};

constinit const Command kTag = {.path = "tag",
                                .aliases = "image tag",
                                .arguments = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
                                .summary = "Give an image another name",
                                .least = 2,
                                .most = 2,
                                .complete = Complete::kImage,
                                .section = Section::kImages,
                                .run = tag_main};

constinit const Command kImageInspect = {.path = "image inspect",
                                         .arguments = "IMAGE [IMAGE...]",
                                         .summary = "Tell all about images",
                                         .flags = kInspectTables,
                                         .least = 1,
                                         .most = -1,
                                         .complete = Complete::kImage,
                                         .section = Section::kImages,
                                         .run = inspect_main};

constinit const Command kImagePrune = {.path = "image prune",
                                       .summary = "Remove images that nothing uses",
                                       .flags = kPruneTables,
                                       .section = Section::kImages,
                                       .run = prune_main};

}  // namespace hull::cli
