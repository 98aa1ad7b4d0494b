#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/engine.h"
#include "sys/file.h"

namespace hull::engine {
namespace {

class SettingsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char file[] = "/tmp/hull-toml-XXXXXX";
    const UniqueFd fd(::mkstemp(file));
    path_ = file;
    for (const char* name : {"HULL_ROOT", "HULL_RUN", "HULL_LIBEXEC", "HULL_RUNTIME"}) ::unsetenv(name);
    ::setenv("HULL_CONFIG", path_.c_str(), 1);
  }
  void TearDown() override {
    ::unlink(path_.c_str());
    ::unsetenv("HULL_CONFIG");
  }
  Result<Settings> load(std::string_view text) {
    EXPECT_TRUE(sys::replace_file(path_, text).ok());
    return Settings::load();
  }
  std::string failure(std::string_view text) {
    const auto settings = load(text);
    return settings.ok() ? "" : settings.error().message().substr(path_.size());
  }
  std::string path_;
};

TEST_F(SettingsTest, TakesWhatStandsThere) {
  const auto settings = load(
      "data_root = \"/srv/hull\"\n[network]\nsubnet = \"10.9.0.0/16\"\nmtu = 1400\n[log]\nmax_size = \"10m\"\n"
      "max_files = 3\n[registry]\ndefault = \"r.example\"\n");
  ASSERT_TRUE(settings.ok()) << settings.error().message();
  EXPECT_EQ(settings->data_root, "/srv/hull");
  EXPECT_EQ(settings->bridge_subnet, "10.9.0.0/16");
  EXPECT_EQ(settings->bridge_mtu, 1400);
  EXPECT_EQ(settings->log_max_size, 10 << 20);
  EXPECT_EQ(settings->default_registry, "r.example");
  ::setenv("HULL_ROOT", "/elsewhere", 1);
  EXPECT_EQ(Settings::load()->data_root, "/elsewhere");
}

TEST_F(SettingsTest, NamesKeyAndLine) {
  EXPECT_TRUE(failure("\ndata_rot = \"/x\"\n").starts_with(":2: unknown key \"data_rot\""));
  EXPECT_TRUE(failure("[network]\nmtu = 5\n").starts_with(":2: mtu: expected"));
  EXPECT_TRUE(failure("[nonsense]\n").starts_with(":1: unknown section \"nonsense\""));
  EXPECT_TRUE(failure("x = \n").starts_with(":1: "));
  EXPECT_TRUE(failure("[limits]\nmax_layer = 1\n").starts_with(":2: unknown key \"max_layer\" in section limits"));
  EXPECT_TRUE(failure("[registry.\"a:1\"]\ninsecur = true\n").starts_with(":2: unknown key \"insecur\""));
  EXPECT_EQ(failure("[registry]\nretries = 1\n[registry.\"a:1\"]\ninsecure = true\n"), "");
  EXPECT_NE(failure("data_root = \"/a:b\"\n"), "");
  EXPECT_NE(failure("cgroup_manager = \"other\"\n"), "");
}

}  // namespace
}  // namespace hull::engine
