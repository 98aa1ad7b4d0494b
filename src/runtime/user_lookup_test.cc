#include "runtime/user_lookup.h"

#include <gtest/gtest.h>

namespace hull::runtime {
namespace {

constexpr std::string_view kPasswd =
    "# comment\nroot:x:0:0:root:/root:/bin/sh\nbroken line\nweb:x:1000:1001:Web:/home/web:/bin/sh\n"
    "huge:x:4294967296:0::/:/bin/sh\nneg:x:-1:0::/:/bin/sh\nodd:x:0x10:5::/odd:\n12:x:77:78::/n:\r\n";
constexpr std::string_view kGroup =
    "root:x:0:root\naudio:x:29:web,other\nvideo:x:44:other\nwebs:x:1001:\nnum:x:50:web\nbad:x:99999999999:web\n";

ResolvedUser must(std::string_view spec, const std::vector<std::string>& add = {}) {
  auto user = resolve_user_in(kPasswd, kGroup, spec, add);
  EXPECT_TRUE(user.ok()) << spec << ": " << (user.ok() ? "" : user.error().message());
  return user.ok() ? *user : ResolvedUser();
}

TEST(UserLookup, FindsNamesAndNumbers) {
  EXPECT_EQ(must("").home, "/root");
  EXPECT_EQ(must("").additional_gids, std::vector<uint32_t>{0});
  const ResolvedUser web = must("web");
  EXPECT_EQ(web.uid, 1000U);
  EXPECT_EQ(web.gid, 1001U);
  EXPECT_EQ(web.additional_gids, (std::vector<uint32_t>{29, 50}));
  EXPECT_EQ(must("1000").name, "web");
  EXPECT_EQ(must("web:audio").gid, 29U);
  EXPECT_TRUE(must("web:audio").additional_gids.empty());
  EXPECT_EQ(must("5000:6000").gid, 6000U);
  EXPECT_EQ(must("5000").gid, 0U);
  EXPECT_EQ(must("5000").home, "/");
  EXPECT_EQ(must("root", {"video", "123"}).additional_gids, (std::vector<uint32_t>{0, 44, 123}));
}

TEST(UserLookup, IsStrict) {
  for (const char* bad : {"nobody", "web:nogroup", "-1", "4294967296", "99999999999999999999", "1000:4294967295", "0x0",
                          "huge", "neg", "1 000", "web:-1"}) {
    EXPECT_FALSE(resolve_user_in(kPasswd, kGroup, bad, {}).ok()) << bad;
  }
  EXPECT_EQ(resolve_user_in(kPasswd, kGroup, "nobody", {}).error().message(),
            "unable to find user nobody: no matching entries in passwd file");
  EXPECT_EQ(resolve_user_in(kPasswd, kGroup, "root:gone", {}).error().message(),
            "unable to find group gone: no matching entries in group file");
  EXPECT_FALSE(resolve_user_in(kPasswd, kGroup, "root", {"4294967296"}).ok());
}

TEST(UserLookup, HostileFilesDoNotHurt) {
  std::string many = "root:x:0:0::/:\n";
  for (int i = 0; i < 70'000; ++i) many += "g" + std::to_string(i) + ":x:" + std::to_string(i) + ":root\n";
  EXPECT_LE(resolve_user_in("root:x:0:0::/:\n", many, "root", {})->additional_gids.size(), 65536U);
  EXPECT_EQ(resolve_user_in(":::::::\n::\n\n", "", "", {})->uid, 0U);
}

TEST(UserLookup, NamesAUid) {
  EXPECT_EQ(user_name_in(kPasswd, 1000), "web");
  EXPECT_EQ(user_name_in(kPasswd, 77), "12");
  EXPECT_EQ(user_name_in(kPasswd, 4242), "4242");
  EXPECT_EQ(user_name_in("", 0), "0");
}

}  // namespace
}  // namespace hull::runtime
