#include "compose/files.h"

#include <sys/stat.h>
#include <unistd.h>

#include "compose/digest.h"
#include "sys/file.h"

namespace hull::compose {
namespace {

constexpr size_t kMostBytes = 16 << 20;

struct Wanted {
  std::string content;
  int64_t uid = 0, gid = 0, mode = 0444;
};

Result<int64_t> id_of(const Node& ref, std::string_view key) {
  const Node* node = ref.value(key);
  if (node == nullptr) return int64_t{0};
  const auto value = to_int(*node);
  if (!value || *value < 0 || *value >= 0xffffffffLL) return errorf_at(node->mark, "{}: expected a number", key);
  return *value;
}

Result<int64_t> mode_of(const Node& ref) {
  const Node* node = ref.value("mode");
  if (node == nullptr) return int64_t{0444};
  auto value = to_int(*node);
  // In quotes, and from variables, a mode is written as chmod takes it.
  if (node->style != Node::Style::kPlain && node->text.find_first_not_of("01234567") == std::string::npos) {
    value = to_int(Node::scalar("0" + node->text));
  }
  if (!value || *value < 0 || *value > 0777) {
    return errorf_at(node->mark, "mode: expected octal digits, as in 0440");
  }
  return *value & ~int64_t{0222};
}

Result<std::string> content_of(const Model& model, const Resource& resource) {
  const Node& node = *resource.node;
  if (const Node* content = node.value("content")) return content->text;
  if (const Node* name = node.value("environment")) {
    const auto found = model.project->variables.find(name->text);
    if (found == model.project->variables.end()) {
      return errorf_at(name->mark, "{}: the variable {:.100} is not set", resource.key, name->text);
    }
    return found->second;
  }
  const Node* file = node.find("file");
  auto text = sys::read_file(file->text, kMostBytes);
  if (!text.ok()) return errorf_at(file->mark, "{}: {}", resource.key, text.error().message());
  return text;
}

Result<std::string> write_file(const std::string& folder, const Wanted& wanted, bool write) {
  const std::string name = sha256(fmt::format("{}:{}:{:o}:{}", wanted.uid, wanted.gid, wanted.mode, wanted.content));
  std::string path = fmt::format("{}/{}", folder, name);
  if (!write || sys::exists(path)) return path;
  TRY(sys::make_dirs(folder, 0700));
  // Owner and mode before the name: who finds the file finds it whole.
  const std::string temporary = fmt::format("{}.tmp-{}", path, ::getpid());
  TRY(sys::replace_file(temporary, wanted.content, 0400));
  if (::chown(temporary.c_str(), static_cast<uid_t>(wanted.uid), static_cast<gid_t>(wanted.gid)) != 0 ||
      ::chmod(temporary.c_str(), static_cast<mode_t>(wanted.mode)) != 0 ||
      ::rename(temporary.c_str(), path.c_str()) != 0) {
    const Error error = errnof("write {}", path);
    ::unlink(temporary.c_str());
    return error;
  }
  return path;
}

}  // namespace

std::string project_folder(const std::string& data_root, std::string_view project) {
  return fmt::format("{}/compose/{}", data_root, project);
}

Result<std::vector<FileMount>> service_files(const Model& model, const Service& service, const std::string& data_root,
                                             bool write) {
  std::vector<FileMount> mounts;
  const std::string folder = project_folder(data_root, model.project->name);
  for (const std::string_view key : {"configs", "secrets"}) {
    const Node* refs = service.node->value(key);
    if (refs == nullptr) continue;
    const auto& resources = key == "configs" ? model.configs : model.secrets;
    for (const Node& ref : refs->list) {
      const std::string source(ref.text_of("source"));
      const Resource& resource = resources.at(source);
      if (resource.node == nullptr) return errorf_at(ref.mark, "{}.{}: nothing is said of it", key, source);
      FileMount mount;
      mount.target = ref.text_of("target");
      if (mount.target.empty()) mount.target = source;
      if (!mount.target.starts_with('/')) mount.target = (key == "configs" ? "/" : "/run/secrets/") + mount.target;
      const bool own_file = resource.node->value("file") != nullptr;
      const bool own_rights =
          ref.value("uid") != nullptr || ref.value("gid") != nullptr || ref.value("mode") != nullptr;
      if (own_file && !own_rights) {
        const Node& file = *resource.node->find("file");
        struct stat info{};
        if (::stat(file.text.c_str(), &info) != 0) {
          const Error error = errnof("{}", file.text);
          return errorf_at(file.mark, "{}.{}: {}", key, source, error.message());
        }
        mount.source = file.text;
      } else {
        Wanted wanted;
        TRY_ASSIGN(wanted.content, content_of(model, resource));
        TRY_ASSIGN(wanted.uid, id_of(ref, "uid"));
        TRY_ASSIGN(wanted.gid, id_of(ref, "gid"));
        TRY_ASSIGN(wanted.mode, mode_of(ref));
        TRY_ASSIGN(mount.source, write_file(folder, wanted, write));
        mount.written = true;
      }
      mounts.push_back(std::move(mount));
    }
  }
  return mounts;
}

}  // namespace hull::compose
