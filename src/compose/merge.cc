#include "compose/merge.h"

#include <algorithm>

#include "base/error_format.h"

namespace hull::compose {
namespace {

/// How the value of a key is merged.
enum class Rule : uint8_t { kDefault, kReplace, kByKey, kLogging };

/// Merges along the way to the value it is at, since what a list is depends on where it stands.
class Merger {
 public:
  explicit Merger(std::vector<std::string> path) : path_(std::move(path)) {}

  void merge(Node& base, Node over) {
    if (over.is_null() && over.tag == Node::Tag::kNone) return;
    const std::string key = key_below_name();
    const Rule rule = rule_of(key);
    const bool other_driver =
        rule == Rule::kLogging && over.find("driver") != nullptr && base.text_of("driver") != over.text_of("driver");
    if (over.tag == Node::Tag::kOverride || rule == Rule::kReplace || other_driver || base.kind != over.kind ||
        over.is_scalar()) {
      base = std::move(over);
      return;
    }
    base.mark = over.mark;
    if (over.is_map()) {
      merge_maps(base, std::move(over));
    } else {
      merge_lists(base, std::move(over), rule, key);
    }
  }

 private:
  /// "healthcheck.test" for services.web.healthcheck.test: what follows the name of a service or resource.
  std::string key_below_name() const {
    std::string key;
    for (size_t i = 2; i < path_.size(); ++i) key += (i > 2 ? "." : "") + path_[i];
    return key;
  }

  Rule rule_of(std::string_view key) const {
    if (key.empty()) return Rule::kDefault;
    if (path_[0] == "networks") return key == "ipam.config" ? Rule::kByKey : Rule::kDefault;
    if (path_[0] != "services") return Rule::kDefault;
    if (key == "command" || key == "entrypoint" || key == "healthcheck.test") return Rule::kReplace;
    if (key.starts_with("ulimits.")) return Rule::kReplace;
    if (key == "logging") return Rule::kLogging;
    for (const std::string_view one : {"ports", "volumes", "configs", "secrets", "devices", "env_file"}) {
      if (key == one) return Rule::kByKey;
    }
    return key.starts_with("blkio_config.") ? Rule::kByKey : Rule::kDefault;
  }

  /// What makes an element of such a list the same as another.
  static std::string element_key(std::string_view key, const Node& element) {
    if (key == "ports") {
      return fmt::format("{}|{}|{}|{}", element.text_of("host_ip"), element.text_of("target"),
                         element.text_of("published"), element.text_of("protocol"));
    }
    if (key == "configs" || key == "secrets") {
      return std::string(element.find("target") != nullptr ? element.text_of("target") : element.text_of("source"));
    }
    if (key == "ipam.config") return std::string(element.text_of("subnet"));
    if (key == "volumes" || key == "devices") return std::string(element.text_of("target"));
    return std::string(element.text_of("path"));
  }

  void merge_maps(Node& base, Node over) {
    for (Member& member : over.members) {
      if (member.value.tag == Node::Tag::kReset) {
        base.erase(member.key);
        continue;
      }
      Node* known = base.find(member.key);
      if (known == nullptr) {
        base.set(member.key, std::move(member.value), member.mark);
        continue;
      }
      path_.push_back(member.key);
      merge(*known, std::move(member.value));
      path_.pop_back();
    }
  }

  static void merge_lists(Node& base, Node over, Rule rule, std::string_view key) {
    for (Node& element : over.list) {
      const auto same = std::find_if(base.list.begin(), base.list.end(), [&](const Node& known) {
        if (rule == Rule::kByKey) {
          return known.is_map() && element.is_map() && element_key(key, known) == element_key(key, element);
        }
        return known.is_scalar() && element.is_scalar() && known.text == element.text;
      });
      if (same == base.list.end()) {
        base.list.push_back(std::move(element));
      } else if (rule == Rule::kByKey) {
        *same = std::move(element);
      }
    }
  }

  std::vector<std::string> path_;
};

}  // namespace

void merge_documents(Node& base, Node over) { Merger({}).merge(base, std::move(over)); }
void merge_service(Node& base, Node over) { Merger({"services", "x"}).merge(base, std::move(over)); }

void drop_resets(Node& node) {
  node.tag = Node::Tag::kNone;
  std::erase_if(node.members, [](const Member& member) { return member.value.tag == Node::Tag::kReset; });
  std::erase_if(node.list, [](const Node& element) { return element.tag == Node::Tag::kReset; });
  for (Member& member : node.members) drop_resets(member.value);
  for (Node& element : node.list) drop_resets(element);
}

}  // namespace hull::compose
