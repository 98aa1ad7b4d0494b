#pragma once
// Small text helpers of the command line.

#include <string>
#include <string_view>
#include <vector>

namespace hull::cli {

/// Breaks a paragraph into lines of at most `width` columns; words longer than that stand alone.
std::vector<std::string> wrap(std::string_view paragraph, int width);
/// Pieces between separators; "" gives one empty piece.
std::vector<std::string_view> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::string_view trim(std::string_view text);
std::string lower(std::string_view text);

/// Columns that UTF-8 text takes on a terminal: two for wide East Asian characters, none for combining ones.
int display_width(std::string_view text);
/// The longest start of `text` that fits `columns`; with an ellipsis at its end when something was cut.
std::string ellipsis(std::string_view text, int columns);
/// Control characters and broken UTF-8, which names from images and registries may hold, as \x1b and the like, so that
/// nothing printed steers the terminal.
std::string printable(std::string_view text);
/// True for valid UTF-8 without surrogates and overlong forms.
bool valid_utf8(std::string_view text);
/// Go's strconv.Quote, as docker ps shows a command.
std::string quoted(std::string_view text);

}  // namespace hull::cli
