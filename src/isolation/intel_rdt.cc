#include "isolation/intel_rdt.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "base/error_format.h"
#include "base/log.h"
#include "sys/file.h"

namespace hull::isolation {

namespace {

/// "L3:0=7f0;1=1f" as its resource and its sorted, normalised parts, so that texts can be compared.
struct SchemaLine {
  std::string resource;
  std::vector<std::string> parts;
};

std::string strip(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' && c != '\t' && c != '\r') out.push_back(c);
  }
  return out;
}

SchemaLine split_schema(std::string_view line) {
  SchemaLine out;
  const std::string text = strip(line);
  const size_t colon = std::min(text.find(':'), text.size());
  out.resource = text.substr(0, colon);
  for (size_t at = colon + 1; at < text.size();) {
    const size_t end = std::min(text.find(';', at), text.size());
    std::string part = text.substr(at, end - at);
    // The kernel prints bit masks with leading zeros.
    const size_t equals = part.find('=');
    if (equals != std::string::npos) {
      const size_t digit = std::min(part.find_first_not_of('0', equals + 1), part.size() - 1);
      part.erase(equals + 1, digit - equals - 1);
    }
    if (!part.empty()) out.parts.push_back(std::move(part));
    at = end + 1;
  }
  return out;
}

/// Each part of each wanted line must be in the group's schemata.
bool schemata_hold(std::string_view current, const std::vector<std::string>& wanted) {
  std::vector<SchemaLine> lines;
  for (size_t at = 0; at < current.size();) {
    const size_t end = std::min(current.find('\n', at), current.size());
    lines.push_back(split_schema(current.substr(at, end - at)));
    at = end + 1;
  }
  return std::all_of(wanted.begin(), wanted.end(), [&](const std::string& text) {
    const SchemaLine want = split_schema(text);
    return std::any_of(lines.begin(), lines.end(), [&](const SchemaLine& line) {
      return line.resource == want.resource && std::all_of(want.parts.begin(), want.parts.end(), [&](const auto& part) {
               return std::find(line.parts.begin(), line.parts.end(), part) != line.parts.end();
             });
    });
  });
}

Result<std::vector<std::string>> wanted_schemata(const oci::IntelRdt& rdt) {
  // The order is the specification's: L3, MB, then schemata.
  std::vector<std::string> lines;
  if (!rdt.l3_cache_schema.empty()) {
    // Some write both resources into l3CacheSchema; memBwSchema then rules over its MB part.
    for (size_t at = 0; at < rdt.l3_cache_schema.size();) {
      const size_t end = std::min(rdt.l3_cache_schema.find('\n', at), rdt.l3_cache_schema.size());
      std::string line = rdt.l3_cache_schema.substr(at, end - at);
      if (!line.empty() && (rdt.mem_bw_schema.empty() || !line.starts_with("MB:"))) lines.push_back(std::move(line));
      at = end + 1;
    }
  }
  if (!rdt.mem_bw_schema.empty()) {
    if (!rdt.mem_bw_schema.starts_with("MB:") || rdt.mem_bw_schema.find('\n') != std::string::npos) {
      return Error(ErrorKind::kInvalid, "linux.intelRdt.memBwSchema: must be one line that starts with MB:");
    }
    lines.push_back(rdt.mem_bw_schema);
  }
  for (const std::string& line : rdt.schemata) {
    if (line.find('\n') != std::string::npos) {
      return Error(ErrorKind::kInvalid, "linux.intelRdt.schemata: an element must be one line");
    }
    lines.push_back(line);
  }
  return lines;
}

std::string last_status(const std::string& root) {
  Result<std::string> text = sys::read_file(root + "/info/last_cmd_status", 4096);
  if (!text.ok() || text->starts_with("ok")) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return " (resctrl says: " + *text + ")";
}

}  // namespace

Result<IntelRdtGroup> IntelRdtGroup::create(const oci::IntelRdt& rdt, const std::string& container_id,
                                            const std::string& resctrl_root) {
  constexpr long kRdtMagic = 0x7655821;  // RDTGROUP_SUPER_MAGIC
  struct statfs info = {};
  const bool mounted =
      ::statfs(resctrl_root.c_str(), &info) == 0 && (info.f_type == kRdtMagic || resctrl_root != kResctrlRoot);
  if (!mounted) {
    return errorf(ErrorKind::kUnsupported,
                  "linux.intelRdt: no resctrl file system is mounted at {}; the CPU and kernel must have it (mount -t "
                  "resctrl resctrl {}), or leave the member out",
                  resctrl_root, resctrl_root);
  }
  TRY_ASSIGN(const std::vector<std::string> lines, wanted_schemata(rdt));
  const bool by_id = rdt.clos_id.empty();
  const std::string& name = by_id ? container_id : rdt.clos_id;
  if (name.empty() || name == "." || name == ".." || (name != "/" && name.find('/') != std::string::npos)) {
    return errorf(ErrorKind::kInvalid, "linux.intelRdt.closID: \"{}\" can't name a folder", name);
  }
  IntelRdtGroup group;
  group.path_ = name == "/" ? resctrl_root : resctrl_root + "/" + name;
  const auto undo = [&](Error error) {
    ignore_result(group.remove());
    return error;
  };
  if (sys::exists(group.path_)) {
    if (!lines.empty()) {
      TRY_ASSIGN(const std::string current, sys::read_file(group.path_ + "/schemata", 1 << 20));
      if (!schemata_hold(current, lines)) {
        return errorf(ErrorKind::kInvalid, "linux.intelRdt: the class of service {} exists with other schemata",
                      group.path_);
      }
    }
  } else {
    if (!by_id && lines.empty()) {
      return errorf(ErrorKind::kNotFound,
                    "linux.intelRdt.closID: the class of service {} does not exist and no schema is given",
                    group.path_);
    }
    if (::mkdir(group.path_.c_str(), 0755) != 0) {
      const int saved = errno;
      const std::string status = last_status(resctrl_root);
      return Error::from_errno(saved, fmt::format("linux.intelRdt: make {}{}", group.path_, status));
    }
    // Only a group named after the container is removed with it (config-linux.md, "IntelRdt").
    group.made_here_ = by_id;
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    if (!text.empty()) {
      Result<UniqueFd> dir = sys::open(group.path_, O_PATH | O_DIRECTORY);
      Result<void> written = dir.ok() ? sys::write_value(dir->get(), "schemata", text) : std::move(dir).error();
      if (!written.ok()) {
        const std::string status = last_status(resctrl_root);
        // A group that this call made must not stay half set, whatever it is named after.
        group.made_here_ = true;
        return undo(std::move(written.error())
                        .context(fmt::format("linux.intelRdt: write {}/schemata{}", group.path_, status)));
      }
    }
  }
  if (rdt.enable_monitoring) {
    const std::string monitor = group.path_ + "/mon_groups/" + container_id;
    if (::mkdir(monitor.c_str(), 0755) != 0) {
      const int saved = errno;
      const std::string status = last_status(resctrl_root);
      return undo(Error::from_errno(saved, fmt::format("linux.intelRdt.enableMonitoring: make {}{}", monitor, status)));
    }
    group.monitor_path_ = monitor;
  }
  return group;
}

Result<void> IntelRdtGroup::join(pid_t pid) const {
  for (const std::string* path : {&path_, &monitor_path_}) {
    if (path->empty()) continue;
    TRY_ASSIGN(const UniqueFd dir, sys::open(*path, O_PATH | O_DIRECTORY));
    TRY(sys::write_value(dir.get(), "tasks", fmt::format("{}", pid)).context("linux.intelRdt"));
  }
  return {};
}

Result<void> IntelRdtGroup::remove() const {
  if (!monitor_path_.empty() && ::rmdir(monitor_path_.c_str()) != 0 && errno != ENOENT) {
    return errnof("remove {}", monitor_path_);
  }
  if (made_here_ && ::rmdir(path_.c_str()) != 0 && errno != ENOENT) return errnof("remove {}", path_);
  return {};
}

IntelRdtGroup IntelRdtGroup::from_record(std::string path, std::string monitor_path, bool made_here) {
  IntelRdtGroup group;
  group.path_ = std::move(path);
  group.monitor_path_ = std::move(monitor_path);
  group.made_here_ = made_here;
  return group;
}

}  // namespace hull::isolation
