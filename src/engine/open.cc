#include <sys/random.h>

#include "base/error_format.h"
#include "base/log.h"
#include "engine/engine_impl.h"
#include "oci/json_reader.h"
#include "oci/json_writer.h"
#include "rootless/rootless.h"
#include "sys/file.h"

namespace hull::engine {

std::string labels_to_json(const std::map<std::string, std::string>& labels) {
  if (labels.empty()) return {};
  oci::JsonWriter w;
  w.value(labels);
  return std::move(w).take();
}

std::map<std::string, std::string> labels_from_json(std::string_view json) {
  std::map<std::string, std::string> labels;
  if (json.empty()) return labels;
  oci::JsonReader r(json);
  r.value(labels);
  return labels;
}

std::string random_id() {
  unsigned char bytes[32];
  size_t have = 0;
  while (have < sizeof bytes) {
    const ssize_t got = ::getrandom(bytes + have, sizeof bytes - have, 0);
    if (got > 0) have += static_cast<size_t>(got);
  }
  return to_hex(bytes, sizeof bytes);
}

std::string_view to_string(Isolation isolation) { return isolation == Isolation::kVm ? "vm" : "container"; }

std::string_view to_string(Status status) {
  switch (status) {
    case Status::kCreated:
      return "created";
    case Status::kRunning:
      return "running";
    case Status::kPaused:
      return "paused";
    case Status::kRestarting:
      return "restarting";
    case Status::kExited:
      return "exited";
    case Status::kDead:
      return "dead";
    case Status::kRemoving:
      return "removing";
  }
  return "unknown";
}

EngineImpl::EngineImpl(Settings settings, std::unique_ptr<store::ImageStore> images)
    : settings_(std::move(settings)),
      paths_{settings_.data_root, settings_.run_root},
      events_(paths_.events()),
      images_(std::move(images)),
      container_driver_(make_container_driver(settings_, paths_)),
      vm_driver_(make_vm_driver(settings_, paths_)) {
  images_->set_observer([this](std::string_view action, const std::string& id, const std::string& name) {
    emit({"image", std::string(action), id, {{"name", name}}});
  });
}

Result<std::unique_ptr<Engine>> Engine::open(Settings settings) {
  // An ordinary user's groups are made by hand in what was delegated, also where systemd has delegated it.
  if (rootless::inside()) settings.cgroup_manager = "cgroupfs";
  store::StorePaths paths;
  paths.data = settings.data_root;
  paths.run = settings.run_root;
  paths.default_registry = settings.default_registry;
  std::unique_ptr<store::ImageStore> images = store::ImageStore::open_when_needed(paths);
  auto engine = std::make_unique<EngineImpl>(std::move(settings), std::move(images));
  if (rootless::keeper_was_replaced()) {
    if (auto done = engine->publish_again(); !done.ok()) log_warning("{}", done.error().message());
  }
  return std::unique_ptr<Engine>(std::move(engine));
}

void EngineImpl::mark(std::string step) {
  const auto now = std::chrono::steady_clock::now();
  timings_.push_back({std::move(step), now - last_mark_});
  last_mark_ = now;
}

Result<Index*> EngineImpl::index() {
  if (index_ != nullptr) return index_.get();
  auto opened = Index::open(paths_.index());
  if (!opened.ok() && opened.error().kind() == ErrorKind::kNotFound) {
    TRY(sys::make_dirs(paths_.data).context("make the data folder"));
    opened = Index::open(paths_.index());
  }
  TRY_ASSIGN(index_, std::move(opened));
  sweep_changes(*index_);
  return index_.get();
}

Result<net::NetworkManager*> EngineImpl::network() {
  if (network_) return &*network_;
  net::NetSettings wanted;
  if (!settings_.bridge_name.empty()) wanted.bridge_device = settings_.bridge_name;
  if (!settings_.bridge_subnet.empty()) {
    TRY_ASSIGN(wanted.subnet4, net::Subnet::parse(settings_.bridge_subnet));
  }
  if (!settings_.bridge_subnet6.empty()) {
    TRY_ASSIGN(wanted.subnet6, net::Subnet::parse(settings_.bridge_subnet6));
  }
  if (settings_.bridge_mtu > 0) wanted.mtu = static_cast<unsigned>(settings_.bridge_mtu);
  TRY_ASSIGN(net::NetworkManager manager,
             net::NetworkManager::open({paths_.data + "/net", paths_.run + "/net"}, wanted));
  network_.emplace(std::move(manager));
  return &*network_;
}

}  // namespace hull::engine
