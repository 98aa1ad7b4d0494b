#include <array>

#include "base/error_format.h"
#include "engine/spec.h"

namespace hull::engine {
namespace {

constexpr std::array<std::string_view, 6> kPropagations = {"private", "rprivate", "shared",
                                                           "rshared", "slave",    "rslave"};

Result<void> add_tmpfs_options(const MountRequest& request, oci::Mount* mount) {
  // Docker's defaults for --tmpfs, then what the user says.
  mount->options = {"nosuid", "nodev", "noexec"};
  for (const std::string& option : request.tmpfs_options) {
    const std::string_view name = std::string_view(option).substr(0, option.find('='));
    if (option.find(',') != std::string::npos) {
      return errorf(ErrorKind::kInvalid, "tmpfs {}: option \"{}\" holds a comma", request.target, option);
    }
    static constexpr std::array<std::string_view, 24> kKnown = {
        "exec", "noexec",    "suid",      "nosuid",   "dev",        "nodev",    "rw",          "ro",
        "sync", "async",     "dirsync",   "atime",    "noatime",    "mode",     "uid",         "gid",
        "size", "nr_inodes", "nr_blocks", "diratime", "nodiratime", "relatime", "strictatime", "mpol"};
    bool known = false;
    for (const std::string_view word : kKnown) known = known || word == name;
    for (const std::string_view word : kPropagations) known = known || word == name;
    if (!known) return errorf(ErrorKind::kInvalid, "invalid tmpfs option [\"{}\"]", option);
    mount->options.push_back(option);
  }
  if (request.tmpfs_size) mount->options.push_back(fmt::format("size={}", *request.tmpfs_size));
  if (request.tmpfs_mode) mount->options.push_back(fmt::format("mode={:o}", *request.tmpfs_mode));
  if (request.read_only) mount->options.emplace_back("ro");
  return {};
}

}  // namespace

Result<oci::Mount> make_mount(const SpecInput::ResolvedMount& resolved) {
  const MountRequest& request = *resolved.request;
  oci::Mount mount;
  mount.destination = request.target;
  if (request.type == MountRequest::Type::kTmpfs) {
    mount.type = "tmpfs";
    mount.source = "tmpfs";
    TRY(add_tmpfs_options(request, &mount));
    return mount;
  }
  mount.type = "bind";
  mount.source = resolved.source;
  mount.options.emplace_back(request.non_recursive ? "bind" : "rbind");
  if (request.read_only || resolved.read_only) mount.options.emplace_back("ro");
  if (request.read_only && request.recursive_read_only) mount.options.emplace_back("rro");
  std::string propagation = request.propagation.empty() ? "rprivate" : request.propagation;
  bool known = false;
  for (const std::string_view word : kPropagations) known = known || word == propagation;
  if (!known) return errorf(ErrorKind::kInvalid, "mount {}: unknown propagation \"{}\"", request.target, propagation);
  mount.options.push_back(std::move(propagation));
  return mount;
}

}  // namespace hull::engine
