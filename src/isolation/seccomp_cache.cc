// Compiled filters on disk. libseccomp takes tens of milliseconds for Docker's profile; finding the result of the last
// time takes some tens of microseconds.
//
// A file holds the whole section that it was compiled from, and a hit needs that to be equal byte for byte. So the hash
// in its name only has to be fast and to spread well: who finds two sections with one hash makes a miss, not a filter
// that belongs to somebody else. The folder is root's alone.

#include <fcntl.h>
#include <seccomp.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstring>

#include "base/error_format.h"
#include "isolation/seccomp.h"
#include "isolation/seccomp_compile.h"
#include "sys/file.h"

namespace hull::isolation {

namespace {

constexpr size_t kMaxCacheFileBytes = 4 << 20;
constexpr char kMagic[8] = {'H', 'U', 'L', 'L', 'B', 'P', 'F', '1'};

struct Header {
  char magic[8];
  uint32_t flags;
  uint32_t needs_listener;
  uint64_t section_bytes;
  uint64_t program_bytes;
  uint64_t checksum;  // of all the rest
};
static_assert(sizeof(Header) == 40);

/// Two 64-bit lanes, each a multiply-and-rotate over 8 bytes at a time.
struct Hash {
  uint64_t a = 0x9e3779b97f4a7c15ULL;
  uint64_t b = 0xc2b2ae3d27d4eb4fULL;

  void add(std::string_view data) {
    uint64_t word = 0;
    size_t at = 0;
    for (; at + 8 <= data.size(); at += 8) {
      std::memcpy(&word, data.data() + at, 8);
      mix(word);
    }
    word = data.size();
    std::memcpy(&word, data.data() + at, data.size() - at);
    mix(word ^ (static_cast<uint64_t>(data.size()) << 56));
  }
  void mix(uint64_t word) {
    a = (a ^ word) * 0xff51afd7ed558ccdULL;
    a ^= a >> 32;
    b = ((b << 27 | b >> 37) + word) * 0xc4ceb9fe1a85ec53ULL;
    b ^= a;
  }
};

/// The section and everything else that the program depends on, as bytes that no other section has.
class Section {
 public:
  explicit Section(const oci::Seccomp& seccomp) {
    bytes_.reserve(16 << 10);
    const scmp_version* version = ::seccomp_version();
    number(seccomp_compile::kCompilerVersion);
    number(version->major);
    number(version->minor);
    number(version->micro);
    number(::seccomp_arch_native());
    // What libseccomp emits depends on what the kernel takes.
    utsname host = {};
    ::uname(&host);
    text(host.release);
    text(seccomp.default_action);
    optional(seccomp.default_errno_ret);
    texts(seccomp.architectures);
    texts(seccomp.flags);
    number(seccomp.listener_path.empty() ? 0 : 1);
    number(seccomp.syscalls.size());
    for (const oci::SeccompRule& rule : seccomp.syscalls) {
      texts(rule.names);
      text(rule.action);
      optional(rule.errno_ret);
      number(rule.args.size());
      for (const oci::SeccompArg& arg : rule.args) {
        number(arg.index);
        number(arg.value);
        number(arg.value_two);
        text(arg.op);
      }
    }
  }
  std::string_view bytes() const { return bytes_; }

 private:
  void number(uint64_t value) { bytes_.append(reinterpret_cast<const char*>(&value), sizeof value); }
  void optional(const std::optional<uint32_t>& value) { number(value ? uint64_t{*value} : ~0ULL); }
  void text(std::string_view value) {
    // Length first, so that no two lists run together to the same bytes; names are short.
    const auto length = static_cast<uint32_t>(value.size());
    bytes_.append(reinterpret_cast<const char*>(&length), sizeof length);
    bytes_.append(value);
  }
  void texts(const std::vector<std::string>& values) {
    number(values.size());
    for (const std::string& value : values) text(value);
  }
  std::string bytes_;
};

uint64_t checksum_of(const Header& header, std::string_view section, std::string_view program) {
  Header plain = header;
  plain.checksum = 0;
  Hash hash;
  hash.add({reinterpret_cast<const char*>(&plain), sizeof plain});
  hash.add(section);
  hash.add(program);
  return hash.a ^ hash.b;
}

/// Nothing when the file is absent or not to be trusted.
std::optional<SeccompFilter> read_cached(const std::string& path, std::string_view section) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) return std::nullopt;
  struct stat info = {};
  if (::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != ::geteuid() ||
      (info.st_mode & 077) != 0 || info.st_size < static_cast<off_t>(sizeof(Header)) ||
      info.st_size > static_cast<off_t>(kMaxCacheFileBytes)) {
    return std::nullopt;
  }
  std::string file(static_cast<size_t>(info.st_size), '\0');
  if (::pread(fd.get(), file.data(), file.size(), 0) != info.st_size) return std::nullopt;
  Header header = {};
  std::memcpy(&header, file.data(), sizeof header);
  const std::string_view rest = std::string_view(file).substr(sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.section_bytes != section.size() ||
      header.section_bytes > rest.size() || header.program_bytes != rest.size() - header.section_bytes ||
      header.program_bytes % sizeof(sock_filter) != 0) {
    return std::nullopt;
  }
  const std::string_view program = rest.substr(header.section_bytes);
  if (rest.substr(0, header.section_bytes) != section || header.checksum != checksum_of(header, section, program)) {
    return std::nullopt;
  }
  SeccompFilter filter;
  filter.flags = header.flags;
  filter.needs_listener = header.needs_listener != 0;
  filter.program.resize(program.size() / sizeof(sock_filter));
  std::memcpy(filter.program.data(), program.data(), program.size());
  return filter;
}

void write_cached(const std::string& cache_dir, const std::string& path, std::string_view section,
                  const SeccompFilter& filter) {
  const std::string_view program(reinterpret_cast<const char*>(filter.program.data()),
                                 filter.program.size() * sizeof(sock_filter));
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.flags = filter.flags;
  header.needs_listener = filter.needs_listener ? 1 : 0;
  header.section_bytes = section.size();
  header.program_bytes = program.size();
  header.checksum = checksum_of(header, section, program);
  std::string file(reinterpret_cast<const char*>(&header), sizeof header);
  file += section;
  file += program;
  // Without it the next start compiles again: nothing to tell the user, and nothing to wait for the disk for.
  if (!sys::make_dirs(cache_dir, 0700).ok()) return;
  ignore_result(sys::replace_file(path, file, 0600, /*durable=*/false));
}

/// The folder must be ours alone, else what lies in it proves nothing.
bool is_private(const std::string& dir) {
  struct stat info = {};
  return ::lstat(dir.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == ::geteuid() &&
         (info.st_mode & 022) == 0;
}

}  // namespace

Result<SeccompFilter> load_seccomp(const oci::Seccomp& seccomp, const std::string& cache_dir) {
  if (cache_dir.empty()) return compile_seccomp(seccomp);
  const Section section(seccomp);
  Hash hash;
  hash.add(section.bytes());
  const std::string path = fmt::format("{}/{:016x}{:016x}.bpf", cache_dir, hash.a, hash.b);
  const bool usable = is_private(cache_dir);
  if (usable) {
    if (std::optional<SeccompFilter> cached = read_cached(path, section.bytes())) return std::move(*cached);
  }
  TRY_ASSIGN(SeccompFilter filter, compile_seccomp(seccomp));
  if (usable || !sys::exists(cache_dir)) write_cached(cache_dir, path, section.bytes(), filter);
  return filter;
}

}  // namespace hull::isolation
