#include "compose/canonical.h"

#include <algorithm>

#include "base/units.h"
#include "cli/text.h"
#include "cli/values.h"

namespace hull::compose {
namespace {

constexpr size_t kMostPorts = 5000;

/// A scalar as text, whatever it was written as.
Node as_text(Node node) {
  if (node.is_scalar() && node.style == Node::Style::kPlain) node.style = Node::Style::kQuoted;
  return node;
}

class Canonical {
 public:
  Canonical(const std::string& folder, Notices& notices) : folder_(folder), notices_(notices) {}

  Result<void> document(Node& root) {
    for (const std::string_view section : {"services", "networks", "volumes", "configs", "secrets"}) {
      Node* all = root.find(section);
      if (all == nullptr || !all->is_map()) continue;
      for (Member& member : all->members) {
        if (member.value.tag == Node::Tag::kReset) continue;
        where_ = fmt::format("{}.{}", section, member.key);
        if (section == "services") {
          TRY(service(member.value));
        } else {
          TRY(resource(member.value, section));
        }
      }
    }
    return {};
  }

 private:
  template <typename F>
  Result<void> with(Node& map, std::string_view key, F&& work) {
    Node* node = map.find(key);
    if (node == nullptr || node->is_null() || node->tag == Node::Tag::kReset) return {};
    const Node::Tag tag = node->tag;
    auto done = work(*node);
    node->tag = tag;
    if (done.ok()) return {};
    // Errors of the value parsers know no place yet.
    std::string message = done.error().message();
    if (node->mark.file != nullptr && message.starts_with(*node->mark.file + ":")) return done;
    return errorf_at(node->mark, "{}.{}: {}", where_, key, message);
  }

  /// ["A=1", "B"] and {A: 1, B: } become {A: "1", B: null}.
  static Result<void> pairs(Node& node) { return pairs_by(node, "=", false); }
  static Result<void> text_pairs(Node& node) { return pairs_by(node, "=", true); }
  static Result<void> pairs_by(Node& node, std::string_view separators, bool empty_text) {
    Node map = Node::make_map(node.mark);
    const auto put = [&](std::string_view key, Node value, Mark mark) -> Result<void> {
      if (key.empty()) return error_at(mark, "a name is missing before \"=\"");
      if (value.is_null() && empty_text && value.tag != Node::Tag::kReset) value = Node::scalar("", mark);
      map.set(key, as_text(std::move(value)), mark);
      return {};
    };
    for (Member& member : node.members) TRY(put(member.key, std::move(member.value), member.mark));
    for (Node& element : node.list) {
      const std::string text = element.text;
      const size_t at = text.find_first_of(separators);
      Node value;
      value.mark = element.mark;
      if (at != std::string::npos) value = Node::scalar(std::string_view(text).substr(at + 1), element.mark);
      TRY(put(std::string_view(text).substr(0, at), std::move(value), element.mark));
    }
    node = std::move(map);
    return {};
  }

  /// host → list of addresses.
  static Result<void> hosts(Node& node) {
    Node map = Node::make_map(node.mark);
    const auto put = [&](std::string_view host, const Node& address) {
      Node* known = map.find(host);
      if (known == nullptr) known = &map.set(host, Node::make_list(address.mark));
      known->add(address);
    };
    for (const Member& member : node.members) {
      if (!member.value.is_list()) {
        put(member.key, member.value);
        continue;
      }
      for (const Node& address : member.value.list) put(member.key, address);
    }
    for (const Node& element : node.list) {
      const std::string_view text = element.text;
      const size_t at = text.find_first_of("=:");
      if (at == std::string_view::npos || at == 0 || at + 1 == text.size()) {
        return errorf_at(element.mark, "\"{:.80}\": expected HOST:ADDRESS", text);
      }
      std::string_view address = text.substr(at + 1);
      if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
      put(text.substr(0, at), Node::scalar(address, element.mark));
    }
    node = std::move(map);
    return {};
  }

  static Result<void> to_list(Node& node) {
    if (node.is_scalar()) {
      Node list = Node::make_list(node.mark);
      list.add(std::move(node));
      node = std::move(list);
    }
    for (Node& element : node.list) element = as_text(std::move(element));
    return {};
  }

  static Result<void> command(Node& node) {
    if (node.is_list()) return {};
    TRY_ASSIGN(const std::vector<std::string> words, split_command(node.text));
    Node list = Node::make_list(node.mark);
    for (const std::string& word : words) list.add(Node::scalar(word, node.mark));
    node = std::move(list);
    return {};
  }

  /// "name" in the place of a map becomes {key: name}.
  static void wrap(Node& node, std::string_view key) {
    if (!node.is_scalar()) return;
    Node map = Node::make_map(node.mark);
    map.set(key, as_text(std::move(node)));
    node = std::move(map);
  }

  static Result<void> names_to_map(Node& node) {
    if (!node.is_list()) return {};
    Node map = Node::make_map(node.mark);
    for (const Node& element : node.list) {
      Node nothing;
      nothing.mark = element.mark;
      map.set(element.text, std::move(nothing));
    }
    node = std::move(map);
    return {};
  }

  static Result<void> depends_on(Node& node) {
    TRY(names_to_map(node));
    for (Member& member : node.members) {
      if (member.value.tag == Node::Tag::kReset) continue;
      Node& value = member.value;
      if (value.is_null()) value = Node::make_map(member.mark);
      if (value.find("condition") == nullptr) value.set("condition", Node::scalar("service_started", member.mark));
      if (value.find("required") == nullptr) value.set("required", Node::boolean(true, member.mark));
    }
    return {};
  }

  std::string path_at(const Node& node, std::string_view what) {
    std::string absolute = absolute_path(node.text, folder_);
    notice_escape(notices_, node.mark, fmt::format("{}: {}", where_, what), node.text, absolute, folder_);
    return absolute;
  }
  void make_absolute(Node& map, std::string_view key, std::string_view what) {
    Node* node = map.find(key);
    if (node == nullptr || !node->is_scalar() || node->text.empty()) return;
    node->text = path_at(*node, what);
    node->style = Node::Style::kQuoted;
  }

  Result<void> env_files(Node& node) {
    if (node.is_scalar()) TRY(to_list(node));
    for (Node& element : node.list) {
      wrap(element, "path");
      make_absolute(element, "path", "env_file");
      if (element.find("required") == nullptr) element.set("required", Node::boolean(true, element.mark));
    }
    return {};
  }

  Result<void> label_files(Node& node) {
    TRY(to_list(node));
    for (Node& element : node.list) element.text = path_at(element, "label_file");
    return {};
  }

  static Result<void> ports(Node& node) {
    Node list = Node::make_list(node.mark);
    for (Node& element : node.list) {
      if (element.is_map()) {
        TRY(long_port(element));
        list.add(std::move(element));
      } else {
        auto mappings = cli::parse_publish(element.text);
        if (!mappings.ok()) return errorf_at(element.mark, "port {:.80}: {}", element.text, mappings.error().message());
        for (const auto& mapping : *mappings) list.add(port_map(mapping, element.mark));
      }
      if (list.list.size() > kMostPorts) return errorf_at(element.mark, "more than {} ports", kMostPorts);
    }
    node = std::move(list);
    return {};
  }
  static Node port_map(const engine::PortRequest& mapping, Mark mark) {
    Node map = Node::make_map(mark);
    map.set("mode", Node::scalar("ingress", mark));
    if (!mapping.host_ip.empty()) map.set("host_ip", Node::scalar(mapping.host_ip, mark));
    map.set("target", Node::number(mapping.container_port, mark));
    if (mapping.host_port_last > mapping.host_port) {
      map.set("published", Node::scalar(fmt::format("{}-{}", mapping.host_port, mapping.host_port_last), mark));
    } else if (mapping.host_port != 0) {
      map.set("published", Node::scalar(std::to_string(mapping.host_port), mark));
    }
    map.set("protocol", Node::scalar(mapping.protocol, mark));
    return map;
  }
  static Result<void> long_port(Node& map) {
    const auto target = to_int(*map.find("target"));
    if (!target || *target < 1 || *target > 65535) {
      return errorf_at(map.find("target")->mark, "target: expected a port, 1 to 65535");
    }
    map.set("target", Node::number(*target, map.find("target")->mark));
    if (map.find("mode") == nullptr) map.set("mode", Node::scalar("ingress", map.mark));
    if (map.find("protocol") == nullptr) map.set("protocol", Node::scalar("tcp", map.mark));
    if (Node* published = map.find("published"); published != nullptr) *published = as_text(*published);
    return {};
  }

  /// SOURCE:TARGET:OPTIONS, where a source that begins with . / or ~ is a path of this machine.
  Result<Node> short_mount(const Node& node) {
    const std::string_view text = node.text;
    const auto parts = cli::split(text, ':');
    const auto bad = [&](std::string_view why) { return errorf_at(node.mark, "volume {:.200}: {}", text, why); };
    for (const std::string_view part : parts) {
      if (part.empty()) return bad("something is missing beside a colon");
    }
    if (parts.size() > 3) return bad("expected [SOURCE:]TARGET[:OPTIONS]");
    Node map = Node::make_map(node.mark);
    const auto put = [&](std::string_view key, std::string_view value) {
      map.set(key, Node::scalar(value, node.mark));
    };
    const std::string_view target = parts.size() == 1 ? parts[0] : parts[1];
    bool bind = false;
    if (parts.size() > 1) {
      const std::string_view source = parts[0];
      bind = source[0] == '.' || source[0] == '/' || source[0] == '~';
      put("type", bind ? "bind" : "volume");
      Node path = Node::scalar(source, node.mark);
      put("source", bind ? path_at(path, "volume") : std::string(source));
    } else {
      put("type", "volume");
    }
    if (!target.starts_with('/')) return bad("the place in the container must be an absolute path");
    put("target", target);
    Node options = Node::make_map(node.mark);
    if (bind) options.set("create_host_path", Node::boolean(true, node.mark));
    if (parts.size() == 3) {
      for (const std::string_view option : cli::split(parts[2], ',')) {
        if (!mount_option(map, options, option, bind, node.mark)) {
          return bad(fmt::format("unknown option \"{}\"", option));
        }
      }
    }
    map.set(bind ? "bind" : "volume", std::move(options));
    return map;
  }
  static bool mount_option(Node& map, Node& options, std::string_view option, bool bind, Mark mark) {
    if (option == "ro" || option == "rw") {
      if (option == "ro") map.set("read_only", Node::boolean(true, mark));
    } else if (bind && (option == "z" || option == "Z")) {
      options.set("selinux", Node::scalar(option, mark));
    } else if (bind && (option == "shared" || option == "rshared" || option == "slave" || option == "rslave" ||
                        option == "private" || option == "rprivate")) {
      options.set("propagation", Node::scalar(option, mark));
    } else if (!bind && option == "nocopy") {
      options.set("nocopy", Node::boolean(true, mark));
    } else {
      // What Docker Desktop's file sharing was told; it has no meaning on Linux.
      return option == "cached" || option == "delegated" || option == "consistent";
    }
    return true;
  }

  Result<void> mounts(Node& node) {
    for (Node& element : node.list) {
      if (element.is_scalar()) {
        TRY_ASSIGN(element, short_mount(element));
        continue;
      }
      if (element.text_of("type") == "bind") make_absolute(element, "source", "volume");
      if (element.find("target") == nullptr) return errorf_at(element.mark, "the key \"target\" is missing");
      if (Node* options = element.find("volume"); options != nullptr) {
        TRY(with(*options, "labels", text_pairs));
      }
    }
    return {};
  }

  static Result<void> devices(Node& node) {
    for (Node& element : node.list) {
      if (element.is_map()) {
        if (element.find("target") == nullptr) element.set("target", *element.find("source"));
        if (element.find("permissions") == nullptr) element.set("permissions", Node::scalar("rwm", element.mark));
        continue;
      }
      const auto device = cli::parse_device(element.text);
      if (!device.ok()) return errorf_at(element.mark, "{}", device.error().message());
      Node map = Node::make_map(element.mark);
      map.set("source", Node::scalar(device->host_path, element.mark));
      map.set("target", Node::scalar(device->container_path, element.mark));
      map.set("permissions", Node::scalar(device->permissions, element.mark));
      element = std::move(map);
    }
    return {};
  }

  static Result<void> file_refs(Node& node) {
    for (Node& element : node.list) {
      wrap(element, "source");
      if (element.find("source") == nullptr) return errorf_at(element.mark, "the key \"source\" is missing");
    }
    return {};
  }

  Result<void> build(Node& node) {
    wrap(node, "context");
    const std::string_view context = node.text_of("context");
    if (context.find("://") == std::string_view::npos && !context.starts_with("git@")) {
      make_absolute(node, "context", "build");
    }
    for (const std::string_view key : {"args", "ssh", "additional_contexts"}) TRY(with(node, key, pairs));
    TRY(with(node, "labels", text_pairs));
    TRY(with(node, "extra_hosts", hosts));
    return with(node, "secrets", file_refs);
  }

  static Result<void> health(Node& node) {
    Node* test = node.find("test");
    if (test == nullptr || !test->is_scalar()) return {};
    Node list = Node::make_list(test->mark);
    list.add(Node::scalar("CMD-SHELL", test->mark));
    list.add(as_text(std::move(*test)));
    *test = std::move(list);
    return {};
  }

  static Result<void> scalars(Node& node) {
    for (Member& member : node.members) member.value = as_text(std::move(member.value));
    return {};
  }

  Result<void> service_networks(Node& node) {
    TRY(names_to_map(node));
    for (Member& member : node.members) {
      if (member.value.is_map()) TRY(with(member.value, "driver_opts", scalars));
    }
    return {};
  }

  Result<void> hooks(Node& node) {
    for (Node& hook : node.list) {
      TRY(with(hook, "command", command));
      TRY(with(hook, "environment", pairs));
    }
    return {};
  }

  Result<void> service(Node& node) {
    if (!node.is_map()) return {};
    TRY(with(node, "environment", pairs));
    for (const std::string_view key : {"labels", "annotations", "sysctls"}) TRY(with(node, key, text_pairs));
    for (const std::string_view key : {"dns", "dns_search", "dns_opt", "tmpfs", "expose", "group_add"}) {
      TRY(with(node, key, to_list));
    }
    for (const std::string_view key : {"command", "entrypoint"}) TRY(with(node, key, command));
    for (const std::string_view key : {"configs", "secrets"}) TRY(with(node, key, file_refs));
    for (const std::string_view key : {"post_start", "pre_start", "pre_stop"}) {
      TRY(with(node, key, [&](Node& value) { return hooks(value); }));
    }
    TRY(with(node, "extra_hosts", hosts));
    TRY(with(node, "env_file", [&](Node& value) { return env_files(value); }));
    TRY(with(node, "label_file", [&](Node& value) { return label_files(value); }));
    TRY(with(node, "depends_on", depends_on));
    TRY(with(node, "networks", [&](Node& value) { return service_networks(value); }));
    TRY(with(node, "models", names_to_map));
    TRY(with(node, "ports", ports));
    TRY(with(node, "volumes", [&](Node& value) { return mounts(value); }));
    TRY(with(node, "devices", devices));
    TRY(with(node, "build", [&](Node& value) { return build(value); }));
    TRY(with(node, "healthcheck", health));
    TRY(with(node, "storage_opt", scalars));
    if (Node* extends = node.find("extends"); extends != nullptr) wrap(*extends, "service");
    if (Node* logging = node.find("logging"); logging != nullptr) TRY(with(*logging, "options", scalars));
    if (Node* deploy = node.find("deploy"); deploy != nullptr) TRY(with(*deploy, "labels", text_pairs));
    return {};
  }

  /// A network, volume, config or secret.
  Result<void> resource(Node& node, std::string_view section) {
    if (!node.is_map()) return {};
    TRY(with(node, "labels", text_pairs));
    TRY(with(node, "driver_opts", scalars));
    if (section == "configs" || section == "secrets") make_absolute(node, "file", "file");
    Node* external = node.find("external");
    if (external == nullptr || external->is_null()) return {};
    if (external->is_map()) {
      // The old way to name what is external.
      if (const Node* name = external->find("name"); name != nullptr) node.set("name", *name);
      *node.find("external") = Node::boolean(true, node.mark);
    } else if (!to_bool(*external)) {
      return errorf_at(external->mark, "{}.external: expected true or false", where_);
    }
    return {};
  }

  const std::string& folder_;
  Notices& notices_;
  std::string where_;
};

}  // namespace

Result<void> make_canonical(Node& document, const std::string& folder, Notices& notices) {
  return Canonical(folder, notices).document(document);
}

Result<std::vector<std::string>> split_command(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != 0) {
      if (c == quote) {
        quote = 0;
      } else if (quote == '"' && c == '\\' && i + 1 < text.size() && (text[i + 1] == '"' || text[i + 1] == '\\')) {
        word += text[++i];
      } else {
        word += c;
      }
    } else if (c == '\'' || c == '"') {
      quote = c;
      in_word = true;
    } else if (c == '\\' && i + 1 < text.size()) {
      word += text[++i];
      in_word = true;
    } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (quote != 0) return errorf(ErrorKind::kInvalid, "the quotation mark {} is never closed", quote);
  if (in_word) words.push_back(std::move(word));
  return words;
}

}  // namespace hull::compose
