#include "oci/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::oci {
namespace {

using ::testing::HasSubstr;

const std::string kHex(64, 'a');

struct Good {
  std::string text, registry, repository, tag, familiar;
};

class GoodReference : public ::testing::TestWithParam<Good> {};

TEST_P(GoodReference, IsReadAndShown) {
  const Good& want = GetParam();
  auto ref = parse_reference(want.text);
  ASSERT_TRUE(ref.ok()) << ref.error().message();
  EXPECT_EQ(ref->registry, want.registry);
  EXPECT_EQ(ref->repository, want.repository);
  EXPECT_EQ(ref->tag, want.tag);
  EXPECT_EQ(ref->familiar(), want.familiar);
  // What is stored in full reads back as the same.
  auto again = parse_reference(ref->canonical());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, *ref);
  auto shown = parse_reference(ref->familiar());
  ASSERT_TRUE(shown.ok());
  EXPECT_EQ(*shown, *ref);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, GoodReference,
    ::testing::Values(Good{"busybox", "docker.io", "library/busybox", "latest", "busybox:latest"},
                      Good{"busybox:1.36", "docker.io", "library/busybox", "1.36", "busybox:1.36"},
                      Good{"user/app", "docker.io", "user/app", "latest", "user/app:latest"},
                      Good{"docker.io/busybox", "docker.io", "library/busybox", "latest", "busybox:latest"},
                      Good{"index.docker.io/library/busybox:x", "docker.io", "library/busybox", "x", "busybox:x"},
                      Good{"localhost/app", "localhost", "app", "latest", "localhost/app:latest"},
                      Good{"localhost:5000/a/b/c:v1", "localhost:5000", "a/b/c", "v1", "localhost:5000/a/b/c:v1"},
                      Good{"[::1]:5000/app", "[::1]:5000", "app", "latest", "[::1]:5000/app:latest"},
                      Good{"quay.io/x/y-z__w.v", "quay.io", "x/y-z__w.v", "latest", "quay.io/x/y-z__w.v:latest"},
                      Good{"Registry/app", "Registry", "app", "latest", "Registry/app:latest"},
                      Good{"docker.io/library/a/b", "docker.io", "library/a/b", "latest", "library/a/b:latest"},
                      Good{"a---b", "docker.io", "library/a---b", "latest", "a---b:latest"},
                      Good{"app:" + std::string(128, 'T'), "docker.io", "library/app", std::string(128, 'T'),
                           "app:" + std::string(128, 'T')}));

TEST(Reference, DigestStandsAloneOrBesideATag) {
  auto ref = parse_reference("busybox@sha256:" + kHex);
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(ref->tag, "");
  EXPECT_EQ(ref->digest.str(), "sha256:" + kHex);
  EXPECT_EQ(ref->familiar(), "busybox@sha256:" + kHex);
  ref = parse_reference("localhost:5000/b:v1@sha256:" + kHex);
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(ref->tag, "v1");
  EXPECT_EQ(ref->canonical(), "localhost:5000/b:v1@sha256:" + kHex);
}

TEST(Reference, DefaultRegistryTakesNamesWithoutHost) {
  auto ref = parse_reference("team/app", "registry.example:5000");
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(ref->registry, "registry.example:5000");
  EXPECT_EQ(ref->repository, "team/app");
  ref = parse_reference("app", "registry.example");
  ASSERT_TRUE(ref.ok());
  EXPECT_EQ(ref->repository, "app");
}

struct Bad {
  std::string text, says;
};
class BadReference : public ::testing::TestWithParam<Bad> {};

TEST_P(BadReference, IsRefusedByName) {
  auto ref = parse_reference(GetParam().text);
  ASSERT_FALSE(ref.ok()) << ref->canonical();
  EXPECT_EQ(ref.error().kind(), ErrorKind::kInvalid);
  EXPECT_THAT(ref.error().message(), HasSubstr(GetParam().says));
  for (const char c : ref.error().message()) EXPECT_GE(c, ' ') << "control character in the message";
}

INSTANTIATE_TEST_SUITE_P(
    Forms, BadReference,
    ::testing::Values(Bad{"", "empty"}, Bad{"Busybox", "lower case"}, Bad{"docker.io/Busybox", "lower case"},
                      Bad{"a//b", "empty path component"}, Bad{"a/", "empty path component"},
                      Bad{"/a", "empty path component"}, Bad{"a:", "not a tag"}, Bad{"a:b:c", "not a tag"},
                      Bad{"a:-x", "not a tag"}, Bad{"a@sha256:123", "digest"}, Bad{"a@md5:" + kHex, "digest"},
                      Bad{std::string("a\x1b[31m"), "\\x1b"}, Bad{std::string("a\0b", 3), "\\x00"},
                      Bad{"a b", "not a repository name"}, Bad{"a_-b", "not a repository name"},
                      Bad{"-a", "not a repository name"}, Bad{"a.", "not a repository name"},
                      Bad{"host:99999/app", "registry host"}, Bad{"host:5a/app", "registry host"},
                      Bad{"[::1/app", "registry host"}, Bad{kHex, "64 hex digits"},
                      Bad{std::string(300, 'a'), "longer than"}, Bad{"a:" + std::string(129, 't'), "not a tag"},
                      Bad{"a/../b", "not a repository name"}, Bad{"..:5000/x", "registry host"},
                      Bad{std::string(9000, 'a'), "longer than"}, Bad{":tag", "no repository name"}));

}  // namespace
}  // namespace hull::oci
