#include "cli/table.h"

#include <algorithm>

#include "base/error_format.h"
#include "cli/template.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

constexpr int kGap = 3;
constexpr int kNarrowGap = 2;
constexpr int kLeastWidth = 10;
constexpr int kLeastCut = 8;
constexpr std::string_view kLongColumns[] = {"COMMAND", "IMAGE",      "PORTS",   "MOUNTS",     "LABELS", "CREATED BY",
                                             "COMMENT", "REPOSITORY", "FINDING", "MOUNTPOINT", "ADVICE", "DETAIL"};

/// Which fields may be asked for, as a hint after a template that names an unknown one.
std::string field_list(std::span<const Column> known) {
  std::string all;
  for (const Column& column : known) {
    if (!all.empty()) all += ", ";
    all += '.';
    all += column.field;
  }
  return all;
}

Result<void> check_fields(const Template& parsed, const Listing& listing, const std::vector<Value>& rows) {
  for (const std::string& field : parsed.fields()) {
    const bool known = std::any_of(listing.known.begin(), listing.known.end(),
                                   [&](const Column& column) { return column.field == field; });
    const bool extra = rows.empty() || rows[0].find(field) != nullptr;
    if (!known && !extra) {
      return errorf(ErrorKind::kInvalid, "template: there is no field .{} (there are {})", field,
                    field_list(listing.known));
    }
  }
  return {};
}

/// The title row of "table TEMPLATE": the template over the titles, functions that change text left out.
Result<std::string> title_line(std::string_view format, const Listing& listing) {
  Value titles = Value::object();
  for (const Column& column : listing.known) titles.set(column.field, column.title);
  TRY_ASSIGN(const Template parsed, Template::parse(format));
  auto line = parsed.execute(titles);
  if (line.ok()) return line;
  // A function that wants another type than a title: the plain names of the fields.
  std::string plain;
  for (const std::string& field : parsed.fields()) {
    const Value* title = titles.find(field);
    if (!plain.empty()) plain += '\t';
    plain += title != nullptr && title->if_string() != nullptr ? *title->if_string() : field;
  }
  return plain;
}

Value public_fields(const Value& row, std::span<const Column> known) {
  Value out = Value::object();
  std::vector<std::string_view> names;
  for (const Column& column : known) names.push_back(column.field);
  std::sort(names.begin(), names.end());
  for (const std::string_view name : names) {
    if (const Value* value = row.find(name)) out.set(name, *value);
  }
  return out;
}

std::vector<std::string> to_cells(std::string_view line) {
  std::vector<std::string> cells;
  for (const std::string_view cell : split(line, '\t')) cells.emplace_back(cell);
  return cells;
}

}  // namespace

void Table::add(std::vector<std::string> cells) {
  for (std::string& cell : cells) cell = printable(cell);
  rows_.push_back(std::move(cells));
}

std::string Table::render(int columns, std::span<const std::string_view> keep_whole) const {
  size_t count = titles_.size();
  for (const auto& row : rows_) count = std::max(count, row.size());
  std::vector<int> widths(count, 0);
  const auto measure = [&](const std::vector<std::string>& row) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], display_width(row[i]));
  };
  measure(titles_);
  for (const auto& row : rows_) measure(row);
  // On a terminal that is too narrow empty columns give up their least width first.
  int least_width = kLeastWidth;
  int gap = kGap;
  const auto padded = [&](size_t i) { return i + 1 == count ? widths[i] : std::max(widths[i] + gap, least_width); };
  const auto total = [&] {
    int sum = 0;
    for (size_t i = 0; i < count; ++i) sum += padded(i);
    return sum;
  };
  if (columns > 0 && total() > columns) least_width = 0;
  if (columns > 0 && total() > columns) gap = kNarrowGap;
  const auto title_in = [&](size_t i, std::span<const std::string_view> set) {
    return i < titles_.size() && std::find(set.begin(), set.end(), titles_[i]) != set.end();
  };
  // Take from the widest column until everything fits: from those that are long by nature, then from the others.
  for (const bool long_ones : {true, false}) {
    while (columns > 0 && total() > columns) {
      size_t widest = count;
      for (size_t i = 0; i < count; ++i) {
        if (title_in(i, keep_whole) || (long_ones && !title_in(i, kLongColumns))) continue;
        const int least = std::max(kLeastCut, i < titles_.size() ? display_width(titles_[i]) : 0);
        if (widths[i] > least && (widest == count || widths[i] > widths[widest])) widest = i;
      }
      if (widest == count) break;
      --widths[widest];
    }
  }
  std::string out;
  const auto line = [&](const std::vector<std::string>& row) {
    std::string text;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string cell = ellipsis(row[i], widths[i]);
      text += cell;
      if (i + 1 < row.size()) text.append(static_cast<size_t>(padded(i) - display_width(cell)), ' ');
    }
    out += text;
    out += '\n';
  };
  line(titles_);
  for (const auto& row : rows_) line(row);
  return out;
}

std::string unescape_format(std::string_view format) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] == '\\' && i + 1 < format.size() && (format[i + 1] == 't' || format[i + 1] == 'n')) {
      out += format[++i] == 't' ? '\t' : '\n';
    } else {
      out += format[i];
    }
  }
  return out;
}

Result<void> print_rows(Output& out, const Listing& listing, std::string_view format, bool quiet, bool no_trunc,
                        const std::vector<Value>& rows) {
  const bool plain_table = format.empty() || trim(format) == "table";
  if (quiet && plain_table) {
    for (const Value& row : rows) {
      const Value* field = row.find(listing.quiet_field);
      if (field != nullptr && field->if_string() != nullptr) out.print("{}\n", *field->if_string());
    }
    return {};
  }
  const int columns = no_trunc ? 0 : out.columns();
  std::vector<std::string_view> whole;
  for (const std::string_view field : listing.keep_whole) {
    for (const Column& column : listing.known) {
      if (column.field == field) whole.push_back(column.title);
    }
  }
  if (plain_table) {
    std::vector<std::string> titles;
    for (const std::string_view field : listing.columns) {
      for (const Column& column : listing.known) {
        if (column.field == field) titles.emplace_back(column.title);
      }
    }
    Table table(std::move(titles));
    for (const Value& row : rows) {
      std::vector<std::string> cells;
      for (const std::string_view field : listing.columns) {
        const Value* cell = row.find(field);
        cells.push_back(cell != nullptr && cell->if_string() != nullptr ? *cell->if_string() : "");
      }
      table.add(std::move(cells));
    }
    out.write(table.render(columns, whole));
    return {};
  }
  if (format == "json" || format == "{{json .}}") {
    for (const Value& row : rows) out.print("{}\n", public_fields(row, listing.known).dump());
    return {};
  }
  const bool as_table = format.starts_with("table ") || format.starts_with("table\\t");
  const std::string text = unescape_format(as_table ? trim(format.substr(5)) : format);
  TRY_ASSIGN(const Template parsed, Template::parse(text));
  TRY(check_fields(parsed, listing, rows));
  if (!as_table) {
    for (const Value& row : rows) {
      TRY_ASSIGN(const std::string line, parsed.execute(row));
      out.print("{}\n", line);
    }
    return {};
  }
  TRY_ASSIGN(const std::string titles, title_line(text, listing));
  Table table(to_cells(titles));
  for (const Value& row : rows) {
    TRY_ASSIGN(const std::string line, parsed.execute(row));
    table.add(to_cells(line));
  }
  out.write(table.render(columns, whole));
  return {};
}

Result<void> print_documents(Output& out, std::string_view format, const std::vector<Value>& documents) {
  if (format == "json") {
    for (const Value& document : documents) out.print("{}\n", document.dump());
    return {};
  }
  TRY_ASSIGN(const Template parsed, Template::parse(unescape_format(format)));
  for (const Value& document : documents) {
    TRY_ASSIGN(const std::string line, parsed.execute(document));
    out.print("{}\n", line);
  }
  return {};
}

}  // namespace hull::cli
