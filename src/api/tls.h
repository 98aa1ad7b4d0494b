#pragma once
// Mutual TLS: the server's own certificate, and the authority that clients' certificates have to come from.

#include <openssl/types.h>

#include <memory>
#include <string>

#include "api/settings.h"
#include "base/error.h"

namespace hull::api {

struct TlsContextDeleter {
  void operator()(SSL_CTX* context) const;
};
using TlsContext = std::unique_ptr<SSL_CTX, TlsContextDeleter>;

/// TLS 1.2 and newer; a client without a valid certificate of the authority ends in the handshake.
Result<TlsContext> make_tls_context(const ApiSettings& settings);
/// The common name in the certificate of an accepted client; kPermission when it has none.
Result<std::string> client_name(SSL* session);

}  // namespace hull::api
