#pragma once

#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/error.h"

namespace hull::oci {

/// An image reference after Docker's rules (distribution's reference grammar): registry host, repository path, and a
/// tag or a digest or both. "busybox" is docker.io/library/busybox:latest.
struct Reference {
  std::string registry;    // docker.io, localhost:5000, [::1]:5000
  std::string repository;  // library/busybox
  std::string tag;         // "latest" when neither tag nor digest was given; empty with a digest alone
  Digest digest;           // empty unless given

  /// registry/repository[:tag][@digest], in full.
  std::string canonical() const;
  /// As Docker shows it: docker.io/library/ and docker.io/ are left out.
  std::string familiar() const;
  /// registry/repository without tag and digest, familiar.
  std::string familiar_name() const;
  bool operator==(const Reference&) const = default;
};

/// kInvalid with the offending part named: upper case, control characters, over 255 characters, empty components.
/// `default_registry` replaces docker.io for names without a host (hull.toml).
Result<Reference> parse_reference(std::string_view text, std::string_view default_registry = "docker.io");

}  // namespace hull::oci
