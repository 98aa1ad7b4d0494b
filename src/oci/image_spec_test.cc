#include "oci/image_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::oci {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kA = "sha256:" + std::string(64, 'a');
const std::string kB = "sha256:" + std::string(64, 'b');

std::string manifest_with(const std::string& more) {
  return R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":)"
         R"("application/vnd.oci.image.config.v1+json","digest":")" +
         kA + R"(","size":10},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":")" + kB +
         R"(","size":20}])" + more + "}";
}

TEST(Manifest, IsReadAndWrittenBack) {
  auto manifest = parse_manifest(manifest_with(R"(,"annotations":{"k":"v"})"));
  ASSERT_TRUE(manifest.ok()) << manifest.error().message();
  EXPECT_EQ(manifest->config.size, 10);
  ASSERT_EQ(manifest->layers.size(), 1U);
  EXPECT_EQ(manifest->layers[0].digest.str(), kB);
  EXPECT_EQ(manifest->annotations.at("k"), "v");
  auto again = parse_manifest(to_json(*manifest));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(to_json(*again), to_json(*manifest));
}

struct BadJson {
  std::string text, says;
  ErrorKind kind = ErrorKind::kInvalid;
};
class BadManifest : public ::testing::TestWithParam<BadJson> {};

TEST_P(BadManifest, NamesTheMember) {
  auto manifest = parse_manifest(GetParam().text);
  ASSERT_FALSE(manifest.ok());
  EXPECT_EQ(manifest.error().kind(), GetParam().kind);
  EXPECT_THAT(manifest.error().message(), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Documents, BadManifest,
    ::testing::Values(
        BadJson{"", "not JSON"}, BadJson{"<html>busy</html>", "HTML"}, BadJson{"[]", "not a JSON object"},
        BadJson{"{", "not JSON"}, BadJson{std::string(100000, '['), "nested deeper"},
        BadJson{R"({"schemaVersion":1,"fsLayers":[]})", "schema 1", ErrorKind::kUnsupported},
        BadJson{R"({"schemaVersion":2})", "config"}, BadJson{R"({"schemaVersion":3})", "schemaVersion"},
        BadJson{manifest_with(R"(,"manifests":[])"), "ambiguous"},
        BadJson{R"({"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"x",)"
                R"("size":1},"layers":[]})",
                "image manifest.config: digest"},
        BadJson{R"({"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
                    kA + R"(","size":-1},"layers":[]})",
                "size: it is negative"},
        BadJson{R"({"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
                    kA + R"(","size":99999999999999999999},"layers":[]})",
                "size"},
        BadJson{R"({"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
                    kA + R"("},"layers":[]})",
                "size"},
        BadJson{R"({"schemaVersion":2,"config":{"mediaType":"application/x-helm","digest":")" + kA +
                    R"(","size":1},"layers":[]})",
                "artifact", ErrorKind::kUnsupported},
        BadJson{R"({"schemaVersion":2,"mediaType":"text/plain","config":{}})", "not known", ErrorKind::kUnsupported}));

TEST(Manifest, HasBoundedSizeAndLayers) {
  auto huge = parse_manifest(std::string(kMaxManifestBytes + 1, ' '));
  ASSERT_FALSE(huge.ok());
  EXPECT_THAT(huge.error().message(), HasSubstr("the limit"));
  Manifest many;
  many.config.media_type = kMediaTypeConfig;
  many.config.digest = *Digest::parse(kA);
  Descriptor layer{std::string(kMediaTypeLayer), *Digest::parse(kB), 1, {}, {}, {}};
  many.layers.assign(kMaxLayers + 1, layer);
  auto parsed = parse_manifest(to_json(many));
  ASSERT_FALSE(parsed.ok());
  EXPECT_THAT(parsed.error().message(), HasSubstr("more than"));
}

TEST(IsIndex, FollowsMediaTypeAndShape) {
  EXPECT_FALSE(*is_index(manifest_with(""), ""));
  EXPECT_TRUE(*is_index(R"({"schemaVersion":2,"manifests":[]})", std::string(kMediaTypeIndex) + "; charset=utf-8"));
  EXPECT_TRUE(*is_index(R"({"schemaVersion":2,"manifests":[]})", ""));
  EXPECT_FALSE(is_index(manifest_with(""), kMediaTypeIndex).ok()) << "header and body disagree";
  EXPECT_FALSE(is_index(R"({"schemaVersion":2})", "").ok());
  EXPECT_FALSE(is_index("<!doctype html>", "text/html").ok());
}

TEST(Platform, IsNormalised) {
  EXPECT_EQ(parse_platform("linux/x86_64")->str(), "linux/amd64");
  EXPECT_EQ(parse_platform("aarch64")->str(), "linux/arm64");
  EXPECT_EQ(parse_platform("linux/arm/v6")->str(), "linux/arm/v6");
  EXPECT_EQ(parse_platform("armhf")->str(), "linux/arm/v7");
  EXPECT_FALSE(parse_platform("").ok());
  EXPECT_FALSE(parse_platform("a/b/c/d").ok());
  EXPECT_FALSE(parse_platform("linux//v7").ok());
  EXPECT_FALSE(parse_platform("linux/\x1b").ok());
}

Index index_of(const std::vector<std::string>& platforms) {
  Index index;
  char c = 'a';
  for (const std::string& text : platforms) {
    Descriptor one;
    one.media_type = kMediaTypeManifest;
    one.digest = *Digest::parse("sha256:" + std::string(64, c++));
    if (!text.empty()) one.platform = *parse_platform(text);
    index.manifests.push_back(one);
  }
  return index;
}

TEST(ChoosePlatform, ExactVariantFirst) {
  const Index index = index_of({"linux/arm/v6", "linux/arm/v7", "linux/amd64", "linux/arm64/v8"});
  EXPECT_EQ(choose_platform(index, *parse_platform("linux/arm/v7"))->digest.hex()[0], 'b');
  EXPECT_EQ(choose_platform(index, *parse_platform("linux/arm/v8"))->digest.hex()[0], 'b');
  EXPECT_EQ(choose_platform(index, *parse_platform("linux/arm64"))->digest.hex()[0], 'd');
  EXPECT_EQ(choose_platform(index, *parse_platform("linux/amd64"))->digest.hex()[0], 'c');
  auto none = choose_platform(index, *parse_platform("linux/riscv64"));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().kind(), ErrorKind::kNotFound);
  EXPECT_THAT(none.error().message(), HasSubstr("linux/arm/v6"));
}

TEST(ChoosePlatform, OneEntryWithoutPlatformIsTaken) {
  EXPECT_TRUE(choose_platform(index_of({""}), *parse_platform("amd64")).ok());
  EXPECT_FALSE(choose_platform(index_of({"", ""}), *parse_platform("amd64")).ok());
}

TEST(ImageConfig, IsReadWhole) {
  auto config = parse_image_config(R"({"created":"2024-01-01T00:00:00Z","architecture":"amd64","os":"linux","config":{
    "User":"1000:1000","Env":["PATH=/bin"],"Cmd":["sh"],"Entrypoint":null,"ExposedPorts":{"80/tcp":{}},
    "Volumes":{"/data":{}},"WorkingDir":"/srv","Labels":{"a":"b"},"StopSignal":"SIGTERM","Shell":["/bin/sh","-c"],
    "Healthcheck":{"Test":["CMD","true"],"Interval":1000000000,"Retries":3},"Unknown":{"x":[1]}},
    "rootfs":{"type":"layers","diff_ids":[")" +
                                   kA + R"("]},
    "history":[{"created_by":"x","empty_layer":true},{"created_by":"y"}]})");
  ASSERT_TRUE(config.ok()) << config.error().message();
  EXPECT_THAT(config->config.env, ElementsAre("PATH=/bin"));
  EXPECT_THAT(config->config.exposed_ports, ElementsAre("80/tcp"));
  EXPECT_TRUE(config->config.entrypoint.empty());
  ASSERT_TRUE(config->config.healthcheck.has_value());
  EXPECT_EQ(config->config.healthcheck->retries, 3);
  ASSERT_EQ(config->history.size(), 2U);
  EXPECT_TRUE(config->history[0].empty_layer);
  EXPECT_EQ(config->diff_ids.size(), 1U);
  auto again = parse_image_config(to_json(*config));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(to_json(*again), to_json(*config));
}

TEST(ImageConfig, WrongTypesAreNamed) {
  const std::string rootfs = R"("rootfs":{"type":"layers","diff_ids":[]})";
  const std::pair<const char*, const char*> cases[] = {
      {R"("config":{"Env":[1]})", "image config.config.Env"},
      {R"("config":{"Env":["a\u0000b"]})", "NUL"},
      {R"("config":{"Labels":["x"]})", "image config.config.Labels"},
      {R"("config":{"Healthcheck":{"Retries":99999999999}})", "Retries"},
      {R"("config":7)", "image config.config"},
      {R"("history":{})", "image config.history"},
      {R"("os":5)", "image config.os"},
  };
  for (const auto& [member, says] : cases) {
    auto config = parse_image_config("{" + rootfs + "," + member + "}");
    ASSERT_FALSE(config.ok()) << member;
    EXPECT_THAT(config.error().message(), HasSubstr(says));
  }
  EXPECT_FALSE(parse_image_config("{}").ok());
  EXPECT_FALSE(parse_image_config(R"({"rootfs":{"type":"foreign","diff_ids":[]}})").ok());
  EXPECT_FALSE(parse_image_config(R"({"rootfs":{"type":"layers","diff_ids":["../x"]}})").ok());
}

}  // namespace
}  // namespace hull::oci
