#include "sys/netlink.h"

#include <arpa/inet.h>
#include <endian.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

#include "base/error_format.h"

namespace hull::sys {
namespace {

constexpr size_t kReceiveBuffer = 64 << 10;
constexpr size_t kMaxAttribute = 0xffff;

size_t aligned(size_t size) { return (size + 3) & ~size_t{3}; }

// The text of an extended acknowledgement, which follows the nlmsgerr (capped acknowledgements carry no request).
std::string extended_text(const NetlinkMessage& message) {
  std::string text;
  if ((message.flags & NLM_F_ACK_TLVS) == 0 || message.payload.size() < sizeof(nlmsgerr)) return text;
  size_t offset = sizeof(nlmsgerr);
  if ((message.flags & NLM_F_CAPPED) == 0) {
    nlmsgerr error;
    std::memcpy(&error, message.payload.data(), sizeof(error));
    if (error.msg.nlmsg_len < sizeof(nlmsghdr)) return text;
    offset += aligned(error.msg.nlmsg_len - sizeof(nlmsghdr));
  }
  if (offset > message.payload.size()) return text;
  for_each_attribute(message.payload.subspan(offset), [&](uint16_t type, Bytes value) {
    if (type == NLMSGERR_ATTR_MSG) text = attribute_string(value);
  });
  return text;
}

}  // namespace

void NetlinkBatch::append(const void* data, size_t size) {
  const size_t at = buffer_.size();
  buffer_.resize(at + aligned(size));  // the padding is zero
  if (size != 0) std::memcpy(buffer_.data() + at, data, size);
}

void NetlinkBatch::begin_raw(uint16_t type, uint16_t flags, const void* header, size_t size) {
  if (buffer_.capacity() == 0) buffer_.reserve(4096);
  starts_.push_back(buffer_.size());
  nlmsghdr message{};
  message.nlmsg_type = type;
  message.nlmsg_flags = flags | NLM_F_REQUEST;
  append(&message, sizeof(message));
  append(header, size);
}

void NetlinkBatch::end() {
  const size_t start = starts_.back();
  const auto length = static_cast<uint32_t>(buffer_.size() - start);
  std::memcpy(buffer_.data() + start + offsetof(nlmsghdr, nlmsg_len), &length, sizeof(length));
}

void NetlinkBatch::put(uint16_t attribute, const void* data, size_t size) {
  if (size + sizeof(nlattr) > kMaxAttribute) {
    too_long_ = true;
    return;
  }
  nlattr header{};
  header.nla_len = static_cast<uint16_t>(size + sizeof(header));
  header.nla_type = attribute;
  append(&header, sizeof(header));
  append(data, size);
}

void NetlinkBatch::put_be32(uint16_t attribute, uint32_t value) { put_u32(attribute, htonl(value)); }

void NetlinkBatch::put_string(uint16_t attribute, std::string_view text) {
  const std::string terminated(text);
  put(attribute, terminated.c_str(), terminated.size() + 1);
}

void NetlinkBatch::open_nest(uint16_t attribute) {
  nests_.push_back(buffer_.size());
  nlattr header{};
  header.nla_type = attribute | NLA_F_NESTED;
  append(&header, sizeof(header));
}

void NetlinkBatch::close_nest() {
  const size_t start = nests_.back();
  nests_.pop_back();
  const size_t size = buffer_.size() - start;
  if (size > kMaxAttribute) too_long_ = true;
  const auto length = static_cast<uint16_t>(size);
  std::memcpy(buffer_.data() + start, &length, sizeof(length));
}

void NetlinkBatch::clear() {
  buffer_.clear();
  starts_.clear();
  nests_.clear();
  too_long_ = false;
}

bool for_each_message(Bytes datagram, const std::function<void(const NetlinkMessage&)>& visit) {
  while (!datagram.empty()) {
    nlmsghdr header;
    if (datagram.size() < sizeof(header)) return false;
    std::memcpy(&header, datagram.data(), sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > datagram.size()) return false;
    visit({header.nlmsg_type, header.nlmsg_flags, header.nlmsg_seq,
           datagram.subspan(sizeof(header), header.nlmsg_len - sizeof(header))});
    datagram = datagram.subspan(std::min(aligned(header.nlmsg_len), datagram.size()));
  }
  return true;
}

bool for_each_attribute(Bytes attributes, const std::function<void(uint16_t, Bytes)>& visit) {
  while (!attributes.empty()) {
    nlattr header;
    if (attributes.size() < sizeof(header)) return false;
    std::memcpy(&header, attributes.data(), sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > attributes.size()) return false;
    visit(header.nla_type & NLA_TYPE_MASK, attributes.subspan(sizeof(header), header.nla_len - sizeof(header)));
    attributes = attributes.subspan(std::min(aligned(header.nla_len), attributes.size()));
  }
  return true;
}

std::string_view attribute_string(Bytes value) {
  const std::string_view text(reinterpret_cast<const char*>(value.data()), value.size());
  return text.substr(0, text.find('\0'));
}

uint32_t attribute_be32(Bytes value) { return ntohl(attribute_as<uint32_t>(value)); }
uint64_t attribute_be64(Bytes value) { return be64toh(attribute_as<uint64_t>(value)); }

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol));
  if (!fd) {
    const bool unsupported = errno == EPROTONOSUPPORT || errno == EAFNOSUPPORT;
    auto error = errnof("open a netlink socket of protocol {}", protocol);
    return unsupported ? std::move(error).as(ErrorKind::kUnsupported) : error;
  }
  const int on = 1;
  // Both are a matter of comfort: shorter answers, and the kernel's reason in words.
  (void)::setsockopt(fd.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  (void)::setsockopt(fd.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  return NetlinkSocket(std::move(fd));
}

NetlinkSocket NetlinkSocket::of(UniqueFd fd) {
  NetlinkSocket out(std::move(fd));
  // Answers that one who was killed did not read must not look like ours.
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  out.sequence_ = static_cast<uint32_t>(now.tv_sec * 1'000'000 + now.tv_nsec / 1000);
  return out;
}

Result<void> NetlinkSocket::send(NetlinkBatch& batch) {
  if (batch.too_long_) return errorf(ErrorKind::kInternal, "netlink: an attribute is longer than 65,535 bytes");
  for (size_t i = 0; i < batch.starts_.size(); ++i) {
    const uint32_t sequence = sequence_ + static_cast<uint32_t>(i) + 1;
    std::memcpy(batch.buffer_.data() + batch.starts_[i] + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof(sequence));
  }
  // A datagram must fit the send buffer as a whole; root may raise it past the system's limit.
  if (batch.buffer_.size() > (64 << 10)) {
    const int size = static_cast<int>(batch.buffer_.size()) * 2;
    (void)::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
  }
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = ::sendto(fd_.get(), batch.buffer_.data(), batch.buffer_.size(), 0,
                    reinterpret_cast<const sockaddr*>(&kernel), sizeof(kernel));
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return errnof("send {} bytes of netlink requests", batch.buffer_.size());
  return {};
}

Result<std::vector<NetlinkFailure>> NetlinkSocket::exchange(NetlinkBatch& batch,
                                                            const std::function<void(const NetlinkMessage&)>& visit) {
  std::vector<NetlinkFailure> failures;
  if (batch.count() == 0) return failures;
  TRY(send(batch));
  const uint32_t first = sequence_ + 1;
  sequence_ += static_cast<uint32_t>(batch.count());
  bool disturbed = false;
  bool malformed = false;

  const auto on_message = [&](const NetlinkMessage& message) {
    const uint32_t index = message.sequence - first;
    if (index >= batch.count()) return;  // an answer to an earlier exchange that was given up
    if ((message.flags & NLM_F_DUMP_INTR) != 0) disturbed = true;
    if (message.type == NLMSG_ERROR || message.type == NLMSG_DONE) {
      const int error = attribute_as<int32_t>(message.payload);
      if (message.type == NLMSG_ERROR && message.payload.size() < sizeof(nlmsgerr)) malformed = true;
      if (error < 0) failures.push_back({index, -error, extended_text(message)});
      return;
    }
    if (message.type >= NLMSG_MIN_TYPE && visit) visit(message);
  };

  alignas(nlmsghdr) static thread_local std::array<uint8_t, kReceiveBuffer> buffer;
  for (;;) {
    sockaddr_nl from{};
    socklen_t from_size = sizeof(from);
    const ssize_t got = ::recvfrom(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT | MSG_TRUNC,
                                   reinterpret_cast<sockaddr*>(&from), &from_size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (got < 0) return errnof("read the answers to {} netlink requests", batch.count()).as(ErrorKind::kUnavailable);
    if (from.nl_pid != 0) continue;  // not from the kernel
    if (static_cast<size_t>(got) > buffer.size() ||
        !for_each_message(Bytes(buffer.data(), static_cast<size_t>(got)), on_message) || malformed) {
      return errorf(ErrorKind::kUnavailable, "netlink: the kernel's answer of {} bytes can't be read", got);
    }
  }
  if (disturbed) return errorf(ErrorKind::kUnavailable, "netlink: the list changed while it was read");
  std::stable_sort(failures.begin(), failures.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
  return failures;
}

Error netlink_error(const NetlinkFailure& failure, std::string_view what) {
  auto error = Error::from_errno(failure.error, what);
  if (failure.explained.empty()) return error;
  return Error(error.kind(), fmt::format("{}: {}", error.message(), failure.explained));
}

}  // namespace hull::sys
