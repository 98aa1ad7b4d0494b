#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/host.h"
#include "engine/log_config.h"
#include "engine/merge.h"
#include "engine/mount_lines.h"
#include "engine/process.h"
#include "engine/user_group.h"
#include "engine/validate.h"
#include "sys/file.h"
#include "sys/root.h"

namespace hull::engine {
namespace {

constexpr std::string_view kDemoImage = "hull-demo";

std::string command_line(const Config& config) {
  std::string text;
  for (const std::string& word : full_command(config)) {
    if (!text.empty()) text += ' ';
    text += word;
    if (text.size() > 4096) break;
  }
  return text;
}

std::string mount_list(const Config& config) {
  std::string text;
  for (const MountRequest& mount : config.mounts) {
    if (mount.type == MountRequest::Type::kTmpfs) continue;
    if (!text.empty()) text += '\n';
    text += mount_line({mount.source, mount.target, mount.read_only});
  }
  return text;
}

/// Names for who gives none: a word for how it is and a word from ships.
std::string random_name() {
  static constexpr std::array<std::string_view, 48> kFirst = {
      "able",   "airy",   "amber",  "bold",   "brave",  "bright", "brisk", "calm",   "civil",   "clear",
      "clever", "cosy",   "crisp",  "deft",   "eager",  "early",  "fair",  "fleet",  "fond",    "frank",
      "free",   "fresh",  "gentle", "glad",   "golden", "grand",  "hardy", "honest", "jolly",   "keen",
      "kind",   "lively", "loyal",  "lucky",  "mellow", "merry",  "mild",  "nimble", "patient", "proud",
      "quick",  "quiet",  "ready",  "steady", "sunny",  "swift",  "trim",  "wise"};
  static constexpr std::array<std::string_view, 48> kSecond = {
      "anchor",   "barge",   "beacon",  "bosun",  "bow",   "brig",   "buoy",    "cabin",   "canoe",   "clipper",
      "compass",  "cutter",  "deck",    "dinghy", "dory",  "ferry",  "frigate", "galley",  "gunwale", "harbor",
      "hatch",    "hawser",  "helm",    "jetty",  "keel",  "ketch",  "lantern", "mast",    "mooring", "oar",
      "pier",     "pilot",   "pinnace", "port",   "prow",  "quay",   "raft",    "rigging", "rudder",  "sail",
      "schooner", "sextant", "skiff",   "sloop",  "stern", "tiller", "trawler", "yawl"};
  const std::string id = random_id();
  const auto number = [&](size_t at) { return std::stoul(id.substr(at, 4), nullptr, 16); };
  return fmt::format("{}_{}", kFirst[number(0) % kFirst.size()], kSecond[number(4) % kSecond.size()]);
}

}  // namespace

Result<void> EngineImpl::pull_image(const std::string& reference, const Config& config) {
  SpawnRequest request;
  request.argv.push_back(settings_.libexec + "/hull-images");
  request.inherit_stderr = true;
  request.fds = {{1, STDERR_FILENO}};  // standard output belongs to the workload
  // The embedded image needs no network: it is installed beside the programs.
  const std::string_view name = std::string_view(reference).substr(0, reference.find(':'));
  if (name == kDemoImage) {
    for (const std::string& base : {settings_.libexec + "/../../share/hull/images",
                                    settings_.libexec + "/../share/hull/images", settings_.libexec + "/images"}) {
      const std::string layout = base + "/" + std::string(kDemoImage);
      if (!sys::exists(layout + "/oci-layout")) continue;
      request.argv.insert(request.argv.end(), {"load", "--quiet", "--input", layout});
      TRY_ASSIGN(Child child, spawn(request));
      TRY_ASSIGN(const int code, wait_for(child));
      if (code == 0) return {};
      return errorf(ErrorKind::kCorrupt, "load the embedded image from {}: hull-images ended with {}", layout, code);
    }
  }
  request.argv.insert(request.argv.end(), {"pull"});
  if (config.quiet_pull) request.argv.insert(request.argv.end(), {"--quiet"});
  if (!config.platform.empty()) request.argv.insert(request.argv.end(), {"--platform", config.platform});
  request.argv.push_back(reference);
  TRY_ASSIGN(Child child, spawn(request));
  TRY_ASSIGN(const int code, wait_for(child));
  if (code != 0) {
    return errorf(ErrorKind::kUnavailable, "image {} could not be pulled (the reason stands above)", reference);
  }
  return {};
}

Result<store::Image> EngineImpl::resolve_image(const Config& config, PullPolicy pull) {
  if (config.image.empty()) return errorf(ErrorKind::kInvalid, "no image was named");
  if (pull == PullPolicy::kAlways) TRY(pull_image(config.image, config));
  auto image = images_->find(config.image);
  const auto missing = [&] { return !image.ok() && image.error().kind() == ErrorKind::kNotFound; };
  if (missing() && pull == PullPolicy::kMissing) {
    const std::string notice = fmt::format("Unable to find image '{}' locally\n", config.image);
    ignore_result(sys::write_all(STDERR_FILENO, notice));
    TRY(pull_image(config.image, config));
    image = images_->find(config.image);
  }
  if (missing()) return errorf(ErrorKind::kNotFound, "No such image: {}: pull it with 'hull pull'", config.image);
  if (!image.ok()) return image;
  if (!config.platform.empty()) {
    TRY_ASSIGN(const oci::Platform wanted, oci::parse_platform(config.platform));
    const oci::Platform& have = image->config.platform;
    if (have.architecture != wanted.architecture || have.os != wanted.os) {
      if (pull != PullPolicy::kNever && config.image.find("sha256:") == std::string::npos) {
        TRY(pull_image(config.image, config));
        image = images_->find(config.image);
        if (!image.ok()) return image;
      }
      if (image->config.platform.architecture != wanted.architecture) {
        return errorf(ErrorKind::kNotFound,
                      "image {} was found but its platform ({}) does not match the specified platform ({})",
                      config.image, image->config.platform.str(), wanted.str());
      }
    }
  }
  return image;
}

Result<std::string> EngineImpl::choose_name(Index& index, const Config& config) {
  if (!config.name.empty()) {
    // Asked again when the row is written; here it only keeps a doomed request from doing work.
    TRY_ASSIGN(const bool taken, index.name_taken(config.name));
    if (taken) {
      TRY_ASSIGN(const WorkloadRow other, index.find(config.name));
      return errorf(ErrorKind::kConflict,
                    "The container name \"/{}\" is already in use by container \"{}\". You have to remove (or rename) "
                    "that container to be able to reuse that name.",
                    config.name, other.id);
    }
    return config.name;
  }
  for (int attempt = 0; attempt < 8; ++attempt) {
    std::string name = random_name();
    if (attempt > 2) name += random_id().substr(0, 6);
    TRY_ASSIGN(const bool taken, index.name_taken(name));
    if (!taken) return name;
  }
  return "hull_" + random_id().substr(0, 16);
}

Result<Engine::Created> EngineImpl::create(const Config& asked, PullPolicy pull) {
  reset_clock();
  timings_.clear();
  Config config = asked;
  if (config.runtime == "hull-oci-vm") config.isolation = Isolation::kVm;
  if (config.log_driver.empty()) config.log_driver = settings_.log_driver;
  TRY(validate(config));
  TRY(check_log_mode(config, log_defaults()));
  Created created;
  if (config.isolation == Isolation::kVm) TRY(check_vm_host(config, &created.notices));
  TRY_ASSIGN(Index* const names, index());
  mark("open the index");
  TRY_ASSIGN(const store::Image image, resolve_image(config, pull));
  TRY_ASSIGN(Config merged, merge_image(config, image.config.config));
  TRY(validate(merged));
  TRY(check_user_limits(merged, settings_));
  TRY(resolve_networks(&merged));
  TRY_ASSIGN(merged.name, choose_name(*names, merged));
  mark("find the image");

  created.id = random_id();
  auto begun = Change::begin(paths_, created.id);
  if (!begun.ok()) return std::move(begun).error();
  const Change change = std::move(begun).value();
  if (merged.hostname.empty() && (has_own_networks(merged.network) || merged.network == "none")) {
    merged.hostname = created.id.substr(0, 12);
  }
  if (merged.network == "default") merged.network = "bridge";

  WorkloadRow row;
  row.id = created.id;
  row.name = merged.name;
  row.created_ns = now_ns();
  row.image = config.image;
  row.image_id = image.id.str();
  row.auto_remove = merged.auto_remove;
  row.isolation = merged.isolation;
  row.labels = labels_to_json(merged.labels);
  std::vector<std::string> volumes, anonymous;
  const auto make = [&]() -> Result<void> {
    TRY(resolve_volumes(change, *names, &merged, &volumes, &anonymous));
    row.command = command_line(merged);
    row.network = joined_networks(merged);
    row.mounts = mount_list(merged);
    const std::string folder = paths_.workload(row.id);
    if (::mkdir(folder.c_str(), 0700) != 0) {
      if (errno != ENOENT) return errnof("make folder {}", folder);
      TRY(sys::make_dirs(folder));
    }
    TRY(images_->hold(image.id, row.id));
    if (row.isolation == Isolation::kVm) {
      TRY(make_vm_files(row, merged, image));
    } else {
      for (const char* part : {"/upper", "/work"}) {
        if (::mkdir((folder + part).c_str(), part[1] == 'u' ? 0755 : 0700) != 0) {
          return errnof("make {}{}", folder, part);
        }
      }
    }
    bool copies = false;
    for (const MountRequest& mount : merged.mounts) {
      copies = copies || (mount.type == MountRequest::Type::kVolume && !mount.no_copy);
    }
    if (copies) {
      TRY_ASSIGN(const std::vector<std::string> lower, images_->lower_dirs(image));
      for (const MountRequest& mount : merged.mounts) {
        if (mount.type == MountRequest::Type::kVolume && !mount.no_copy) {
          TRY(copy_up(mount.source, mount.target, lower));
        }
      }
    }
    return names->add(row, to_json(merged), volumes);
  };
  const auto made = make();
  if (!made.ok()) {
    ignore_result(images_->release(row.id));
    ignore_result(sys::remove_tree(paths_.workload(row.id)));
    for (const std::string& volume : anonymous) ignore_result(delete_volume(*names, volume));
    return made.error();
  }
  if (config.console_size) console_sizes_.insert_or_assign(created.id, *config.console_size);
  if (merged.memory_swap != 0 && merged.isolation == Isolation::kContainer && !host_has_swap_accounting()) {
    created.warnings.emplace_back(
        "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without "
        "swap.");
  }
  emit_workload(row, "create");
  mark("write the workload");
  return created;
}

}  // namespace hull::engine
