#include <algorithm>
#include <charconv>
#include <cstdint>

#include "base/error_format.h"
#include "cli/template.h"
#include "cli/template_nodes.h"
#include "cli/text.h"

namespace hull::cli {

using template_detail::Node;
using template_detail::Operand;
using template_detail::Pipeline;

namespace {

constexpr size_t kMaxTemplate = 64 * 1024;
constexpr int kMaxDepth = 64;

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name(char c) { return is_name_start(c) || (c >= '0' && c <= '9'); }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    out += static_cast<char>(0xE0 | (code >> 12));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (code & 0x3F));
  }
}

/// The words of one {{...}}.
class ActionParser {
 public:
  ActionParser(std::string_view text, int line, std::vector<std::string>& fields)
      : text_(text), line_(line), fields_(fields) {}

  Error fail(std::string_view why) const {
    return errorf(ErrorKind::kInvalid, "template: line {}: {} in \"{{{{{:.80}}}}}\"", line_, why, text_);
  }
  bool at_end() {
    skip_space();
    return at_ >= text_.size();
  }
  /// A leading keyword (if, else, range, with, end), consumed.
  std::string_view keyword() {
    skip_space();
    for (const std::string_view word :
         {"if", "else", "range", "with", "end", "break", "continue", "define", "template", "block"}) {
      const std::string_view rest = text_.substr(at_);
      if (rest.starts_with(word) && (rest.size() == word.size() || !is_name(rest[word.size()]))) {
        at_ += word.size();
        return word;
      }
    }
    return {};
  }

  Result<Pipeline> pipeline(int depth, bool range) {
    if (depth > kMaxDepth) return fail("nested too deeply");
    Pipeline pipeline;
    TRY(variables(pipeline, range));
    while (true) {
      TRY_ASSIGN(auto command, operands(depth));
      if (command.empty()) return fail("missing value for command");
      pipeline.commands.push_back(std::move(command));
      skip_space();
      if (at_ >= text_.size() || text_[at_] != '|') return pipeline;
      ++at_;
    }
  }

 private:
  void skip_space() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  std::string name() {
    const size_t start = at_;
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    return std::string(text_.substr(start, at_ - start));
  }

  /// "$x :=", "$i, $x :=", "$x =" at the start of a pipeline; anything else is left alone.
  Result<void> variables(Pipeline& pipeline, bool range) {
    const size_t start = at_;
    std::vector<std::string> names;
    while (true) {
      skip_space();
      if (at_ >= text_.size() || text_[at_] != '$') break;
      ++at_;
      names.push_back(name());
      skip_space();
      const std::string_view rest = text_.substr(at_);
      if (rest.starts_with(',') && range && names.size() == 1) {
        ++at_;
        continue;
      }
      const bool declares = rest.starts_with(":=");
      if (declares || (rest.starts_with('=') && !rest.starts_with("=="))) {
        at_ += declares ? 2 : 1;
        if (names.back().empty()) return fail("a variable without a name");
        pipeline.variables = std::move(names);
        pipeline.declares = declares;
        return {};
      }
      break;
    }
    at_ = start;
    return {};
  }

  Result<std::vector<Operand>> operands(int depth) {
    std::vector<Operand> all;
    while (!at_end() && text_[at_] != '|' && text_[at_] != ')') {
      TRY_ASSIGN(Operand one, operand(depth));
      if (all.size() >= 64) return fail("too many arguments");
      all.push_back(std::move(one));
      if (at_ < text_.size() && !is_space(text_[at_]) && text_[at_] != '|' && text_[at_] != ')') {
        return fail(fmt::format("unexpected '{}'", printable(text_.substr(at_, 1))));
      }
    }
    return all;
  }

  Result<Operand> operand(int depth) {
    Operand operand;
    const char c = text_[at_];
    if (c == '(') {
      ++at_;
      operand.kind = Operand::Kind::kPipeline;
      TRY_ASSIGN(auto inner, pipeline(depth + 1, false));
      skip_space();
      if (at_ >= text_.size() || text_[at_] != ')') return fail("unclosed left paren");
      ++at_;
      operand.pipeline.push_back(std::move(inner));
    } else if (c == '.') {
      operand.kind = Operand::Kind::kDot;
      if (at_ + 1 >= text_.size() || !is_name_start(text_[at_ + 1])) {
        ++at_;
        return operand;
      }
      // The first name of "." is what the template needs of each row.
      size_t end = at_ + 1;
      while (end < text_.size() && is_name(text_[end])) ++end;
      fields_.emplace_back(text_.substr(at_ + 1, end - at_ - 1));
    } else if (c == '$') {
      ++at_;
      operand.kind = Operand::Kind::kVariable;
      operand.name = name();
    } else if (c == '"' || c == '`' || c == '\'') {
      operand.kind = Operand::Kind::kLiteral;
      TRY_ASSIGN(operand.literal, literal_text());
    } else if ((c >= '0' && c <= '9') || c == '-' || c == '+') {
      operand.kind = Operand::Kind::kLiteral;
      TRY_ASSIGN(operand.literal, literal_number());
    } else if (is_name_start(c)) {
      operand.name = name();
      if (operand.name == "true" || operand.name == "false" || operand.name == "nil") {
        operand.kind = Operand::Kind::kLiteral;
        if (operand.name != "nil") operand.literal = operand.name == "true";
      } else if (template_detail::is_function(operand.name)) {
        operand.kind = Operand::Kind::kFunction;
      } else {
        return fail(fmt::format("function \"{}\" not defined", operand.name));
      }
    } else {
      return fail(fmt::format("unexpected '{}'", printable(text_.substr(at_, 1))));
    }
    while (at_ + 1 < text_.size() && text_[at_] == '.' && is_name_start(text_[at_ + 1])) {
      ++at_;
      operand.path.push_back(name());
    }
    return operand;
  }

  Result<Value> literal_text() {
    const char quote = text_[at_++];
    std::string out;
    while (true) {
      if (at_ >= text_.size()) return fail("unterminated quoted string");
      const char c = text_[at_++];
      if (c == quote) break;
      if (c != '\\' || quote == '`') {
        out += c;
        continue;
      }
      if (at_ >= text_.size()) return fail("unterminated quoted string");
      TRY(escape(out));
    }
    if (quote == '\'') {
      if (out.size() != 1) return fail("malformed character constant");
      return Value(static_cast<int64_t>(static_cast<unsigned char>(out[0])));
    }
    return Value(std::move(out));
  }

  Result<void> escape(std::string& out) {
    const char c = text_[at_++];
    constexpr std::string_view kFrom = "abfnrtv\\\"'";
    constexpr std::string_view kTo = "\a\b\f\n\r\t\v\\\"'";
    if (const size_t at = kFrom.find(c); at != std::string_view::npos) {
      out += kTo[at];
      return {};
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    uint32_t code = 0;
    const char* start = text_.data() + at_;
    if (digits == 0 || at_ + digits > text_.size() ||
        std::from_chars(start, start + digits, code, 16).ptr != start + digits) {
      return fail("unknown escape");
    }
    at_ += digits;
    if (c == 'x') {
      out += static_cast<char>(code);
    } else {
      append_utf8(out, code);
    }
    return {};
  }

  Result<Value> literal_number() {
    size_t end = at_;
    while (end < text_.size() && (is_name(text_[end]) || text_[end] == '.' || text_[end] == '-' || text_[end] == '+')) {
      ++end;
    }
    std::string_view number = text_.substr(at_, end - at_);
    if (number.starts_with('+')) number.remove_prefix(1);
    const char* first = number.data();
    const char* last = first + number.size();
    int64_t whole = 0;
    if (const auto [rest, error] = std::from_chars(first, last, whole); error == std::errc() && rest == last) {
      at_ = end;
      return Value(whole);
    }
    double real = 0;
    if (const auto [rest, error] = std::from_chars(first, last, real); error == std::errc() && rest == last) {
      at_ = end;
      return Value(real);
    }
    return fail("bad number syntax");
  }

  std::string_view text_;
  size_t at_ = 0;
  int line_;
  std::vector<std::string>& fields_;
};

class TemplateParser {
 public:
  TemplateParser(std::string_view text, std::vector<std::string>& fields) : text_(text), fields_(fields) {}

  Result<std::vector<Node>> parse() {
    std::vector<Node> nodes;
    TRY_ASSIGN(const std::string_view end, block(nodes, 0));
    if (!end.empty()) return errorf(ErrorKind::kInvalid, "template: line {}: unexpected {{{{{}}}}}", line_, end);
    return nodes;
  }

 private:
  /// Nodes up to {{end}} or {{else}} (returned; its action is then in action_) or the end of the text ("").
  Result<std::string_view> block(std::vector<Node>& nodes, int depth) {
    if (depth > kMaxDepth) return errorf(ErrorKind::kInvalid, "template: line {}: nested too deeply", line_);
    while (at_ < text_.size()) {
      if (!take_text(nodes)) break;
      TRY_ASSIGN(const bool comment, take_action());
      if (comment) continue;
      ActionParser action(action_, line_, fields_);
      const std::string_view keyword = action.keyword();
      if (keyword == "end" || keyword == "else") {
        if (keyword == "end" && !action.at_end()) return action.fail("unexpected words after end");
        return keyword;
      }
      if (keyword.empty()) {
        Node node;
        node.kind = Node::Kind::kOutput;
        TRY_ASSIGN(node.pipeline, action.pipeline(depth, false));
        if (!action.at_end()) return action.fail("unexpected ')'");
        nodes.push_back(std::move(node));
        continue;
      }
      TRY_ASSIGN(Node node, control(action, keyword, depth));
      nodes.push_back(std::move(node));
    }
    return std::string_view();
  }

  Result<Node> control(ActionParser& action, std::string_view keyword, int depth) {
    Node node;
    if (keyword == "if") {
      node.kind = Node::Kind::kIf;
    } else if (keyword == "range") {
      node.kind = Node::Kind::kRange;
    } else if (keyword == "with") {
      node.kind = Node::Kind::kWith;
    } else {
      return action.fail(fmt::format("{} is not supported", keyword));
    }
    TRY_ASSIGN(node.pipeline, action.pipeline(depth, node.kind == Node::Kind::kRange));
    if (!action.at_end()) return action.fail("unexpected ')'");
    TRY_ASSIGN(std::string_view end, block(node.body, depth + 1));
    if (end == "else") {
      // "else if" is an if of its own inside the else, closed by the same end.
      ActionParser rest(action_, line_, fields_);
      rest.keyword();
      if (const std::string_view next = rest.keyword(); next == "if" || next == "with") {
        TRY_ASSIGN(Node inner, control(rest, next, depth + 1));
        node.otherwise.push_back(std::move(inner));
        return node;
      }
      if (!rest.at_end()) return rest.fail("unexpected words after else");
      TRY_ASSIGN(end, block(node.otherwise, depth + 1));
    }
    if (end != "end") return errorf(ErrorKind::kInvalid, "template: {{{{{}}}}} without {{{{end}}}}", keyword);
    return node;
  }

  /// Plain text up to the next "{{". False when there is none.
  bool take_text(std::vector<Node>& nodes) {
    const size_t found = text_.find("{{", at_);
    const size_t open = std::min(found, text_.size());
    std::string_view text = text_.substr(at_, open - at_);
    line_ += static_cast<int>(std::count(text.begin(), text.end(), '\n'));
    at_ = open;
    if (trim_next_) {
      while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    }
    trim_next_ = false;
    const bool trims = text_.substr(at_).starts_with("{{-") && at_ + 3 < text_.size() && is_space(text_[at_ + 3]);
    if (trims) {
      while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    }
    if (!text.empty()) {
      Node node;
      node.text = text;
      nodes.push_back(std::move(node));
    }
    if (found == std::string_view::npos) return false;
    at_ += trims ? 3 : 2;
    return true;
  }

  /// The words up to "}}" into action_. True for a comment.
  Result<bool> take_action() {
    std::string_view rest = text_.substr(at_);
    const size_t skip = std::min(rest.find_first_not_of(" \t\r\n"), rest.size());
    if (rest.substr(skip).starts_with("/*")) {
      const size_t close = rest.find("*/", skip + 2);
      if (close == std::string_view::npos) return errorf(ErrorKind::kInvalid, "template: unclosed comment");
      at_ += close + 2;
      rest = text_.substr(at_);
      const size_t end = rest.find("}}");
      const std::string_view between = trim(rest.substr(0, end));
      if (end == std::string_view::npos || (!between.empty() && between != "-")) {
        return errorf(ErrorKind::kInvalid, "template: comment ends before closing delimiter");
      }
      trim_next_ = between == "-";
      at_ += end + 2;
      return true;
    }
    char quote = '\0';
    for (size_t i = at_; i < text_.size(); ++i) {
      const char c = text_[i];
      if (quote != '\0') {
        if (c == '\\' && quote != '`') {
          ++i;
        } else if (c == quote) {
          quote = '\0';
        }
      } else if (c == '"' || c == '`' || c == '\'') {
        quote = c;
      } else if (c == '}' && i + 1 < text_.size() && text_[i + 1] == '}') {
        action_ = text_.substr(at_, i - at_);
        at_ = i + 2;
        trim_next_ = action_.ends_with('-') && action_.size() > 1 && is_space(action_[action_.size() - 2]);
        if (trim_next_) action_.remove_suffix(1);
        return false;
      }
    }
    return errorf(ErrorKind::kInvalid, "template: line {}: unclosed action", line_);
  }

  std::string_view text_, action_;
  size_t at_ = 0;
  int line_ = 1;
  bool trim_next_ = false;
  std::vector<std::string>& fields_;
};

}  // namespace

Template::Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::parse(std::string_view text) {
  if (text.size() > kMaxTemplate) return errorf(ErrorKind::kInvalid, "template: longer than 64 KiB");
  Template made;
  TRY_ASSIGN(made.nodes_, TemplateParser(text, made.fields_).parse());
  return made;
}

}  // namespace hull::cli
