#include <utility>

#include "base/error_format.h"
#include "cli/template.h"
#include "cli/template_functions.h"
#include "cli/template_nodes.h"

namespace hull::cli {

using template_detail::Node;
using template_detail::Operand;
using template_detail::Pipeline;

namespace {

constexpr size_t kMaxOutput = 64 << 20;

class Evaluator {
 public:
  explicit Evaluator(const Value& root) { variables_.emplace_back("", root); }

  Result<void> run(const std::vector<Node>& nodes, const Value& dot) {
    for (const Node& node : nodes) {
      TRY(run_node(node, dot));
      if (output.size() > kMaxOutput) return errorf(ErrorKind::kInvalid, "template: more than 64 MiB of output");
    }
    return {};
  }

  std::string output;

 private:
  Result<void> run_node(const Node& node, const Value& dot) {
    const size_t scope = variables_.size();
    switch (node.kind) {
      case Node::Kind::kText:
        output += node.text;
        return {};
      case Node::Kind::kOutput: {
        TRY_ASSIGN(const Value value, evaluate(node.pipeline, dot));
        if (node.pipeline.variables.empty()) output += template_detail::shown(value);
        return {};
      }
      case Node::Kind::kIf:
      case Node::Kind::kWith: {
        TRY_ASSIGN(const Value value, evaluate(node.pipeline, dot));
        const bool truth = template_detail::is_true(value);
        TRY(run(truth ? node.body : node.otherwise, truth && node.kind == Node::Kind::kWith ? value : dot));
        break;
      }
      case Node::Kind::kRange:
        TRY(range(node, dot));
        break;
    }
    variables_.resize(scope);
    return {};
  }

  Result<void> range(const Node& node, const Value& dot) {
    TRY_ASSIGN(const Value value, evaluate(node.pipeline, dot, true));
    const auto step = [&](Value key, const Value& item) -> Result<void> {
      const size_t scope = variables_.size();
      const auto& names = node.pipeline.variables;
      if (names.size() == 2) variables_.emplace_back(names[0], std::move(key));
      if (!names.empty()) variables_.emplace_back(names.back(), item);
      TRY(run(node.body, item));
      variables_.resize(scope);
      return {};
    };
    size_t count = 0;
    if (const auto* items = value.if_array()) {
      for (const Value& item : *items) TRY(step(static_cast<int64_t>(count++), item));
    } else if (const auto* members = value.if_object()) {
      for (const auto& [key, item] : *members) {
        TRY(step(key, item));
        ++count;
      }
    } else if (!value.is_null()) {
      return errorf(ErrorKind::kInvalid, "template: range can't iterate over {:.80}", template_detail::shown(value));
    }
    if (count == 0) return run(node.otherwise, dot);
    return {};
  }

  Result<Value> evaluate(const Pipeline& pipeline, const Value& dot, bool range = false) {
    Value value;
    bool first = true;
    for (const auto& command : pipeline.commands) {
      TRY_ASSIGN(value, evaluate_command(command, dot, first ? nullptr : &value));
      first = false;
    }
    if (pipeline.variables.empty() || range) return value;
    const std::string& name = pipeline.variables[0];
    if (pipeline.declares) {
      variables_.emplace_back(name, value);
      return value;
    }
    for (size_t i = variables_.size(); i > 0; --i) {
      if (variables_[i - 1].first == name) {
        variables_[i - 1].second = value;
        return value;
      }
    }
    return errorf(ErrorKind::kInvalid, "template: undefined variable \"${}\"", name);
  }

  /// `piped` is the value of the command before "|": the last argument of this one.
  Result<Value> evaluate_command(const std::vector<Operand>& command, const Value& dot, const Value* piped) {
    const Operand& head = command[0];
    if (head.kind == Operand::Kind::kFunction && (head.name == "and" || head.name == "or")) {
      return short_circuit(command, dot, piped);
    }
    std::vector<Value> arguments;
    for (size_t i = 1; i < command.size(); ++i) {
      TRY_ASSIGN(auto argument, operand(command[i], dot));
      arguments.push_back(std::move(argument));
    }
    if (piped != nullptr) arguments.push_back(*piped);
    if (head.kind == Operand::Kind::kFunction) {
      TRY_ASSIGN(const Value value, template_detail::call(head.name, arguments));
      return follow(value, head.path);
    }
    TRY_ASSIGN(Value value, operand(head, dot));
    if (arguments.empty()) return value;
    // {{.Label "key"}}: Docker's rows have methods that look a key up; "" when it is not there.
    if (value.if_object() != nullptr && arguments.size() == 1 && arguments[0].if_string() != nullptr) {
      const Value* found = value.find(*arguments[0].if_string());
      return found == nullptr ? Value("") : *found;
    }
    return errorf(ErrorKind::kInvalid, "template: {} has arguments but cannot be invoked as function",
                  head.path.empty() ? "this value" : head.path.back());
  }

  /// and, or: stop at the argument that decides, and give it.
  Result<Value> short_circuit(const std::vector<Operand>& command, const Value& dot, const Value* piped) {
    const bool stop_at = command[0].name == "or";
    Value value;
    for (size_t i = 1; i < command.size(); ++i) {
      TRY_ASSIGN(value, operand(command[i], dot));
      if (template_detail::is_true(value) == stop_at) return value;
    }
    if (piped != nullptr) return *piped;
    if (command.size() < 2) return errorf(ErrorKind::kInvalid, "template: {} wants an argument", command[0].name);
    return value;
  }

  Result<Value> operand(const Operand& operand, const Value& dot) {
    switch (operand.kind) {
      case Operand::Kind::kDot:
        return follow(dot, operand.path);
      case Operand::Kind::kLiteral:
        return operand.literal;
      case Operand::Kind::kFunction: {
        TRY_ASSIGN(const Value value, template_detail::call(operand.name, {}));
        return follow(value, operand.path);
      }
      case Operand::Kind::kPipeline: {
        TRY_ASSIGN(const Value value, evaluate(operand.pipeline[0], dot));
        return follow(value, operand.path);
      }
      case Operand::Kind::kVariable:
        for (size_t i = variables_.size(); i > 0; --i) {
          if (variables_[i - 1].first == operand.name) return follow(variables_[i - 1].second, operand.path);
        }
        return errorf(ErrorKind::kInvalid, "template: undefined variable \"${}\"", operand.name);
    }
    return Value();
  }

  static Result<Value> follow(const Value& from, const std::vector<std::string>& path) {
    const Value* at = &from;
    for (const std::string& name : path) {
      if (at->if_object() == nullptr) {
        return errorf(ErrorKind::kInvalid, "template: can't evaluate field {} in {:.60}", name,
                      at->is_null() ? "nothing (null)" : template_detail::shown(*at));
      }
      const Value* next = at->find(name);
      if (next == nullptr) return errorf(ErrorKind::kInvalid, "template: there is no field \"{}\"", name);
      at = next;
    }
    return *at;
  }

  std::vector<std::pair<std::string, Value>> variables_;  // innermost last; "" is $
};

}  // namespace

Result<std::string> Template::execute(const Value& value) const {
  Evaluator evaluator(value);
  TRY(evaluator.run(nodes_, value));
  return std::move(evaluator.output);
}

}  // namespace hull::cli
