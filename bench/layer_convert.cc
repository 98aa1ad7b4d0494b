// layer_convert [options] BLOB...: converts layer blobs into a folder and prints how fast, beside what igzip and tar
// need for the same bytes. Options: --into FOLDER (default: a new one in /tmp, removed), --directory (unpack to
// folders instead of EROFS images), --jobs N (layers at a time, default 2), --no-skeleton, --no-peers, --keep.

#include <fcntl.h>
#include <fmt/format.h>
#include <getopt.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "store/layer/layer.h"
#include "sys/file.h"

extern char** environ;

namespace {

using hull::store::FdSource;
using hull::store::LayerInfo;
using hull::store::LayerOptions;

struct Settings {
  LayerOptions options;
  std::string into;
  unsigned jobs = 2;
  bool peers = true, keep = false;
  std::vector<std::string> blobs;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double cpu_seconds(int who) {
  rusage usage{};
  ::getrusage(who, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

int run_shell(const std::string& command) {
  std::vector<std::string> words{"/bin/sh", "-c", command};
  char* argv[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
  pid_t pid = -1;
  if (::posix_spawn(&pid, "/bin/sh", nullptr, nullptr, argv, environ) != 0) return -1;
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status;
}

/// `work(i)` for each blob, `jobs` at a time.
template <typename Work>
void in_parallel(const Settings& settings, Work work) {
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned job = 0; job < settings.jobs; ++job) {
    threads.emplace_back([&] {
      for (size_t i = next++; i < settings.blobs.size(); i = next++) work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

void measure_peer(const Settings& settings, const char* name, const std::string& command, uint64_t tar_bytes) {
  const double cpu_before = cpu_seconds(RUSAGE_CHILDREN);
  const auto start = std::chrono::steady_clock::now();
  in_parallel(settings, [&](size_t i) {
    const std::string out = fmt::format("{}/peer-{}", settings.into, i);
    run_shell(fmt::format("B='{}' O='{}'; {}", settings.blobs[i], out, command));
  });
  const double took = seconds_since(start);
  fmt::print("{:<28} {:6.3f} s  {:7.1f} MB/s of tar  cpu {:.2f} s\n", name, took,
             static_cast<double>(tar_bytes) / 1e6 / took, cpu_seconds(RUSAGE_CHILDREN) - cpu_before);
  for (size_t i = 0; i < settings.blobs.size(); ++i) run_shell(fmt::format("rm -rf '{}/peer-{}'", settings.into, i));
}

bool parse(int argc, char** argv, Settings& settings) {
  static const option kOptions[] = {{"into", required_argument, nullptr, 'i'},
                                    {"directory", no_argument, nullptr, 'd'},
                                    {"jobs", required_argument, nullptr, 'j'},
                                    {"no-skeleton", no_argument, nullptr, 's'},
                                    {"no-peers", no_argument, nullptr, 'p'},
                                    {"keep", no_argument, nullptr, 'k'},
                                    {nullptr, 0, nullptr, 0}};
  int chosen = 0;
  while ((chosen = ::getopt_long(argc, argv, "", kOptions, nullptr)) != -1) {
    switch (chosen) {
      case 'i':
        settings.into = optarg;
        break;
      case 'd':
        settings.options.backend = hull::store::LayerBackend::kDirectory;
        break;
      case 'j':
        settings.jobs = static_cast<unsigned>(std::max(1, std::atoi(optarg)));
        break;
      case 's':
        settings.options.keep_skeleton = false;
        break;
      case 'p':
        settings.peers = false;
        break;
      case 'k':
        settings.keep = true;
        break;
      default:
        return false;
    }
  }
  settings.blobs.assign(argv + optind, argv + argc);
  return !settings.blobs.empty();
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  if (!parse(argc, argv, settings)) {
    fmt::print(stderr,
               "usage: layer_convert [--into FOLDER] [--directory] [--jobs N] [--no-skeleton] [--no-peers] [--keep] "
               "BLOB...\n");
    return 2;
  }
  const bool own_folder = settings.into.empty();
  if (own_folder) settings.into = fmt::format("/tmp/layer-convert-{}", ::getpid());
  if (!hull::sys::make_dirs(settings.into).ok()) return 1;
  auto layers = hull::sys::open(settings.into, O_PATH | O_DIRECTORY);
  if (!layers.ok()) return 1;

  std::vector<LayerInfo> infos(settings.blobs.size());
  std::atomic<bool> failed{false};
  const auto start = std::chrono::steady_clock::now();
  in_parallel(settings, [&](size_t i) {
    auto blob = hull::sys::open(settings.blobs[i], O_RDONLY);
    if (!blob.ok()) {
      failed = true;
      return;
    }
    FdSource source(blob->get());
    auto staged = convert_layer(source, layers->get(), fmt::format("staged-{}", i), settings.options);
    if (staged.ok()) {
      infos[i] = staged->info();
      if (auto committed = staged->commit(); committed.ok()) return;
    }
    failed = true;
    if (!staged.ok()) fmt::print(stderr, "{}: {}\n", settings.blobs[i], staged.error().message());
  });
  const double took = seconds_since(start);
  const double cpu = cpu_seconds(RUSAGE_SELF);
  LayerInfo sum;
  for (const LayerInfo& info : infos) {
    if (settings.keep) fmt::print("{} {} entries\n", info.diff_id.str(), info.entries);
    sum.blob_size += info.blob_size;
    sum.tar_size += info.tar_size;
    sum.artifact_size += info.artifact_size;
    sum.entries += info.entries;
  }
  fmt::print("{} blobs, {:.1f} MB, tar {:.1f} MB, {} entries, artifacts {:.1f} MB\n", infos.size(),
             static_cast<double>(sum.blob_size) / 1e6, static_cast<double>(sum.tar_size) / 1e6, sum.entries,
             static_cast<double>(sum.artifact_size) / 1e6);
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  fmt::print("{:<28} {:6.3f} s  {:7.1f} MB/s of tar  cpu {:.2f} s  memory {:.1f} MB\n", "hull convert_layer", took,
             static_cast<double>(sum.tar_size) / 1e6 / took, cpu, static_cast<double>(usage.ru_maxrss) / 1e3);
  if (!settings.keep) {
    for (const LayerInfo& info : infos) {
      if (!info.diff_id.empty()) hull::ignore_result(hull::store::remove_layer(layers->get(), info.diff_id));
    }
  }
  if (settings.peers) {
    measure_peer(settings, "igzip -dc > file", "igzip -dc \"$B\" > \"$O\"", sum.tar_size);
    measure_peer(settings, "igzip -dc | sha256sum", "igzip -dc \"$B\" | openssl dgst -sha256 > \"$O\"", sum.tar_size);
    measure_peer(settings, "igzip -dc | tar -x", "mkdir \"$O\"; igzip -dc \"$B\" | tar -x -C \"$O\"", sum.tar_size);
    measure_peer(settings, "tar -xzf", "mkdir \"$O\"; tar -xzf \"$B\" -C \"$O\"", sum.tar_size);
  }
  if (own_folder && !settings.keep) hull::ignore_result(hull::sys::remove_tree(settings.into));
  return failed ? 1 : 0;
}
