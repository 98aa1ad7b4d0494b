#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "cli/images/images_app.h"
#include "cli/images/progress_view.h"
#include "store/registry/push.h"

namespace hull::cli {

Result<void> run_push(ImagesApp& app, const Parsed& flags) {
  const std::string& text = flags.arguments.front();
  TRY_ASSIGN(oci::Reference reference, oci::parse_reference(text, app.settings().default_registry));
  if (!reference.digest.empty()) {
    return errorf(ErrorKind::kInvalid, "{}: an image is pushed by its name and tag, not by a digest", text);
  }
  if (flags.has("auth-file")) TRY(app.use_credentials(std::string(flags.value("auth-file")), reference.registry));
  const bool quiet = flags.on("quiet");
  TRY_ASSIGN(const std::unique_ptr<store::ImageWriter> writer, app.writer());
  std::vector<oci::Reference> wanted;
  if (flags.on("all-tags")) {
    const std::string name = reference.registry + "/" + reference.repository;
    if (text.ends_with(":" + reference.tag)) {
      return errorf(ErrorKind::kInvalid, "{}: with --all-tags the name must have no tag", text);
    }
    TRY_ASSIGN(const std::vector<store::ImageSummary> images, writer->store().list(true));
    for (const store::ImageSummary& image : images) {
      for (const std::string& tag : image.tags) {
        auto one = oci::parse_reference(tag);
        if (one.ok() && one->registry + "/" + one->repository == name) wanted.push_back(*std::move(one));
      }
    }
    if (wanted.empty()) return errorf(ErrorKind::kNotFound, "no image here has a tag of {}", name);
  } else {
    wanted.push_back(reference);
  }
  for (const oci::Reference& ref : wanted) {
    ProgressView view(STDOUT_FILENO, quiet);
    view.line(fmt::format("The push refers to repository [{}/{}]", ref.registry, ref.repository));
    TRY_ASSIGN(const store::PushOutcome outcome,
               store::push_image(app.http(), app.settings(), app.credentials(), *writer, ref, view));
    view.finish();
    app.emit("push", ref.familiar(), ref.familiar_name());
    if (quiet) {
      app.print(ref.canonical());
    } else {
      app.print(fmt::format("{}: digest: {} size: {}", ref.tag, outcome.digest.str(), outcome.size));
    }
  }
  return {};
}

}  // namespace hull::cli
