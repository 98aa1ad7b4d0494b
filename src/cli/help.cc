// `hull help`, `hull COMMAND --help`: printed from the tables.
#include <algorithm>

#include "cli/command.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

struct SectionTitle {
  Section section;
  std::string_view title;
};
constexpr SectionTitle kSections[] = {
    {Section::kCommon, "Common Commands"}, {Section::kWorkloads, "Workloads"}, {Section::kImages, "Images"},
    {Section::kVolumes, "Volumes"},        {Section::kNetworks, "Networks"},   {Section::kSystem, "System"},
};

std::string left_side(const Flag& flag) {
  std::string out = flag.short_name != 0 ? fmt::format("  -{}, --{}", flag.short_name, flag.name)
                                         : fmt::format("      --{}", flag.name);
  if (!flag.metavar.empty()) {
    out += ' ';
    out += flag.metavar;
  }
  return out;
}

std::string right_side(const Flag& flag) {
  std::string out(flag.help);
  if (flag.complete == Complete::kWords && !flag.words.empty() && flag.words.find('=') == std::string_view::npos) {
    out += ": ";
    const auto words = split(flag.words, ' ');
    for (size_t i = 0; i < words.size(); ++i) {
      if (i > 0) out += i + 1 == words.size() ? " or " : ", ";
      out += words[i];
    }
  }
  if (!flag.fallback.empty()) out += fmt::format(" (default {})", flag.fallback);
  return out;
}

/// Two columns; the left one as wide as its entries, up to a limit, past which the right one starts a new line.
void two_columns(Output& out, const std::vector<std::pair<std::string, std::string>>& rows, int width) {
  int left = 0;
  constexpr int kMostLeft = 36;
  for (const auto& [name, text] : rows) {
    if (display_width(name) <= kMostLeft) left = std::max(left, display_width(name));
  }
  for (const auto& [name, text] : rows) {
    const auto lines = wrap(text, std::max(width - left - 3, 20));
    std::string line = name;
    if (display_width(name) > left) {
      out.print("{}\n", line);
      line.clear();
    }
    for (const std::string& part : lines) {
      out.print("{:<{}}   {}\n", line, left, part);
      line.clear();
    }
    if (lines.empty()) out.print("{}\n", line);
  }
}

void print_flags(Output& out, FlagTables tables, int width) {
  for (const GroupTitle& heading : kGroupTitles) {
    std::vector<std::pair<std::string, std::string>> rows;
    for (const auto table : tables) {
      for (const Flag& flag : table) {
        if (flag.group == heading.group && !flag.hidden) rows.emplace_back(left_side(flag), right_side(flag));
      }
    }
    if (rows.empty()) continue;
    const auto by_name = [](const auto& a, const auto& b) { return a.first.substr(8) < b.first.substr(8); };
    std::sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) {
      const auto name = [](const std::string& text) { return text.substr(text.find("--")); };
      return name(a.first) != name(b.first) ? name(a.first) < name(b.first) : by_name(a, b);
    });
    out.print("\n{}:\n", heading.title);
    two_columns(out, rows, width);
  }
}

}  // namespace

int text_width(const Output& out) { return out.columns() == 0 ? 80 : std::clamp(out.columns(), 60, 100); }

void print_overview(Output& out) {
  const int width = text_width(out);
  out.write("Usage:  hull [OPTIONS] COMMAND\n\n");
  for (const std::string& line :
       wrap("Runs a workload from an OCI image as a container. No daemon: each running workload belongs to its own "
            "small monitor.",
            width)) {
    out.print("{}\n", line);
  }
  for (const SectionTitle& section : kSections) {
    std::vector<std::pair<std::string, std::string>> rows;
    for (const Command* command : all_commands()) {
      if (command->section == section.section) {
        rows.emplace_back(fmt::format("  {}", command->path), std::string(command->summary));
      }
    }
    if (rows.empty()) continue;
    out.print("\n{}:\n", section.title);
    two_columns(out, rows, width);
  }
  out.write("\nGroups (the same commands by what they are about):\n");
  std::vector<std::pair<std::string, std::string>> rows;
  for (const CommandGroup& group : command_groups()) {
    if (group.name != "internal" && group_of(group.name).empty())
      rows.emplace_back(fmt::format("  {}", group.name), std::string(group.summary));
  }
  two_columns(out, rows, width);
  print_flags(out, kGlobalFlags, width);
  out.write("\nRun 'hull COMMAND --help' for more about a command.\n");
}

void print_group_help(Output& out, const CommandGroup& group) {
  out.print("Usage:  hull {}{} COMMAND\n\n{}\n\nCommands:\n", group.name, group.flags.empty() ? "" : " [OPTIONS]",
            group.summary);
  std::vector<std::pair<std::string, std::string>> rows;
  for (const Command* command : all_commands()) {
    bool listed = false;
    for_each_path(*command, [&](std::string_view path) {
      if (!listed && group_of(path) == group.name) {
        rows.emplace_back(fmt::format("  {}", last_word(path)), std::string(command->summary));
        listed = true;
      }
    });
  }
  for (const CommandGroup& below : command_groups()) {
    if (group_of(below.name) == group.name) {
      rows.emplace_back(fmt::format("  {}", last_word(below.name)), std::string(below.summary));
    }
  }
  std::sort(rows.begin(), rows.end());
  two_columns(out, rows, text_width(out));
  print_flags(out, group.flags, text_width(out));
  out.print("\nRun 'hull {} COMMAND --help' for more about a command.\n", group.name);
}

void print_command_help(Output& out, const Command& command) {
  const int width = text_width(out);
  out.print("Usage:  hull {}{}{}{}\n\n{}\n", command.path, command.flags.empty() ? "" : " [OPTIONS]",
            command.arguments.empty() ? "" : " ", command.arguments, command.summary);
  for (const std::string_view paragraph : split(command.description, '\n')) {
    if (paragraph.empty()) continue;
    out.write("\n");
    for (const std::string& line : wrap(paragraph, width)) out.print("{}\n", line);
  }
  if (!command.aliases.empty()) {
    out.write("\nAliases:\n  ");
    std::string all;
    for_each_path(command,
                  [&](std::string_view path) { all += fmt::format("{}hull {}", all.empty() ? "" : ", ", path); });
    out.print("{}\n", all);
  }
  print_flags(out, command.flags, width);
  if (!command.examples.empty()) {
    out.write("\nExamples:\n");
    for (const std::string_view line : split(command.examples, '\n')) {
      if (!line.empty()) out.print("  {}\n", line);
    }
  }
}

}  // namespace hull::cli
