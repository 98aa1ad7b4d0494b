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

    out_.push_back(BPF_STMT(kLoadAbs, kArchOffset));
    for (const auto& [arch, ranges] : by_arch) {
      if (ranges == *others) continue;
      std::vector<sock_filter> part = tree_with_load(ranges);
      out_.push_back(BPF_JUMP(kEqual, arch, 1, 0));
      out_.push_back(BPF_STMT(kJump, static_cast<uint32_t>(part.size())));
      out_.insert(out_.end(), part.begin(), part.end());
    }
    const std::vector<sock_filter> rest = tree_with_load(*others);
    out_.insert(out_.end(), rest.begin(), rest.end());
    // Leaves that lead to a tail carry its old place until the tails have their new ones.
    for (size_t at = 0; at < out_.size(); ++at) {
      if (out_[at].code != kToTail) continue;
      out_[at].code = kJump;
      out_[at].k = static_cast<uint32_t>(out_.size() + tail_place_.at(out_[at].k) - at - 1);
    }
    out_.insert(out_.end(), tails_.begin(), tails_.end());
    return std::move(out_);
  }

 private:
  // No instruction has this code; it marks a leaf until its distance is known.
  static constexpr uint16_t kToTail = 0xffff;

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

  static sock_filter leaf(const Outcome& outcome) {
    return outcome.conditional ? sock_filter{kToTail, 0, 0, outcome.value}
                               : sock_filter(BPF_STMT(kReturn, outcome.value));
  }

  static std::vector<sock_filter> tree(const Range* first, const Range* last) {
    if (last - first == 1) return {leaf(first->outcome)};
    const Range* middle = first + (last - first) / 2;
    // One number between two equal neighbours needs no second comparison.
    if (last - first == 3 && first[0].outcome == first[2].outcome && first[2].first == first[1].first + 1) {
      return {BPF_JUMP(kEqual, first[1].first, 0, 1), leaf(first[1].outcome), leaf(first[0].outcome)};
    }
    const std::vector<sock_filter> low = tree(first, middle);
    const std::vector<sock_filter> high = tree(middle, last);
    std::vector<sock_filter> out;
    if (low.size() <= 0xff) {
      out.push_back(BPF_JUMP(kGreaterEqual, middle->first, static_cast<uint8_t>(low.size()), 0));
    } else {
      out.push_back(BPF_JUMP(kGreaterEqual, middle->first, 0, 1));
      out.push_back(BPF_STMT(kJump, static_cast<uint32_t>(low.size())));
    }
    out.insert(out.end(), low.begin(), low.end());
    out.insert(out.end(), high.begin(), high.end());
    return out;
  }

  static std::vector<sock_filter> tree_with_load(const std::vector<Range>& ranges) {
    std::vector<sock_filter> out = tree(ranges.data(), ranges.data() + ranges.size());
    if (ranges.size() > 1) out.insert(out.begin(), BPF_STMT(kLoadAbs, kNumberOffset));
    return out;
  }

  const std::vector<sock_filter>& program_;
  std::set<uint32_t> number_constants_, arch_constants_;
  std::set<uint32_t> tail_starts_;
  std::map<uint32_t, uint32_t> tail_place_;  // old place -> place among the tails
  std::vector<sock_filter> tails_, out_;
};

}  // namespace

std::vector<sock_filter> optimize_seccomp(const std::vector<sock_filter>& program) {
  Optimizer optimizer(program);
  std::optional<std::vector<sock_filter>> better = optimizer.run();
  return better && better->size() <= program.size() ? std::move(*better) : program;
}

}  // namespace hull::isolation
