#include "vm/vm_json.h"

#include "base/error_format.h"
#include "base/json_reader.h"
#include "base/json_writer.h"

namespace hull::vm {
namespace {

constexpr size_t kMostLayers = 4096;
constexpr uint32_t kMostVcpus = 64;

Result<void> check_path(std::string_view member, const std::string& path, bool needed) {
  if (path.empty() && !needed) return {};
  if (path.starts_with('/') && path.find('\n') == std::string::npos) return {};
  return errorf(ErrorKind::kInvalid, "{}: {}: expected an absolute path, not \"{}\"", kVmJsonName, member, path);
}

}  // namespace

Result<VmJson> parse_vm_json(std::string_view json) {
  VmJson vm;
  JsonReader r(json);
  r.object([&](std::string_view key) {
    if (key == "layers") return r.value(vm.layers);
    if (key == "scratch") return r.value(vm.scratch);
    if (key == "memory") return r.value(vm.memory_bytes);
    if (key == "vcpus") return r.value(vm.vcpus);
    if (key == "nics") return r.value(vm.nics);
    if (key == "hypervisor") return r.value(vm.hypervisor);
    if (key == "dataRoot") return r.value(vm.data_root);
    if (key == "kernel") return r.value(vm.kernel);
    if (key == "consoleLog") return r.value(vm.console_log);
    if (key == "oomFile") return r.value(vm.oom_file);
    if (key == "resolveUser") return r.value(vm.resolve_user);
    if (key == "groupsAdd") return r.value(vm.groups_add);
    r.fail("unknown member");
    return true;
  });
  TRY(r.finish().context(kVmJsonName));
  if (vm.layers.size() > kMostLayers) {
    return errorf(ErrorKind::kInvalid, "{}: {} layers, at most {} are possible", kVmJsonName, vm.layers.size(),
                  kMostLayers);
  }
  for (const std::string& layer : vm.layers) TRY(check_path("layers", layer, true));
  TRY(check_path("scratch", vm.scratch, false));
  TRY(check_path("dataRoot", vm.data_root, false));
  TRY(check_path("consoleLog", vm.console_log, false));
  TRY(check_path("oomFile", vm.oom_file, false));
  if (vm.memory_bytes == 0) return errorf(ErrorKind::kInvalid, "{}: memory: expected a number of bytes", kVmJsonName);
  if (vm.vcpus == 0 || vm.vcpus > kMostVcpus) {
    return errorf(ErrorKind::kInvalid, "{}: vcpus: expected 1 to {}, not {}", kVmJsonName, kMostVcpus, vm.vcpus);
  }
  if (vm.nics > kMostNics) {
    return errorf(ErrorKind::kInvalid, "{}: nics: at most {}, not {}", kVmJsonName, kMostNics, vm.nics);
  }
  if (vm.hypervisor != "auto" && vm.hypervisor != "kvm" && vm.hypervisor != "qemu") {
    return errorf(ErrorKind::kInvalid, "{}: hypervisor: expected auto, kvm or qemu, not \"{}\"", kVmJsonName,
                  vm.hypervisor);
  }
  return vm;
}

std::string to_json(const VmJson& vm) {
  JsonWriter w;
  w.object([&] {
    w.member("layers", vm.layers);
    w.member_opt("scratch", vm.scratch);
    w.member("memory", vm.memory_bytes);
    w.member("vcpus", vm.vcpus);
    if (vm.nics != 0) w.member("nics", vm.nics);
    w.member("hypervisor", vm.hypervisor);
    w.member_opt("dataRoot", vm.data_root);
    w.member_opt("kernel", vm.kernel);
    w.member_opt("consoleLog", vm.console_log);
    w.member_opt("oomFile", vm.oom_file);
    w.member_opt("resolveUser", vm.resolve_user);
    w.member_opt("groupsAdd", vm.groups_add);
  });
  return std::move(w).take();
}

}  // namespace hull::vm
