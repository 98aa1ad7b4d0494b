// Volumes of a pod: configMap, secret, emptyDir, hostPath, persistentVolumeClaim.
#include <sys/stat.h>

#include "compose/kube_container.h"
#include "compose/value_reader.h"
#include "sys/root.h"

namespace hull::compose {
namespace {

using Type = engine::MountRequest::Type;

Result<uint32_t> mode_of(const Node& map, std::string_view key, uint32_t otherwise) {
  const Node* node = map.value(key);
  if (node == nullptr) return otherwise;
  const auto value = to_int(*node);
  if (!value || *value < 0 || *value > 0777) return errorf_at(node->mark, "{}: expected a file mode, as 0440", key);
  return static_cast<uint32_t>(*value);
}

/// A folder of files below the pod's, one for each key.
Result<void> data_volume(const Node& node, const std::string& volume, const std::string& name,
                         const std::map<std::string, KubeData>& all, std::string_view kind, PodPlan& plan) {
  const Node* optional = node.value("optional");
  const auto found = all.find(name);
  if (found == all.end()) {
    if (optional != nullptr && to_bool(*optional).value_or(false)) {
      plan.sources[volume].missing = true;
      return {};
    }
    return errorf_at(node.mark, "there is no {} \"{:.80}\" in the file (--configmap names more files)", kind, name);
  }
  const std::string folder = fmt::format("{}/{}", plan.folder, volume);
  TRY_ASSIGN(const uint32_t mode, mode_of(node, "defaultMode", 0644));
  const auto add = [&](const std::string& path, const std::string& content, uint32_t file_mode) {
    plan.files.push_back({folder + "/" + path, content, file_mode});
  };
  if (const Node* items = node.value("items")) {
    for (const Node& item : items->list) {
      const std::string key(item.text_of("key")), path(item.text_of("path"));
      const auto entry = found->second.entries.find(key);
      if (entry == found->second.entries.end()) {
        return errorf_at(item.mark, "{} {}: there is no key \"{:.80}\"", kind, name, key);
      }
      if (path.starts_with('/') || path.empty() || sys::clean_path(path) != path) {
        return errorf_at(item.mark, "path: \"{:.80}\" must lead into the volume, without \"..\"", path);
      }
      TRY_ASSIGN(const uint32_t own, mode_of(item, "mode", mode));
      add(path, entry->second, own);
    }
  } else {
    for (const auto& [key, content] : found->second.entries) add(key, content, mode);
  }
  // An empty one is a folder all the same.
  if (found->second.entries.empty()) plan.files.push_back({folder + "/", "", 0});
  plan.sources[volume] = {Type::kBind, folder, true, false, false};
  return {};
}

Result<void> host_path(const Node& node, const std::string& volume, PodPlan& plan) {
  const std::string path(node.text_of("path"));
  const std::string_view type = node.text_of("type");
  if (!path.starts_with('/')) return errorf_at(node.mark, "hostPath: \"{:.80}\" must be an absolute path", path);
  struct stat info{};
  const bool there = ::stat(path.c_str(), &info) == 0;
  const auto refuse = [&](std::string_view what) { return errorf_at(node.mark, "hostPath: {} is not {}", path, what); };
  if (type == "Directory" && !(there && S_ISDIR(info.st_mode))) return refuse("a folder");
  if (type == "File" && !(there && S_ISREG(info.st_mode))) return refuse("a file");
  if (type == "Socket" && !(there && S_ISSOCK(info.st_mode))) return refuse("a socket");
  if (type == "CharDevice" && !(there && S_ISCHR(info.st_mode))) return refuse("a character device");
  if (type == "BlockDevice" && !(there && S_ISBLK(info.st_mode))) return refuse("a block device");
  if (type == "FileOrCreate") {
    if (!there) plan.files.push_back({path, "", 0644});
  } else if (!type.empty() && type != "DirectoryOrCreate" && !there) {
    return errorf_at(node.mark, "hostPath.type: \"{:.40}\" is not known", type);
  }
  plan.sources[volume] = {Type::kBind, path, false, type.empty() || type == "DirectoryOrCreate", false};
  return {};
}

Result<void> empty_dir(const Node& node, const std::string& volume, const KubePod& pod, PodPlan& plan) {
  PodVolume made;
  made.name = fmt::format("{}-{}", pod.name, volume);
  made.labels.emplace(std::string(kLabelEmptyDir), pod.name);
  const std::string_view medium = node.text_of("medium");
  if (medium == "Memory") {
    made.options = {{"type", "tmpfs"}, {"device", "tmpfs"}};
    if (const Node* limit = node.value("sizeLimit")) {
      auto size = parse_quantity(limit->text, 1);
      if (!size.ok()) return error_at(limit->mark, size.error().message());
      made.options.emplace("o", fmt::format("size={}", *size));
    }
  } else if (!medium.empty()) {
    return errorf_at(node.mark, "emptyDir.medium: expected Memory or nothing");
  }
  plan.sources[volume] = {Type::kVolume, made.name, false, false, false};
  plan.volumes.push_back(std::move(made));
  return {};
}

}  // namespace

Result<void> kube_volume(const Node& node, const KubePod& pod, KubeFile& file, PodPlan& plan) {
  const std::string name(node.text_of("name"));
  // It becomes the name of a folder and part of a volume's.
  if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) {
    return errorf_at(node.mark, "volumes: \"{:.60}\": a name has lower-case letters, digits and \"-\" only", name);
  }
  if (plan.sources.contains(name)) return errorf_at(node.mark, "volumes: \"{:.60}\" is there twice", name);
  const Node nothing = Node::make_map(node.mark);
  for (const Member& member : node.members) {
    if (member.key == "name") continue;
    const Node& source = member.value.is_map() ? member.value : nothing;
    if (member.key == "configMap") {
      return data_volume(source, name, std::string(source.text_of("name")), file.config_maps, "ConfigMap", plan);
    }
    if (member.key == "secret") {
      return data_volume(source, name, std::string(source.text_of("secretName")), file.secrets, "Secret", plan);
    }
    if (member.key == "hostPath") return host_path(source, name, plan);
    if (member.key == "emptyDir") return empty_dir(source, name, pod, plan);
    if (member.key == "persistentVolumeClaim") {
      PodVolume claim;
      claim.name = source.text_of("claimName");
      const Node* read_only = source.value("readOnly");
      plan.sources[name] = {Type::kVolume, claim.name, read_only != nullptr && to_bool(*read_only).value_or(false),
                            false, false};
      plan.volumes.push_back(std::move(claim));
      return {};
    }
    return errorf_at(member.mark, "volumes of type {} are not in this version of Hull", member.key)
        .as(ErrorKind::kUnsupported);
  }
  return errorf_at(node.mark, "volumes: \"{:.60}\" says nothing of what it is", name);
}

}  // namespace hull::compose
