#include "api/websocket.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"

namespace hull::api {
namespace {

constexpr unsigned kContinuation = 0, kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10;
constexpr uint16_t kProtocolError = 1002;

}  // namespace

Result<std::string> websocket_accept(std::string_view key) {
  // 16 bytes in base64.
  if (key.size() != 24 || !key.ends_with("==")) {
    return errorf(ErrorKind::kInvalid, "the websocket's key is malformed");
  }
  const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (::EVP_Digest(text.data(), text.size(), digest.data(), &size, ::EVP_sha1(), nullptr) != 1) {
    return errorf(ErrorKind::kInternal, "compute the websocket's answer");
  }
  std::array<unsigned char, 64> encoded{};
  const int length = ::EVP_EncodeBlock(encoded.data(), digest.data(), static_cast<int>(size));
  return std::string(encoded.begin(), encoded.begin() + length);
}

std::string websocket_frame(unsigned opcode, std::string_view payload) {
  std::string out;
  out += static_cast<char>(0x80 | opcode);
  const uint64_t size = payload.size();
  if (size < 126) {
    out += static_cast<char>(size);
  } else if (size < 65536) {
    out += static_cast<char>(126);
    out += static_cast<char>(size >> 8);
    out += static_cast<char>(size & 0xff);
  } else {
    out += static_cast<char>(127);
    for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(size >> shift & 0xff);
  }
  return out.append(payload);
}

bool WebsocketReader::fail(uint16_t code, std::string& reply) {
  const char payload[2] = {static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  reply += websocket_frame(kClose, std::string_view(payload, sizeof payload));
  return false;
}

/// After each byte of a head: false when it breaks the protocol; state_ changes once the head is whole.
bool WebsocketReader::begin(std::string& reply) {
  if (head_.size() < 2) return true;
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(head_[i]); };
  opcode_ = byte(0) & 15U;
  final_ = (byte(0) & 0x80U) != 0;
  const bool control = opcode_ >= 8;
  const unsigned length = byte(1) & 0x7fU;
  if ((byte(0) & 0x70U) != 0 || (byte(1) & 0x80U) == 0) return fail(kProtocolError, reply);  // extensions, no mask
  if (control && (length > 125 || !final_)) return fail(kProtocolError, reply);
  if (opcode_ > kPong || (opcode_ > kBinary && opcode_ < kClose)) return fail(kProtocolError, reply);
  if (!control && (opcode_ == kContinuation) != in_message_) return fail(kProtocolError, reply);
  const size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
  if (head_.size() < 2 + more + 4) return true;
  left_ = length;
  if (more > 0) {
    left_ = 0;
    for (size_t i = 0; i < more; ++i) left_ = left_ << 8 | byte(2 + i);
    if (left_ >> 63 != 0) return fail(kProtocolError, reply);
  }
  for (size_t i = 0; i < 4; ++i) mask_[i] = byte(2 + more + i);
  head_.clear();
  control_.clear();
  position_ = 0;
  state_ = State::kPayload;
  if (!control) in_message_ = !final_;
  return true;
}

/// After the last byte of a payload.
bool WebsocketReader::end(std::string& reply) {
  state_ = State::kHead;
  if (opcode_ == kPing) reply += websocket_frame(kPong, control_);
  if (opcode_ == kClose) {
    reply += websocket_frame(kClose, std::string_view(control_).substr(0, 2));
    return false;
  }
  return true;
}

bool WebsocketReader::feed(std::string_view bytes, std::string& data, std::string& reply) {
  while (!bytes.empty()) {
    if (state_ == State::kHead) {
      head_ += bytes.front();
      bytes.remove_prefix(1);
      if (!begin(reply)) return false;
    } else {
      const size_t count = std::min<uint64_t>(bytes.size(), left_);
      std::string& target = opcode_ >= kClose ? control_ : data;
      for (const char c : bytes.substr(0, count)) {
        target += static_cast<char>(static_cast<unsigned char>(c) ^ mask_[position_++ & 3]);
      }
      left_ -= count;
      bytes.remove_prefix(count);
    }
    if (state_ == State::kPayload && left_ == 0 && !end(reply)) return false;
  }
  return true;
}

}  // namespace hull::api
