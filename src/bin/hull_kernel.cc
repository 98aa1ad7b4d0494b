// hull-kernel: installs guest kernels for 'hull vm kernel install', and renews an initramfs when hull-guest has
// changed. A program of its own, because it reads packages and compressed kernels, for which it needs shared libraries.
//
//   hull-kernel install [--root DATA] [--modules FOLDER] [--keep-default] [DEB|KERNEL|host]
//   hull-kernel refresh [--root DATA] NAME
//   hull-kernel unpack [--root DATA] < KERNEL       prints where the uncompressed kernel is; for hull-vmm
//   hull-kernel decompress        what it reads, as nobody: archives that clients of the engine send

#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/error_format.h"
#include "base/units.h"
#include "vm/hypervisor.h"
#include "vm/kernel/install.h"
#include "vm/kernel/plain_stream.h"
#include "vm/kernel/unpack.h"

namespace {

using hull::Error;
using hull::ErrorKind;
using hull::Result;

constexpr const char* kUsage =
    "usage: hull-kernel install [--root DATA] [--modules FOLDER] [--keep-default] [DEB|KERNEL|host]\n"
    "       hull-kernel refresh [--root DATA] NAME\n"
    "       hull-kernel unpack [--root DATA] < KERNEL";

struct Words {
  std::string verb, root, modules;
  bool keep_default = false;
  std::vector<std::string> arguments;
};

Result<Words> parse(const std::vector<std::string>& words) {
  if (words.empty()) return Error(ErrorKind::kInvalid, kUsage);
  Words out;
  out.verb = words[0];
  for (size_t i = 1; i < words.size(); ++i) {
    const bool takes_value = words[i] == "--root" || words[i] == "--modules";
    if (takes_value && i + 1 == words.size()) return hull::errorf(ErrorKind::kInvalid, "{} needs a value", words[i]);
    if (words[i] == "--root") {
      out.root = words[++i];
    } else if (words[i] == "--modules") {
      out.modules = words[++i];
    } else if (words[i] == "--keep-default") {
      out.keep_default = true;
    } else if (words[i].starts_with("-") && words[i].size() > 1) {
      return hull::errorf(ErrorKind::kInvalid, "unknown flag {}\n{}", words[i], kUsage);
    } else {
      out.arguments.push_back(words[i]);
    }
  }
  return out;
}

Result<void> run(const std::vector<std::string>& arguments) {
  TRY_ASSIGN(const Words words, parse(arguments));
  if (words.verb == "unpack" && words.arguments.empty()) {
    TRY_ASSIGN(const std::string folder, hull::vm::unpacked_kernels_folder(words.root));
    TRY_ASSIGN(const std::string path, hull::vm::unpack_kernel(STDIN_FILENO, folder));
    std::printf("%s\n", path.c_str());
    return {};
  }
  const std::string root = words.root.empty() ? hull::vm::default_data_root() : words.root;
  const std::string guest = hull::vm::find_programs().guest;
  if (words.verb == "install" && words.arguments.size() <= 1) {
    hull::vm::InstallRequest request;
    request.data_root = root;
    request.source = words.arguments.empty() ? "" : words.arguments[0];
    request.modules = words.modules;
    request.guest = guest;
    request.make_default = !words.keep_default;
    request.tell = [](std::string_view line) {
      std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
    };
    TRY_ASSIGN(const hull::vm::GuestKernel kernel, hull::vm::install_kernel(request));
    std::printf("%s\n", kernel.name.c_str());
    return {};
  }
  if (words.verb == "decompress" && words.arguments.empty()) {
    return hull::vm::decompress_stream(STDIN_FILENO, STDOUT_FILENO);
  }
  if (words.verb == "refresh" && words.arguments.size() == 1) {
    TRY(hull::vm::refresh_kernel(root, words.arguments[0], guest));
    return {};
  }
  return Error(ErrorKind::kInvalid, kUsage);
}

}  // namespace

int main(int argc, char** argv) {
  const Result<void> done = run({argv + 1, argv + argc});
  if (done.ok()) return 0;
  std::fprintf(stderr, "hull: vm kernel: %s\n", done.error().message().c_str());
  return 1;
}
