// -v, --mount and --tmpfs.
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error_format.h"
#include "base/units.h"
#include "cli/flags.h"
#include "cli/text.h"
#include "cli/values.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

using engine::MountRequest;

constexpr std::array<std::string_view, 6> kPropagations = {"private", "rprivate", "shared",
                                                           "rshared", "slave",    "rslave"};
bool is_propagation(std::string_view text) {
  return std::find(kPropagations.begin(), kPropagations.end(), text) != kPropagations.end();
}

/// Path components resolved by text; "/" stays "/".
std::string cleaned(std::string_view path) {
  std::vector<std::string_view> parts;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else {
      parts.push_back(part);
    }
  }
  std::string out;
  for (const std::string_view part : parts) {
    out += '/';
    out += part;
  }
  return out.empty() ? "/" : out;
}

/// "./data" from here, as Docker's client has it.
std::string absolute_source(std::string_view source) {
  if (!source.starts_with('.')) return std::string(source);
  std::array<char, PATH_MAX> here{};
  const std::string base = ::getcwd(here.data(), here.size()) == nullptr ? "" : here.data();
  return cleaned(base + "/" + std::string(source));
}

Result<std::string> check_target(std::string_view target, std::string_view spec) {
  if (!target.starts_with('/')) {
    return errorf(ErrorKind::kInvalid,
                  "invalid volume specification '{:.200}': the target '{:.200}' must be an "
                  "absolute path in the container",
                  spec, target);
  }
  std::string path = cleaned(target);
  if (path == "/") {
    return errorf(ErrorKind::kInvalid, "invalid volume specification '{:.200}': the target can't be '/'", spec);
  }
  return path;
}

Result<void> check_volume_name(std::string_view name) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  const bool fine =
      name.size() >= 2 && name.size() <= 255 && good(name[0]) &&
      std::all_of(name.begin(), name.end(), [&](char c) { return good(c) || c == '_' || c == '.' || c == '-'; });
  if (fine) return {};
  return errorf(ErrorKind::kInvalid,
                "\"{:.200}\" is no name for a volume (two or more of [a-zA-Z0-9_.-], the first a "
                "letter or digit); for a folder of this machine give its absolute path",
                name);
}

Result<void> check_relabel() {
  if (!sys::exists("/sys/fs/selinux/enforce")) return {};  // nothing to relabel: no effect, as with Docker
  return errorf(ErrorKind::kUnsupported,
                "the volume options z and Z (SELinux relabelling) are not there; relabel with "
                "chcon, or use --security-opt label=disable");
}

/// What only some types take, with the option's name for the message.
struct Seen {
  std::string bind, volume, tmpfs;
};

Result<bool> boolean(std::string_view key, std::optional<std::string_view> value) {
  if (!value) return true;
  if (auto parsed = parse_bool(*value)) return *parsed;
  return errorf(ErrorKind::kInvalid, "invalid value for '{}': {:.80} (must be true or false)", key, *value);
}

class MountParser {
 public:
  explicit MountParser(std::string_view text) : text_(text) {}

  Result<MountRequest> parse() {
    mount_.type = MountRequest::Type::kVolume;
    if (trim(text_).empty()) return errorf(ErrorKind::kInvalid, "value is empty");
    TRY_ASSIGN(const auto fields, parse_csv(trim(text_)));
    for (const std::string& field : fields) TRY(take_field(field));
    TRY(check());
    return std::move(mount_);
  }

 private:
  Result<void> take_field(std::string_view field) {
    const size_t equals = field.find('=');
    const std::string_view key = field.substr(0, equals);
    std::optional<std::string_view> value;
    if (equals != std::string_view::npos) value = field.substr(equals + 1);
    if (trim(key) != key) {
      return errorf(ErrorKind::kInvalid, "invalid option '{}' in '{}': option should not have whitespace", trim(key),
                    field);
    }
    if (value && trim(*value).empty()) {
      return errorf(ErrorKind::kInvalid, "invalid value for '{}': value is empty", key);
    }
    if (value && trim(*value) != *value) {
      return errorf(ErrorKind::kInvalid, "invalid value for '{}' in '{}': value should not have whitespace", key,
                    field);
    }
    const std::string name = lower(key);
    constexpr std::string_view kSwitches[] = {"readonly", "ro", "volume-nocopy", "bind-create-src"};
    if (!value && std::find(std::begin(kSwitches), std::end(kSwitches), name) == std::end(kSwitches)) {
      return errorf(ErrorKind::kInvalid, "invalid field '{:.80}' must be a key=value pair", field);
    }
    if (name.starts_with("bind-") && seen_.bind.empty()) seen_.bind = name;
    if (name.starts_with("volume-") && seen_.volume.empty()) seen_.volume = name;
    if (name.starts_with("tmpfs-") && seen_.tmpfs.empty()) seen_.tmpfs = name;
    return take_option(name, value, field);
  }

  Result<void> take_option(std::string_view name, std::optional<std::string_view> value, std::string_view field) {
    const std::string_view text = value.value_or("");
    if (name == "type") return take_type(text);
    if (name == "source" || name == "src") {
      source_ = text;
    } else if (name == "target" || name == "dst" || name == "destination") {
      target_ = text;
    } else if (name == "readonly" || name == "ro") {
      TRY_ASSIGN(mount_.read_only, boolean(name, value));
    } else if (name == "consistency") {
      // For Docker on macOS; Linux has one consistency only.
    } else if (name == "bind-propagation") {
      mount_.propagation = lower(text);
      if (!is_propagation(mount_.propagation)) {
        return errorf(ErrorKind::kInvalid, "invalid value for bind-propagation: {:.80} (must be one of {})", text,
                      fmt::join(kPropagations, ", "));
      }
    } else if (name == "bind-recursive") {
      return take_recursive(text);
    } else if (name == "bind-create-src") {
      TRY_ASSIGN(mount_.create_source, boolean(name, value));
    } else if (name == "bind-nonrecursive") {
      return errorf(ErrorKind::kInvalid, "bind-nonrecursive is deprecated, use bind-recursive=disabled instead");
    } else if (name == "volume-nocopy") {
      TRY_ASSIGN(mount_.no_copy, boolean(name, value));
    } else if (name == "volume-label") {
      TRY_ASSIGN(auto pair, parse_pair(text));
      mount_.volume_labels.insert_or_assign(std::move(pair.first), std::move(pair.second));
    } else if (name == "volume-driver") {
      mount_.volume_driver = text;
    } else if (name == "volume-opt") {
      TRY_ASSIGN(auto pair, parse_pair(text));
      mount_.volume_options.insert_or_assign(std::move(pair.first), std::move(pair.second));
    } else if (name == "volume-subpath" || name == "image-subpath") {
      return errorf(ErrorKind::kUnsupported, "{} is not in this version of Hull", name);
    } else if (name == "tmpfs-size") {
      auto size = parse_size(text);
      if (!size.ok()) return errorf(ErrorKind::kInvalid, "invalid value for tmpfs-size: {:.80}", text);
      mount_.tmpfs_size = *size;
    } else if (name == "tmpfs-mode") {
      uint32_t mode = 0;
      const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
      if (error != std::errc() || rest != text.data() + text.size() || mode > 07777) {
        return errorf(ErrorKind::kInvalid, "invalid value for tmpfs-mode: {:.80}", text);
      }
      mount_.tmpfs_mode = mode;
    } else {
      return errorf(ErrorKind::kInvalid, "unknown option '{:.80}' in '{:.80}'", name, field);
    }
    return {};
  }

  Result<void> take_type(std::string_view text) {
    const std::string type = lower(text);
    if (type == "bind") {
      mount_.type = MountRequest::Type::kBind;
    } else if (type == "volume") {
      mount_.type = MountRequest::Type::kVolume;
    } else if (type == "tmpfs") {
      mount_.type = MountRequest::Type::kTmpfs;
    } else if (type == "image") {
      return errorf(ErrorKind::kUnsupported, "mounts of type image are not in this version of Hull");
    } else {
      return errorf(ErrorKind::kInvalid, "mount type {:.80} unknown (bind, volume or tmpfs)", text);
    }
    return {};
  }

  Result<void> take_recursive(std::string_view text) {
    if (text == "disabled") {
      mount_.non_recursive = true;
    } else if (text == "writable") {
      writable_below_ = true;
    } else if (text == "readonly") {
      mount_.recursive_read_only = true;
    } else if (text != "enabled") {
      return errorf(ErrorKind::kInvalid,
                    "invalid value for bind-recursive: {:.80} (must be \"enabled\", \"disabled\", "
                    "\"writable\", or \"readonly\")",
                    text);
    }
    return {};
  }

  Result<void> check() {
    using Type = MountRequest::Type;
    const auto foreign = [&](std::string_view option, std::string_view type) {
      return errorf(ErrorKind::kInvalid, "the option {} is for mounts of type {} only", option, type);
    };
    if (target_.empty()) return errorf(ErrorKind::kInvalid, "target is required");
    if (mount_.type != Type::kBind && !seen_.bind.empty()) return foreign(seen_.bind, "bind");
    if (mount_.type != Type::kVolume && !seen_.volume.empty()) return foreign(seen_.volume, "volume");
    if (mount_.type != Type::kTmpfs && !seen_.tmpfs.empty()) return foreign(seen_.tmpfs, "tmpfs");
    if (mount_.type == Type::kTmpfs && !source_.empty()) {
      return errorf(ErrorKind::kInvalid, "a tmpfs mount has no source");
    }
    if (mount_.type == Type::kBind) {
      if (source_.empty()) return errorf(ErrorKind::kInvalid, "source is required for a mount of type bind");
      mount_.source = absolute_source(source_);
      if (!mount_.source.starts_with('/')) {
        return errorf(ErrorKind::kInvalid, "the source of a bind mount must be an absolute path, not '{:.200}'",
                      source_);
      }
      if (mount_.recursive_read_only && !mount_.read_only) {
        return errorf(ErrorKind::kInvalid, "option 'bind-recursive=readonly' requires 'readonly' to be specified");
      }
      if (writable_below_ && !mount_.read_only) {
        return errorf(ErrorKind::kInvalid, "option 'bind-recursive=writable' requires 'readonly' to be specified");
      }
      // Since Docker 25 a read-only bind mount is so all the way down, unless told otherwise.
      if (mount_.read_only && !writable_below_ && !mount_.non_recursive) mount_.recursive_read_only = true;
    }
    if (mount_.type == Type::kVolume && !source_.empty()) {
      TRY(check_volume_name(source_));
      mount_.source = source_;
    }
    TRY_ASSIGN(mount_.target, check_target(target_, text_));
    return {};
  }

  std::string_view text_;
  MountRequest mount_;
  std::string source_, target_;
  Seen seen_;
  bool writable_below_ = false;
};

Result<void> take_volume_option(MountRequest& mount, std::string_view option, std::string_view spec) {
  constexpr std::string_view kNoEffect[] = {"", "cached", "delegated", "consistent", "default", "copy"};
  if (option == "ro") {
    mount.read_only = true;
  } else if (option == "rw") {
    mount.read_only = false;
  } else if (option == "nocopy") {
    mount.no_copy = true;
  } else if (is_propagation(option)) {
    mount.propagation = option;
  } else if (option == "z" || option == "Z") {
    TRY(check_relabel());
  } else if (std::find(std::begin(kNoEffect), std::end(kNoEffect), option) == std::end(kNoEffect)) {
    return errorf(ErrorKind::kInvalid,
                  "invalid volume specification '{:.200}': invalid mode: {:.80} (known: ro, rw, "
                  "nocopy, z, Z and a propagation)",
                  spec, option);
  }
  return {};
}

}  // namespace

Result<MountRequest> parse_volume(std::string_view text) {
  if (text.empty()) return errorf(ErrorKind::kInvalid, "invalid empty volume spec");
  const auto parts = split(text, ':');
  if (parts.size() > 3) return errorf(ErrorKind::kInvalid, "invalid spec: {:.200}: too many colons", text);
  for (const std::string_view part : parts) {
    if (part.empty()) return errorf(ErrorKind::kInvalid, "invalid spec: {:.200}: empty section between colons", text);
  }
  MountRequest mount;
  mount.type = MountRequest::Type::kVolume;
  if (parts.size() == 1) {
    TRY_ASSIGN(mount.target, check_target(parts[0], text));
    return mount;
  }
  const std::string_view source = parts[0];
  if (source[0] == '/' || source[0] == '.') {
    mount.type = MountRequest::Type::kBind;
    mount.source = absolute_source(source);
    mount.create_source = true;
  } else if (source[0] == '~') {
    return errorf(ErrorKind::kInvalid,
                  "invalid volume specification '{:.200}': '~' is expanded by a shell only; give "
                  "the absolute path",
                  text);
  } else {
    TRY(check_volume_name(source));
    mount.source = source;
  }
  TRY_ASSIGN(mount.target, check_target(parts[1], text));
  if (parts.size() == 3) {
    for (const std::string_view option : split(parts[2], ',')) TRY(take_volume_option(mount, option, text));
  }
  if (mount.type == MountRequest::Type::kBind && mount.no_copy) {
    return errorf(ErrorKind::kInvalid, "invalid volume specification '{:.200}': nocopy is for named volumes", text);
  }
  if (mount.type == MountRequest::Type::kVolume && !mount.propagation.empty()) {
    return errorf(ErrorKind::kInvalid,
                  "invalid volume specification '{:.200}': a propagation is for folders of this "
                  "machine",
                  text);
  }
  mount.recursive_read_only = mount.type == MountRequest::Type::kBind && mount.read_only;
  return mount;
}

Result<MountRequest> parse_mount(std::string_view text) { return MountParser(text).parse(); }

Result<MountRequest> parse_tmpfs(std::string_view text) {
  const size_t colon = text.find(':');
  MountRequest mount;
  mount.type = MountRequest::Type::kTmpfs;
  TRY_ASSIGN(mount.target, check_target(text.substr(0, colon), text));
  if (colon == std::string_view::npos) return mount;
  for (const std::string_view option : split(text.substr(colon + 1), ',')) {
    if (!option.empty()) mount.tmpfs_options.emplace_back(option);
  }
  return mount;
}

Result<std::vector<std::string>> parse_csv(std::string_view text) {
  std::vector<std::string> fields;
  size_t at = 0;
  while (true) {
    std::string field;
    if (at < text.size() && text[at] == '"') {
      ++at;
      while (true) {
        if (at >= text.size()) return errorf(ErrorKind::kInvalid, "\"{:.200}\": a quote is not closed", text);
        if (text[at] == '"' && at + 1 < text.size() && text[at + 1] == '"') {
          field += '"';
          at += 2;
        } else if (text[at] == '"') {
          ++at;
          break;
        } else {
          field += text[at++];
        }
      }
      if (at < text.size() && text[at] != ',') {
        return errorf(ErrorKind::kInvalid, "\"{:.200}\": text after a closing quote", text);
      }
    } else {
      while (at < text.size() && text[at] != ',') {
        if (text[at] == '"') return errorf(ErrorKind::kInvalid, "\"{:.200}\": a quote inside a bare field", text);
        field += text[at++];
      }
    }
    fields.push_back(std::move(field));
    if (at >= text.size()) return fields;
    ++at;
  }
}

}  // namespace hull::cli
