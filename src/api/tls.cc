#include "api/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/error_format.h"

namespace hull::api {
namespace {

Error tls_error(std::string_view what) {
  char text[256] = "unknown fault";
  if (const unsigned long code = ::ERR_get_error(); code != 0) ::ERR_error_string_n(code, text, sizeof text);
  ::ERR_clear_error();
  return errorf(ErrorKind::kInvalid, "{}: {}", what, text);
}

}  // namespace

void TlsContextDeleter::operator()(SSL_CTX* context) const { ::SSL_CTX_free(context); }

Result<TlsContext> make_tls_context(const ApiSettings& s) {
  TlsContext context(::SSL_CTX_new(::TLS_server_method()));
  if (!context) return tls_error("make a TLS context");
  ::SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  ::SSL_CTX_set_mode(context.get(),
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  ::SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
  // Each connection is a process of its own, so there is nothing to resume.
  ::SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  ::SSL_CTX_set_num_tickets(context.get(), 0);
  if (::SSL_CTX_use_certificate_chain_file(context.get(), s.tls_cert.c_str()) != 1) {
    return tls_error("read the certificate " + s.tls_cert);
  }
  if (::SSL_CTX_use_PrivateKey_file(context.get(), s.tls_key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      ::SSL_CTX_check_private_key(context.get()) != 1) {
    return tls_error("read the key " + s.tls_key);
  }
  if (::SSL_CTX_load_verify_locations(context.get(), s.tls_ca.c_str(), nullptr) != 1) {
    return tls_error("read the authority " + s.tls_ca);
  }
  ::SSL_CTX_set_client_CA_list(context.get(), ::SSL_load_client_CA_file(s.tls_ca.c_str()));
  ::SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return context;
}

Result<std::string> client_name(SSL* session) {
  X509* const certificate = ::SSL_get0_peer_certificate(session);
  if (certificate == nullptr || ::SSL_get_verify_result(session) != X509_V_OK) {
    return errorf(ErrorKind::kPermission, "the client has no valid certificate");
  }
  X509_NAME* const subject = ::X509_get_subject_name(certificate);
  const int index = ::X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  // Two names could be read as one or the other.
  if (index < 0 || ::X509_NAME_get_index_by_NID(subject, NID_commonName, index) >= 0) {
    return errorf(ErrorKind::kPermission, "the client's certificate needs exactly one common name");
  }
  unsigned char* text = nullptr;
  const int length = ::ASN1_STRING_to_UTF8(&text, ::X509_NAME_ENTRY_get_data(::X509_NAME_get_entry(subject, index)));
  if (length < 0) return tls_error("read the common name of the client's certificate");
  std::string name(reinterpret_cast<const char*>(text), static_cast<size_t>(length));
  ::OPENSSL_free(text);
  if (name.empty() || name.find('\0') != std::string::npos) {
    return errorf(ErrorKind::kPermission, "the common name of the client's certificate is malformed");
  }
  return name;
}

}  // namespace hull::api
