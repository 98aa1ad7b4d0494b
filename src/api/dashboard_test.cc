#include "api/dashboard.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace hull::api {
namespace {

class Dashboard : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hull-dashboard-XXXXXX";
    folder_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string folder_;
  Address address_ = *parse_address("tcp://127.0.0.1:2390");
};

TEST_F(Dashboard, KeepsItsTokenAndShowsItToItsOwnerAlone) {
  const auto first = publish_dashboard(folder_, address_);
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(first->size(), 64u);
  struct stat info{};
  ASSERT_EQ(::stat(dashboard_file(folder_).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(*publish_dashboard(folder_, address_), *first);
  std::ofstream(dashboard_file(folder_)) << "http://127.0.0.1:1/\nshort\n";
  const auto second = publish_dashboard(folder_, address_);
  ASSERT_TRUE(second.ok());
  EXPECT_NE(*second, *first);
  EXPECT_EQ(second->size(), 64u);
}

TEST_F(Dashboard, TakesTheTokenFromAHeaderOrAProtocol) {
  const std::string token(64, 'a');
  const auto carries = [&](const char* name, const std::string& value) {
    RequestHead head;
    head.headers.emplace_back(name, value);
    return carries_token(head, token);
  };
  EXPECT_TRUE(carries("authorization", "Bearer " + token));
  EXPECT_TRUE(carries("sec-websocket-protocol", "hull, token." + token));
  EXPECT_FALSE(carries("authorization", "Bearer " + token.substr(1)));
  EXPECT_FALSE(carries("authorization", "Bearer "));
  EXPECT_FALSE(carries("authorization", token));
  EXPECT_FALSE(carries("sec-websocket-protocol", "hull, token."));
  EXPECT_FALSE(carries("cookie", "token=" + token));
}

TEST_F(Dashboard, OnlyThePageNeedsNoToken) {
  EXPECT_TRUE(is_dashboard_path("/dashboard/assets/index.js"));
  EXPECT_FALSE(is_dashboard_path("/dashboardx"));
  EXPECT_FALSE(is_dashboard_path("/containers/json"));
}

}  // namespace
}  // namespace hull::api
