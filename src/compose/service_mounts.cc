#include "compose/service_mounts.h"

#include "cli/text.h"
#include "cli/values.h"
#include "compose/service_config.h"
#include "compose/value_reader.h"

namespace hull::compose {
namespace {

using engine::MountRequest;

Result<void> bind_options(const Node& node, const ValueReader& read, MountRequest& mount) {
  const Node* options = node.value("bind");
  if (options == nullptr) return {};
  const ValueReader bind(*options, "bind");
  bind.text("propagation", mount.propagation);
  TRY(bind.flag("create_host_path", mount.create_source));
  std::string recursive;
  bind.text("recursive", recursive);
  mount.non_recursive = recursive == "disabled";
  mount.recursive_read_only = recursive == "readonly";
  // selinux: labels mean something only where SELinux is, and Hull's mounts carry none.
  static_cast<void>(read);
  return {};
}

Result<MountRequest> one_mount(const Service& service, const Model& model, const Node& node) {
  const ValueReader read(node, fmt::format("services.{}.volumes", service.name));
  MountRequest mount;
  const std::string_view type = node.text_of("type");
  read.text("source", mount.source);
  read.text("target", mount.target);
  TRY(read.flag("read_only", mount.read_only));
  if (!mount.target.starts_with('/')) return read.wrong(*node.find("target"), "target", "an absolute path");
  if (type == "bind") {
    mount.type = MountRequest::Type::kBind;
    if (mount.source.empty()) return errorf_at(node.mark, "services.{}.volumes: a bind needs a source", service.name);
    TRY(bind_options(node, read, mount));
  } else if (type == "volume") {
    mount.type = MountRequest::Type::kVolume;
    if (!mount.source.empty()) mount.source = model.volumes.at(mount.source).name;
    if (const Node* options = node.value("volume")) {
      const ValueReader volume(*options, "volume");
      TRY(volume.flag("nocopy", mount.no_copy));
      if (const Node* subpath = volume.node("subpath")) {
        return errorf_at(subpath->mark, "services.{}.volumes: subpath is not in this version of Hull", service.name);
      }
      if (const Node* labels = volume.node("labels")) {
        for (const Member& one : labels->members) mount.volume_labels.emplace(one.key, one.value.text);
      }
    }
  } else if (type == "tmpfs") {
    mount.type = MountRequest::Type::kTmpfs;
    mount.source.clear();
    if (const Node* options = node.value("tmpfs")) {
      const ValueReader tmpfs(*options, "tmpfs");
      if (tmpfs.node("size") != nullptr) TRY(tmpfs.size("size", mount.tmpfs_size.emplace()));
      if (tmpfs.node("mode") != nullptr) TRY(tmpfs.whole("mode", mount.tmpfs_mode.emplace(), 0, 07777));
    }
  } else {
    return errorf_at(node.mark, "services.{}.volumes: mounts of type {} are not in this version of Hull", service.name,
                     type);
  }
  return mount;
}

}  // namespace

Result<void> service_mounts(const Service& service, const Model& model, engine::Config& config) {
  if (const Node* mounts = service.node->value("volumes")) {
    for (const Node& node : mounts->list) {
      TRY_ASSIGN(MountRequest mount, one_mount(service, model, node));
      config.mounts.push_back(std::move(mount));
    }
  }
  if (const Node* tmpfs = service.node->value("tmpfs")) {
    for (const Node& node : tmpfs->list) {
      auto mount = cli::parse_tmpfs(node.text);
      if (!mount.ok()) return errorf_at(node.mark, "services.{}.tmpfs: {}", service.name, mount.error().message());
      config.mounts.push_back(std::move(*mount));
    }
  }
  if (const Node* from = service.node->value("volumes_from")) {
    for (const Node& node : from->list) {
      if (node.text.starts_with("container:")) {
        config.volumes_from.push_back(node.text.substr(10));
        continue;
      }
      const size_t colon = node.text.find(':');
      const Service* other = model.find(std::string_view(node.text).substr(0, colon));
      if (other == nullptr) continue;  // checked with the references
      config.volumes_from.push_back(container_name(model, *other, 1) +
                                    (colon == std::string::npos ? "" : node.text.substr(colon)));
    }
  }
  return {};
}

}  // namespace hull::compose
