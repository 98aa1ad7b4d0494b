// Man pages (man(7)), made from the same tables as --help.
#include <algorithm>

#include "cli/command.h"
#include "cli/text.h"

namespace hull::cli {
namespace {

/// Text as roff: backslashes, dashes that may be copied, and lines that start with a control character.
std::string roff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    line_start = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string header(std::string_view name, std::string_view section) {
  std::string upper(name);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return fmt::format(".TH \"{}\" \"{}\" \"\" \"Hull {}\" \"Hull\"\n.nh\n.ad l\n", roff(upper), section, HULL_VERSION);
}

void flag_entry(std::string& out, const Flag& flag) {
  out += ".TP\n";
  if (flag.short_name != 0) out += fmt::format("\\fB\\-{}\\fP, ", flag.short_name);
  out += fmt::format("\\fB\\-\\-{}\\fP", roff(flag.name));
  if (!flag.metavar.empty()) out += fmt::format(" \\fI{}\\fP", roff(flag.metavar));
  out += '\n';
  out += roff(flag.help);
  if (!flag.words.empty() && flag.complete == Complete::kWords) {
    std::string words(flag.words);
    std::replace(words.begin(), words.end(), ' ', ',');
    std::string spaced;
    for (const char c : words) {
      spaced += c;
      if (c == ',') spaced += ' ';
    }
    out += fmt::format(": {}", roff(spaced));
  }
  if (!flag.fallback.empty()) out += fmt::format(" (default {})", roff(flag.fallback));
  out += flag.repeatable ? ". May be given several times.\n" : ".\n";
}

void flags_section(std::string& out, FlagTables tables) {
  bool any = false;
  for (const GroupTitle& heading : kGroupTitles) {
    std::vector<const Flag*> flags;
    for (const auto table : tables) {
      for (const Flag& flag : table) {
        if (flag.group == heading.group && !flag.hidden) flags.push_back(&flag);
      }
    }
    if (flags.empty()) continue;
    std::sort(flags.begin(), flags.end(), [](const Flag* a, const Flag* b) { return a->name < b->name; });
    if (!any) out += ".SH OPTIONS\n";
    any = true;
    if (heading.group != Group::kGeneral) out += fmt::format(".SS {}\n", heading.title);
    for (const Flag* flag : flags) flag_entry(out, *flag);
  }
}

void paragraphs(std::string& out, std::string_view text) {
  bool first = true;
  for (const std::string_view paragraph : split(text, '\n')) {
    if (paragraph.empty()) continue;
    if (!first) out += ".PP\n";
    first = false;
    out += roff(paragraph);
    out += '\n';
  }
}

}  // namespace

std::string man_name(const Command& command) {
  std::string name = fmt::format("hull-{}", command.path);
  std::replace(name.begin(), name.end(), ' ', '-');
  return name;
}

std::string man_page(const Command& command) {
  const std::string name = man_name(command);
  std::string out = header(name, "1");
  std::string summary(command.summary);
  if (!summary.empty() && summary[0] >= 'A' && summary[0] <= 'Z') {
    summary[0] = static_cast<char>(summary[0] - 'A' + 'a');
  }
  out += fmt::format(".SH NAME\n{} \\- {}\n", roff(name), roff(summary));
  out += ".SH SYNOPSIS\n";
  for_each_path(command, [&](std::string_view path) {
    out += fmt::format("\\fBhull {}\\fP{}{}{}\n.br\n", roff(path), command.flags.empty() ? "" : " [\\fIOPTIONS\\fP]",
                       command.arguments.empty() ? "" : " ", roff(command.arguments));
  });
  out += ".SH DESCRIPTION\n";
  paragraphs(out, command.description.empty() ? fmt::format("{}.", command.summary) : command.description);
  flags_section(out, command.flags);
  if (!command.examples.empty()) {
    out += ".SH EXAMPLES\n.nf\n";
    for (const std::string_view line : split(command.examples, '\n')) {
      if (!line.empty()) out += roff(line) + "\n";
    }
    out += ".fi\n";
  }
  out += ".SH SEE ALSO\n\\fBhull\\fP(1)\n";
  return out;
}

std::string man_overview() {
  std::string out = header("hull", "1");
  out += ".SH NAME\nhull \\- run OCI images as containers\n";
  out += ".SH SYNOPSIS\n\\fBhull\\fP [\\fIOPTIONS\\fP] \\fICOMMAND\\fP [\\fIARG\\fP...]\n.SH DESCRIPTION\n";
  paragraphs(
      out,
      "Hull runs a workload from an OCI image behind a wall: a container. There is no daemon: images, volumes and "
      "workloads are on disk, and each running workload belongs to a small monitor of its own, so nothing ends "
      "with a command.\nThe commands and their options are Docker's.");
  flags_section(out, kGlobalFlags);
  out += ".SH COMMANDS\n";
  for (const Command* command : all_commands()) {
    if (command->section == Section::kInternal && command->path != "help") continue;
    out += fmt::format(".TP\n\\fB{}\\fP(1)\n{}.\n", roff(man_name(*command)), roff(command->summary));
  }
  out += ".SH EXIT STATUS\n";
  paragraphs(out,
             "0 on success, 1 when the command failed, 125 when the command line is wrong or \"run\" could not run "
             "anything. \"run\", \"start -a\", \"attach\" and \"exec\" end with the program's own code, 126 when the "
             "program can't be executed, 127 when it is not there, 128 and the number of the signal that ended it.");
  out += ".SH ORDINARY USERS\n";
  paragraphs(
      out,
      "Run by an ordinary user, hull keeps everything below ~/.local/share/hull and $XDG_RUNTIME_DIR/hull, reads "
      "~/.config/hull/hull.toml when it is there, and works in a user namespace that hull-rootless keeps as "
      "long as it is used; root of a container is the user outside. It needs newuidmap and newgidmap (package "
      "uidmap), a range for the user in /etc/subuid and /etc/subgid, pasta (package passt) and the right to "
      "make user namespaces; \"hull doctor\" says what is missing and what to do. Published ports are opened "
      "as the user, from net.ipv4.ip_unprivileged_port_start on; programs in containers see the bridge's "
      "address instead of the client's. \"--network host\" is the user's network inside, from which the host's "
      "loopback can't be reached.\nLimits of memory, processors, processes and disks, pause and stats need "
      "control groups that are the user's: what the user's systemd was given (hull asks it for hull.scope), the "
      "highest group of cgroup v2 around the command that an administrator gave the user with chown -R, or the one "
      "that cgroup_parent names in hull.toml, in version 1, too. Without one, or without the controller that a "
      "limit needs, they are refused, and \"hull doctor\" tells how to delegate. Rules on devices stay root's: "
      "--device and --privileged give what the user may open. SCTP ports and virtual machines need root.");
  out += ".SH ENVIRONMENT\n";
  constexpr std::pair<std::string_view, std::string_view> kVariables[] = {
      {"HULL_CONFIG", "The configuration file, as with --config."},
      {"HULL_ROOT", "Where images, volumes and workloads are, as with --root."},
      {"HULL_RUN", "Where the state of this boot is, as with --run-root."},
      {"HULL_LIBEXEC", "Where hull-monitor and hull-images are."},
      {"NO_COLOR", "When set, nothing is coloured."}};
  for (const auto& [name, text] : kVariables) out += fmt::format(".TP\n\\fB{}\\fP\n{}\n", name, roff(text));
  out += ".SH FILES\n";
  constexpr std::pair<std::string_view, std::string_view> kFiles[] = {
      {"/etc/hull/hull.toml", "Configuration."},
      {"/var/lib/hull", "Images, volumes, workloads."},
      {"/run/hull", "State of this boot: sockets, mounts of layers."},
      {"~/.local/share/hull, $XDG_RUNTIME_DIR/hull, ~/.config/hull/hull.toml", "The same of an ordinary user."},
      {"~/.docker/config.json", "Registry logins."}};
  for (const auto& [name, text] : kFiles) out += fmt::format(".TP\n\\fI{}\\fP\n{}\n", roff(name), roff(text));
  out += ".SH SEE ALSO\n\\fBhull.toml\\fP(5), \\fBhull\\-oci\\fP(8)\n";
  return out;
}

}  // namespace hull::cli
