#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/error_format.h"
#include "base/units.h"
#include "engine/copy_tree.h"
#include "engine/engine_impl.h"
#include "engine/filter.h"
#include "engine/host.h"
#include "engine/image_view.h"
#include "engine/process.h"
#include "engine/validate.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

constexpr std::string_view kAnonymousLabel = "com.docker.volume.anonymous";

std::string volume_folder(const Paths& paths, std::string_view name) {
  return paths.volumes() + "/" + std::string(name);
}

Result<void> check_options(const std::string& name, const std::map<std::string, std::string>& options) {
  for (const auto& [key, value] : options) {
    if (key != "type" && key != "o" && key != "device" && key != "size") {
      return errorf(ErrorKind::kInvalid, "create {}: invalid option: \"{}\"", name, key);
    }
    if (key == "size")
      return errorf(ErrorKind::kUnsupported, "create {}: quota size requested but no quota support", name);
  }
  if (options.empty()) return {};
  const auto get = [&](const char* key) {
    const auto it = options.find(key);
    return it == options.end() ? std::string() : it->second;
  };
  const std::string type = get("type"), device = get("device"), o = get("o");
  if (device.empty()) return errorf(ErrorKind::kInvalid, "create {}: missing device in volume options", name);
  if (type == "tmpfs") return {};
  const bool bind = type == "none" || type == "bind" || type.empty();
  if (!bind ||
      (("," + o + ",").find(",bind,") == std::string::npos && ("," + o + ",").find(",rbind,") == std::string::npos)) {
    return errorf(
        ErrorKind::kUnsupported,
        "create {}: the local driver takes type=tmpfs, or type=none with o=bind; mount {} file systems on the "
        "host and bind them",
        name, type.empty() ? "other" : type);
  }
  if (!device.starts_with('/'))
    return errorf(ErrorKind::kInvalid, "create {}: device {} is no absolute path", name, device);
  return {};
}

}  // namespace

Result<std::string> EngineImpl::volume_path(const std::string& name) const {
  const std::string folder = volume_folder(paths_, name);
  const std::string data = folder + "/_data";
  auto device = sys::read_file(folder + "/device", 8192);
  if (!device.ok()) return data;
  // A bind volume is the named folder itself: no mount on the host.
  if (device->starts_with('/')) {
    if (!sys::exists(*device)) {
      return errorf(ErrorKind::kNotFound, "volume {}: its device {} does not exist", name, *device);
    }
    return *device;
  }
  // "tmpfs" and its options: mounted by the first use of this boot, and shared by all workloads that use it.
  struct stat inner{}, outer{};
  if (::stat(data.c_str(), &inner) != 0 || ::stat(folder.c_str(), &outer) != 0) return errnof("stat volume {}", name);
  if (inner.st_dev != outer.st_dev) return data;
  const size_t line = device->find('\n');
  const std::string options = line == std::string::npos ? std::string() : device->substr(line + 1);
  if (::mount("tmpfs", data.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
    return errnof("volume {}: mount a tmpfs with options \"{}\"", name, options);
  }
  return data;
}

Result<VolumeRow> EngineImpl::make_volume(Index& index, VolumeRow row,
                                          const std::map<std::string, std::string>& options) {
  if (!row.driver.empty() && row.driver != "local") {
    return errorf(ErrorKind::kNotFound, "error looking up volume plugin {}: there is local only", row.driver);
  }
  row.driver = "local";
  TRY(check_options(row.name, options));
  const std::string folder = volume_folder(paths_, row.name);
  TRY(sys::make_dirs(folder));
  if (::mkdir((folder + "/_data").c_str(), 0755) != 0 && errno != EEXIST) return errnof("make {}/_data", folder);
  ::chmod((folder + "/_data").c_str(), 0755);
  if (const auto device = options.find("device"); device != options.end()) {
    const auto type = options.find("type");
    const bool tmpfs = type != options.end() && type->second == "tmpfs";
    const auto o = options.find("o");
    TRY(sys::replace_file(folder + "/device",
                          tmpfs ? "tmpfs\n" + (o == options.end() ? std::string() : o->second) : device->second));
  }
  row.created_ns = now_ns();
  row.options = labels_to_json(options);
  auto added = index.add_volume(row);
  if (added.ok()) emit_volume(row.name, "create");
  if (!added.ok() && added.error().kind() != ErrorKind::kExists) {
    ignore_result(sys::remove_tree(folder));
    return std::move(added).error();
  }
  TRY_ASSIGN(const std::optional<VolumeRow> made, index.volume(row.name));
  if (!made) return errorf(ErrorKind::kConflict, "volume {} was removed meanwhile: try again", row.name);
  return *made;
}

Result<void> EngineImpl::delete_volume(Index& index, const std::string& name) {
  TRY(index.remove_volume(name));
  ::umount2((volume_folder(paths_, name) + "/_data").c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);  // a tmpfs volume
  TRY(sys::remove_tree(volume_folder(paths_, name)).context("remove the volume " + name));
  emit_volume(name, "destroy");
  return {};
}

/// Gives every volume mount of the request a volume that exists, and takes over the mounts of --volumes-from.
Result<void> EngineImpl::resolve_volumes(const Change& change, Index& index, Config* merged,
                                         std::vector<std::string>* volumes, std::vector<std::string>* anonymous) {
  const auto mounted = [&](const std::string& target) {
    const std::string clean = sys::clean_path(target);
    return std::any_of(merged->mounts.begin(), merged->mounts.end(),
                       [&](const MountRequest& m) { return sys::clean_path(m.target) == clean; });
  };
  // First what the user named, then what comes from others, as Docker orders them: an image's anonymous volume gives
  // way to a volume of another workload at the same place.
  for (const std::string& text : merged->volumes_from) {
    const size_t colon = text.find(':');
    const std::string mode = colon == std::string::npos ? "" : text.substr(colon + 1);
    if (!mode.empty() && mode != "ro" && mode != "rw" && mode != "z" && mode != "Z") {
      return errorf(ErrorKind::kInvalid, "invalid mode for volumes-from: {}", mode);
    }
    TRY_ASSIGN(const WorkloadRow other, index.find(text.substr(0, colon)));
    TRY_ASSIGN(const std::string json, index.config(other.id));
    TRY_ASSIGN(Config theirs, parse_config(json));
    for (MountRequest& mount : theirs.mounts) {
      if (mount.type == MountRequest::Type::kTmpfs) continue;
      std::erase_if(merged->mounts, [&](const MountRequest& m) {
        return m.type == MountRequest::Type::kVolume && m.source.empty() &&
               sys::clean_path(m.target) == sys::clean_path(mount.target);
      });
      if (mounted(mount.target)) continue;
      if (mode == "ro") mount.read_only = true;
      mount.no_copy = true;
      merged->mounts.push_back(std::move(mount));
    }
  }
  for (MountRequest& mount : merged->mounts) {
    if (mount.type == MountRequest::Type::kBind) {
      if (sys::exists(mount.source)) continue;
      if (!mount.create_source) {
        return errorf(ErrorKind::kInvalid,
                      "invalid mount config for type \"bind\": bind source path does not exist: {}", mount.source);
      }
      TRY(sys::make_dirs(mount.source, 0755).context("make the folder to be mounted"));
      continue;
    }
    if (mount.type != MountRequest::Type::kVolume) continue;
    VolumeRow row;
    row.name = mount.source;
    row.driver = mount.volume_driver;
    if (row.name.empty()) {
      row.name = random_id();
      row.anonymous = true;
      mount.volume_labels.emplace(kAnonymousLabel, "");
      TRY(change.note(row.name));
      anonymous->push_back(row.name);
    }
    row.labels = labels_to_json(mount.volume_labels);
    TRY_ASSIGN(const std::optional<VolumeRow> known, index.volume(row.name));
    if (!known) TRY(make_volume(index, row, mount.volume_options));
    mount.source = row.name;
    volumes->push_back(row.name);
  }
  return {};
}

/// What the image has at the mount point goes into a volume that is still empty.
Result<void> EngineImpl::copy_up(const std::string& volume, const std::string& target,
                                 const std::vector<std::string>& lower) {
  if (lower.empty()) return {};
  TRY_ASSIGN(const std::string path, volume_path(volume));
  TRY_ASSIGN(const UniqueFd to, sys::open(path, O_RDONLY | O_DIRECTORY));
  TRY_ASSIGN(UniqueFd again, sys::open_at(to.get(), ".", O_RDONLY | O_DIRECTORY));
  DIR* stream = ::fdopendir(again.get());
  if (stream == nullptr) return errnof("read volume {}", volume);
  static_cast<void>(again.release());
  bool empty = true;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != ".." && name != "lost+found") empty = false;
  }
  ::closedir(stream);
  if (!empty) return {};
  TRY_ASSIGN(const sys::Root view, open_stack(lower));
  auto from = view.open_in(target, O_RDONLY | O_DIRECTORY);
  if (!from.ok()) {
    // Not in the image, or no folder there: nothing to copy.
    if (from.error().error_number() == ENOENT || from.error().error_number() == ENOTDIR) return {};
    return std::move(from).error();
  }
  return copy_tree(from->get(), to.get()).context(fmt::format("copy {} of the image into volume {}", target, volume));
}

Result<Volume> EngineImpl::volume_of(const VolumeRow& row, bool with_size) const {
  Volume volume;
  volume.name = row.name;
  volume.driver = row.driver;
  volume.mountpoint = volume_folder(paths_, row.name) + "/_data";
  volume.created = TimePoint(std::chrono::duration_cast<TimePoint::duration>(std::chrono::nanoseconds(row.created_ns)));
  volume.labels = labels_from_json(row.labels);
  volume.options = labels_from_json(row.options);
  volume.references = row.references;
  if (with_size) volume.size = tree_size(volume_folder(paths_, row.name));
  return volume;
}

Result<Volume> EngineImpl::volume_create(std::string name, std::string driver,
                                         std::map<std::string, std::string> options,
                                         std::map<std::string, std::string> labels) {
  TRY_ASSIGN(Index* const names, index());
  VolumeRow row;
  row.anonymous = name.empty();
  row.name = name.empty() ? random_id() : std::move(name);
  row.driver = std::move(driver);
  if (row.anonymous) labels.emplace(kAnonymousLabel, "");
  row.labels = labels_to_json(labels);
  if (!valid_name(row.name)) {
    return errorf(ErrorKind::kInvalid,
                  "create {}: \"{}\" includes invalid characters for a local volume name, only "
                  "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute "
                  "path",
                  row.name, row.name);
  }
  TRY_ASSIGN(const std::optional<VolumeRow> known, names->volume(row.name));
  if (known) {
    // Docker's rule: the same again is success, something else under the name is a conflict.
    if (!options.empty() && labels_to_json(options) != known->options) {
      return errorf(ErrorKind::kConflict, "create {}: a volume with this name and other options exists", row.name);
    }
    return volume_of(*known, false);
  }
  TRY_ASSIGN(const VolumeRow made, make_volume(*names, std::move(row), options));
  return volume_of(made, false);
}

Result<std::vector<Volume>> EngineImpl::volume_list(const std::multimap<std::string, std::string>& filters) {
  TRY(check_filters(filters, {"dangling", "driver", "label", "name"}));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::vector<VolumeRow> rows, names->volumes());
  std::vector<Volume> volumes;
  for (const VolumeRow& row : rows) {
    const auto labels = labels_from_json(row.labels);
    if (!any_value(filters, "dangling",
                   [&](const std::string& v) { return (v == "true" || v == "1") == (row.references == 0); }) ||
        !any_value(filters, "driver", [&](const std::string& v) { return v == row.driver; }) ||
        !any_value(filters, "name", [&](const std::string& v) { return row.name.find(v) != std::string::npos; }) ||
        !all_values(filters, "label", [&](const std::string& v) { return has_label(labels, v); })) {
      continue;
    }
    TRY_ASSIGN(Volume volume, volume_of(row, false));
    volumes.push_back(std::move(volume));
  }
  return volumes;
}

Result<Volume> EngineImpl::volume_inspect(std::string_view name) {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::optional<VolumeRow> row, names->volume(name));
  if (!row) return errorf(ErrorKind::kNotFound, "get {}: no such volume", name);
  return volume_of(*row, false);
}

Result<void> EngineImpl::volume_remove(std::string_view name, bool force) {
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::optional<VolumeRow> row, names->volume(name));
  if (!row) {
    if (force) return {};
    return errorf(ErrorKind::kNotFound, "get {}: no such volume", name);
  }
  return delete_volume(*names, row->name);
}

Result<store::PruneReport> EngineImpl::volume_prune(bool all, const std::multimap<std::string, std::string>& filters) {
  TRY(check_filters(filters, {"label", "label!", "all"}));
  TRY_ASSIGN(Index* const names, index());
  TRY_ASSIGN(const std::vector<VolumeRow> rows, names->volumes());
  store::PruneReport report;
  for (const VolumeRow& row : rows) {
    const auto labels = labels_from_json(row.labels);
    if (row.references > 0 || (!all && !row.anonymous)) continue;
    if (!all_values(filters, "label", [&](const std::string& v) { return has_label(labels, v); }) ||
        !all_values(filters, "label!", [&](const std::string& v) { return !has_label(labels, v); })) {
      continue;
    }
    const uint64_t size = tree_size(volume_folder(paths_, row.name));
    auto removed = delete_volume(*names, row.name);
    if (!removed.ok()) {
      if (removed.error().kind() == ErrorKind::kConflict) continue;  // a workload took it meanwhile
      return std::move(removed).error();
    }
    report.deleted.push_back(row.name);
    report.reclaimed += size;
  }
  emit({"volume", "prune", "", {{"reclaimed", std::to_string(report.reclaimed)}}});
  return report;
}

}  // namespace hull::engine
