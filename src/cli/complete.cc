#include "cli/complete.h"

#include <algorithm>

#include "cli/pump.h"
#include "cli/text.h"
#include "isolation/capabilities.h"
#include "vm/kernel_store.h"

namespace hull::cli {
namespace {

class Completer {
 public:
  Completer(Context& context, std::string typed) : context_(context), typed_(std::move(typed)) {}

  std::vector<std::string> take() {
    std::sort(lines_.begin(), lines_.end());
    lines_.erase(std::unique(lines_.begin(), lines_.end()), lines_.end());
    return std::move(lines_);
  }

  void offer(std::string_view candidate, std::string_view description = {}) {
    if (!candidate.starts_with(typed_)) return;
    // A tab or a line break in a name would be a candidate of its own.
    if (printable(candidate) != candidate) return;
    lines_.push_back(fmt::format("{}{}{}{}", prefix_, candidate, description.empty() ? "" : "\t", description));
  }
  void directive(std::string_view text) { lines_.emplace_back(text); }
  const std::string& typed() const { return typed_; }

  /// "--flag=" stays before each candidate.
  void take_prefix(size_t count) {
    prefix_ = typed_.substr(0, count);
    typed_.erase(0, count);
  }

  void flags(FlagTables tables) {
    for (const auto table : tables) {
      for (const Flag& flag : table) {
        if (flag.hidden || flag.group == Group::kLater) continue;
        offer(fmt::format("--{}", flag.name), flag.help);
      }
    }
    offer("--help", "Print usage");
  }

  void values(Complete kind, std::string_view words) {
    switch (kind) {
      case Complete::kNothing:
      case Complete::kCommand:
        break;
      case Complete::kFile:
        directive(":file");
        break;
      case Complete::kFolder:
        directive(":folder");
        break;
      case Complete::kWorkload:
      case Complete::kRunning:
      case Complete::kStopped:
      case Complete::kPaused:
        workloads(kind);
        break;
      case Complete::kImage:
        images();
        break;
      case Complete::kVolume:
        volumes();
        break;
      case Complete::kNetwork:
        networks();
        break;
      case Complete::kGuestKernel:
        guest_kernels();
        break;
      case Complete::kSignal:
        for (int number = 1; number < 32; ++number) offer(signal_name(number));
        break;
      case Complete::kCapability:
        offer("ALL");
        for (const std::string& name : isolation::capability_names(~uint64_t{0})) offer(name);
        break;
      case Complete::kObject:
        workloads(Complete::kWorkload);
        images();
        volumes();
        break;
      case Complete::kWords:
        for (const std::string_view word : split(words, ' ')) offer(word);
        break;
    }
  }

  void commands(std::string_view group) {
    for (const Command* command : all_commands()) {
      if (command->section == Section::kInternal && command->path != "help") continue;
      for_each_path(*command, [&](std::string_view path) {
        if (group_of(path) == group) offer(last_word(path), command->summary);
      });
    }
    for (const CommandGroup& one : command_groups()) {
      if (one.name != "internal" && group_of(one.name) == group) offer(last_word(one.name), one.summary);
    }
  }

 private:
  void workloads(Complete kind) {
    auto engine = context_.engine();
    if (!engine.ok()) return;
    engine::ListFilter filter;
    filter.all = kind != Complete::kRunning;
    const auto list = (*engine)->list(filter);
    if (!list.ok()) return;
    for (const auto& one : *list) {
      const bool runs = one.status == engine::Status::kRunning || one.status == engine::Status::kPaused;
      if (kind == Complete::kStopped && runs) continue;
      if (kind == Complete::kPaused && one.status != engine::Status::kPaused) continue;
      offer(one.name, one.image);
      // Ids only once somebody types one.
      if (!typed_.empty()) offer(one.id.substr(0, 12), one.name);
    }
  }
  void images() {
    auto engine = context_.engine();
    if (!engine.ok()) return;
    const auto list = (*engine)->images().list(false);
    if (!list.ok()) return;
    for (const auto& image : *list) {
      for (const std::string& tag : image.tags) {
        offer(tag);
        if (tag.ends_with(":latest")) offer(std::string_view(tag).substr(0, tag.size() - 7));
      }
      if (!typed_.empty()) offer(image.id.short_hex());
    }
  }
  void guest_kernels() {
    const auto settings = engine::Settings::load();
    if (!settings.ok()) return;
    const auto kernels = vm::KernelStore(settings->data_root).list();
    if (!kernels.ok()) return;
    for (const auto& kernel : *kernels) offer(kernel.name, kernel.source);
  }
  void volumes() {
    auto engine = context_.engine();
    if (!engine.ok()) return;
    const auto list = (*engine)->volume_list({});
    if (!list.ok()) return;
    for (const auto& volume : *list) offer(volume.name);
  }

  void networks() {
    // The ones that are always there are offered where no engine can be asked.
    for (const char* name : {"bridge", "host", "none"}) offer(name);
    auto engine = context_.engine();
    if (!engine.ok()) return;
    const auto list = (*engine)->network_list({});
    if (!list.ok()) return;
    for (const auto& one : *list) {
      if (one.network.name != "bridge" && one.network.name != "host" && one.network.name != "none") {
        offer(one.network.name);
      }
    }
  }

  Context& context_;
  std::string typed_, prefix_;
  std::vector<std::string> lines_;
};

/// Where in a command line the last word stands.
struct Place {
  const Flag* wants_value = nullptr;  // the word before is this flag
  size_t arguments = 0;               // complete ones before the last word
  bool only_arguments = false;        // after "--", or after the first argument where flags end there
};

Place place_of(FlagTables tables, std::span<const std::string> before, bool stop_at_first) {
  Place place;
  for (size_t i = 0; i < before.size(); ++i) {
    const std::string_view word = before[i];
    place.wants_value = nullptr;
    if (place.only_arguments || word.size() < 2 || word[0] != '-') {
      ++place.arguments;
      place.only_arguments = place.only_arguments || stop_at_first;
      continue;
    }
    if (word == "--") {
      place.only_arguments = true;
      continue;
    }
    const Flag* flag = nullptr;
    if (word.starts_with("--")) {
      if (word.find('=') == std::string_view::npos) flag = find_flag(tables, word.substr(2));
    } else {
      // A cluster: the last letter may want a value.
      for (size_t at = 1; at < word.size(); ++at) {
        const Flag* one = find_flag(tables, word[at]);
        if (one == nullptr || one->kind == ValueKind::kBool) continue;
        if (at + 1 == word.size()) flag = one;
        break;
      }
    }
    if (flag == nullptr || flag->kind == ValueKind::kBool) continue;
    if (i + 1 == before.size()) {
      place.wants_value = flag;
    } else {
      ++i;  // its value
    }
  }
  return place;
}

}  // namespace

std::vector<std::string> complete(Context& context, const std::vector<std::string>& words) {
  if (words.empty()) return {};
  Completer completer(context, words.back());
  std::span<const std::string> before(words.data(), words.size() - 1);

  // Global flags stand before the command.
  size_t start = 0;
  while (start < before.size() && before[start].starts_with('-')) {
    const Place place = place_of(kGlobalFlags, before.subspan(start, 1), true);
    if (place.wants_value != nullptr && start + 1 == before.size()) {
      completer.values(place.wants_value->complete, place.wants_value->words);
      return completer.take();
    }
    start += place.wants_value != nullptr ? 2 : 1;
  }
  before = before.subspan(std::min(start, before.size()));
  std::vector<std::string_view> views(before.begin(), before.end());
  Found found = find_command(views);
  size_t group_words = 0;  // flags between a group's name and the command
  if (found.group != nullptr && !found.group->flags.empty()) {
    const FlagTables flags = found.group->flags;
    size_t at = found.words;
    while (at < before.size() && before[at].starts_with('-')) {
      const Place place = place_of(flags, before.subspan(at, 1), true);
      if (place.wants_value != nullptr && at + 1 == before.size()) {
        completer.values(place.wants_value->complete, place.wants_value->words);
        return completer.take();
      }
      at += place.wants_value != nullptr ? 2 : 1;
    }
    at = std::min(at, before.size());
    if (at == before.size() && completer.typed().starts_with('-')) {
      completer.flags(flags);
      return completer.take();
    }
    if (at == before.size()) {
      completer.commands(found.group->name);
      return completer.take();
    }
    group_words = at - found.words;
    views.erase(views.begin() + static_cast<ptrdiff_t>(found.words), views.begin() + static_cast<ptrdiff_t>(at));
    found = find_command(views);
  }
  if (found.command == nullptr) {
    if (completer.typed().starts_with('-') && before.empty()) {
      completer.flags(kGlobalFlags);
    } else if (before.empty()) {
      completer.commands({});
    } else if (found.group != nullptr && found.words == before.size()) {
      completer.commands(found.group->name);
    }
    return completer.take();
  }
  const Command& command = *found.command;
  const Place place =
      place_of(command.flags, before.subspan(found.words + group_words), command.stop_at_first_argument);
  if (place.wants_value != nullptr) {
    completer.values(place.wants_value->complete, place.wants_value->words);
    return completer.take();
  }
  const std::string& typed = completer.typed();
  if (!place.only_arguments && typed.starts_with('-')) {
    const size_t equals = typed.find('=');
    if (typed.starts_with("--") && equals != std::string::npos) {
      const Flag* flag = find_flag(command.flags, std::string_view(typed).substr(2, equals - 2));
      completer.take_prefix(equals + 1);
      if (flag != nullptr) completer.values(flag->complete, flag->words);
    } else {
      completer.flags(command.flags);
    }
    return completer.take();
  }
  if (command.complete == Complete::kCommand) {
    if (place.arguments == 0) completer.commands({});
    return completer.take();
  }
  const bool more = command.most < 0 || static_cast<int>(place.arguments) < command.most;
  // After the workload of run and exec come words that are the program's: files, as a shell would offer.
  if (command.stop_at_first_argument && place.arguments > 0) {
    completer.values(Complete::kFile, {});
  } else if (more) {
    completer.values(command.complete, {});
  }
  return completer.take();
}

}  // namespace hull::cli
