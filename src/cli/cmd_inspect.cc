// inspect: whatever a name stands for.
#include "base/error_format.h"
#include "cli/commands.h"
#include "cli/documents.h"
#include "cli/filters.h"

namespace hull::cli {
namespace {

constexpr Flag kFlags[] = {
    kDocumentFormatFlag,
    {.name = "size", .short_name = 's', .help = "Tell how much a workload has written"},
    {.name = "type",
     .kind = ValueKind::kText,
     .metavar = "TYPE",
     .help = "Look only at objects of this type",
     .complete = Complete::kWords,
     .words = "container image volume network"},
};
constexpr std::span<const Flag> kTables[] = {kFlags};

Result<Value> inspect_workload(engine::Engine& engine, const std::string& name, bool size) {
  TRY_ASSIGN(const engine::WorkloadDetails details, engine.inspect(name));
  TRY_ASSIGN(Value document, Value::parse(details.json));
  if (size) {
    TRY_ASSIGN(const engine::DiskUsage usage, engine.disk_usage());
    for (const auto& item : usage.workloads) {
      if (item.id == details.summary.id) document.set("SizeRw", item.size);
    }
  }
  return document;
}

Result<Value> inspect_one(engine::Engine& engine, const std::string& name, std::string_view type, bool size) {
  const auto wanted = [&](std::string_view kind) { return type.empty() || type == kind; };
  // An ambiguous prefix or a broken object is said at once; "not there" asks the next kind.
  const auto settles = [&](const auto& result) { return result.ok() || result.error().kind() != ErrorKind::kNotFound; };
  if (wanted("container")) {
    auto workload = inspect_workload(engine, name, size);
    if (settles(workload)) return workload;
  }
  if (wanted("image")) {
    auto image = engine.images().find(name);
    if (image.ok()) return image_document(*image);
    if (image.error().kind() != ErrorKind::kNotFound && image.error().kind() != ErrorKind::kInvalid) {
      return std::move(image).error();
    }
  }
  if (wanted("volume")) {
    auto volume = engine.volume_inspect(name);
    if (volume.ok()) return volume_document(*volume);
    if (volume.error().kind() != ErrorKind::kNotFound && volume.error().kind() != ErrorKind::kInvalid) {
      return std::move(volume).error();
    }
  }
  if (wanted("network")) {
    auto network = engine.network_inspect(name);
    if (network.ok()) return Value::parse(network->json);
    if (settles(network)) return std::move(network).error();
  }
  return errorf(ErrorKind::kNotFound, "no such {}: {:.200}", type.empty() ? "object" : type, name);
}

Result<int> inspect_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  std::vector<Value> documents;
  const int code = for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(Value document, inspect_one(*engine, name, parsed.value("type"), parsed.on("size")));
    documents.push_back(std::move(document));
    return {};
  });
  TRY(print_inspected(context.out, parsed.value("format"), documents));
  return code;
}

Result<int> container_inspect_main(Context& context, const Parsed& parsed) {
  TRY_ASSIGN(engine::Engine * engine, context.engine());
  std::vector<Value> documents;
  const int code = for_each_argument(context, parsed, [&](const std::string& name) -> Result<void> {
    TRY_ASSIGN(Value document, inspect_workload(*engine, name, parsed.on("size")));
    documents.push_back(std::move(document));
    return {};
  });
  TRY(print_inspected(context.out, parsed.value("format"), documents));
  return code;
}

constexpr Flag kContainerFlags[] = {
    kDocumentFormatFlag,
    {.name = "size", .short_name = 's', .help = "Tell how much it has written"},
};
constexpr std::span<const Flag> kContainerTables[] = {kContainerFlags};

}  // namespace

constinit const Command kInspect = {.path = "inspect",
                                    .arguments = "NAME|ID [NAME|ID...]",
                                    .summary = "Tell all about workloads, images, volumes or networks",
                                    .examples =
                                        "hull inspect web\nhull inspect -f '{{.State.Pid}}' web\n"
                                        "hull inspect -f '{{range .Mounts}}{{println .Destination}}{{end}}' web\n",
                                    .flags = kTables,
                                    .least = 1,
                                    .most = -1,
                                    .complete = Complete::kObject,
                                    .run = inspect_main};

constinit const Command kContainerInspect = {.path = "container inspect",
                                             .arguments = "WORKLOAD [WORKLOAD...]",
                                             .summary = "Tell all about workloads",
                                             .flags = kContainerTables,
                                             .least = 1,
                                             .most = -1,
                                             .complete = Complete::kWorkload,
                                             .run = container_inspect_main};

}  // namespace hull::cli
