#include "store/registry/http_answers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hull::store {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(WwwAuthenticate, ReadsChallenges) {
  auto all =
      parse_www_authenticate(R"(Bearer realm="https://a/token",service="reg\"x",scope="repository:a/b:pull,push")");
  ASSERT_THAT(all, SizeIs(1));
  EXPECT_EQ(all[0].scheme, "bearer");
  EXPECT_EQ(all[0].parameters.at("realm"), "https://a/token");
  EXPECT_EQ(all[0].parameters.at("service"), "reg\"x");
  EXPECT_EQ(all[0].parameters.at("scope"), "repository:a/b:pull,push");

  all = parse_www_authenticate(R"(Negotiate, Basic realm=plain , BEARER Realm = "r" , x=y)");
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_EQ(all[1].scheme, "basic");
  EXPECT_EQ(all[1].parameters.at("realm"), "plain");
  EXPECT_EQ(all[2].parameters.at("realm"), "r");
  EXPECT_EQ(all[2].parameters.at("x"), "y");
}

TEST(WwwAuthenticate, SurvivesNonsense) {
  EXPECT_THAT(parse_www_authenticate(""), IsEmpty());
  EXPECT_THAT(parse_www_authenticate(",,, ,"), IsEmpty());
  EXPECT_THAT(parse_www_authenticate("\"quoted\""), IsEmpty());
  EXPECT_THAT(parse_www_authenticate("Bearer realm=\"open"), SizeIs(1));
  EXPECT_THAT(parse_www_authenticate(std::string(100000, ',')), IsEmpty());
  std::string many;
  for (int i = 0; i < 10000; ++i) many += "a b=c,";
  EXPECT_LE(parse_www_authenticate(many).size(), 16U);
}

TEST(ContentRange, IsExact) {
  auto range = parse_content_range("bytes 5-9/100");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->first, 5U);
  EXPECT_EQ(range->last, 9U);
  EXPECT_EQ(range->total, 100U);
  EXPECT_FALSE(parse_content_range("bytes 0-0/*")->total);
  for (const char* bad : {"", "bytes", "bytes 9-5/100", "bytes 0-100/100", "bytes 0-1", "bytes */5", "items 0-1/2",
                          "bytes -1-5/9", "bytes 0-99999999999999999999/*", "bytes 0 - 1/2", "bytes 0/5-9"}) {
    EXPECT_FALSE(parse_content_range(bad)) << bad;
  }
}

TEST(RetryAfter, SecondsDatesAndBounds) {
  const auto now = std::chrono::system_clock::from_time_t(1700000000);
  EXPECT_EQ(parse_retry_after("7", now)->count(), 7);
  EXPECT_EQ(parse_retry_after("99999999999", now)->count(), 86400);
  EXPECT_EQ(parse_retry_after("Tue, 14 Nov 2023 22:13:30 GMT", now)->count(), 10);
  EXPECT_EQ(parse_retry_after("Tue, 14 Nov 2000 22:13:30 GMT", now)->count(), 0);
  EXPECT_FALSE(parse_retry_after("soon", now));
  EXPECT_FALSE(parse_retry_after("-5", now));
  EXPECT_FALSE(parse_retry_after("", now));
}

TEST(Link, FindsNext) {
  EXPECT_EQ(parse_link_next(R"(</v2/a/tags/list?n=1&last=x>; rel="next")"), "/v2/a/tags/list?n=1&last=x");
  EXPECT_EQ(parse_link_next(R"(<a>; rel=prev, <b>; title="x,y"; rel=NEXT)"), "b");
  EXPECT_EQ(parse_link_next("<a>; rel=prev"), "");
  EXPECT_EQ(parse_link_next("<unclosed"), "");
  EXPECT_EQ(parse_link_next(std::string(20000, '<')), "");
}

TEST(Token, IsReadAndBounded) {
  EXPECT_EQ(parse_token_answer(R"({"token":"t"})")->token, "t");
  EXPECT_EQ(parse_token_answer(R"({"access_token":"u","expires_in":300,"refresh_token":"r"})")->lifetime.count(), 300);
  EXPECT_EQ(parse_token_answer(R"({"token":"t","expires_in":-5})")->lifetime.count(), 30);
  EXPECT_EQ(parse_token_answer(R"({"token":"t","expires_in":18446744073709551615})")->lifetime.count(), 86400);
  for (const std::string& bad : {std::string(), std::string("[]"), std::string("{}"), std::string(R"({"token":7})"),
                                 std::string(R"({"token":"a b"})"), std::string(R"({"token":"a\r\nb"})"),
                                 std::string(9999, '['), R"({"token":")" + std::string(70000, 'x') + "\"}"}) {
    EXPECT_FALSE(parse_token_answer(bad).ok());
  }
}

TEST(ErrorAnswer, GivesTheRegistrysWordsWithoutControls) {
  auto told =
      parse_error_answer(R"({"errors":[{"code":"DENIED","message":"no\u001b[31m access\nhere"}]})", "application/json");
  EXPECT_EQ(told.code, "DENIED");
  EXPECT_EQ(told.message, "no?[31m access here");
  EXPECT_FALSE(told.html);
  told = parse_error_answer("<HTML><Title>Log\tin</Title>", "text/html; charset=utf-8");
  EXPECT_TRUE(told.html);
  EXPECT_EQ(told.message, "Log in");
  EXPECT_TRUE(parse_error_answer("  <x>", "").html);
  EXPECT_EQ(parse_error_answer(R"({"error":"invalid_grant"})", "").message, "invalid_grant");
  EXPECT_EQ(parse_error_answer(R"({"errors":[]})", "").message, "");
  EXPECT_EQ(parse_error_answer(R"({"errors":{"a":1}})", "").message, "");
  EXPECT_LE(parse_error_answer(R"({"errors":[{"message":")" + std::string(9000, 'x') + "\"}]}", "").message.size(),
            300U);
}

TEST(TagList, IsReadAndBounded) {
  EXPECT_THAT(*parse_tag_list(R"({"name":"a","tags":["1","2"]})"), ::testing::ElementsAre("1", "2"));
  EXPECT_THAT(*parse_tag_list(R"({"tags":null})"), IsEmpty());
  EXPECT_FALSE(parse_tag_list(R"({"tags":[1]})").ok());
  EXPECT_FALSE(parse_tag_list("[]").ok());
}

}  // namespace
}  // namespace hull::store
