#pragma once
// Rows for people (aligned columns that fit the terminal), for programs (JSON) and for both (templates).

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/output.h"
#include "cli/value.h"

namespace hull::cli {

/// Aligned columns as Docker prints them: three blanks between, at least ten columns each, the last one open. On a
/// terminal that is too narrow the widest columns are cut with an ellipsis.
class Table {
 public:
  explicit Table(std::vector<std::string> titles) : titles_(std::move(titles)) {}
  /// Control characters in cells are made visible.
  void add(std::vector<std::string> cells);
  /// `columns` 0: no limit. Whether a column may be cut: ids and names may not.
  std::string render(int columns, std::span<const std::string_view> keep_whole = {}) const;

 private:
  std::vector<std::string> titles_;
  std::vector<std::vector<std::string>> rows_;
};

/// One column of a listing: the template field's name and its title.
struct Column {
  std::string_view field, title;
};

/// How a list command prints its rows.
struct Listing {
  std::span<const Column> known;          // every field that templates may use, with its title
  std::vector<std::string_view> columns;  // fields of the default table, in order
  std::string_view quiet_field;           // what -q prints
  std::vector<std::string_view> keep_whole = {"ID", "Names", "Name", "ImageID"};
};

/// Prints rows (objects with the known fields; others, such as Label, are for templates only) after --format and -q:
/// "" or "table", "table TEMPLATE", "json", "TEMPLATE". `no_trunc` lets tables be as wide as they are.
Result<void> print_rows(Output& out, const Listing& listing, std::string_view format, bool quiet, bool no_trunc,
                        const std::vector<Value>& rows);

/// Prints whole documents (inspect, info, version) after --format: "json" one line each, or a template. `format` is
/// not empty.
Result<void> print_documents(Output& out, std::string_view format, const std::vector<Value>& documents);

/// \t and \n in a format from the command line are a tab and a line break, as with Docker.
std::string unescape_format(std::string_view format);

}  // namespace hull::cli
