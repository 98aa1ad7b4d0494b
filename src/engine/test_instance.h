#pragma once
// A private instance of Hull for tests: its own folders, the programs of the build tree, one image made of Debian's
// static busybox. Only *_test.cc files include this.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "base/error_format.h"
#include "engine/engine_impl.h"
#include "engine/process.h"
#include "store/image_writer.h"
#include "sys/file.h"

namespace hull::engine::testing {

inline Digest digest_of_hex(char c) { return Digest::parse("sha256:" + std::string(64, c)).value(); }

class Instance : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (!sys::exists("/bin/busybox")) GTEST_SKIP() << "needs Debian's busybox-static";
    char folder[] = "/tmp/hull-engine-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    root_ = folder;
    settings_.data_root = root_ + "/data";
    settings_.run_root = root_ + "/run";
    settings_.libexec = HULL_BUILD_DIR "/bin";
    settings_.runtime = HULL_BUILD_DIR "/bin/hull-oci";
    settings_.cgroup_parent = "hull-test-" + root_.substr(root_.size() - 6);
    // What the monitor calls back takes its instance from the environment.
    ::setenv("HULL_ROOT", settings_.data_root.c_str(), 1);
    ::setenv("HULL_RUN", settings_.run_root.c_str(), 1);
    ::setenv("HULL_LIBEXEC", settings_.libexec.c_str(), 1);
    ::setenv("HULL_CONFIG", "/dev/null", 1);
    ::setenv("HULL_PROGRAM", HULL_BUILD_DIR "/bin/hull", 1);
    make_image();
    reopen();
  }

  void TearDown() override {
    if (root_.empty()) return;
    if (engine_) {
      ListFilter all;
      all.all = true;
      if (auto left = engine_->list(all); left.ok()) {
        for (const auto& one : *left) ignore_result(engine_->remove(one.id, true, true));
      }
      engine_.reset();
    }
    ignore_result(capture({"/bin/sh", "-c",
                           "find /sys/fs/cgroup -depth -type d -path '*" + settings_.cgroup_parent +
                               "*' -exec rmdir {} + 2>/dev/null; umount " + root_ + "/run/layers/* 2>/dev/null"}));
    ignore_result(sys::remove_tree(root_));
  }

  void reopen() {
    store::StorePaths paths;
    paths.data = settings_.data_root;
    paths.run = settings_.run_root;
    auto images = store::ImageStore::open(paths);
    ASSERT_TRUE(images.ok()) << images.error().message();
    engine_ = std::make_unique<EngineImpl>(settings_, std::move(*images));
  }

  void make_image() {
    store::StorePaths paths;
    paths.data = settings_.data_root;
    paths.run = settings_.run_root;
    auto writer = store::ImageWriter::open(paths);
    ASSERT_TRUE(writer.ok()) << writer.error().message();
    const Digest layer = digest_of_hex('a');
    const std::string folder = (*writer)->layers_path() + "/" + std::string(layer.hex());
    const auto made = capture({"/bin/sh", "-c",
                               "set -e; mkdir -p " + folder + "; cd " + folder +
                                   "; mkdir -p bin etc tmp data root home/web sub/deep; cp /bin/busybox bin/busybox; "
                                   "for a in $(bin/busybox --list); do [ -e bin/$a ] || ln -s busybox bin/$a; done; "
                                   "echo 'root:x:0:0:root:/root:/bin/sh' > etc/passwd; "
                                   "echo 'web:x:1000:1000::/home/web:/bin/sh' >> etc/passwd; "
                                   "printf 'root:x:0:\\nweb:x:1000:\\naudio:x:29:web\\n' > etc/group; "
                                   "echo hi > data/hello; ln -s hello data/link; chown 1000:1000 data/hello; "
                                   "chmod 1777 tmp; chmod 0750 data"});
    ASSERT_TRUE(made.ok() && made->code == 0) << (made.ok() ? made->error : made.error().message());
    store::LayerRecord record;
    record.diff_id = layer;
    ASSERT_TRUE((*writer)->protect(std::vector<Digest>{layer}).ok());
    const auto added = (*writer)->add_layer(record);
    ASSERT_TRUE(added.ok()) << added.error().message();
    store::NewImage image;
    image.config_json = R"({"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{)"
                        R"("Cmd":["sh"],"Env":["PATH=/bin","COLOR=blue"],"Volumes":{}},"rootfs":{"type":"layers",)"
                        R"("diff_ids":[")" +
                        layer.str() + R"("]},"history":[]})";
    image.id = digest_of_hex('b');
    image.manifest_json = "{}";
    image.manifest_digest = digest_of_hex('c');
    image.diff_ids = {layer};
    image.tags = {oci::parse_reference("busybox").value()};
    const auto committed = (*writer)->commit_image(image);
    ASSERT_TRUE(committed.ok()) << committed.error().message();
  }

  static Config config_of(std::vector<std::string> cmd) {
    Config config;
    config.image = "busybox";
    config.cmd = std::move(cmd);
    config.network = "none";
    return config;
  }

  struct Outcome {
    int code = -1;
    std::string output, error, failure;
    int failure_number = 0;
  };
  /// Like `hull run` in the foreground: what it wrote and how it ended.
  Outcome run(const Config& config, std::string_view input = {}) {
    Outcome outcome;
    const auto fail = [&](const Error& error) {
      outcome.failure = error.message();
      outcome.failure_number = error.error_number();
      return outcome;
    };
    auto created = engine_->create(config, PullPolicy::kNever);
    if (!created.ok()) return fail(created.error());
    last_id_ = created->id;
    auto started = engine_->start(created->id, true, config.open_stdin);
    if (!started.ok()) return fail(started.error());
    Attachment& streams = **started;
    if (streams.input) {
      ignore_result(sys::write_all(streams.input.get(), input));
      streams.input.reset();
    }
    drain(streams, &outcome);
    auto info = engine_->wait(created->id, "not-running");
    if (!info.ok()) return fail(info.error());
    outcome.code = info->code;
    return outcome;
  }

  static void drain(Attachment& streams, Outcome* outcome) {
    pollfd watched[2] = {{streams.output.get(), POLLIN, 0}, {streams.error.get(), POLLIN, 0}};
    std::string* const targets[2] = {&outcome->output, &outcome->error};
    while (watched[0].fd >= 0 || watched[1].fd >= 0) {
      if (::poll(watched, 2, 30'000) <= 0) {
        ADD_FAILURE() << "no output and no end for 30 seconds";
        return;
      }
      for (int i = 0; i < 2; ++i) {
        if (watched[i].fd < 0 || watched[i].revents == 0) continue;
        char buffer[65536];
        const ssize_t got = ::read(watched[i].fd, buffer, sizeof buffer);
        if (got <= 0)
          watched[i].fd = -1;
        else
          targets[i]->append(buffer, static_cast<size_t>(got));
      }
    }
  }

  Outcome sh(const std::string& script) { return run(config_of({"sh", "-c", script})); }

  std::string root_;
  std::string last_id_;
  Settings settings_;
  std::unique_ptr<EngineImpl> engine_;
};

}  // namespace hull::engine::testing
