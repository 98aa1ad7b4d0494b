#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/images/images_app.h"
#include "cli/images/progress_view.h"
#include "store/archive/import.h"
#include "store/archive/load.h"
#include "store/archive/save.h"
#include "store/ingest/ingest.h"
#include "store/layer/tar_rebuild.h"
#include "store/registry/pull.h"
#include "store/registry/url_source.h"
#include "sys/file.h"

namespace hull::cli {

namespace {

void print_loaded(const ImagesApp& app, const std::string& line) {
  if (json_output()) return print_json("stream", line + "\n");
  app.print(line);
}

}  // namespace

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
    app.emit("load", image.id.str(), image.tags.empty() ? image.id.str() : image.tags.front());
    if (image.tags.empty()) print_loaded(app, fmt::format("Loaded image ID: {}", image.id.str()));
    for (const std::string& tag : image.tags) print_loaded(app, fmt::format("Loaded image: {}", tag));
  }
  return store::sync_written_layers(*writer);
}

namespace {

/// Where an archive goes: standard output, a device or pipe as it is, or a new file that takes its name only when
/// whole.
class ArchiveTarget {
 public:
  static Result<ArchiveTarget> open(const std::string& path) {
    ArchiveTarget out;
    struct stat info{};
    if (path.empty()) {
      if (::isatty(STDOUT_FILENO) != 0) {
        return errorf(ErrorKind::kInvalid, "standard output is a terminal: name a file with -o, or pipe it away");
      }
      out.fd_.reset(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
      if (!out.fd_) return errno_error("standard output");
    } else if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
      TRY_ASSIGN(out.fd_, sys::open(path, O_WRONLY | O_NOCTTY));
    } else {
      out.path_ = path;
      out.temporary_ = fmt::format("{}.part-{}", path, ::getpid());
      TRY_ASSIGN(out.fd_, sys::open(out.temporary_, O_WRONLY | O_CREAT | O_EXCL, 0600));
    }
    return out;
  }
  ArchiveTarget(ArchiveTarget&& other) noexcept
      : fd_(std::move(other.fd_)), path_(std::move(other.path_)), temporary_(std::exchange(other.temporary_, "")) {}
  ArchiveTarget& operator=(ArchiveTarget&&) = delete;
  ~ArchiveTarget() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  int fd() const { return fd_.get(); }
  Result<void> commit() {
    if (temporary_.empty()) return {};
    if (::fsync(fd_.get()) != 0) return errnof("write {}", path_);
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return errnof("rename to {}", path_);
    temporary_.clear();
    return {};
  }

 private:
  ArchiveTarget() = default;
  UniqueFd fd_;
  std::string path_, temporary_;
};

}  // namespace

Result<void> run_save(ImagesApp& app, const Parsed& flags) {
  const std::string_view format = flags.value("format", "docker-archive");
  if (format != "docker-archive" && format != "oci-archive") {
    return errorf(ErrorKind::kInvalid, "--format {:.60}: expected docker-archive or oci-archive", format);
  }
  TRY_ASSIGN(const std::unique_ptr<store::ImageWriter> writer, app.writer());
  if (flags.has("platform")) {
    TRY_ASSIGN(const oci::Platform wanted, oci::parse_platform(flags.value("platform")));
    for (const std::string& name : flags.arguments) {
      TRY_ASSIGN(const store::Image image, writer->store().find(name));
      if (image.config.platform.os != wanted.os || image.config.platform.architecture != wanted.architecture) {
        return errorf(ErrorKind::kNotFound, "{}: the image here is for {}, not {}", name, image.config.platform.str(),
                      wanted.str());
      }
    }
  }
  TRY_ASSIGN(ArchiveTarget target, ArchiveTarget::open(std::string(flags.value("output"))));
  TRY(store::save_images(*writer, flags.arguments,
                         format == "oci-archive" ? store::ArchiveFormat::kOci : store::ArchiveFormat::kDocker,
                         target.fd(), app.settings().default_registry));
  TRY(target.commit());
  for (const std::string& name : flags.arguments) {
    if (auto image = writer->store().find(name); image.ok()) app.emit("save", image->id.str(), name);
  }
  return {};
}

Result<void> run_import(ImagesApp& app, const Parsed& flags) {
  const std::string& source = flags.arguments[0];
  store::ImportOptions options;
  options.changes = flags.values("change");
  options.message = flags.value("message");
  options.source = source == "-" ? "-" : source;
  options.created = format_rfc3339(std::chrono::system_clock::now());
  options.limits = store::layer_limits(app.settings());
  if (flags.has("platform")) {
    TRY_ASSIGN(options.platform, oci::parse_platform(flags.value("platform")));
  }
  if (flags.arguments.size() > 1) {
    TRY_ASSIGN(options.name, oci::parse_reference(flags.arguments[1], app.settings().default_registry));
    if (!options.name->digest.empty()) {
      return errorf(ErrorKind::kInvalid, "{}: a new name can't hold a digest", flags.arguments[1]);
    }
  }
  TRY_ASSIGN(const std::unique_ptr<store::ImageWriter> writer, app.writer());
  UniqueFd fd;
  std::unique_ptr<store::ByteSource> bytes;
  if (source.starts_with("http://") || source.starts_with("https://")) {
    bytes = std::make_unique<store::UrlSource>(app.http(), source, app.settings().stall_timeout);
  } else {
    if (source == "-") {
      if (::isatty(STDIN_FILENO) != 0)
        return errorf(ErrorKind::kInvalid, "standard input is a terminal: pipe a tar archive in");
      fd.reset(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
      if (!fd) return errno_error("standard input");
    } else {
      TRY_ASSIGN(fd, sys::open(source, O_RDONLY | O_NOCTTY));
    }
    bytes = std::make_unique<store::FdSource>(fd.get());
  }
  auto imported = store::import_image(*writer, *bytes, options);
  if (!imported.ok()) return std::move(imported).error().context(source);
  app.print(imported->str());
  app.emit("import", imported->str(), imported->str());
  return store::sync_written_layers(*writer);
}

Result<void> run_commit(ImagesApp& app, const Parsed& flags) {
  TRY_ASSIGN(const std::string json, sys::read_file(std::string(flags.value("config")), oci::kMaxConfigBytes));
  TRY_ASSIGN(const oci::ImageConfig config, oci::parse_image_config(json));
  store::CommitOptions options;
  options.changes = flags.values("change");
  options.comment = flags.value("message");
  options.limits = store::layer_limits(app.settings());
  if (flags.arguments.size() > 1) {
    TRY_ASSIGN(options.name, oci::parse_reference(flags.arguments[1], app.settings().default_registry));
    if (!options.name->digest.empty()) {
      return errorf(ErrorKind::kInvalid, "{}: a new name can't hold a digest", flags.arguments[1]);
    }
  }
  TRY_ASSIGN(const std::unique_ptr<store::ImageWriter> writer, app.writer());
  TRY_ASSIGN(const store::Image parent, writer->store().find(flags.arguments[0]));
  store::FdSource bytes(STDIN_FILENO);
  TRY_ASSIGN(const Digest id, store::commit_image(*writer, parent, config, bytes, options));
  TRY(store::sync_written_layers(*writer));
  if (options.name) app.emit("tag", id.str(), options.name->familiar());
  app.print(id.str());
  return {};
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

Result<void> run_verify_layer(ImagesApp& app, const Parsed& flags) {
  TRY_ASSIGN(const Digest diff_id, Digest::parse(flags.arguments[0]));
  TRY_ASSIGN(const UniqueFd layers_fd, sys::open(app.paths().data + "/layers", O_RDONLY | O_DIRECTORY));
  TRY_ASSIGN(sys::Root root, sys::Root::open(flags.arguments[1]));
  return store::verify_layer(layers_fd.get(), diff_id, std::move(root));
}

}  // namespace hull::cli
