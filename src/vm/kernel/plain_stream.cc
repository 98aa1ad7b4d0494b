#include "vm/kernel/plain_stream.h"

#include <archive.h>
#include <grp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <memory>
#include <vector>

#include "base/error_format.h"
#include "sys/file.h"

namespace hull::vm {
namespace {

constexpr size_t kBlock = 64 << 10;
constexpr uid_t kNobody = 65534;

struct FreeArchive {
  void operator()(archive* one) const { ::archive_read_free(one); }
};

Result<void> drop_rights() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno_error("give up privileges");
  if (::geteuid() != 0) return {};
  if (::setgroups(0, nullptr) != 0 || ::setresgid(kNobody, kNobody, kNobody) != 0 ||
      ::setresuid(kNobody, kNobody, kNobody) != 0) {
    return errno_error("become nobody");
  }
  return {};
}

}  // namespace

Result<void> decompress_stream(int in, int out) {
  TRY(drop_rights());
  const std::unique_ptr<archive, FreeArchive> reader(::archive_read_new());
  ::archive_read_support_format_raw(reader.get());
  ::archive_read_support_format_empty(reader.get());
  ::archive_read_support_filter_gzip(reader.get());
  ::archive_read_support_filter_bzip2(reader.get());
  ::archive_read_support_filter_xz(reader.get());
  ::archive_read_support_filter_zstd(reader.get());
  const auto broken = [&] {
    const char* const why = ::archive_error_string(reader.get());
    return errorf(ErrorKind::kCorrupt, "decompress: {}", why == nullptr ? "the stream is broken" : why);
  };
  if (::archive_read_open_fd(reader.get(), in, kBlock) != ARCHIVE_OK) return broken();
  archive_entry* entry = nullptr;
  const int found = ::archive_read_next_header(reader.get(), &entry);
  if (found == ARCHIVE_EOF) return {};
  if (found != ARCHIVE_OK) return broken();
  std::vector<char> buffer(kBlock);
  for (;;) {
    const la_ssize_t got = ::archive_read_data(reader.get(), buffer.data(), buffer.size());
    if (got < 0) return broken();
    if (got == 0) return {};
    TRY(sys::write_all(out, {buffer.data(), static_cast<size_t>(got)}));
  }
}

}  // namespace hull::vm
