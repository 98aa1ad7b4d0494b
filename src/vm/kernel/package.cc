#include "vm/kernel/package.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>

#include <array>
#include <memory>
#include <optional>

#include "base/error_format.h"
#include "sys/file.h"
#include "vm/kernel/bzimage.h"
#include "vm/kernel/elf.h"
#include "vm/kernel/module_tree.h"

namespace hull::vm {
namespace {

constexpr size_t kBlock = 256 << 10;
constexpr uint64_t kMostUnpacked = 4ULL << 30;
constexpr int kMostEntries = 200000;

struct FreeArchive {
  void operator()(archive* one) const { ::archive_read_free(one); }
};
using Archive = std::unique_ptr<archive, FreeArchive>;

Error archive_error(archive* from, const std::string& deb) {
  const char* said = ::archive_error_string(from);
  return errorf(ErrorKind::kInvalid, "read the package {}: {}", deb, said == nullptr ? "damaged" : said);
}

/// Feeds the inner archive with the outer one's current member.
struct Member {
  archive* outer;
  std::array<char, 64 << 10> buffer;
};
la_ssize_t read_member(archive* inner, void* data, const void** out) {
  auto* member = static_cast<Member*>(data);
  const la_ssize_t got = ::archive_read_data(member->outer, member->buffer.data(), member->buffer.size());
  *out = member->buffer.data();
  if (got < 0) ::archive_set_error(inner, EIO, "%s", "the package is cut short or damaged");
  return got < 0 ? ARCHIVE_FATAL : got;
}

/// Where one file of the package goes below the folder; nothing for a file that is not needed.
struct Wanted {
  std::string path;
  uint64_t limit = 0;
};

class Unpacker {
 public:
  Unpacker(const std::string& deb, const std::string& folder) : deb_(deb), folder_(folder) {}

  Result<KernelPackage> run() {
    TRY(sys::make_dirs(folder_ + "/modules"));
    const Archive outer(::archive_read_new());
    ::archive_read_support_format_ar(outer.get());
    if (::archive_read_open_filename(outer.get(), deb_.c_str(), kBlock) != ARCHIVE_OK) {
      return archive_error(outer.get(), deb_);
    }
    archive_entry* entry = nullptr;
    bool data_seen = false;
    int status = ARCHIVE_OK;
    while ((status = ::archive_read_next_header(outer.get(), &entry)) == ARCHIVE_OK) {
      const char* name = ::archive_entry_pathname(entry);
      if (name == nullptr || !std::string_view(name).starts_with("data.tar")) continue;
      TRY(take_data(outer.get()));
      data_seen = true;
      break;
    }
    if (!data_seen) {
      if (status < ARCHIVE_OK) return archive_error(outer.get(), deb_);
      return errorf(ErrorKind::kInvalid, "{} is not a Debian package: it has no data.tar", deb_);
    }
    if (package_.kernel.empty()) {
      return errorf(ErrorKind::kInvalid,
                    "{} holds no kernel (boot/vmlinuz-VERSION): take the package that does, such as "
                    "linux-image-6.1.0-56-cloud-amd64, not the one without a version that depends on it",
                    deb_);
    }
    package_.modules = folder_ + "/modules";
    return std::move(package_);
  }

 private:
  Result<void> take_data(archive* outer) {
    const auto member = std::make_unique<Member>();
    member->outer = outer;
    const Archive inner(::archive_read_new());
    ::archive_read_support_format_tar(inner.get());
    ::archive_read_support_filter_xz(inner.get());
    ::archive_read_support_filter_zstd(inner.get());
    ::archive_read_support_filter_gzip(inner.get());
    if (::archive_read_open(inner.get(), member.get(), nullptr, &read_member, nullptr) != ARCHIVE_OK) {
      return archive_error(inner.get(), deb_);
    }
    archive_entry* entry = nullptr;
    int entries = 0;
    int status = ARCHIVE_OK;
    while ((status = ::archive_read_next_header(inner.get(), &entry)) == ARCHIVE_OK) {
      if (++entries > kMostEntries) return errorf(ErrorKind::kInvalid, "{} holds too many files", deb_);
      const char* name = ::archive_entry_pathname(entry);
      if (name == nullptr || ::archive_entry_filetype(entry) != AE_IFREG ||
          ::archive_entry_hardlink(entry) != nullptr) {
        continue;
      }
      TRY_ASSIGN(const std::optional<Wanted> wanted, place(name));
      if (wanted) TRY(store(inner.get(), *wanted));
    }
    if (status != ARCHIVE_EOF) return archive_error(inner.get(), deb_);
    return {};
  }

  /// Only the last part of a path is ever used, and only when it is a plain one.
  Result<std::optional<Wanted>> place(std::string_view name) {
    while (name.starts_with("./") || name.starts_with("/")) name.remove_prefix(name.starts_with("/") ? 1 : 2);
    if (name.starts_with("usr/")) name.remove_prefix(4);
    std::optional<Wanted> wanted;
    if (name.starts_with("boot/vmlinuz-")) {
      const std::string_view version = name.substr(13);
      if (!is_kernel_version(version)) return errorf(ErrorKind::kInvalid, "{}: a kernel of a strange version", deb_);
      if (!package_.kernel.empty()) return errorf(ErrorKind::kInvalid, "{} holds more than one kernel", deb_);
      package_.version = version;
      package_.kernel = folder_ + "/vmlinuz";
      wanted = Wanted{package_.kernel, kMostBzImageBytes};
    } else if (name.starts_with("boot/config-") && package_.config.empty()) {
      package_.config = folder_ + "/config";
      wanted = Wanted{package_.config, 4 << 20};
    } else if (name.starts_with("lib/modules/")) {
      const std::string_view last = name.substr(name.rfind('/') + 1);
      if (last == "modules.builtin") {
        wanted = Wanted{folder_ + "/modules/modules.builtin", 4 << 20};
      } else if (!module_of_path(last).empty()) {
        wanted = Wanted{fmt::format("{}/modules/{}", folder_, last), kMostModuleBytes};
      }
    }
    return wanted;
  }

  Result<void> store(archive* from, const Wanted& wanted) {
    TRY_ASSIGN(const UniqueFd file, sys::open(wanted.path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
    uint64_t size = 0;
    for (;;) {
      const la_ssize_t got = ::archive_read_data(from, block_.data(), block_.size());
      if (got < 0) return archive_error(from, deb_);
      if (got == 0) return {};
      size += static_cast<uint64_t>(got);
      total_ += static_cast<uint64_t>(got);
      if (size > wanted.limit || total_ > kMostUnpacked) {
        return errorf(ErrorKind::kInvalid, "{} holds more than a kernel package does", deb_);
      }
      TRY(sys::write_all(file.get(), std::string_view(block_.data(), static_cast<size_t>(got))));
    }
  }

  const std::string& deb_;
  const std::string& folder_;
  KernelPackage package_;
  std::string block_ = std::string(kBlock, '\0');
  uint64_t total_ = 0;
};

}  // namespace

bool is_kernel_version(std::string_view text) {
  return !text.empty() && text.size() <= 64 && text[0] != '.' &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._~") ==
             std::string_view::npos;
}

Result<KernelPackage> unpack_kernel_package(const std::string& deb, const std::string& folder) {
  return Unpacker(deb, folder).run();
}

}  // namespace hull::vm
