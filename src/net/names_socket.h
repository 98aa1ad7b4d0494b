#pragma once
// Between names.h and hull-dns: a seqpacket socket run_dir/dns.sock. A question is "NETWORK/WORKLOAD" (read its file
// and serve it) or kDnsPing; the answer is kDnsDone or the text of an error. Internal to this room.

#include <sys/un.h>

#include <string_view>

namespace hull::net {

inline constexpr std::string_view kDnsPing = "ping";
inline constexpr std::string_view kDnsDone = "done";
/// One longer than two ids with a slash is no question.
inline constexpr size_t kLongestDnsQuestion = 257;

sockaddr_un dns_socket_address(int run_dir_fd);

}  // namespace hull::net
