#include "isolation/seccomp_optimize.h"

#include <linux/seccomp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>

namespace hull::isolation {

namespace {

constexpr uint32_t kNumberOffset = offsetof(seccomp_data, nr);
constexpr uint32_t kArchOffset = offsetof(seccomp_data, arch);

constexpr uint16_t kLoadAbs = BPF_LD | BPF_W | BPF_ABS;
constexpr uint16_t kReturn = BPF_RET | BPF_K;
constexpr uint16_t kJump = BPF_JMP | BPF_JA;
constexpr uint16_t kEqual = BPF_JMP | BPF_JEQ | BPF_K;
constexpr uint16_t kGreater = BPF_JMP | BPF_JGT | BPF_K;
constexpr uint16_t kGreaterEqual = BPF_JMP | BPF_JGE | BPF_K;
constexpr uint16_t kAnd = BPF_ALU | BPF_AND | BPF_K;

bool is_compare(uint16_t code) { return code == kEqual || code == kGreater || code == kGreaterEqual; }

/// What a program does with one architecture and number.
struct Outcome {
  bool conditional = false;
  uint32_t value = 0;  // the answer; or where the first argument is loaded
  bool operator==(const Outcome&) const = default;
};

struct Range {
  uint32_t first;
  Outcome outcome;
  bool operator==(const Range&) const = default;
};

/// Writes a program backwards. A place is the number of instructions from there to the end.
class Emitter {
 public:
  Emitter(const std::vector<sock_filter>& tails, const std::map<uint32_t, uint32_t>& tail_place)
      : tail_place_(tail_place), tail_count_(tails.size()), reversed_(tails.rbegin(), tails.rend()) {}

  void put(sock_filter insn) { reversed_.push_back(insn); }
  /// A jump to `place` from whatever is written next but one; none when it follows anyway.
  void jump(size_t place) { put(BPF_STMT(kJump, static_cast<uint32_t>(distance(place)))); }

  /// A whole decision about the number; returns its entry.
  size_t tree(const std::vector<Range>& ranges) {
    std::vector<Item> items;
    for (size_t i = 0; i < ranges.size(); ++i) {
      Item item = {.first = ranges[i].first, .base = ranges[i].outcome, .exceptions = {}};
      // Single numbers between equal neighbours: one comparison each instead of two. Few in a row, so that no syscall
      // has a long way.
      constexpr size_t kMaxExceptions = 3;
      while (item.exceptions.size() < kMaxExceptions && i + 2 < ranges.size() && ranges[i + 2].outcome == item.base &&
             ranges[i + 2].first == ranges[i + 1].first + 1) {
        item.exceptions.push_back(ranges[i + 1]);
        i += 2;
      }
      items.push_back(std::move(item));
    }
    const size_t root = node(items.data(), items.data() + items.size());
    if (items.size() == 1 && items[0].exceptions.empty()) return root;
    // The load must stand right before the root.
    if (root != reversed_.size()) jump(root);
    put(BPF_STMT(kLoadAbs, kNumberOffset));
    return reversed_.size();
  }

  std::vector<sock_filter> program() const { return {reversed_.rbegin(), reversed_.rend()}; }

 private:
  struct Item {
    uint32_t first;
    Outcome base;
    std::vector<Range> exceptions;
  };
  // Jumps of comparisons reach 255 instructions; a few are kept for what is put in between.
  static constexpr size_t kReach = 250;

  size_t distance(size_t place) const { return reversed_.size() - place; }

  /// A place within reach that gives `outcome`: one that exists, or a new one.
  size_t leaf(const Outcome& outcome) {
    const auto key = std::pair(outcome.conditional, outcome.value);
    const auto found = leaves_.find(key);
    if (found != leaves_.end() && distance(found->second) <= kReach) return found->second;
    if (!outcome.conditional) {
      put(BPF_STMT(kReturn, outcome.value));
    } else {
      const size_t place = tail_count_ - tail_place_.at(outcome.value);
      if (distance(place) <= kReach) return place;
      jump(place);
    }
    leaves_[key] = reversed_.size();
    return reversed_.size();
  }

  /// `place`, or a jump to it that is within reach.
  size_t near(size_t place) {
    if (distance(place) <= kReach) return place;
    jump(place);
    return reversed_.size();
  }

  size_t node(const Item* first, const Item* last) {
    if (last - first == 1) return chain(*first);
    const Item* middle = first + (last - first) / 2;
    const size_t high_root = node(middle, last);
    const bool low_is_leaf = middle - first == 1 && first->exceptions.empty();
    size_t low = node(first, middle);
    // The far side first: what is put in between moves it away.
    size_t high = high_root;
    if (last - middle == 1 && middle->exceptions.empty()) high = leaf(middle->base);
    high = near(high);
    if (low_is_leaf) low = leaf(first->base);
    put(BPF_JUMP(kGreaterEqual, middle->first, static_cast<uint8_t>(distance(high)),
                 static_cast<uint8_t>(distance(low))));
    return reversed_.size();
  }

  size_t chain(const Item& item) {
    size_t otherwise = leaf(item.base);
    for (auto exception = item.exceptions.rbegin(); exception != item.exceptions.rend(); ++exception) {
      const size_t hit = leaf(exception->outcome);
      put(BPF_JUMP(kEqual, exception->first, static_cast<uint8_t>(distance(hit)),
                   static_cast<uint8_t>(distance(otherwise))));
      otherwise = reversed_.size();
    }
    return otherwise;
  }

  const std::map<uint32_t, uint32_t>& tail_place_;
  size_t tail_count_;
  std::map<std::pair<bool, uint32_t>, size_t> leaves_;
  std::vector<sock_filter> reversed_;
};

class Optimizer {
 public:
  explicit Optimizer(const std::vector<sock_filter>& program) : program_(program) {}

  std::optional<std::vector<sock_filter>> run() {
    if (!scan()) return std::nullopt;
    // One tree for each architecture that the program names, and one for all others.
    std::map<uint32_t, std::vector<Range>> by_arch;
    for (const uint32_t arch : arch_constants_) {
      std::optional<std::vector<Range>> ranges = ranges_of(arch);
      if (!ranges) return std::nullopt;
      by_arch.emplace(arch, std::move(*ranges));
    }
    const std::optional<std::vector<Range>> others = ranges_of(unnamed_arch());
    if (!others) return std::nullopt;
    for (const auto& [arch, ranges] : by_arch) note_tails(ranges);
    note_tails(*others);
    if (!copy_tails()) return std::nullopt;

    // From the end to the start: jumps go forward only, so every target exists when its jump is written.
    Emitter out(tails_, tail_place_);
    const size_t other_root = out.tree(*others);
    std::vector<std::pair<uint32_t, size_t>> roots;
    for (const auto& [arch, ranges] : by_arch) {
      if (ranges != *others) roots.emplace_back(arch, out.tree(ranges));
    }
    out.jump(other_root);
    for (const auto& [arch, root] : roots) {
      out.jump(root);
      out.put(BPF_JUMP(kEqual, arch, 0, 1));
    }
    out.put(BPF_STMT(kLoadAbs, kArchOffset));
    return out.program();
  }

 private:
  /// Collects the constants of the parts before any argument is looked at. False for instructions that aren't followed.
  bool scan() {
    number_constants_.insert(0);
    // Depth-first over (place, what the accumulator holds).
    enum Holds : uint8_t { kNothing, kNumber, kArch };
    std::set<std::pair<size_t, Holds>> seen;
    std::vector<std::pair<size_t, Holds>> todo = {{0, kNothing}};
    while (!todo.empty()) {
      const auto [at, holds] = todo.back();
      todo.pop_back();
      if (at >= program_.size()) return false;
      if (!seen.insert({at, holds}).second) continue;
      const sock_filter& insn = program_[at];
      if (insn.code == kReturn) continue;
      if (insn.code == kLoadAbs) {
        if (insn.k == kNumberOffset) todo.emplace_back(at + 1, kNumber);
        if (insn.k == kArchOffset) todo.emplace_back(at + 1, kArch);
        // Anything else is an argument, where the tails begin.
      } else if (insn.code == kJump) {
        todo.emplace_back(at + 1 + insn.k, holds);
      } else if (is_compare(insn.code)) {
        if (holds == kNothing) return false;
        if (holds == kNumber) {
          number_constants_.insert(insn.k);
          if (insn.k != 0xffffffffU) number_constants_.insert(insn.k + 1);
        } else {
          // An architecture is only ever compared for equality; an order would make more of them differ.
          if (insn.code != kEqual) return false;
          arch_constants_.insert(insn.k);
        }
        todo.emplace_back(at + 1 + insn.jt, holds);
        todo.emplace_back(at + 1 + insn.jf, holds);
      } else {
        return false;
      }
    }
    return true;
  }

  uint32_t unnamed_arch() const {
    uint32_t arch = 0;
    while (arch_constants_.contains(arch)) ++arch;
    return arch;
  }

  std::optional<Outcome> outcome(uint32_t arch, uint32_t number) const {
    uint32_t accumulator = 0;
    for (size_t at = 0; at < program_.size();) {
      const sock_filter& insn = program_[at];
      switch (insn.code) {
        case kReturn:
          return Outcome{false, insn.k};
        case kLoadAbs:
          if (insn.k != kNumberOffset && insn.k != kArchOffset) return Outcome{true, static_cast<uint32_t>(at)};
          accumulator = insn.k == kNumberOffset ? number : arch;
          ++at;
          break;
        case kJump:
          at += 1 + insn.k;
          break;
        case kEqual:
          at += 1 + (accumulator == insn.k ? insn.jt : insn.jf);
          break;
        case kGreater:
          at += 1 + (accumulator > insn.k ? insn.jt : insn.jf);
          break;
        case kGreaterEqual:
          at += 1 + (accumulator >= insn.k ? insn.jt : insn.jf);
          break;
        default:
          return std::nullopt;
      }
    }
    return std::nullopt;
  }

  std::optional<std::vector<Range>> ranges_of(uint32_t arch) const {
    std::vector<Range> ranges;
    for (const uint32_t number : number_constants_) {
      const std::optional<Outcome> result = outcome(arch, number);
      if (!result) return std::nullopt;
      if (ranges.empty() || ranges.back().outcome != *result) ranges.push_back({number, *result});
    }
    return ranges;
  }

  void note_tails(const std::vector<Range>& ranges) {
    for (const Range& range : ranges) {
      if (range.outcome.conditional) tail_starts_.insert(range.outcome.value);
    }
  }

  /// Copies all instructions that the tails can come to, in their old order: distances only shrink, so every short
  /// jump stays short.
  bool copy_tails() {
    std::set<size_t> reached;
    std::vector<size_t> todo(tail_starts_.begin(), tail_starts_.end());
    while (!todo.empty()) {
      const size_t at = todo.back();
      todo.pop_back();
      if (at >= program_.size()) return false;
      if (!reached.insert(at).second) continue;
      const sock_filter& insn = program_[at];
      if (insn.code == kReturn) continue;
      if (insn.code == kJump) {
        todo.push_back(at + 1 + insn.k);
      } else if (is_compare(insn.code)) {
        todo.push_back(at + 1 + insn.jt);
        todo.push_back(at + 1 + insn.jf);
      } else if (insn.code == kLoadAbs || insn.code == kAnd) {
        todo.push_back(at + 1);
      } else {
        return false;
      }
    }
    for (const size_t at : reached) {
      tail_place_.emplace(static_cast<uint32_t>(at), static_cast<uint32_t>(tail_place_.size()));
    }
    for (const size_t at : reached) {
      sock_filter insn = program_[at];
      const size_t here = tails_.size();
      const auto distance = [&](size_t target) { return tail_place_.at(static_cast<uint32_t>(target)) - here - 1; };
      if (insn.code == kJump) {
        insn.k = static_cast<uint32_t>(distance(at + 1 + insn.k));
      } else if (is_compare(insn.code)) {
        insn.jt = static_cast<uint8_t>(distance(at + 1 + insn.jt));
        insn.jf = static_cast<uint8_t>(distance(at + 1 + insn.jf));
      } else if (insn.code != kReturn && distance(at + 1) != 0) {
        return false;  // what followed does not follow any more
      }
      tails_.push_back(insn);
    }
    return true;
  }

  const std::vector<sock_filter>& program_;
  std::set<uint32_t> number_constants_, arch_constants_;
  std::set<uint32_t> tail_starts_;
  std::map<uint32_t, uint32_t> tail_place_;  // old place -> place among the tails
  std::vector<sock_filter> tails_;
};

}  // namespace

std::vector<sock_filter> optimize_seccomp(const std::vector<sock_filter>& program) {
  Optimizer optimizer(program);
  std::optional<std::vector<sock_filter>> better = optimizer.run();
  if (!better || better->size() > program.size()) return program;
  return std::move(*better);
}

}  // namespace hull::isolation
