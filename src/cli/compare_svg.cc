#include <algorithm>

#include "base/error_format.h"
#include "cli/compare.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

constexpr int kWidth = 720, kLeft = 210, kBar = 340, kRowHeight = 52, kTop = 84;

/// Text that may stand in XML: what a user named is not ours.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        // Control characters have no place in XML 1.0, not even escaped.
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
  }
  return out;
}

std::string bar(int y, double part, std::string_view colour, std::string_view text) {
  const double width = std::max(part * kBar, 1.0);
  return fmt::format(
      "<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"16\" rx=\"2\" fill=\"{}\"/>"
      "<text x=\"{:.1f}\" y=\"{}\" class=\"v\">{}</text>\n",
      kLeft, y, width, colour, kLeft + width + 8, y + 13, escaped(text));
}

}  // namespace

std::string compare_svg(const Comparison& c) {
  const std::vector<CompareRow> all = compare_rows(c);
  std::string rows;
  int y = kTop;
  for (const CompareRow& row : all) {
    if (!row.container && !row.vm) continue;
    // Each pair has a scale of its own: milliseconds and bytes have none in common.
    const double most = std::max({row.container.value_or(0), row.vm.value_or(0), 1e-9});
    rows += fmt::format("<text x=\"{}\" y=\"{}\" class=\"t\">{}</text>\n", kLeft - 14, y + 22, escaped(row.title));
    if (row.container) rows += bar(y, *row.container / most, "#2b6cb0", row.container_text);
    if (row.vm) rows += bar(y + 19, *row.vm / most, "#c05621", row.vm_text);
    y += kRowHeight;
  }
  std::string command = c.image;
  for (const std::string& word : c.command) command += " " + word;
  const int height = y + 16;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" role=\"img\">\n"
      "<title>{2}</title>\n"
      "<style>text{{font:13px sans-serif;fill:#1a202c}}.h{{font-size:17px;font-weight:bold}}.t{{text-anchor:end}}"
      ".v{{font-size:12px}}</style>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
      "<text x=\"24\" y=\"32\" class=\"h\">{2}</text>\n",
      kWidth, height, escaped(ellipsis(printable(command), 80)));
  out += fmt::format(
      "<rect x=\"24\" y=\"48\" width=\"14\" height=\"14\" rx=\"2\" fill=\"#2b6cb0\"/><text x=\"44\" y=\"60\">container"
      "</text><rect x=\"134\" y=\"48\" width=\"14\" height=\"14\" rx=\"2\" fill=\"#c05621\"/><text x=\"154\" y=\"60\">"
      "virtual machine{}</text>\n",
      c.vm.emulated ? " (emulated processor)" : "");
  return out + rows + "</svg>\n";
}

}  // namespace hull::cli
