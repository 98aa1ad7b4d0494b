#pragma once
// An engine for tests: keeps what it was asked, answers from plain members. Only *_test.cc files include this.

#include <map>
#include <string>
#include <vector>

#include "base/error_format.h"
#include "cli/command.h"
#include "engine/engine.h"

namespace hull::cli::testing {

class FakeImages : public store::ImageStore {
 public:
  std::vector<store::Image> images;
  std::vector<std::string> calls;

  Result<store::Image> find(std::string_view reference) override {
    for (const auto& image : images) {
      for (const auto& tag : image.tags) {
        if (tag == reference || tag == std::string(reference) + ":latest") return image;
      }
      if (image.id.str() == reference || (reference.size() >= 4 && image.id.hex().starts_with(reference))) return image;
    }
    return errorf(ErrorKind::kNotFound, "no such image: {}", reference);
  }
  Result<std::vector<store::ImageSummary>> list(bool) override {
    std::vector<store::ImageSummary> all;
    for (const auto& image : images) {
      all.push_back({image.id, image.tags, image.digests, image.size, image.created, 0});
    }
    return all;
  }
  Result<void> tag(std::string_view source, std::string_view target) override {
    calls.push_back(fmt::format("tag {} {}", source, target));
    return {};
  }
  Result<store::RemoveReport> remove(std::string_view reference, bool force) override {
    calls.push_back(fmt::format("remove {} {}", reference, force));
    TRY_ASSIGN(const store::Image image, find(reference));
    return store::RemoveReport{image.tags, {image.id}};
  }
  Result<store::PruneReport> prune(bool all, const std::vector<std::string>& labels,
                                   std::chrono::system_clock::time_point) override {
    calls.push_back(fmt::format("prune {} {}", all, fmt::join(labels, ",")));
    return store::PruneReport{{"deleted: sha256:1"}, 1500};
  }
  Result<void> hold(const Digest&, std::string_view) override { return {}; }
  Result<void> release(std::string_view) override { return {}; }
  Result<std::vector<std::string>> holders() override { return std::vector<std::string>(); }
  Result<std::vector<std::string>> lower_dirs(const store::Image&) override { return std::vector<std::string>(); }
  Result<std::vector<std::string>> layer_blobs(const store::Image&) override { return std::vector<std::string>(); }
  void set_layer_verifier(LayerVerifier) override {}
  void set_observer(Observer) override {}
  Result<Usage> usage() override { return Usage(); }
  Result<store::CheckReport> check(bool, bool) override { return store::CheckReport(); }
};

class FakeEngine : public engine::Engine {
 public:
  std::vector<engine::WorkloadSummary> workloads;
  std::vector<std::string> calls;
  engine::Config created;
  engine::ExecConfig executed;
  std::vector<engine::Check> checks;
  std::vector<std::tuple<int, engine::TimePoint, std::string>> log;
  engine::LogOptions log_options;
  std::map<std::string, std::string> documents;  // name: inspect JSON
  std::optional<Error> start_failure;
  std::vector<engine::Event> happened;
  std::vector<engine::FileChange> file_changes;
  engine::UpdateRequest updated;
  engine::EventFilter event_filter;
  store::CheckReport check_report;
  int exit_code = 0;
  std::vector<std::string> notices;
  /// Gives the ends of a started workload.
  std::function<engine::Attachment()> attachment;

  const engine::Settings& settings() const override { return settings_; }
  FakeImages& images() override { return images_; }

  Result<Created> create(const engine::Config& config, engine::PullPolicy) override {
    created = config;
    calls.emplace_back("create");
    return Created{"0123456789abcdef", {}, notices};
  }
  Result<std::optional<engine::Attachment>> start(std::string_view ref, bool out, bool in) override {
    calls.push_back(fmt::format("start {} {} {}", ref, out, in));
    if (start_failure) return Error(*start_failure);
    if (!out && !in) return std::optional<engine::Attachment>();
    return std::optional<engine::Attachment>(attachment ? attachment() : engine::Attachment());
  }
  Result<engine::Attachment> attach(std::string_view ref, bool) override {
    calls.push_back(fmt::format("attach {}", ref));
    return attachment();
  }
  Result<void> stop(std::string_view ref, std::optional<int> timeout, std::string_view signal) override {
    return act(ref, fmt::format("stop {} {} {}", ref, timeout ? std::to_string(*timeout) : "-", signal));
  }
  Result<void> restart(std::string_view ref, std::optional<int> timeout, std::string_view signal) override {
    return act(ref, fmt::format("restart {} {} {}", ref, timeout ? std::to_string(*timeout) : "-", signal));
  }
  Result<void> kill(std::string_view ref, std::string_view signal) override {
    return act(ref, fmt::format("kill {} {}", ref, signal));
  }
  Result<void> pause(std::string_view ref) override { return act(ref, fmt::format("pause {}", ref)); }
  Result<void> unpause(std::string_view ref) override { return act(ref, fmt::format("unpause {}", ref)); }
  Result<void> remove(std::string_view ref, bool force, bool with_volumes) override {
    return act(ref, fmt::format("remove {} {} {}", ref, force, with_volumes));
  }
  Result<void> restart_after_exit(std::string_view id, std::optional<int64_t> started) override {
    return act(id, fmt::format("restart_after_exit {} {}", id, started ? std::to_string(*started) : "-"));
  }
  Result<void> health_changed(std::string_view id, std::string_view status) override {
    return act(id, fmt::format("health_changed {} {}", id, status));
  }
  Result<int> start_all(bool pretend, const ServiceSink& sink) override {
    calls.push_back(fmt::format("start_all {}", pretend));
    int failures = 0;
    for (const ServiceStep& step : steps) {
      sink(step);
      failures += step.done ? 0 : 1;
    }
    return failures;
  }
  Result<int> stop_all(std::optional<int> timeout, const ServiceSink& sink) override {
    calls.push_back(fmt::format("stop_all {}", timeout ? std::to_string(*timeout) : "-"));
    int failures = 0;
    for (const ServiceStep& step : steps) {
      sink(step);
      failures += step.done ? 0 : 1;
    }
    return failures;
  }
  std::vector<ServiceStep> steps;
  Result<void> cleanup(std::string_view id) override { return act(id, fmt::format("cleanup {}", id)); }
  Result<void> resize(std::string_view ref, oci::Box size) override {
    calls.push_back(fmt::format("resize {} {}x{}", ref, size.width, size.height));
    return {};
  }
  Result<engine::ExitInfo> wait(std::string_view ref, std::string_view condition) override {
    calls.push_back(fmt::format("wait {} {}", ref, condition));
    return engine::ExitInfo{exit_code, false, ""};
  }
  Result<std::unique_ptr<engine::PendingAttach>> begin_attach(std::string_view ref, bool) override {
    return errorf(ErrorKind::kUnsupported, "begin_attach {}", ref);
  }
  Result<std::unique_ptr<engine::PendingWait>> begin_wait(std::string_view ref, std::string_view) override {
    return errorf(ErrorKind::kUnsupported, "begin_wait {}", ref);
  }
  Result<engine::WorkloadSummary> summary(std::string_view ref) override {
    TRY_ASSIGN(engine::WorkloadDetails details, inspect(ref));
    return details.summary;
  }
  Result<std::string> exec_create(std::string_view, const engine::ExecConfig& config) override {
    executed = config;
    return std::string("exec");
  }
  Result<ExecStreams> exec_start(std::string_view, const ExecStart&) override { return ExecStreams(); }
  void exec_keep(std::string_view, const ExecStart&, UniqueFd) override {}
  Result<ExecState> exec_inspect(std::string_view) override { return ExecState(); }
  Result<std::vector<std::string>> exec_list(std::string_view) override { return std::vector<std::string>(); }
  Result<void> exec_resize(std::string_view, oci::Box) override { return {}; }
  Result<std::vector<engine::WorkloadSummary>> list(const engine::ListFilter& filter) override {
    calls.push_back(fmt::format("list all={} last={} filters={}", filter.all, filter.last, filter.filters.size()));
    return workloads;
  }
  Result<engine::WorkloadDetails> inspect(std::string_view ref) override {
    for (const auto& one : workloads) {
      if (one.name != ref && !one.id.starts_with(ref)) continue;
      engine::WorkloadDetails details;
      details.summary = one;
      details.json = documents.contains(one.name) ? documents[one.name] : "{}";
      return details;
    }
    return errorf(ErrorKind::kNotFound, "no such container: {}", ref);
  }
  Result<void> logs(std::string_view, const engine::LogOptions& options, const engine::LogSink& sink) override {
    log_options = options;
    for (const auto& [stream, when, text] : log) TRY(sink(stream, when, text));
    return {};
  }
  Result<std::vector<std::vector<std::string>>> top(std::string_view, const std::vector<std::string>&) override {
    return std::vector<std::vector<std::string>>{{"UID", "PID", "CMD"}, {"root", "12", "sleep 1"}};
  }
  Result<engine::ContainerStats> stats(std::string_view ref) override {
    return engine::ContainerStats{
        .id = std::string(ref), .name = "web", .memory_used = 1 << 20, .memory_limit = 1 << 22};
  }
  Result<engine::Footprint> footprint(std::string_view) override { return footprints; }
  Result<store::PruneReport> prune(const std::multimap<std::string, std::string>&) override {
    calls.emplace_back("prune");
    return store::PruneReport{{"abc"}, 2000};
  }
  Result<ExecHandle> exec(std::string_view, const engine::ExecConfig& config, std::optional<oci::Box>) override {
    executed = config;
    if (start_failure) return Error(*start_failure);
    ExecHandle handle;
    if (attachment) handle.streams = attachment();
    return handle;
  }
  Result<engine::ExitInfo> wait_exec(ExecHandle&) override { return engine::ExitInfo{exit_code, false, ""}; }
  Result<void> resize_exec(ExecHandle&, oci::Box) override { return {}; }
  Result<engine::Volume> volume_create(std::string name, std::string, std::map<std::string, std::string>,
                                       std::map<std::string, std::string> labels) override {
    engine::Volume volume;
    volume.name = name.empty() ? "anonymous" : name;
    volume.labels = std::move(labels);
    volumes.push_back(volume);
    return volume;
  }
  Result<std::vector<engine::Volume>> volume_list(const std::multimap<std::string, std::string>&) override {
    return volumes;
  }
  Result<engine::Volume> volume_inspect(std::string_view name) override {
    for (const auto& volume : volumes) {
      if (volume.name == name) return volume;
    }
    return errorf(ErrorKind::kNotFound, "no such volume: {}", name);
  }
  Result<void> volume_remove(std::string_view name, bool) override {
    calls.push_back(fmt::format("volume_remove {}", name));
    return {};
  }
  Result<store::PruneReport> volume_prune(bool all, const std::multimap<std::string, std::string>&) override {
    calls.push_back(fmt::format("volume_prune {}", all));
    return store::PruneReport();
  }
  Result<engine::PathStat> path_stat(std::string_view, std::string_view path) override {
    return errorf(ErrorKind::kNotFound, "Could not find the file {}", path);
  }
  Result<void> archive_get(std::string_view, std::string_view path,
                           const std::function<Result<void>(const engine::PathStat&)>&,
                           const engine::ByteTaker&) override {
    return errorf(ErrorKind::kNotFound, "Could not find the file {}", path);
  }
  Result<void> archive_put(std::string_view, std::string_view, const engine::PutOptions&,
                           const engine::ByteGiver&) override {
    return {};
  }
  Result<void> export_files(std::string_view, const engine::ByteTaker& sink) override { return sink("archive"); }
  Result<std::vector<engine::FileChange>> changes(std::string_view) override { return file_changes; }
  Result<std::string> commit(std::string_view ref, const engine::CommitRequest& request) override {
    calls.push_back(fmt::format("commit {} {} author={} comment={} pause={} changes={}", ref, request.reference,
                                request.author, request.comment, request.pause, fmt::join(request.changes, ";")));
    return std::string("sha256:1");
  }
  Result<void> rename(std::string_view ref, std::string_view name) override {
    calls.push_back(fmt::format("rename {} {}", ref, name));
    return {};
  }
  Result<std::vector<std::string>> update(std::string_view ref, const engine::UpdateRequest& request) override {
    calls.push_back(fmt::format("update {}", ref));
    updated = request;
    return std::vector<std::string>();
  }
  Result<void> events(const engine::EventFilter& filter, const engine::EventSink& sink) override {
    event_filter = filter;
    for (const engine::Event& event : happened) TRY(sink(event));
    return {};
  }
  void emit(const engine::Event& event) override { happened.push_back(event); }
  Result<engine::DiskUsage> disk_usage() override { return usage; }
  Result<store::CheckReport> check(bool, bool) override { return check_report; }
  Result<std::vector<engine::Check>> doctor() override { return checks; }
  Result<net::Network> network_create(const net::NetworkRequest& request) override {
    calls.push_back(fmt::format("network_create {} {} {}", request.driver, request.name, request.pools.size()));
    requests.push_back(request);
    net::Network network;
    network.name = request.name;
    network.id = net::default_network_id(request.name);
    return network;
  }
  Result<std::vector<NetworkInfo>> network_list(const std::multimap<std::string, std::string>&) override {
    std::vector<NetworkInfo> out;
    for (const auto& [name, driver] : {std::pair("bridge", net::Driver::kBridge), std::pair("host", net::Driver::kHost),
                                       std::pair("none", net::Driver::kNull)}) {
      NetworkInfo info;
      info.network.name = name;
      info.network.id = net::default_network_id(name);
      info.network.driver = driver;
      info.json = fmt::format(R"({{"Name":"{}","Id":"{}"}})", name, info.network.id);
      out.push_back(std::move(info));
    }
    return out;
  }
  Result<NetworkInfo> network_inspect(std::string_view ref) override {
    TRY_ASSIGN(auto all, network_list({}));
    for (NetworkInfo& one : all) {
      if (one.network.name == ref || one.network.id.starts_with(ref)) return std::move(one);
    }
    return errorf(ErrorKind::kNotFound, "network {} not found", ref);
  }
  Result<void> network_remove(std::string_view ref) override {
    calls.push_back(fmt::format("network_remove {}", ref));
    return {};
  }
  Result<void> network_connect(std::string_view network, std::string_view workload,
                               const engine::NetworkAttachment& wanted) override {
    calls.push_back(fmt::format("network_connect {} {}", network, workload));
    attached.push_back(wanted);
    return {};
  }
  Result<void> network_disconnect(std::string_view network, std::string_view workload, bool force) override {
    calls.push_back(fmt::format("network_disconnect {} {} {}", network, workload, force));
    return {};
  }
  Result<std::vector<std::string>> network_prune(const std::multimap<std::string, std::string>&) override {
    calls.emplace_back("network_prune");
    return std::vector<std::string>{"old"};
  }
  Result<std::string> info_json() override {
    return R"({"ID":"x","MemTotal":2147483648,"Plugins":{"Log":["json-file"]}})";
  }
  std::vector<engine::Timing> timings() const override { return {{"resolve image", std::chrono::microseconds(12)}}; }

  std::vector<engine::Volume> volumes;
  std::vector<net::NetworkRequest> requests;
  std::vector<engine::NetworkAttachment> attached;
  engine::DiskUsage usage;
  engine::Footprint footprints;

 private:
  Result<void> act(std::string_view ref, std::string call) {
    calls.push_back(std::move(call));
    if (ref.starts_with("missing")) return errorf(ErrorKind::kNotFound, "no such container: {}", ref);
    return {};
  }
  engine::Settings settings_;
  FakeImages images_;
};

/// Runs one command line; keeps what it printed.
struct Session {
  explicit Session(std::initializer_list<std::string_view> words) : Session(words, [](FakeEngine&) {}) {}
  Session(std::initializer_list<std::string_view> words, const std::function<void(FakeEngine&)>& set_up) {
    auto made = std::make_unique<FakeEngine>();
    engine = made.get();
    set_up(*made);
    std::unique_ptr<engine::Engine> owned = std::move(made);
    context = std::make_unique<Context>(-1, -1,
                                        [owned = std::make_shared<std::unique_ptr<engine::Engine>>(std::move(owned)),
                                         this]() -> Result<std::unique_ptr<engine::Engine>> {
                                          opened = true;
                                          return std::move(*owned);
                                        });
    context->in_fd = -1;
    const std::vector<std::string_view> all(words);
    code = hull_main(*context, all);
    out = context->out.buffer();
    err = context->err.buffer();
  }
  FakeEngine* engine;  // valid while the context is
  std::unique_ptr<Context> context;
  bool opened = false;
  int code = 0;
  std::string out, err;
};

}  // namespace hull::cli::testing
