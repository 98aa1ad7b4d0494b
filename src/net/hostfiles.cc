#include "net/hostfiles.h"

#include <algorithm>
#include <cctype>

#include "base/error_format.h"

namespace hull::net {
namespace {

constexpr size_t kLongestResolvConf = 64 << 10;
constexpr size_t kMostItems = 256;  // of each kind; more than any resolver reads

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> out;
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; };
  for (size_t at = 0; at < line.size() && out.size() < kMostItems;) {
    if (blank(line[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < line.size() && !blank(line[end])) ++end;
    out.push_back(line.substr(at, end - at));
    at = end;
  }
  return out;
}

bool printable(std::string_view text) {
  return std::none_of(text.begin(), text.end(), [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

// An address, IPv6 perhaps with a %zone.
bool is_nameserver(std::string_view text) {
  const size_t zone = text.find('%');
  auto address = IpAddress::parse(text.substr(0, zone));
  if (!address.ok()) return false;
  if (zone == std::string_view::npos) return true;
  return !address->is_v4() && zone + 1 < text.size() && text.size() - zone <= 16 && printable(text);
}

// A zone names an interface of the host, so it can't be meant inside.
bool reachable_from_inside(std::string_view server, bool ipv6) {
  if (server.find('%') != std::string_view::npos) return false;
  auto address = IpAddress::parse(server);
  return address.ok() && !address->is_loopback() && (ipv6 || address->is_v4());
}

void add_line(std::string& out, std::string_view keyword, const std::vector<std::string>& words) {
  if (words.empty()) return;
  out += keyword;
  for (const std::string& word : words) {
    out += ' ';
    out += word;
  }
  out += '\n';
}

bool single_word(std::string_view text) {
  return !text.empty() && text.size() <= 255 && printable(text) &&
         text.find_first_of(" \t#;") == std::string_view::npos;
}

}  // namespace

ResolvConf parse_resolv_conf(std::string_view text) {
  ResolvConf out;
  text = text.substr(0, kLongestResolvConf);
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    std::string_view line = text.substr(0, newline);
    text = newline == std::string_view::npos ? std::string_view() : text.substr(newline + 1);
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.remove_suffix(1);
    if (line.empty() || line[0] == '#' || line[0] == ';' || !printable(line)) continue;
    const std::vector<std::string_view> fields = fields_of(line);
    if (fields.empty()) continue;
    const std::string_view keyword = fields[0];
    if (keyword == "nameserver") {
      if (fields.size() > 1 && is_nameserver(fields[1]) && out.nameservers.size() < kMostItems) {
        out.nameservers.emplace_back(fields[1]);
      }
    } else if (keyword == "search" || keyword == "domain") {
      if (fields.size() > 1) out.search.assign(fields.begin() + 1, fields.end());
    } else if (keyword == "options") {
      for (size_t i = 1; i < fields.size() && out.options.size() + 1 < kMostItems; ++i)
        out.options.emplace_back(fields[i]);
    } else if (out.other.size() < kMostItems) {
      out.other.emplace_back(line);
    }
  }
  return out;
}

Result<void> validate_dns_flags(const DnsFlags& flags) {
  for (const std::string& server : flags.servers) {
    if (!is_nameserver(server)) return errorf(ErrorKind::kInvalid, "--dns {}: not an IP address", server);
  }
  for (const std::string& domain : flags.search) {
    if (!single_word(domain)) return errorf(ErrorKind::kInvalid, "--dns-search '{}': not a domain", domain);
  }
  for (const std::string& option : flags.options) {
    if (!single_word(option)) return errorf(ErrorKind::kInvalid, "--dns-option '{}': not a single word", option);
  }
  return {};
}

std::string make_resolv_conf(std::string_view host_text, const DnsFlags& flags, ResolvFor where, bool ipv6) {
  ResolvConf conf = parse_resolv_conf(host_text);
  if (!flags.servers.empty()) {
    conf.nameservers = flags.servers;
  } else if (where == ResolvFor::kOwnNetwork) {
    std::erase_if(conf.nameservers, [ipv6](const std::string& server) { return !reachable_from_inside(server, ipv6); });
    if (conf.nameservers.empty()) {
      conf.nameservers = {"8.8.8.8", "8.8.4.4"};
      if (ipv6) conf.nameservers.insert(conf.nameservers.end(), {"2001:4860:4860::8888", "2001:4860:4860::8844"});
    }
  }
  if (!flags.search.empty()) {
    conf.search = flags.search;
    std::erase(conf.search, ".");
  }
  if (!flags.options.empty()) conf.options = flags.options;

  std::string out;
  for (const std::string& server : conf.nameservers) add_line(out, "nameserver", {server});
  add_line(out, "search", conf.search);
  add_line(out, "options", conf.options);
  for (const std::string& line : conf.other) {
    out += line;
    out += '\n';
  }
  return out;
}

std::string_view resolv_conf_path(std::string_view etc_text) {
  const ResolvConf conf = parse_resolv_conf(etc_text);
  const bool only_the_stub = conf.nameservers == std::vector<std::string>{"127.0.0.53"};
  return only_the_stub ? "/run/systemd/resolve/resolv.conf" : "/etc/resolv.conf";
}

Result<HostsEntry> parse_add_host(std::string_view text) {
  const size_t separator = text.find_first_of("=:");
  if (separator == std::string_view::npos || separator == 0 || separator + 1 == text.size()) {
    return errorf(ErrorKind::kInvalid, "bad format for add-host: \"{}\" (name:ip is meant)", text.substr(0, 80));
  }
  HostsEntry out{std::string(text.substr(separator + 1)), std::string(text.substr(0, separator))};
  if (!single_word(out.name)) {
    return errorf(ErrorKind::kInvalid, "bad format for add-host: \"{}\" is not a host name", out.name.substr(0, 80));
  }
  if (out.address == "host-gateway") return out;
  if (out.address.front() == '[' && out.address.back() == ']')
    out.address = out.address.substr(1, out.address.size() - 2);
  auto address = IpAddress::parse(out.address);
  if (!address.ok())
    return errorf(ErrorKind::kInvalid, "invalid IP address in add-host: \"{}\"", out.address.substr(0, 80));
  out.address = address->str();
  return out;
}

Result<std::string> make_hosts(const HostsRequest& request) {
  std::string out = "127.0.0.1\tlocalhost\n";
  if (request.ipv6) {
    out +=
        "::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
        "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";
  }
  for (const HostsEntry& entry : request.extra) {
    if (entry.address != "host-gateway") {
      out += fmt::format("{}\t{}\n", entry.address, entry.name);
      continue;
    }
    if (request.host_gateway.empty()) {
      return errorf(ErrorKind::kInvalid,
                    "--add-host {}:host-gateway: this network has no gateway that leads to the host; give an address",
                    entry.name);
    }
    for (const IpAddress& gateway : request.host_gateway) out += fmt::format("{}\t{}\n", gateway.str(), entry.name);
  }
  if (request.hostname.empty()) return out;
  const std::string names = request.domainname.empty()
                                ? request.hostname
                                : fmt::format("{}.{} {}", request.hostname, request.domainname, request.hostname);
  for (const IpAddress& address : request.addresses) out += fmt::format("{}\t{}\n", address.str(), names);
  return out;
}

std::string make_hostname(std::string_view hostname) { return std::string(hostname) + '\n'; }

Result<void> validate_hostname(std::string_view hostname) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_'; };
  const auto edge = [](char c) { return c != '-' && c != '.'; };
  if (hostname.empty() || hostname.size() > 64 || !std::all_of(hostname.begin(), hostname.end(), fits) ||
      !edge(hostname.front()) || !edge(hostname.back())) {
    return errorf(ErrorKind::kInvalid,
                  "invalid hostname '{}': 1 to 64 letters, digits, '-', '.' and '_' are allowed, with no '-' or '.' at "
                  "either end",
                  hostname.substr(0, 80));
  }
  return {};
}

}  // namespace hull::net
