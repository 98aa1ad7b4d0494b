#pragma once
// The program hull-images: everything about images that needs HTTP, TLS or decompression. `hull` executes it with its
// own words (`hull pull …` is `hull-images pull …`), and `hull run` starts it for an image that is missing.

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "cli/flags.h"
#include "store/image_store.h"
#include "store/image_writer.h"
#include "store/registry/credentials.h"
#include "store/registry/http.h"
#include "store/registry/settings.h"

namespace hull::cli {

struct Command;

/// What the commands work with.
class ImagesApp {
 public:
  static Result<std::unique_ptr<ImagesApp>> create();

  const store::StorePaths& paths() const { return paths_; }
  const store::RegistrySettings& settings() const { return settings_; }
  const store::CredentialStore& credentials() const { return credentials_; }
  /// Started when first needed.
  store::HttpEngine& http();
  /// A lease of its own and an open index.
  Result<std::unique_ptr<store::ImageWriter>> writer() { return store::ImageWriter::open(paths_); }

  /// Standard output, whole lines.
  void print(std::string_view line) const;
  void warn(std::string_view line) const;
  /// Puts an event of an image on record: pull, push, load, save, import.
  void emit(std::string_view action, const std::string& actor, const std::string& name) const;
  /// From now on only what the file (Docker's AuthConfig) holds is used to log in, at `registry` or, where that is
  /// empty, at the server that the file names. Returns the registry.
  Result<std::string> use_credentials(const std::string& file, std::string registry);
  /// Ctrl-C or a termination signal has come.
  bool interrupted() const;

 private:
  ImagesApp() : credentials_(store::CredentialStore::from_environment()) {}
  store::StorePaths paths_;
  store::RegistrySettings settings_;
  store::CredentialStore credentials_;
  std::unique_ptr<store::HttpEngine> http_;
};

/// The image folder that was installed with the programs for a reference (hull-demo), or "".
std::string embedded_layout(const oci::Reference& reference);

Result<void> run_pull(ImagesApp& app, const Parsed& flags);
Result<void> run_push(ImagesApp& app, const Parsed& flags);
Result<void> run_login(ImagesApp& app, const Parsed& flags);
Result<void> run_logout(ImagesApp& app, const Parsed& flags);
Result<void> run_load(ImagesApp& app, const Parsed& flags);
Result<void> run_save(ImagesApp& app, const Parsed& flags);
Result<void> run_import(ImagesApp& app, const Parsed& flags);
/// `commit --config FILE PARENT [NAME]`: an image of a workload's; the layer comes as a tar on standard input.
Result<void> run_commit(ImagesApp& app, const Parsed& flags);
/// `remote-inspect NAME`: what a registry has under a name, as Docker's distribution document.
Result<void> run_remote_inspect(ImagesApp& app, const Parsed& flags);
/// `check-login --auth-file FILE`: whether a registry takes the credentials.
Result<void> run_check_login(ImagesApp& app, const Parsed& flags);
/// `search TERM`: repositories in the catalogue of a registry.
Result<void> run_search(ImagesApp& app, const Parsed& flags);
/// `check [--deep] [--repair]`: the store's part of `hull system check`, which executes it for the deep form.
Result<void> run_check(ImagesApp& app, const Parsed& flags);
/// `verify-layer DIGEST FOLDER`: one layer, for the check above when `hull` does it.
Result<void> run_verify_layer(ImagesApp& app, const Parsed& flags);

/// The whole program. `words` without the program's name.
int images_main(std::span<const std::string_view> words);

/// compress-log FILE and decompress-log (cmd_logs.cc): the exit code, or nothing when the words say something else.
std::optional<int> log_main(std::span<const std::string_view> words);

}  // namespace hull::cli
