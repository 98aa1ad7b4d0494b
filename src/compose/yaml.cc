#include "compose/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <map>
#include <sstream>
#include <utility>

namespace hull::compose {
namespace {

/// Unwinds yaml-cpp; it never leaves this file.
struct Refusal {
  Error error;
};

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string* file, const YamlLimits& limits) : file_(file), limits_(limits) {}

  std::vector<Node> take() { return std::move(documents_); }

  void OnDocumentStart(const YAML::Mark&) override {
    frames_.clear();
    anchors_.clear();
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Node node;
    node.mark = at(mark);
    finish(std::move(node), anchor, 1, 0);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) refuse(at(mark), "an alias stands inside the very node that it repeats");
    finish(found->second.node, 0, found->second.nodes, found->second.text);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node node = Node::scalar(value, at(mark), tag == "?" ? Node::Style::kPlain : Node::Style::kQuoted);
    apply_tag(node, tag);
    if (value.find('\0') != std::string::npos) refuse(node.mark, "a NUL character is not allowed");
    if (scalar_type(node) == ScalarType::kNull) {
      node.kind = Node::Kind::kNull;
      node.text.clear();
    }
    finish(std::move(node), anchor, 1, value.size());
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::make_list(at(mark)), tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::make_map(at(mark)), tag, anchor);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override {
    apply_merge_keys(frames_.back().node);
    close();
  }

 private:
  struct Frame {
    Node node;
    YAML::anchor_t anchor = 0;
    size_t nodes = 1, text = 0;
    bool has_key = false;
    std::string key;
    Mark key_mark;
    bool plain_key = false;
    std::vector<Node> merges;
  };
  struct Anchored {
    Node node;
    size_t nodes = 0, text = 0;
  };

  Mark at(const YAML::Mark& mark) const { return {file_, mark.line + 1}; }
  [[noreturn]] static void refuse(const Mark& mark, std::string_view message) {
    throw Refusal{error_at(mark, message)};  // NOLINT(house): through yaml-cpp, to parse_yaml
  }

  void apply_tag(Node& node, const std::string& tag) const {
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    if (tag.empty() || tag == "?" || tag == "!") return;
    if (tag == "!reset") {
      node.tag = Node::Tag::kReset;
      if (node.is_scalar()) node.style = Node::Style::kPlain;
    } else if (tag == "!override") {
      node.tag = Node::Tag::kOverride;
      if (node.is_scalar()) node.style = Node::Style::kPlain;
    } else if (tag.starts_with(kCore)) {
      const std::string_view type = std::string_view(tag).substr(kCore.size());
      if (type == "int" || type == "float" || type == "bool" || type == "null") {
        node.style = Node::Style::kPlain;
      } else if (type != "str" && type != "map" && type != "seq") {
        refuse(node.mark, fmt::format("the tag !!{:.40} is not understood", type));
      }
    } else {
      refuse(node.mark, fmt::format("the tag {:.40} is not understood (there are !reset and !override)", tag));
    }
  }

  void open(Node node, const std::string& tag, YAML::anchor_t anchor) {
    apply_tag(node, tag);
    if (static_cast<int>(frames_.size()) >= limits_.depth) {
      refuse(node.mark, fmt::format("nested deeper than {} levels", limits_.depth));
    }
    if (!frames_.empty() && frames_.back().node.is_map() && !frames_.back().has_key) {
      refuse(node.mark, "a key must be text");
    }
    Frame frame;
    frame.node = std::move(node);
    frame.anchor = anchor;
    frames_.push_back(std::move(frame));
    count(frames_.back().node.mark, 1, 0);
  }
  void close() {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    // Counted when its parts came.
    attach(std::move(frame.node), frame.anchor, frame.nodes, frame.text);
  }
  void finish(Node node, YAML::anchor_t anchor, size_t nodes, size_t text) {
    count(node.mark, nodes, text);
    attach(std::move(node), anchor, nodes, text);
  }
  void count(const Mark& mark, size_t nodes, size_t text) {
    nodes_ += nodes;
    text_ += text;
    if (nodes_ > limits_.nodes || text_ > limits_.text) {
      refuse(mark, fmt::format("the document is too large once its aliases are written out (more than {} parts or {} "
                               "MiB of text)",
                               limits_.nodes, limits_.text >> 20));
    }
  }
  void attach(Node node, YAML::anchor_t anchor, size_t nodes, size_t text) {
    if (anchor != 0) {
      count(node.mark, nodes, text);  // the copy is kept
      anchors_.insert_or_assign(anchor, Anchored{node, nodes, text});
    }
    if (frames_.empty()) {
      documents_.push_back(std::move(node));
      return;
    }
    Frame& frame = frames_.back();
    frame.nodes += nodes;
    frame.text += text;
    if (frame.node.is_list()) {
      frame.node.list.push_back(std::move(node));
      return;
    }
    if (!frame.has_key) {
      if (!node.is_scalar()) refuse(node.mark, "a key must be text");
      frame.has_key = true;
      frame.plain_key = node.style == Node::Style::kPlain;
      frame.key_mark = node.mark;
      frame.key = std::move(node.text);
      return;
    }
    frame.has_key = false;
    // A value that is not there has the place of what comes next.
    if (node.is_null()) node.mark = frame.key_mark;
    if (frame.plain_key && frame.key == "<<") {
      frame.merges.push_back(std::move(node));
      return;
    }
    if (const size_t known = keys_seen(frame.node, frame.key); known != 0) {
      refuse(frame.key_mark, fmt::format("the key \"{:.100}\" is there twice (first on line {})", frame.key, known));
    }
    // Maps are searched from their beginning.
    constexpr size_t kMostMembers = 5000;
    if (frame.node.members.size() >= kMostMembers) {
      refuse(frame.key_mark, fmt::format("a map with more than {} keys", kMostMembers));
    }
    frame.node.members.push_back({std::move(frame.key), frame.key_mark, std::move(node)});
    frame.key.clear();
  }
  static size_t keys_seen(const Node& map, std::string_view key) {
    for (const Member& member : map.members) {
      if (member.key == key) return static_cast<size_t>(std::max(member.mark.line, 1));
    }
    return 0;
  }
  /// What a map has itself counts before what it takes over, and the first source before the next.
  void apply_merge_keys(Node& map) {
    const std::vector<Node> merges = std::move(frames_.back().merges);
    const auto take = [&](const Node& source) {
      if (!source.is_map()) refuse(source.mark, "\"<<\" takes a map or a list of maps");
      for (const Member& member : source.members) {
        if (map.find(member.key) == nullptr) map.members.push_back(member);
      }
    };
    for (const Node& source : merges) {
      if (!source.is_list()) {
        take(source);
        continue;
      }
      for (const Node& one : source.list) take(one);
    }
  }

  const std::string* file_;
  YamlLimits limits_;
  std::vector<Node> documents_;
  std::vector<Frame> frames_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  size_t nodes_ = 0, text_ = 0;
};

}  // namespace

Result<std::vector<Node>> parse_yaml(std::string_view text, const std::string* file, const YamlLimits& limits) {
  if (text.size() > limits.bytes) {
    return errorf(ErrorKind::kInvalid, "{}: larger than {} KiB", *file, limits.bytes >> 10);
  }
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  try {  // NOLINT(house): yaml-cpp throws
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(file, limits);
    while (parser.HandleNextDocument(builder)) {
    }
    return builder.take();
  } catch (const Refusal& refusal) {  // NOLINT(house)
    return refusal.error;
  } catch (const YAML::Exception& problem) {  // NOLINT(house)
    return error_at({file, problem.mark.line + 1}, fmt::format("not valid YAML: {}", problem.msg));
  }
}

}  // namespace hull::compose
