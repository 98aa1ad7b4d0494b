// Settings, credentials and addresses.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "store/registry/client.h"
#include "store/registry/credentials.h"
#include "store/registry/http.h"
#include "store/registry/settings.h"
#include "sys/file.h"

namespace hull::store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Settings, ReadsEverything) {
  auto settings = parse_registry_settings(R"(
data_root = "/d"
[registry]
default = "reg.example:5000"
parallel_layers = 5
stall_timeout = "1m"
[registry."localhost:5000"]
insecure = false
mirrors = ["a.example", "http://10.0.0.1:5000/"]
ca = "/x.pem"
[limits]
max_layer_bytes = "2GiB"
max_ratio = 50
[log]
whatever = 1
)",
                                          "hull.toml");
  ASSERT_TRUE(settings.ok()) << settings.error().message();
  EXPECT_EQ(settings->data_root, "/d");
  EXPECT_EQ(settings->default_registry, "reg.example:5000");
  EXPECT_EQ(settings->parallel_layers, 5);
  EXPECT_EQ(settings->stall_timeout.count(), 60000);
  EXPECT_EQ(settings->max_layer_bytes, 2ULL << 30);
  EXPECT_FALSE(settings->host("localhost:5000").insecure);
  EXPECT_THAT(settings->host("localhost:5000").mirrors, ElementsAre("a.example", "http://10.0.0.1:5000"));
  EXPECT_TRUE(settings->host("localhost:5001").insecure);
  EXPECT_FALSE(settings->host("quay.io").insecure);
}

TEST(Settings, LoopbackIsAnAddressAndNotAName) {
  for (const char* host : {"localhost", "localhost:5000", "127.0.0.1", "127.8.9.10:1", "[::1]", "[::1]:5000"}) {
    EXPECT_TRUE(is_loopback_host(host)) << host;
  }
  for (const char* host : {"localhost.example", "127.0.0.1.example", "127.example", "[::2]", "10.0.0.1", "127.1"}) {
    EXPECT_FALSE(is_loopback_host(host)) << host;
  }
}

class Credential : public ::testing::Test {
 protected:
  Credential() {
    std::string pattern = ::testing::TempDir() + "hull-cred-XXXXXX";
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Credential() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& text) { ASSERT_TRUE(sys::replace_file(folder_ + "/config.json", text).ok()); }
  std::string folder_;
};

TEST_F(Credential, Base64) {
  for (const std::string& text : {std::string("a"), std::string("ab"), std::string("abc"), std::string("u:p\0x", 5)}) {
    EXPECT_EQ(base64_decode(base64_encode(text)), text);
  }
  EXPECT_FALSE(base64_decode("a"));
  EXPECT_FALSE(base64_decode("!!!!"));
}

TEST_F(Credential, StoreFindErase) {
  const CredentialStore store(folder_ + "/deep/er");
  EXPECT_TRUE(store.find("docker.io")->empty());
  EXPECT_FALSE(*store.erase("docker.io"));
  ASSERT_TRUE(store.store("docker.io", {"ada", "pa:ss", ""}).ok());
  ASSERT_TRUE(store.store("localhost:5000", {"bob", "", "refresh"}).ok());
  struct stat info{};
  ASSERT_EQ(::stat(store.file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600U);
  EXPECT_THAT(*sys::read_file(store.file()), HasSubstr("https://index.docker.io/v1/"));
  EXPECT_EQ(store.find("docker.io")->password, "pa:ss");
  EXPECT_EQ(store.find("localhost:5000")->identity_token, "refresh");
  EXPECT_TRUE(*store.erase("docker.io"));
  EXPECT_TRUE(store.find("docker.io")->empty());
  EXPECT_FALSE(store.find("localhost:5000")->empty());
}

TEST_F(Credential, ReadsWhatOthersWrote) {
  const CredentialStore store(folder_);
  write(R"({"auths":{"https://reg.example/v2/":{"auth":"YTpi"},"other:5000":{"username":"u","password":"p"},
            "broken":{"auth":7},"broken2":[1],"x.example":{"auth":"%%%%"}},"credsStore":5,"HttpHeaders":{"a":"b"}})");
  EXPECT_EQ(store.find("reg.example")->username, "a");
  EXPECT_EQ(store.find("other:5000")->password, "p");
  EXPECT_TRUE(store.find("other")->empty()) << "another port is another registry";
  EXPECT_TRUE(store.find("broken")->empty());
  EXPECT_TRUE(store.find("x.example")->empty());
  ASSERT_TRUE(store.store("new.example", {"n", "m", ""}).ok());
  EXPECT_THAT(*sys::read_file(store.file()), HasSubstr("HttpHeaders"));
  write("not json");
  EXPECT_EQ(store.find("a").error().kind(), ErrorKind::kInvalid);
  write(R"({"credsStore":"../../bin/sh"})");
  EXPECT_EQ(store.find("a").error().kind(), ErrorKind::kInvalid) << "a helper is a name, not a path";
}

TEST(Url, ResolvesAndRefuses) {
  EXPECT_EQ(*resolve_url("https://a/b/c?d", "../x?y=1"), "https://a/x?y=1");
  EXPECT_EQ(*resolve_url("https://a/b", "//c/d"), "https://c/d");
  EXPECT_EQ(*resolve_url("", "http://a:5000/t"), "http://a:5000/t");
  for (const char* bad : {"ftp://a/", "file:///etc/passwd", "https://u:p@a/", "javascript:1"}) {
    EXPECT_FALSE(resolve_url("https://a/", bad).ok()) << bad;
  }
  EXPECT_FALSE(resolve_url("https://a/", "x\r\ny").ok());
  EXPECT_EQ(origin_of("https://A.example/x"), origin_of("https://a.example:443/y"));
  EXPECT_NE(origin_of("https://a"), origin_of("http://a"));
  EXPECT_NE(origin_of("https://a"), origin_of("https://a:444"));
  EXPECT_EQ(url_for_people("https://u:p@a/b?secret=1#x"), "https://a/b");
  EXPECT_EQ(url_encode("a b/c:é"), "a%20b%2Fc%3A%C3%A9");
}

TEST(Endpoints, MirrorsComeFirstAndNotForPushes) {
  RegistrySettings settings;
  settings.hosts["docker.io"].mirrors = {"m.example", "http://10.0.0.1"};
  auto all = endpoints_of("docker.io", settings, false);
  ASSERT_TRUE(all.ok());
  ASSERT_EQ(all->size(), 3U);
  EXPECT_EQ((*all)[0].base, "https://m.example");
  EXPECT_EQ((*all)[0].registry, "m.example") << "credentials are the mirror's own";
  EXPECT_EQ((*all)[1].base, "http://10.0.0.1");
  EXPECT_EQ((*all)[2].base, "https://registry-1.docker.io");
  EXPECT_FALSE((*all)[2].try_plain);
  EXPECT_EQ(endpoints_of("docker.io", settings, true)->size(), 1U);
  EXPECT_TRUE(endpoints_of("127.0.0.1:5000", settings, true)->front().try_plain);
}

TEST(Backoff, GrowsAndHonoursTheServer) {
  EXPECT_GE(backoff(1, "").count(), 250);
  EXPECT_LE(backoff(1, "").count(), 400);
  EXPECT_GE(backoff(4, "").count(), 2000);
  EXPECT_LE(backoff(99, "").count(), 10000);
  EXPECT_EQ(backoff(1, "3").count(), 3000);
  EXPECT_EQ(backoff(1, "9999").count(), 120000);
}

}  // namespace
}  // namespace hull::store
