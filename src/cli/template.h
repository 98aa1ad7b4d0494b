#pragma once
// Go's text/template, the part that people use with --format: {{.A.B}}, pipelines, variables, if/else, range, with,
// comments, trim markers, and the functions of Docker's --format and of text/template over JSON values.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/value.h"

namespace hull::cli {

namespace template_detail {
struct Node;
}

class Template {
 public:
  /// At most 64 KiB and 64 levels of nesting. Errors are kInvalid and name the place.
  static Result<Template> parse(std::string_view text);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  /// A member that is not there is an error, as with Docker's inspect. At most 64 MiB of output.
  Result<std::string> execute(const Value& value) const;
  /// The names of the members of "." that it uses.
  const std::vector<std::string>& fields() const { return fields_; }

 private:
  Template();
  std::vector<template_detail::Node> nodes_;
  std::vector<std::string> fields_;
};

}  // namespace hull::cli
