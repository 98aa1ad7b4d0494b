// vm kernel install, ls, rm, use.
#include "base/error_format.h"
#include "base/units.h"
#include "cli/commands.h"
#include "cli/filters.h"
#include "cli/format.h"
#include "cli/table.h"
#include "cli/values.h"
#include "engine/engine.h"
#include "vm/kernel_store.h"

namespace hull::cli {
namespace {

Result<vm::KernelStore> open_store() {
  TRY_ASSIGN(const engine::Settings settings, engine::Settings::load());
  return vm::KernelStore(settings.data_root);
}

constexpr Flag kInstallFlags[] = {
    {.name = "keep-default", .help = "Leave the default kernel as it is"},
    {.name = "modules",
     .kind = ValueKind::kText,
     .metavar = "FOLDER",
     .help = "Modules of a kernel that is given as a file",
     .complete = Complete::kFolder},
};
constexpr std::span<const Flag> kInstallTables[] = {kInstallFlags};

Result<int> install_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const engine::Settings settings, engine::Settings::load());
  std::vector<std::string_view> words = {"install", "--root", settings.data_root};
  const std::string modules(parsed.value("modules"));
  if (parsed.has("modules")) words.insert(words.end(), {"--modules", modules});
  if (parsed.on("keep-default")) words.emplace_back("--keep-default");
  if (!parsed.arguments.empty()) {
    if (parsed.arguments[0].starts_with('-')) {
      return errorf(ErrorKind::kInvalid, "\"{}\" is no path of a package or kernel", parsed.arguments[0]);
    }
    words.emplace_back(parsed.arguments[0]);
  }
  context.out.flush();
  return exec_program("hull-kernel", words);
}

constexpr Flag kListFlags[] = {
    kFormatFlag,
    {.name = "no-trunc", .help = "Cut nothing"},
    {.name = "quiet", .short_name = 'q', .help = "Print only names"},
};
constexpr std::span<const Flag> kListTables[] = {kListFlags};

constexpr Column kColumns[] = {
    {"Name", "NAME"},           {"Default", "DEFAULT"}, {"Size", "SIZE"},       {"Initramfs", "INITRAMFS"},
    {"Installed", "INSTALLED"}, {"Source", "SOURCE"},   {"Modules", "MODULES"}, {"CreatedAt", "CREATED AT"},
};

Result<int> list_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const vm::KernelStore store, open_store());
  std::vector<std::string> damaged;
  TRY_ASSIGN(const auto kernels, store.list(&damaged));
  std::vector<Value> rows;
  for (const vm::GuestKernel& kernel : kernels) {
    Value row = Value::object();
    row.set("Name", kernel.name).set("Default", kernel.is_default ? "yes" : "").set("Source", kernel.source);
    row.set("Size", format_size(kernel.vmlinux_bytes));
    row.set("Initramfs", fmt::format("{} ({} compressed)", format_size(kernel.initramfs_bytes),
                                     format_size(kernel.initramfs_compressed_bytes)));
    const auto when = parse_rfc3339(kernel.installed);
    row.set("Installed", when.ok() ? ago(*when) : kernel.installed).set("CreatedAt", kernel.installed);
    row.set("Modules", fmt::format("{}", fmt::join(kernel.modules, ",")));
    rows.push_back(std::move(row));
  }
  const Listing listing = {kColumns, {"Name", "Default", "Size", "Initramfs", "Installed", "Source"}, "Name"};
  TRY(print_rows(context.out, listing, parsed.value("format"), parsed.on("quiet"), parsed.on("no-trunc"), rows));
  for (const std::string& name : damaged) {
    context.warn(fmt::format("the guest kernel {} is damaged: 'hull vm kernel rm {}' removes it", name, name));
  }
  return 0;
}

Result<int> remove_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const vm::KernelStore store, open_store());
  return for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY(store.remove(name));
    context.out.print("{}\n", name);
    return {};
  });
}

Result<int> use_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(const vm::KernelStore store, open_store());
  TRY(store.use(parsed.arguments[0]));
  context.out.print("{}\n", parsed.arguments[0]);
  return 0;
}

}  // namespace

constinit const Command kVmKernelInstall = {
    .path = "vm kernel install",
    .arguments = "[PACKAGE|KERNEL|host]",
    .summary = "Install a guest kernel for virtual machines",
    .description =
        "Takes the kernel and the modules that a guest needs out of a Debian package (linux-image-*-cloud-amd64), out "
        "of "
        "a kernel file (bzImage or vmlinux) and the folder of its modules, or, for the word host, from this machine's "
        "own kernel. Nothing is installed on this machine itself: the guest kernel is kept below Hull's data "
        "folder.\n\n"
        "Without an argument a package in /usr/share/hull or in apt's cache is taken; when there is none, apt-get "
        "downloads Debian's.\n\nThe kernel needs a PVH entry (CONFIG_PVH=y), and as modules or built in: virtio on "
        "MMIO with block, network and vsock devices, erofs, overlay, ext4, fuse, virtiofs. The new kernel becomes the "
        "default one.",
    .examples =
        "hull vm kernel install\n"
        "hull vm kernel install linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb\n"
        "hull vm kernel install bzImage --modules /lib/modules/6.12.9\n",
    .flags = kInstallTables,
    .most = 1,
    .complete = Complete::kFile,
    .section = Section::kSystem,
    .run = install_main};

constinit const Command kVmKernelList = {
    .path = "vm kernel ls",
    .aliases = "vm kernel list",
    .summary = "List the installed guest kernels",
    .description = "Fields of templates: .Name .Default .Size .Initramfs .Installed .CreatedAt .Source .Modules",
    .flags = kListTables,
    .section = Section::kSystem,
    .run = list_main};

constinit const Command kVmKernelRemove = {
    .path = "vm kernel rm",
    .aliases = "vm kernel remove",
    .arguments = "KERNEL [KERNEL...]",
    .summary = "Remove guest kernels",
    .description =
        "Machines that run keep running. When the default kernel goes, the newest one that is left takes its place.",
    .least = 1,
    .most = -1,
    .complete = Complete::kGuestKernel,
    .section = Section::kSystem,
    .run = remove_main};

constinit const Command kVmKernelUse = {.path = "vm kernel use",
                                        .arguments = "KERNEL",
                                        .summary = "Choose the default guest kernel",
                                        .least = 1,
                                        .most = 1,
                                        .complete = Complete::kGuestKernel,
                                        .section = Section::kSystem,
                                        .run = use_main};

}  // namespace hull::cli
