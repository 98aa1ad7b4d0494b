#include "store/ingest/gzip_source.h"

#include <isa-l/igzip_lib.h>

#include "base/error_format.h"

namespace hull::store {
namespace {
constexpr size_t kInput = 256 << 10;
constexpr uint32_t kLevel = 2;
}  // namespace

struct GzipSource::State {
  isal_zstream stream{};
  std::vector<uint8_t> level_buffer = std::vector<uint8_t>(ISAL_DEF_LVL2_DEFAULT);
  std::vector<std::byte> input = std::vector<std::byte>(kInput);
  bool ended = false;  // the input
};

GzipSource::GzipSource(ByteSource& tar) : tar_(tar), state_(std::make_unique<State>()) {
  isal_zstream& stream = state_->stream;
  isal_deflate_init(&stream);
  stream.level = kLevel;
  stream.level_buf = state_->level_buffer.data();
  stream.level_buf_size = static_cast<uint32_t>(state_->level_buffer.size());
  stream.gzip_flag = IGZIP_GZIP;
  stream.flush = NO_FLUSH;
}

GzipSource::~GzipSource() = default;

Result<size_t> GzipSource::read(std::span<std::byte> into) {
  isal_zstream& stream = state_->stream;
  stream.next_out = reinterpret_cast<uint8_t*>(into.data());
  stream.avail_out = static_cast<uint32_t>(into.size());
  while (stream.avail_out > 0 && stream.internal_state.state != ZSTATE_END) {
    if (stream.avail_in == 0 && !state_->ended) {
      TRY_ASSIGN(const size_t got, read_full(tar_, state_->input));
      state_->ended = got < state_->input.size();
      stream.next_in = reinterpret_cast<uint8_t*>(state_->input.data());
      stream.avail_in = static_cast<uint32_t>(got);
      stream.end_of_stream = state_->ended ? 1 : 0;
    }
    if (const int code = isal_deflate(&stream); code != COMP_OK) {
      return errorf(ErrorKind::kInternal, "compress layer: ISA-L error {}", code);
    }
  }
  return into.size() - stream.avail_out;
}

}  // namespace hull::store
