#pragma once
// The sockets that hull-dns answers on. In a container's network namespace they have ports of their own and two
// stateless rules lead 127.0.0.11:53 to them, so that a container that is itself a DNS server can have port 53 of every
// address. Where nf_tables is missing they take 127.0.0.11:53 itself.

#include "base/error.h"
#include "base/unique_fd.h"
#include "net/address.h"
#include "net/names.h"

namespace hull::net::dns {

struct ListenSockets {
  UniqueFd udp, tcp;
};

/// kNotFound when the holder has ended or holds another namespace now. The thread is back in its own afterwards.
Result<ListenSockets> open_in_namespace(const NamespaceHolder& holder);
/// Port 53 of a gateway in this namespace; kConflict when another program has it.
Result<ListenSockets> open_at_gateway(const IpAddress& address);

}  // namespace hull::net::dns
