#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "cli/images/images_app.h"
#include "cli/images/progress_view.h"
#include "store/archive/load.h"
#include "store/ingest/ingest.h"
#include "store/layer/tar_rebuild.h"
#include "store/registry/pull.h"
#include "sys/file.h"

namespace hull::cli {

Result<void> run_load(ImagesApp& app, const Parsed& flags) {
  const std::string input(flags.value("input", "-"));
  TRY_ASSIGN(const std::unique_ptr<store::ImageWriter> writer, app.writer());
  store::LoadOptions options;
  options.limits = store::layer_limits(app.settings());
  options.max_archive_bytes = app.settings().max_image_bytes;
  options.parallel = app.settings().parallel_layers;
  options.default_registry = app.settings().default_registry;
  if (flags.has("platform")) {
    TRY_ASSIGN(options.platform, oci::parse_platform(flags.value("platform")));
  }
  std::unique_ptr<store::MemberSource> archive;
  struct stat info{};
  if (input != "-" && ::stat(input.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    TRY_ASSIGN(archive, store::open_layout_folder(input));
  } else {
    UniqueFd fd;
    if (input == "-") {
      if (::isatty(STDIN_FILENO) != 0) {
        return errorf(ErrorKind::kInvalid, "standard input is a terminal: name the archive with -i, or pipe it in");
      }
      fd.reset(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
      if (!fd) return errno_error("standard input");
    } else {
      TRY_ASSIGN(fd, sys::open(input, O_RDONLY | O_NOCTTY));
    }
    TRY_ASSIGN(archive, store::open_archive(std::move(fd), input == "-" ? "standard input" : input, app.paths().data,
                                            options.max_archive_bytes));
  }
  ProgressView view(STDERR_FILENO, flags.on("quiet") || ::isatty(STDERR_FILENO) == 0);
  TRY_ASSIGN(const std::vector<store::LoadedImage> images, store::load_images(*writer, *archive, options, view));
  view.finish();
  for (const store::LoadedImage& image : images) {
    if (image.tags.empty()) app.print(fmt::format("Loaded image ID: {}", image.id.str()));
    for (const std::string& tag : image.tags) app.print(fmt::format("Loaded image: {}", tag));
  }
  return store::sync_written_layers(*writer);
}

Result<void> run_check(ImagesApp& app, const Parsed& flags) {
  TRY_ASSIGN(const std::unique_ptr<store::ImageStore> images, store::ImageStore::open(app.paths()));
  const std::string layers = app.paths().data + "/layers";
  TRY_ASSIGN(const UniqueFd layers_fd, sys::open(layers, O_RDONLY | O_DIRECTORY));
  images->set_layer_verifier([&](const Digest& diff_id, const std::string& lower_dir) -> Result<void> {
    TRY_ASSIGN(sys::Root root, sys::Root::open(lower_dir));
    return store::verify_layer(layers_fd.get(), diff_id, std::move(root));
  });
  TRY_ASSIGN(const store::CheckReport report, images->check(flags.on("deep"), flags.on("repair")));
  for (const std::string& problem : report.problems) app.print(problem);
  for (const std::string& done : report.repaired) app.print("repaired: " + done);
  if (report.problems.empty()) {
    app.print("images: all is well");
    return {};
  }
  if (flags.on("repair")) return {};
  return errorf(ErrorKind::kCorrupt, "{} problems; '--repair' removes what can't be used", report.problems.size());
}

}  // namespace hull::cli
