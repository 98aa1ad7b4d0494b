// cp and export.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <thread>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "sys/file.h"
#include "tar/pack.h"
#include "tar/unpack.h"

namespace hull::cli {
namespace {

constexpr Flag kCopyFlags[] = {
    {.name = "archive",
     .short_name = 'a',
     .help = "Into a workload: everything belongs to the workload's user; out of one: files keep their owners"},
    {.name = "follow-link", .short_name = 'L', .help = "Copy what a symbolic link leads to, not the link"},
    {.name = "quiet", .short_name = 'q', .help = "Do not say how much was copied"},
};
constexpr std::span<const Flag> kCopyTables[] = {kCopyFlags};

struct Place {
  std::string workload;  // "": this machine
  std::string path;
};

/// "WORKLOAD:PATH"; a path of this machine that holds a colon begins with "/" or ".".
Place parse_place(const std::string& text) {
  const size_t colon = text.find(':');
  if (text.starts_with('/') || text.starts_with('.') || colon == std::string::npos || colon == 0) return {"", text};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

bool names_the_folder(std::string_view path) { return path.ends_with("/.") || path == "."; }
bool asserts_folder(std::string_view path) { return path.ends_with('/') || names_the_folder(path); }

/// A path's folder and last name, without what is at its end. "/": {"/", "/"}.
struct Split {
  std::string folder, base;
};
Split split_path(std::string path) {
  while (path.size() > 1 && (path.ends_with('/') || path.ends_with("/.")))
    path.resize(path.rfind('/') == 0 ? 1 : path.rfind('/'));
  if (path == "/") return {"/", "/"};
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {".", path};
  return {slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

/// Where a copy goes, by Docker's rules: into a folder that is there, or under the name that the target has.
struct Landing {
  std::string folder;
  std::string rename;  // "": keeps its name
};
Result<Landing> choose_landing(const std::string& target, bool exists, bool is_folder, bool source_is_folder) {
  if (exists && is_folder) return Landing{target, ""};
  if (exists && source_is_folder) return errorf(ErrorKind::kInvalid, "cannot copy directory");
  if (exists && asserts_folder(target)) return errorf(ErrorKind::kInvalid, "{}: not a directory", target);
  if (!exists && !source_is_folder && asserts_folder(target)) return errorf(ErrorKind::kNotFound, "no such directory");
  Split split = split_path(target);
  return Landing{std::move(split.folder), std::move(split.base)};
}

void tell_size(Context& context, bool quiet, uint64_t bytes, std::string_view target) {
  if (quiet || !context.err.is_terminal()) return;
  context.err.print("Successfully copied {} to {}\n", format_size(bytes), target);
}

/// What is to be copied of this machine: the folder that it is in, its name there, and what it is called.
struct LocalSource {
  UniqueFd folder;
  std::string name, base;
  bool is_folder = false;
};

Result<LocalSource> open_source(const std::string& path, bool follow) {
  struct stat info{};
  const bool through = follow || asserts_folder(path);
  if ((through ? ::stat(path.c_str(), &info) : ::lstat(path.c_str(), &info)) != 0) return errnof("{}", path);
  LocalSource source;
  source.is_folder = S_ISDIR(info.st_mode);
  if (asserts_folder(path) && !source.is_folder) return errorf(ErrorKind::kInvalid, "{}: not a directory", path);
  const Split split = split_path(path);
  source.base = names_the_folder(path) || split.base == "/" ? "." : split.base;
  if (source.is_folder) {
    TRY_ASSIGN(source.folder, sys::open(path, O_PATH | O_DIRECTORY));
    source.name = ".";
    if (split.base == "..") source.base = ".";
    return source;
  }
  std::string real = path;
  if (follow) {
    char* const resolved = ::realpath(path.c_str(), nullptr);
    if (resolved == nullptr) return errnof("{}", path);
    real = resolved;
    ::free(resolved);
  }
  const Split at = split_path(real);
  TRY_ASSIGN(source.folder, sys::open(at.folder, O_PATH | O_DIRECTORY));
  source.name = at.base;
  return source;
}

/// The target inside the workload, through a link at its end.
struct Inside {
  std::string path;
  bool exists = false, is_folder = false;
};
Result<Inside> look_inside(engine::Engine& engine, const Place& place) {
  Inside inside;
  inside.path = place.path.starts_with('/') ? place.path : "/" + place.path;
  auto found = engine.path_stat(place.workload, inside.path);
  if (found.ok() && found->is_link()) {
    inside.path = found->link_target;
    found = engine.path_stat(place.workload, inside.path);
  }
  if (!found.ok()) {
    if (found.error().kind() != ErrorKind::kNotFound) return std::move(found).error();
    return inside;
  }
  inside.exists = true;
  inside.is_folder = found->is_folder();
  return inside;
}

Result<int> copy_in(Context& context, const Parsed& parsed, const std::string& from, const Place& to) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const engine::WorkloadDetails known, engine->inspect(to.workload));
  TRY_ASSIGN(const Inside inside, look_inside(*engine, to));
  engine::PutOptions options;
  options.no_overwrite_dir_non_dir = true;
  options.to_container_user = parsed.on("archive");
  if (from == "-") {
    if (!inside.exists || !inside.is_folder) {
      return errorf(ErrorKind::kInvalid, "destination \"{}:{}\" must be a directory", to.workload, to.path);
    }
    TRY(engine->archive_put(known.summary.id, inside.path, options, tar::source_of(context.in_fd)));
    return 0;
  }
  TRY_ASSIGN(const LocalSource source, open_source(from, parsed.on("follow-link")));
  TRY_ASSIGN(const Landing landing, choose_landing(inside.path, inside.exists, inside.is_folder, source.is_folder));
  TRY_ASSIGN(sys::Pipe pipe, sys::make_pipe());
  ::signal(SIGPIPE, SIG_IGN);  // a failure inside ends the reading first
  uint64_t bytes = 0;
  Result<void> packed;
  std::thread packer([&] {
    tar::TarWriter writer([&](std::string_view data) {
      bytes += data.size();
      return sys::write_all(pipe.write_end.get(), data);
    });
    tar::Packer tree(writer, {});
    packed = tree.tree(source.folder.get(), source.name, landing.rename.empty() ? source.base : landing.rename);
    if (packed.ok()) packed = writer.finish();
    pipe.write_end.reset();
  });
  auto put = engine->archive_put(known.summary.id, landing.folder, options, tar::source_of(pipe.read_end.get()));
  pipe.read_end.reset();
  packer.join();
  // When the reading failed, the writing did for that reason only.
  if (!packed.ok() && packed.error().error_number() != EPIPE) return std::move(packed).error();
  TRY(std::move(put));
  tell_size(context, parsed.on("quiet"), bytes, to.workload + ":" + to.path);
  return 0;
}

/// Unpacks what comes out of a workload, below a folder of this machine that is pinned before the first byte.
class Landed {
 public:
  Landed(std::string target, std::string rename, bool keep_owner)
      : target_(std::move(target)), rename_(std::move(rename)), keep_owner_(keep_owner) {}

  Result<void> begin(const engine::PathStat& source, bool whole_folder) {
    struct stat info{};
    const bool exists = ::stat(target_.c_str(), &info) == 0;
    TRY_ASSIGN(const Landing landing,
               choose_landing(target_, exists, exists && S_ISDIR(info.st_mode), source.is_folder()));
    auto root = sys::Root::open(landing.folder);
    if (!root.ok()) {
      return errorf(ErrorKind::kNotFound, "invalid output path: directory \"{}\" does not exist", landing.folder);
    }
    root_.emplace(std::move(*root));
    tar::UnpackOptions options;
    options.follow_links = false;
    options.keep_owner = keep_owner_;
    options.devices = false;
    options.no_overwrite_dir_non_dir = true;
    const std::string name = landing.rename.empty() ? rename_ : landing.rename;
    if (!name.empty()) {
      options.rebase_from = whole_folder || source.name == "/" ? "" : source.name;
      options.rebase_to = name;
    }
    unpacker_.emplace(*root_, "", std::move(options));
    reader_.emplace(*unpacker_, tar::TarReaderLimits{});
    return {};
  }
  Result<void> take(std::string_view bytes) {
    bytes_ += bytes.size();
    return reader_->feed(std::as_bytes(std::span(bytes.data(), bytes.size())));
  }
  Result<void> finish() {
    TRY(reader_->finish());
    unpacker_->finish();
    return {};
  }
  uint64_t bytes() const { return bytes_; }

 private:
  std::string target_, rename_;
  bool keep_owner_;
  std::optional<sys::Root> root_;
  std::optional<tar::Unpacker> unpacker_;
  std::optional<tar::TarReader> reader_;
  uint64_t bytes_ = 0;
};

Result<int> copy_out(Context& context, const Parsed& parsed, const Place& from, const std::string& to) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  TRY_ASSIGN(const engine::WorkloadDetails known, engine->inspect(from.workload));
  std::string path = from.path.starts_with('/') ? from.path : "/" + from.path;
  std::string rename;
  if (parsed.on("follow-link")) {
    TRY_ASSIGN(const engine::PathStat source, engine->path_stat(known.summary.id, path));
    if (source.is_link()) {
      path = source.link_target;
      rename = source.name;
    }
  }
  if (to == "-") {
    if (context.out.is_terminal()) {
      return errorf(ErrorKind::kInvalid, "standard output is a terminal: name a target, or pipe the archive away");
    }
    context.out.flush();
    TRY(engine->archive_get(
        known.summary.id, path, [](const engine::PathStat&) { return Result<void>(); },
        tar::sink_to(context.out.fd())));
    return 0;
  }
  Landed landed(to, rename, parsed.on("archive"));
  TRY(engine->archive_get(
      known.summary.id, path,
      [&](const engine::PathStat& source) { return landed.begin(source, names_the_folder(path)); },
      [&](std::string_view bytes) { return landed.take(bytes); }));
  TRY(landed.finish());
  tell_size(context, parsed.on("quiet"), landed.bytes(), to);
  return 0;
}

Result<int> copy_main(Context& context, const Parsed& parsed) {
  const Place from = parse_place(parsed.arguments[0]), to = parse_place(parsed.arguments[1]);
  for (const Place* place : {&from, &to}) {
    if (place->path.empty()) {
      return errorf(ErrorKind::kInvalid, "{} can not be empty", place == &from ? "source" : "destination");
    }
  }
  if (!from.workload.empty() && !to.workload.empty()) {
    return errorf(ErrorKind::kInvalid, "copying between containers is not supported");
  }
  if (from.workload.empty() && to.workload.empty()) {
    return errorf(ErrorKind::kInvalid, "must specify at least one container source");
  }
  return from.workload.empty() ? copy_in(context, parsed, from.path, to) : copy_out(context, parsed, from, to.path);
}

constexpr Flag kExportFlags[] = {
    {.name = "output",
     .short_name = 'o',
     .kind = ValueKind::kText,
     .metavar = "FILE",
     .help = "Write to this file instead of standard output",
     .complete = Complete::kFile},
};
constexpr std::span<const Flag> kExportTables[] = {kExportFlags};

Result<int> export_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  const std::string output(parsed.value("output"));
  if (output.empty()) {
    if (context.out.is_terminal()) {
      return errorf(ErrorKind::kInvalid, "cowardly refusing to save to a terminal. Use the -o flag or redirect");
    }
    context.out.flush();
    TRY(engine->export_files(parsed.arguments[0], tar::sink_to(context.out.fd())));
    return 0;
  }
  struct stat info{};
  if (::stat(output.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISCHR(info.st_mode) &&
      !S_ISFIFO(info.st_mode)) {
    return errorf(ErrorKind::kInvalid, "{}: not a file that can be written", output);
  }
  if (::stat(output.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    TRY_ASSIGN(const UniqueFd file, sys::open(output, O_WRONLY | O_NOCTTY));
    TRY(engine->export_files(parsed.arguments[0], tar::sink_to(file.get())));
    return 0;
  }
  // It takes its name when it is whole.
  const std::string part = fmt::format("{}.part-{}", output, ::getpid());
  TRY_ASSIGN(const UniqueFd file, sys::open(part, O_WRONLY | O_CREAT | O_EXCL, 0600));
  auto written = engine->export_files(parsed.arguments[0], tar::sink_to(file.get()));
  if (written.ok() && ::rename(part.c_str(), output.c_str()) != 0) written = errnof("rename to {}", output);
  if (!written.ok()) ::unlink(part.c_str());
  TRY(std::move(written));
  return 0;
}

}  // namespace

constinit const Command kCopy = {
    .path = "cp",
    .aliases = "container cp",
    .arguments = "WORKLOAD:SOURCE TARGET|-  or  hull cp SOURCE|- WORKLOAD:TARGET",
    .summary = "Copy files into a workload or out of it",
    .description =
        "Works on running and stopped containers and on running virtual machines. \"-\" is a tar archive on standard "
        "input or output. A folder is "
        "copied "
        "with all that is in it: under its own name into a TARGET that is there, as TARGET where that is not there "
        "yet; "
        "\"SOURCE/.\" copies only what is in it. Links are copied as links.\n\nOut of a workload: no device nodes are "
        "made on this machine, set-id bits are kept with --archive only, and no link that the workload made is "
        "followed. Into and out of a virtual machine: while it runs, by Hull's own program inside.",
    .examples =
        "hull cp web:/etc/nginx ./nginx\nhull cp ./site/. web:/srv/www\n"
        "tar -c conf | hull cp - web:/etc\nhull cp web:/var/log - | tar -t\n",
    .flags = kCopyTables,
    .least = 2,
    .most = 2,
    .complete = Complete::kWorkload,
    .run = copy_main};

constinit const Command kExport = {
    .path = "export",
    .aliases = "container export",
    .arguments = "WORKLOAD",
    .summary = "Write all files of a workload as a tar archive",
    .description = "Without what lies in volumes and other mounts. 'hull import' makes an image of it.",
    .examples = "hull export -o web.tar web\nhull export web | hull import - web:flat\n",
    .flags = kExportTables,
    .least = 1,
    .most = 1,
    .complete = Complete::kWorkload,
    .run = export_main};

}  // namespace hull::cli
