// From a client's bytes to what is executed: heads, bodies, targets, routes, JSON, create requests, frames.
#include <gtest/gtest.h>

#include "api/create_body.h"
#include "api/http_reader.h"
#include "api/json.h"
#include "api/request.h"
#include "api/router.h"
#include "api/settings.h"
#include "api/versions.h"
#include "api/websocket.h"

namespace hull::api {
namespace {

/// A reader of a text that arrives in pieces.
struct Fed {
  explicit Fed(std::string all, size_t size = 7) : text(std::move(all)), piece(size) {}
  std::string text;
  size_t piece, at = 0;
  HttpReader reader{[this](char* out, size_t room) -> Result<size_t> {
    const size_t count = std::min({piece, room, text.size() - at});
    text.copy(out, count, at);
    at += count;
    return count;
  }};
  std::string body() {
    std::string out;
    char buffer[3];
    for (;;) {
      const auto got = reader.read_body(buffer, sizeof buffer);
      if (!got.ok()) return "error: " + got.error().message();
      if (*got == 0) return out;
      out.append(buffer, *got);
    }
  }
};

TEST(HttpReader, ReadsRequestsOneAfterTheOther) {
  for (const size_t piece : {1, 2, 13, 4096}) {
    Fed fed(
        "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Name: Value\r\n\r\nhello"
        "POST /d HTTP/1.1\r\nhost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
        "GET /e HTTP/1.0\r\n\r\n",
        piece);
    ASSERT_EQ(*fed.reader.next(), HttpReader::Next::kRequest);
    EXPECT_EQ(fed.reader.head().target, "/a?b=c");
    EXPECT_EQ(fed.reader.head().header("x-name"), "Value");
    EXPECT_EQ(fed.body(), "hello");
    ASSERT_EQ(*fed.reader.next(), HttpReader::Next::kRequest);
    EXPECT_TRUE(fed.reader.head().chunked);
    EXPECT_EQ(fed.body(), "abcde");
    ASSERT_EQ(*fed.reader.next(), HttpReader::Next::kRequest);
    EXPECT_FALSE(fed.reader.head().keep_alive);
    EXPECT_EQ(fed.body(), "");
    EXPECT_EQ(*fed.reader.next(), HttpReader::Next::kEnd);
  }
}

TEST(HttpReader, KeepsWhatFollowsForWhoTakesTheConnectionOver) {
  Fed fed("POST /attach HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nraw bytes", 4096);
  ASSERT_EQ(*fed.reader.next(), HttpReader::Next::kRequest);
  EXPECT_EQ(fed.body(), "");
  EXPECT_EQ(fed.reader.take_rest(), "raw bytes");
}

TEST(HttpReader, RefusesWhatCanBeReadInTwoWays) {
  for (const char* head : {"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /\r\n\r\n",
                           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
                           "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
                           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                           "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
                           "GET / HTTP/2.0\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"}) {
    Fed fed(head);
    EXPECT_EQ(*fed.reader.next(), HttpReader::Next::kRefused) << head;
  }
  Fed large("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(100'000, 'x'), 4096);
  ASSERT_EQ(*large.reader.next(), HttpReader::Next::kRefused);
  EXPECT_EQ(large.reader.refusal().status, 431);
  Fed cut("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nshort");
  ASSERT_EQ(*cut.reader.next(), HttpReader::Next::kRequest);
  EXPECT_TRUE(cut.body().starts_with("error"));
}

TEST(Target, IsDecodedOnce) {
  EXPECT_EQ(*percent_decode("a%2fb%25", false), "a/b%");
  EXPECT_FALSE(percent_decode("a%0", false).ok());
  EXPECT_FALSE(percent_decode("a%00", false).ok());
  const auto query = parse_query("name=a+b&flag&x=%26&name=2");
  ASSERT_TRUE(query.ok());
  EXPECT_EQ(query->size(), 4U);
  EXPECT_EQ((*query)[0].second, "a b");
  EXPECT_EQ((*query)[2].second, "&");
}

TEST(Filters, TakeBothForms) {
  EXPECT_EQ(parse_filters(R"({"label":["a","b"]})", {"label"})->count("label"), 2U);
  EXPECT_EQ(parse_filters(R"({"label":{"a":true,"b":false}})", {"label"})->count("label"), 1U);
  EXPECT_FALSE(parse_filters(R"({"other":["a"]})", {"label"}).ok());
  EXPECT_FALSE(parse_filters(R"({"label":"a"})", {"label"}).ok());
  EXPECT_FALSE(parse_filters(R"({"label":["a"],"label":["b"]})", {"label"}).ok());
}

TEST(Versions, AreTakenOffAndChecked) {
  std::string_view path = "/v1.43/info";
  EXPECT_EQ(take_version(&path)->value(), (Version{1, 43}));
  EXPECT_EQ(path, "/info");
  path = "/volumes";
  EXPECT_FALSE(take_version(&path)->has_value());
  path = "/v1.99/info";
  EXPECT_FALSE(take_version(&path).ok());
}

TEST(Router, FindsEndpoints) {
  const auto at = [](std::string_view method, std::string_view path) { return Router::all().find(method, path, 50); };
  ASSERT_NE(at("GET", "/containers/abc/json").route, nullptr);
  EXPECT_EQ(at("GET", "/containers/abc/json").params.at(0).second, "abc");
  EXPECT_EQ(at("GET", "/containers/json").route->pattern, "/containers/json");
  EXPECT_EQ(at("PATCH", "/containers/json").status, 405);
  EXPECT_EQ(at("GET", "/containers//json").status, 404);
  EXPECT_EQ(at("GET", "/containers/a/b/json").status, 404);
  EXPECT_NE(at("HEAD", "/_ping").route, nullptr);
  EXPECT_EQ(Router::all().find("POST", "/containers/prune", 24).route == nullptr ||
                Router::all().find("POST", "/containers/prune", 24).route->pattern != "/containers/prune",
            true);
}

TEST(JsonOfClients, IsOneDocumentAndNothingElse) {
  EXPECT_TRUE(parse_json(R"({"a":[1,2.5,"x",null,true]})").ok());
  for (const char* text :
       {"", "{", "{}x", "{} {}", R"({"a":1,"a":2})", R"({"b":{"a":1,"a":2}})", "\"\\u0000\"", "nul"}) {
    EXPECT_FALSE(parse_json(text).ok()) << text;
  }
  EXPECT_FALSE(parse_json(std::string(100, '[') + std::string(100, ']')).ok());
  EXPECT_EQ(to_text(*parse_json(R"({"a":[1,2.5,"\"x",null,true]})")), R"({"a":[1,2.5,"\"x",null,true]})");
}

TEST(CreateRequest, TakesWhatClientsSend) {
  const auto config = read_create(
      R"({"Image":"busybox","Cmd":"true","Entrypoint":["sh"],"Env":null,"AttachStdout":true,"OnBuild":null,
          "Volumes":{"/kept":{}},"Labels":{"a":"b"},"StopTimeout":0,
          "HostConfig":{"Binds":["/etc:/x:ro","data:/y"],"NetworkMode":"default","MemorySwappiness":-1,
            "Tmpfs":{"/t":"size=1m"},"RestartPolicy":{"Name":"","MaximumRetryCount":0},"ConsoleSize":[24,80],
            "PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"Runtime":"hull-vm","PidsLimit":0,
            "LogConfig":{"Type":"","Config":{}},"CpuCount":0,"Ulimits":null,"Isolation":""},
          "NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":null,"IPAMConfig":null}}}})",
      "web", "linux/amd64");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_EQ(config->name, "web");
  EXPECT_EQ(config->cmd, std::vector<std::string>{"true"});
  EXPECT_EQ(config->isolation, engine::Isolation::kVm);
  EXPECT_EQ(config->stop_timeout_s, 0);
  EXPECT_EQ(config->network, "bridge");
  EXPECT_TRUE(config->networks.empty());
  ASSERT_EQ(config->mounts.size(), 4U);
  EXPECT_EQ(config->ports.at(0).host_port, 8080);
  EXPECT_TRUE(config->attach_stdout);
  EXPECT_FALSE(config->attach_stderr);
}

TEST(CreateRequest, KeepsAnEntryPointThatClears) {
  EXPECT_TRUE(read_create(R"({"Image":"x","Entrypoint":[""]})", "", "")->entrypoint.has_value());
  EXPECT_TRUE(read_create(R"({"Image":"x","Entrypoint":[]})", "", "")->entrypoint.has_value());
  EXPECT_FALSE(read_create(R"({"Image":"x","Entrypoint":null})", "", "")->entrypoint.has_value());
}

TEST(CreateRequest, RefusesWhatItCanNotDo) {
  for (const char* text :
       {R"({})", R"({"Image":"x","HostConfig":{"Runtime":"kata"}})", R"({"Image":"x","HostConfig":{"Unknown":1}})",
        R"({"Image":"x","HostConfig":{"Binds":["../a:/b"]}})", R"({"Image":"x","HostConfig":{"Binds":["a:b"]}})",
        R"({"Image":"x","HostConfig":{"MaskedPaths":["/proc/x"]}})", R"({"Image":"x","HostConfig":[]})",
        R"({"Image":"x","Labels":{"io.hull.isolation":"none"}})",
        R"({"Image":"x","HostConfig":{"VolumeDriver":"nfs"}})"}) {
    EXPECT_FALSE(read_create(text, "", "").ok()) << text;
  }
}

TEST(CreateRequest, DependsOnTheVersion) {
  const std::string mac = R"({"Image":"x","MacAddress":"02:42:ac:11:00:02"})";
  EXPECT_TRUE(read_create(mac, "", "", Version{1, 51}).ok());
  EXPECT_FALSE(read_create(mac, "", "", Version{1, 52}).ok());
  const std::string ports = R"({"Image":"x","HostConfig":{"PortBindings":{"80/tcp":[],"81/tcp":[{}]}}})";
  std::vector<std::string> warnings;
  EXPECT_TRUE(read_create(ports, "", "", Version{1, 51}, &warnings).ok());
  EXPECT_TRUE(warnings.empty());
  EXPECT_TRUE(read_create(ports, "", "", Version{1, 52}, &warnings).ok());
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find(": 80/tcp."), std::string::npos);
}

TEST(Versions, ShowDocumentsInTheirWay) {
  EXPECT_EQ(without_old_addresses(R"({"Labels":{"Bridge":"\"NetworkSettings\":{"},"NetworkSettings":{"Bridge":"",)"
                                  R"("SandboxID":"s","SandboxKey":"k","Ports":{"80/tcp":[{"HostIp":"::"}]},)"
                                  R"("HairpinMode":false,"MacAddress":"","Networks":{"bridge":{"MacAddress":"m"}}}})"),
            R"({"Labels":{"Bridge":"\"NetworkSettings\":{"},"NetworkSettings":{"SandboxID":"s","SandboxKey":"k",)"
            R"("Ports":{"80/tcp":[{"HostIp":"::"}]},"Networks":{"bridge":{"MacAddress":"m"}}}})");
  EXPECT_EQ(without_old_addresses("{}"), "{}");
  const auto config = parse_json(R"({"Cmd":["sh"],"Env":null,"User":"","StopSignal":""})");
  EXPECT_EQ(image_config(&*config, Version{1, 52}), R"({"Cmd":["sh"],"StopSignal":""})");
  EXPECT_EQ(image_config(nullptr, Version{1, 52}), "{}");
  EXPECT_EQ(image_config(&*config, Version{1, 51}),
            R"({"Cmd":["sh"],"Env":null,"User":"","StopSignal":"","Entrypoint":null,"Labels":null,"OnBuild":null,)"
            R"("Volumes":null,"WorkingDir":""})");
  EXPECT_NE(image_config(nullptr, Version{1, 49}).find(R"("Tty":false)"), std::string::npos);
}

TEST(Versions, ChooseTheFormOfEvents) {
  EXPECT_EQ(event_form("", Version{1, 51}).content_type, "application/json");
  EXPECT_EQ(event_form("*/*", Version{1, 52}).content_type, "application/x-ndjson");
  EXPECT_EQ(event_form("application/*", Version{1, 53}).content_type, "application/jsonl");
  EXPECT_TRUE(event_form("text/html, application/json-seq;q=0.5", Version{1, 53}).sequence);
  EXPECT_FALSE(event_form("application/json-seq; q=0.0, x", Version{1, 53}).sequence);
  EXPECT_EQ(event_form(" application/x-ndjson ,application/json-seq", kNewestVersion).content_type,
            "application/x-ndjson");
}

TEST(Websocket, TakesFramesApart) {
  EXPECT_EQ(*websocket_accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  EXPECT_FALSE(websocket_accept("short").ok());
  WebsocketReader reader;
  std::string data, reply;
  // "Hel" and "lo" as two masked fragments with a ping between them (RFC 6455, 5.7).
  const std::string zero_mask(4, '\0');
  const std::string bytes = std::string("\x01\x83", 2) + zero_mask + "Hel" + std::string("\x89\x82", 2) + zero_mask +
                            "hi" + std::string("\x80\x82", 2) + zero_mask + "lo";
  for (const char c : bytes) ASSERT_TRUE(reader.feed(std::string_view(&c, 1), data, reply));
  EXPECT_EQ(data, "Hello");
  EXPECT_EQ(reply, std::string("\x8a\x02hi", 4));
  EXPECT_FALSE(reader.feed(std::string("\x81\x02", 2), data, reply));  // without a mask
}

TEST(Addresses, AreChecked) {
  EXPECT_TRUE(parse_address("unix:///run/x.sock").ok());
  EXPECT_EQ(parse_address("tcp://[::1]:2376")->host, "::1");
  for (const char* text : {"unix://x", "tcp://1.2.3.4", "tcp://host:1", "http://1.2.3.4:1", "tcp://1.2.3.4:0"}) {
    EXPECT_FALSE(parse_address(text).ok()) << text;
  }
}

}  // namespace
}  // namespace hull::api
