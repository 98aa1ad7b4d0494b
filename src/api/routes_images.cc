// Images.
#include <fnmatch.h>

#include <algorithm>
#include <set>

#include "api/documents.h"
#include "api/images_program.h"
#include "api/json.h"
#include "api/routes.h"
#include "api/shared_sizes.h"
#include "api/versions.h"
#include "base/error_format.h"
#include "base/json_writer.h"
#include "base/units.h"

namespace hull::api {
namespace {

using TimePoint = std::chrono::system_clock::time_point;

/// "registry:5000/a/b:tag@sha256:..." without tag and digest.
std::string repository_of(std::string_view reference) {
  reference = reference.substr(0, reference.find('@'));
  const size_t slash = reference.rfind('/');
  return std::string(reference.substr(0, reference.find(':', slash == std::string_view::npos ? 0 : slash)));
}

/// 24h (ago), seconds since 1970, RFC 3339.
Result<TimePoint> moment_of(const std::string& text) {
  if (const auto seconds = parse_int(text, 0, 9'000'000'000); seconds.ok())
    return TimePoint(std::chrono::seconds(*seconds));
  if (const auto ago = parse_duration(text); ago.ok()) {
    return std::chrono::system_clock::now() - std::chrono::duration_cast<TimePoint::duration>(*ago);
  }
  return parse_rfc3339(text);
}

bool labels_match(const Filters& filters, const std::map<std::string, std::string>& labels) {
  const auto has = [&](const std::string& wanted) {
    const size_t equals = wanted.find('=');
    const auto it = labels.find(wanted.substr(0, equals));
    return it != labels.end() && (equals == std::string::npos || it->second == wanted.substr(equals + 1));
  };
  for (const auto& [name, value] : filters) {
    if ((name == "label" && !has(value)) || (name == "label!" && has(value))) return false;
  }
  return true;
}

bool reference_matches(const std::string& pattern, const store::ImageSummary& image) {
  const auto matches = [&](const std::string& name) {
    return ::fnmatch(pattern.c_str(), name.c_str(), FNM_PATHNAME) == 0 ||
           ::fnmatch(pattern.c_str(), repository_of(name).c_str(), FNM_PATHNAME) == 0;
  };
  return std::any_of(image.tags.begin(), image.tags.end(), matches) ||
         std::any_of(image.digests.begin(), image.digests.end(), matches);
}

/// Where an image was pulled from (or pushed to): the repositories whose digests it has.
void write_identity(JsonWriter& w, const std::vector<std::string>& digests) {
  std::set<std::string> repositories;
  for (const std::string& digest : digests) {
    if (const auto name = oci::parse_reference(digest); name.ok()) {
      repositories.insert(name->registry + "/" + name->repository);
    }
  }
  if (repositories.empty()) return;
  w.object("Identity", [&] {
    w.array("Pull", [&] {
      for (const std::string& repository : repositories) {
        w.object([&] { w.member("Repository", repository); });
      }
    });
  });
}

void write_manifests(JsonWriter& w, const store::Image& image, int containers, bool identity) {
  w.array("Manifests", [&] {
    w.object([&] {
      w.member("ID", image.manifest_digest.str());
      w.object("Descriptor", [&] {
        w.member("mediaType", "application/vnd.oci.image.manifest.v1+json");
        w.member("digest", image.manifest_digest.str());
        w.member("size", 0);
      });
      w.member("Available", true);
      w.object("Size", [&] {
        w.member("Content", 0);
        w.member("Total", image.size);
      });
      w.member("Kind", "image");
      w.object("ImageData", [&] {
        w.object("Platform", [&] {
          w.member("architecture", image.config.platform.architecture);
          w.member("os", image.config.platform.os);
          w.member_opt("variant", image.config.platform.variant);
        });
        if (identity) write_identity(w, image.digests);
        w.array("Containers", [] {});
        w.object("Size", [&] { w.member("Unpacked", image.size); });
        w.member("ContainersCount", containers);
      });
    });
  });
}

Result<void> list(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(Filters filters,
             request.filters({"dangling", "label", "label!", "before", "since", "until", "reference"}));
  if (const auto name = request.query("filter"); !name.empty()) filters.emplace("reference", name);  // up to 1.40
  std::optional<TimePoint> before, since, until;
  std::optional<bool> dangling;
  for (const auto& [name, value] : filters) {
    if (name == "before" || name == "since") {
      TRY_ASSIGN(const store::Image other, engine->images().find(value));
      (name == "before" ? before : since) = other.created;
    } else if (name == "until") {
      TRY_ASSIGN(until, moment_of(value));
    } else if (name == "dangling") {
      if (value != "true" && value != "false" && value != "1" && value != "0") {
        return errorf(ErrorKind::kInvalid, "invalid filter 'dangling={:.80}'", value);
      }
      dangling = value == "true" || value == "1";
    }
  }
  TRY_ASSIGN(const std::vector<store::ImageSummary> images, engine->images().list(request.query_flag("all")));
  const bool manifests = request.query_flag("manifests");
  const bool identity = request.at_least(54) && request.query_flag("identity");
  if (identity && !manifests) {
    return errorf(ErrorKind::kInvalid, "conflicting options: identity requires manifests=1");
  }
  std::map<std::string, uint64_t> shared;
  const bool tells_shared = request.query_flag("shared-size");
  if (tells_shared) {
    TRY_ASSIGN(shared, shared_sizes(engine->images()));
  }
  JsonWriter w;
  w.array([&] {
    for (const store::ImageSummary& image : images) {
      if ((before && image.created >= *before) || (since && image.created <= *since) ||
          (until && image.created >= *until) || (dangling && *dangling != image.tags.empty())) {
        continue;
      }
      const auto [first, last] = filters.equal_range("reference");
      if (first != last &&
          std::none_of(first, last, [&](const auto& f) { return reference_matches(f.second, image); })) {
        continue;
      }
      auto whole = engine->images().find(image.id.str());
      if (!whole.ok()) continue;  // removed meanwhile
      const auto& labels = whole->config.config.labels;
      if (!labels_match(filters, labels)) continue;
      w.object([&] {
        w.member("Id", image.id.str());
        w.member("ParentId", "");
        // Clients of 1.42 and older show "<none>" from these.
        const bool named = !image.tags.empty() || request.at_least(43);
        w.member("RepoTags", named ? image.tags : std::vector<std::string>{"<none>:<none>"});
        w.member("RepoDigests", !image.digests.empty() || request.at_least(43)
                                    ? image.digests
                                    : std::vector<std::string>{"<none>@<none>"});
        w.member("Created", unix_seconds(image.created));
        w.member("Size", image.size);
        w.member("SharedSize", tells_shared ? static_cast<int64_t>(shared[image.id.str()]) : int64_t{-1});
        if (!request.at_least(44)) w.member("VirtualSize", image.size);
        w.member("Labels", labels);
        w.member("Containers", request.at_least(51) || manifests ? image.containers : -1);
        if (manifests) write_manifests(w, *whole, image.containers, identity);
      });
    }
  });
  response.json(200, std::move(w).take());
  return {};
}

/// Docker's inspect document; members of the config that Hull does not use are shown as they are.
Result<std::string> image_document(const store::Image& image, const Request& request) {
  TRY_ASSIGN(const Json whole, parse_json_object(image.config_json));
  const Json* const run = whole.find("config");
  JsonWriter w;
  w.object([&] {
    w.member("Id", image.id.str());
    w.member("RepoTags", image.tags);
    w.member("RepoDigests", image.digests);
    const std::string comment = image.config.history.empty() ? "" : image.config.history.back().comment;
    if (request.at_least(52)) {
      w.member_opt("Comment", comment);
      w.member_opt("Author", image.config.author);
    } else {
      w.member("Parent", "");
      w.member("Comment", comment);
      w.member("DockerVersion", "");
      w.member("Author", image.config.author);
    }
    w.member("Created", image.config.created.empty() ? format_rfc3339(image.created) : image.config.created);
    w.member("Architecture", image.config.platform.architecture);
    w.member_opt("Variant", image.config.platform.variant);
    w.member("Os", image.config.platform.os);
    w.member("Size", image.size);
    if (!request.at_least(44)) w.member("VirtualSize", image.size);
    w.object("GraphDriver", [&] {
      w.member("Name", "overlay2");
      w.object("Data", [] {});
    });
    w.object("RootFS", [&] {
      w.member("Type", "layers");
      w.array("Layers", [&] {
        for (const Digest& layer : image.diff_ids) w.value(layer.str());
      });
    });
    w.object("Metadata", [&] { w.member("LastTagTime", "0001-01-01T00:00:00Z"); });
    if (request.at_least(48)) {
      w.object("Descriptor", [&] {
        w.member("mediaType", "application/vnd.oci.image.manifest.v1+json");
        w.member("digest", image.manifest_digest.str());
        w.member("size", 0);
      });
    }
    if (request.at_least(53)) write_identity(w, image.digests);
    if (request.query_flag("manifests")) write_manifests(w, image, 0, false);
  });
  std::string text = std::move(w).take();
  text.pop_back();
  return text + ",\"Config\":" + image_config(run, request.version()) + "}";
}

Result<store::Image> image_of(Request& request) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  auto image = engine->images().find(request.param("name"));
  if (!image.ok() && image.error().kind() == ErrorKind::kNotFound) {
    return errorf(ErrorKind::kNotFound, "No such image: {}", request.param("name"));
  }
  return image;
}

Result<void> inspect(Request& request, Response& response) {
  TRY_ASSIGN(const store::Image image, image_of(request));
  TRY_ASSIGN(std::string document, image_document(image, request));
  response.json(200, std::move(document));
  return {};
}

Result<std::string> platform_text(std::string_view text) {
  if (!text.starts_with('{')) return std::string(text);
  // From 1.48 on an OCI platform as JSON.
  TRY_ASSIGN(const Json json, parse_json_object(text));
  std::string os, architecture, variant;
  TRY(read_member(json, "os", &os));
  TRY(read_member(json, "architecture", &architecture));
  TRY(read_member(json, "variant", &variant));
  return os + "/" + architecture + (variant.empty() ? "" : "/" + variant);
}

Result<std::string> platform_of(const Request& request) { return platform_text(request.query("platform")); }

/// The parameter `platform` of what may be about several (1.52 and newer), without what is there twice.
Result<std::vector<std::string>> platforms_of(const Request& request) {
  const std::vector<std::string> asked = request.query_all("platform");
  if (asked.size() > 1 && !request.at_least(52)) {
    return errorf(ErrorKind::kInvalid,
                  "multiple platform parameters are not supported in this API version; use API version 1.52 or later");
  }
  std::vector<std::string> out;
  for (const std::string& text : asked) {
    TRY_ASSIGN(std::string platform, platform_text(text));
    if (!platform.empty() && std::find(out.begin(), out.end(), platform) == out.end())
      out.push_back(std::move(platform));
  }
  return out;
}

/// The store keeps an image's manifest and not the index that names attestations beside it: Docker's answer for stores
/// of that kind, after its checks.
Result<void> attestations(Request& request, Response&) {
  TRY_ASSIGN(const store::Image image, image_of(request));
  const std::vector<std::string> asked = request.query_all("platform");
  if (asked.size() > 1) return errorf(ErrorKind::kInvalid, "only one platform may be named");
  if (!asked.empty()) {
    TRY_ASSIGN(const std::string text, platform_text(asked.front()));
    TRY_ASSIGN(const oci::Platform wanted, oci::parse_platform(text));
    if (wanted.os != image.config.platform.os || wanted.architecture != image.config.platform.architecture) {
      return errorf(ErrorKind::kNotFound, "{}: the image here is for {}, not {}", request.param("name"),
                    image.config.platform.str(), wanted.str());
    }
  }
  return errorf(ErrorKind::kUnsupported,
                "the image store does not keep attestations: an image's index stays in the registry");
}

Result<void> history(Request& request, Response& response) {
  TRY_ASSIGN(const store::Image image, image_of(request));
  struct Line {
    const oci::HistoryEntry* entry;
    uint64_t size;
  };
  std::vector<Line> lines;
  size_t layer = 0;
  for (const oci::HistoryEntry& entry : image.config.history) {
    const bool has_layer = !entry.empty_layer;
    lines.push_back({&entry, has_layer && layer < image.layer_sizes.size() ? image.layer_sizes[layer] : 0});
    if (has_layer) ++layer;
  }
  std::reverse(lines.begin(), lines.end());
  JsonWriter w;
  w.array([&] {
    bool first = true;
    for (const Line& line : lines) {
      w.object([&] {
        const auto when = parse_rfc3339(line.entry->created);
        w.member("Id", first ? image.id.str() : std::string("<missing>"));
        w.member("Created", when.ok() ? unix_seconds(*when) : 0);
        w.member("CreatedBy", line.entry->created_by);
        w.member("Tags", first ? image.tags : std::vector<std::string>());
        w.member("Size", line.size);
        w.member("Comment", line.entry->comment);
      });
      first = false;
    }
  });
  response.json(200, std::move(w).take());
  return {};
}

Result<void> tag(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const store::Image image, image_of(request));
  std::string target(request.query("repo"));
  if (const auto name = request.query("tag"); !name.empty()) target += ":" + std::string(name);
  TRY(engine->images().tag(image.id.str(), target));
  response.empty(201);
  return {};
}

Result<void> remove(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN([[maybe_unused]] const store::Image image, image_of(request));
  TRY_ASSIGN(const store::RemoveReport report,
             engine->images().remove(request.param("name"), request.query_flag("force")));
  JsonWriter w;
  w.array([&] {
    for (const std::string& name : report.untagged) {
      w.object([&] { w.member("Untagged", name); });
    }
    for (const Digest& id : report.deleted) {
      w.object([&] { w.member("Deleted", id.str()); });
    }
  });
  response.json(200, std::move(w).take());
  return {};
}

Result<void> prune(Request& request, Response& response) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  TRY_ASSIGN(const Filters filters, request.filters({"dangling", "label", "label!", "until"}));
  bool all = false;
  TimePoint until = TimePoint::max();
  std::vector<std::string> labels;
  for (const auto& [name, value] : filters) {
    if (name == "dangling") all = value == "false" || value == "0";
    if (name == "label") labels.push_back(value);
    if (name == "label!") labels.push_back("!" + value);
    if (name == "until") {
      TRY_ASSIGN(until, moment_of(value));
    }
  }
  TRY_ASSIGN(const store::PruneReport report, engine->images().prune(all, labels, until));
  JsonWriter w;
  w.object([&] {
    w.array("ImagesDeleted", [&] {
      for (const std::string& line : report.deleted) {
        const size_t colon = line.find(": ");
        w.object([&] { w.member(line.starts_with("untagged") ? "Untagged" : "Deleted", line.substr(colon + 2)); });
      }
    });
    w.member("SpaceReclaimed", report.reclaimed);
  });
  response.json(200, std::move(w).take());
  return {};
}

/// Words that would be taken for flags can't be names.
Result<void> check_word(std::string_view word, std::string_view what) {
  if (word.starts_with('-')) return errorf(ErrorKind::kInvalid, "invalid {}: \"{:.80}\"", what, word);
  return {};
}

Result<void> import(Request& request, Response& response) {
  const std::string source(request.query("fromSrc"));
  if (source != "-" && !source.starts_with("http://") && !source.starts_with("https://")) {
    return errorf(ErrorKind::kInvalid, "fromSrc={:.80}: \"-\" or a URL", source);
  }
  ImagesJob job;
  job.words = {"import"};
  for (const std::string& change : request.query_all("changes"))
    job.words.insert(job.words.end(), {"--change", change});
  if (const auto message = request.query("message"); !message.empty()) {
    job.words.insert(job.words.end(), {"--message", std::string(message)});
  }
  TRY_ASSIGN(const std::string platform, platform_of(request));
  if (!platform.empty()) job.words.insert(job.words.end(), {"--platform", platform});
  job.words.insert(job.words.end(), {"--", source});
  if (const auto repository = request.query("repo"); !repository.empty()) {
    const auto name = request.query("tag");
    job.words.push_back(std::string(repository) + (name.empty() ? "" : ":" + std::string(name)));
  }
  job.body_is_input = source == "-";
  return run_images_job(request, response, job);
}

Result<void> create(Request& request, Response& response) {
  if (!request.query("fromSrc").empty()) return import(request, response);
  std::string name(request.query("fromImage"));
  if (name.empty()) return errorf(ErrorKind::kInvalid, "bad parameter: neither fromImage nor fromSrc");
  const std::string_view tag = request.query("tag");
  ImagesJob job;
  job.words = {"pull"};
  const size_t slash = name.rfind('/');
  const bool has_tag = name.find('@') != std::string::npos ||
                       name.find(':', slash == std::string::npos ? 0 : slash) != std::string::npos;
  if (tag.empty() && !has_tag) {
    job.words.emplace_back("--all-tags");
  } else if (tag.starts_with("sha256:")) {
    name += "@" + std::string(tag);
  } else if (!tag.empty()) {
    name += ":" + std::string(tag);
  }
  request.note_subject(name);
  TRY(check_word(name, "reference"));
  TRY_ASSIGN(const std::string platform, platform_of(request));
  if (!platform.empty()) job.words.insert(job.words.end(), {"--platform", platform});
  job.words.push_back(name);
  job.takes_auth = true;
  job.auth = request.header("x-registry-auth");
  return run_images_job(request, response, job);
}

Result<void> push(Request& request, Response& response) {
  TRY(check_word(request.param("name"), "reference"));
  const std::string_view tag = request.query("tag");
  ImagesJob job;
  job.words = {"push"};
  if (tag.empty()) job.words.emplace_back("--all-tags");
  job.words.push_back(request.param("name") + (tag.empty() ? "" : ":" + std::string(tag)));
  job.takes_auth = true;
  job.auth = request.header("x-registry-auth");
  return run_images_job(request, response, job);
}

Result<void> save(Request& request, Response& response, std::vector<std::string> names) {
  TRY_ASSIGN(engine::Engine* const engine, request.engine());
  if (names.empty()) return errorf(ErrorKind::kInvalid, "no image was named");
  ImagesJob job;
  job.words = {"save"};
  TRY_ASSIGN(const std::vector<std::string> platforms, platforms_of(request));
  // Each of them has to be there, and an image here is of one.
  if (!platforms.empty()) job.words.insert(job.words.end(), {"--platform", platforms.front()});
  for (std::string& name : names) {
    TRY(check_word(name, "reference"));
    TRY_ASSIGN(const store::Image image, engine->images().find(name));
    if (platforms.size() > 1) {
      return errorf(ErrorKind::kNotFound, "{}: the image here is for {} alone, not for all of {}", name,
                    image.config.platform.str(), fmt::join(platforms, ", "));
    }
    job.words.push_back(std::move(name));
  }
  job.raw_output = true;
  job.content_type = "application/x-tar";
  return run_images_job(request, response, job);
}

Result<void> get_one(Request& request, Response& response) { return save(request, response, {request.param("name")}); }

Result<void> get_several(Request& request, Response& response) {
  std::vector<std::string> names;
  for (const std::string& list : request.query_all("names")) {
    for (size_t at = 0; at <= list.size();) {
      const size_t end = std::min(list.find(',', at), list.size());
      if (end > at) names.push_back(list.substr(at, end - at));
      at = end + 1;
    }
  }
  return save(request, response, std::move(names));
}

Result<void> load(Request& request, Response& response) {
  ImagesJob job;
  job.words = {"load"};
  TRY_ASSIGN(const std::vector<std::string> platforms, platforms_of(request));
  if (platforms.size() > 1) {
    return errorf(ErrorKind::kUnsupported,
                  "an image's name stands for one platform here, and {} were named: load them one by one, each under a "
                  "name of its own",
                  platforms.size());
  }
  if (!platforms.empty()) job.words.insert(job.words.end(), {"--platform", platforms.front()});
  job.body_is_input = true;
  return run_images_job(request, response, job);
}

Result<void> search(Request& request, Response& response) {
  const std::string term(request.query("term"));
  if (term.empty()) return errorf(ErrorKind::kInvalid, "bad parameter: missing term");
  TRY(check_word(term, "term"));
  TRY_ASSIGN(const auto limit, request.query_number("limit", 0, 1'000'000));
  TRY_ASSIGN(const Filters filters, request.filters({"is-official", "is-automated", "stars"}));
  ImagesJob job;
  job.words = {"search"};
  if (limit && *limit > 0) job.words.insert(job.words.end(), {"--limit", std::to_string(*limit)});
  job.words.push_back(term);
  job.takes_auth = true;
  job.auth = request.header("x-registry-auth");
  job.whole_answer = true;
  // A catalogue knows no stars and nothing official.
  for (const auto& [name, value] : filters) {
    if ((name == "is-official" && value == "true") || (name == "stars" && value != "0")) {
      response.json(200, "[]");
      return {};
    }
  }
  return run_images_job(request, response, job);
}

Result<void> distribution(Request& request, Response& response) {
  TRY(check_word(request.param("name"), "reference"));
  ImagesJob job;
  job.words = {"remote-inspect", request.param("name")};
  job.takes_auth = true;
  job.auth = request.header("x-registry-auth");
  job.whole_answer = true;
  return run_images_job(request, response, job);
}

Result<void> auth(Request& request, Response& response) {
  TRY_ASSIGN(const std::string text, request.body_text());
  TRY_ASSIGN(const Json body, parse_json_object(text));
  std::string user, server;
  TRY(read_member(body, "username", &user));
  TRY(read_member(body, "serveraddress", &server));
  request.note_subject(server);
  ImagesJob job;
  job.words = {"check-login"};
  job.takes_auth = true;
  const std::string header = encode_auth(to_text(body));
  job.auth = header;
  job.whole_answer = true;
  auto done = run_images_job(request, response, job);
  // Docker's status for credentials that a registry refuses.
  if (!done.ok() && done.error().kind() == ErrorKind::kPermission && !response.started()) {
    JsonWriter w;
    w.object([&] { w.member("message", done.error().message()); });
    response.json(401, std::move(w).take());
    return {};
  }
  return done;
}

constexpr Route kRoutes[] = {
    {.method = "GET", .pattern = "/images/json", .right = Right::kView, .handler = list},
    {.method = "GET", .pattern = "/images/search", .right = Right::kView, .handler = search},
    {.method = "GET", .pattern = "/images/get", .right = Right::kOperate, .handler = get_several},
    {.method = "POST", .pattern = "/images/create", .right = Right::kOperate, .handler = create},
    {.method = "POST", .pattern = "/images/load", .right = Right::kOperate, .handler = load},
    {.method = "POST", .pattern = "/images/prune", .right = Right::kOperate, .handler = prune, .since_minor = 25},
    {.method = "GET", .pattern = "/images/{name...}/json", .right = Right::kView, .handler = inspect},
    {.method = "GET",
     .pattern = "/images/{name...}/attestations",
     .right = Right::kView,
     .handler = attestations,
     .since_minor = 55},
    {.method = "GET", .pattern = "/images/{name...}/history", .right = Right::kView, .handler = history},
    {.method = "GET", .pattern = "/images/{name...}/get", .right = Right::kOperate, .handler = get_one},
    {.method = "POST", .pattern = "/images/{name...}/tag", .right = Right::kOperate, .handler = tag},
    {.method = "POST", .pattern = "/images/{name...}/push", .right = Right::kOperate, .handler = push},
    {.method = "DELETE", .pattern = "/images/{name...}", .right = Right::kOperate, .handler = remove},
    {.method = "GET", .pattern = "/distribution/{name...}/json", .right = Right::kView, .handler = distribution},
    {.method = "POST", .pattern = "/auth", .right = Right::kView, .handler = auth},
};

}  // namespace

std::span<const Route> image_routes() { return kRoutes; }

}  // namespace hull::api
