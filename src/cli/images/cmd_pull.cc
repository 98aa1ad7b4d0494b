#include <unistd.h>

#include "base/error_format.h"
#include "cli/images/images_app.h"
#include "cli/images/progress_view.h"
#include "store/archive/load.h"
#include "store/ingest/ingest.h"
#include "store/registry/pull.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

bool has_name_only(std::string_view text) {
  const size_t slash = text.rfind('/');
  return text.find('@') == std::string_view::npos &&
         text.find(':', slash == std::string_view::npos ? 0 : slash) == std::string_view::npos;
}

Result<store::PullOutcome> pull_one(ImagesApp& app, store::ImageWriter& writer, const store::PullOptions& options,
                                    ProgressView& view) {
  const oci::Reference& ref = options.reference;
  view.line(fmt::format("{}: Pulling from {}", ref.digest.empty() ? ref.tag : ref.digest.str(), ref.repository));
  auto outcome = store::pull_image(app.http(), app.settings(), app.credentials(), writer, options, view);
  view.finish();
  return outcome;
}

}  // namespace

std::string embedded_layout(const oci::Reference& reference) {
  if (reference.registry != "docker.io" || reference.tag != "latest") return "";
  const std::string name = reference.familiar_name();
  if (name.find('/') != std::string::npos) return "";
  char self[4096];
  const ssize_t length = ::readlink("/proc/self/exe", self, sizeof self);
  if (length <= 0 || length == static_cast<ssize_t>(sizeof self)) return "";
  std::string folder(self, static_cast<size_t>(length));
  folder.resize(folder.rfind('/'));
  // Installed: <prefix>/libexec/hull/hull-images; in the build tree: <build>/bin/hull-images.
  for (const char* prefix : {"/../..", "/.."}) {
    std::string layout = folder + prefix + "/share/hull/images/" + name;
    if (sys::exists(layout + "/index.json")) return layout;
  }
  return "";
}

Result<void> run_pull(ImagesApp& app, const Parsed& flags) {
  const std::string& text = flags.arguments.front();
  TRY_ASSIGN(oci::Reference reference, oci::parse_reference(text, app.settings().default_registry));
  store::PullOptions options;
  if (flags.has("platform")) {
    TRY_ASSIGN(options.platform, oci::parse_platform(flags.value("platform")));
  }
  if (flags.has("auth-file")) TRY(app.use_credentials(std::string(flags.value("auth-file")), reference.registry));
  const bool quiet = flags.on("quiet");
  TRY_ASSIGN(const std::unique_ptr<store::ImageWriter> writer, app.writer());
  ProgressView view(STDOUT_FILENO, quiet);

  std::vector<oci::Reference> wanted;
  if (flags.on("all-tags")) {
    if (!has_name_only(text)) {
      return errorf(ErrorKind::kInvalid, "{}: with --all-tags the name must have no tag and no digest", text);
    }
    TRY_ASSIGN(const std::vector<std::string> tags,
               store::remote_tags(app.http(), app.settings(), app.credentials(), reference));
    if (tags.empty()) return errorf(ErrorKind::kNotFound, "{}: the repository has no tags", text);
    for (const std::string& tag : tags) {
      reference.tag = tag;
      wanted.push_back(reference);
    }
  } else {
    if (has_name_only(text) && !json_output()) view.line("Using default tag: latest");
    // Image and tag and digest: the digest decides.
    wanted.push_back(reference);
  }

  for (const oci::Reference& ref : wanted) {
    options.reference = ref;
    // hull-demo comes with the programs: no network.
    if (const std::string layout = embedded_layout(ref); !layout.empty()) {
      store::LoadOptions load;
      load.limits = store::layer_limits(app.settings());
      load.parallel = app.settings().parallel_layers;
      load.platform = options.platform;
      load.name_as = ref;
      TRY_ASSIGN(const store::LoadedImage loaded, store::load_layout_image(*writer, layout, load, view));
      view.finish();
      view.line(fmt::format("Status: {} for {}",
                            loaded.newer ? "Took the image that is installed with Hull" : "Image is up to date",
                            ref.familiar()));
    } else {
      TRY_ASSIGN(const store::PullOutcome outcome, pull_one(app, *writer, options, view));
      view.line(fmt::format("Digest: {}", outcome.digest.str()));
      view.line(fmt::format("Status: {} for {}", outcome.newer ? "Downloaded newer image" : "Image is up to date",
                            ref.familiar()));
    }
    if (!json_output()) app.print(ref.canonical());
    app.emit("pull", ref.familiar(), ref.familiar_name());
  }
  return store::sync_written_layers(*writer);
}

}  // namespace hull::cli
