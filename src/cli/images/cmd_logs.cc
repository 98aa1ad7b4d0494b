// compress-log and decompress-log: what hull-monitor and hull have done for log files, so that neither needs a
// compression library.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error_format.h"
#include "cli/images/images_app.h"
#include "store/ingest/gzip_source.h"
#include "store/layer/decompress.h"
#include "sys/file.h"

namespace hull::cli {
namespace {

Result<void> copy(store::ByteSource& from, int to) {
  std::vector<std::byte> block(256 * 1024);
  for (;;) {
    TRY_ASSIGN(const size_t got, from.read(block));
    if (got == 0) return {};
    TRY(sys::write_all(to, std::string_view(reinterpret_cast<const char*>(block.data()), got)));
  }
}

/// FILE becomes FILE.gz: there is always one whole of the two.
Result<void> compress(const std::string& file) {
  TRY_ASSIGN(const UniqueFd from, sys::open(file, O_RDONLY | O_NOFOLLOW));
  struct stat info{};
  if (::fstat(from.get(), &info) != 0) return errnof("stat {}", file);
  const std::string temporary = file + ".gz.tmp", packed = file + ".gz";
  TRY_ASSIGN(const UniqueFd to, sys::open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, info.st_mode & 0777));
  store::FdSource source(from.get());
  store::GzipSource gzip(source);
  TRY(copy(gzip, to.get()));
  if (::rename(temporary.c_str(), packed.c_str()) != 0) return errnof("rename {} to {}", temporary, packed);
  if (::unlink(file.c_str()) != 0) return errnof("remove {}", file);
  return {};
}

Result<void> decompress() {
  store::FdSource source(STDIN_FILENO);
  TRY_ASSIGN(const auto plain, store::decompressed(source, store::LayerCompression::kGzip));
  return copy(*plain, STDOUT_FILENO);
}

}  // namespace

std::optional<int> log_main(std::span<const std::string_view> words) {
  Result<void> done;
  if (words.size() == 2 && words[0] == "compress-log") {
    done = compress(std::string(words[1]));
  } else if (words.size() == 1 && words[0] == "decompress-log") {
    done = decompress();
  } else {
    return std::nullopt;
  }
  if (done.ok()) return 0;
  ignore_result(sys::write_all(STDERR_FILENO, fmt::format("hull-images: {}\n", done.error().message())));
  return 1;
}

}  // namespace hull::cli
