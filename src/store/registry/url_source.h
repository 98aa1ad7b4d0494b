#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "store/layer/byte_source.h"
#include "store/registry/http.h"

namespace hull::store {

/// The bytes of an http(s) address, once, without authentication (`import URL`).
class UrlSource final : public ByteSource {
 public:
  UrlSource(HttpEngine& http, std::string url, std::chrono::milliseconds stall_timeout);
  ~UrlSource() override;
  Result<size_t> read(std::span<std::byte> into) override;

 private:
  class Sink;
  HttpEngine& http_;
  std::string url_;
  std::chrono::milliseconds stall_timeout_;
  std::shared_ptr<Sink> sink_;
  std::shared_ptr<Transfer> transfer_;
};

}  // namespace hull::store
