#include "cli/values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/detach_keys.h"

namespace hull::cli {
namespace {

using engine::MountRequest;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <typename T>
std::string message(const Result<T>& result) {
  return result.ok() ? "none" : result.error().message();
}

TEST(EnvFile, Rules) {
  const Lookup lookup = [](const std::string& name) -> std::optional<std::string> {
    if (name == "SET") return "value";
    return std::nullopt;
  };
  EXPECT_THAT(parse_env_file("\xEF\xBB\xBF#c\nA=1\r\n\n  B=' two '\nSET\nUNSET\nEMPTY=\n", lookup).value_or({}),
              ElementsAre("A=1", "B=' two '", "SET=value", "EMPTY="));
  EXPECT_THAT(message(parse_env_file("A B=1\n", lookup)), HasSubstr("line 1: variable 'A B' contains whitespaces"));
  EXPECT_THAT(message(parse_env_file("ok=1\n=1\n", lookup)), HasSubstr("line 2: no variable name"));
  EXPECT_THAT(message(parse_env_file("A=\xff\n", lookup)), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(message(parse_env_file(std::string("A=\0", 3), lookup)), HasSubstr("NUL"));
  EXPECT_THAT(message(parse_env_file("A=" + std::string(70000, 'x'), lookup)), HasSubstr("64 KiB"));
  EXPECT_THAT(parse_env_file("", lookup).value_or({"x"}), IsEmpty());
}

TEST(Volume, Grammar) {
  auto bind = parse_volume("/srv/data/:/data/../data/");
  ASSERT_TRUE(bind.ok());
  EXPECT_EQ(bind->type, MountRequest::Type::kBind);
  EXPECT_EQ(bind->target, "/data");
  EXPECT_TRUE(bind->create_source);
  auto read_only = parse_volume("/srv:/data:ro,rslave,z");
  ASSERT_TRUE(read_only.ok()) << message(read_only);
  EXPECT_TRUE(read_only->read_only && read_only->recursive_read_only);
  EXPECT_EQ(read_only->propagation, "rslave");
  auto volume = parse_volume("cache:/cache:nocopy");
  ASSERT_TRUE(volume.ok());
  EXPECT_EQ(volume->type, MountRequest::Type::kVolume);
  EXPECT_TRUE(volume->no_copy);
  EXPECT_FALSE(volume->create_source);
  auto relative = parse_volume("./x:/x");
  ASSERT_TRUE(relative.ok());
  EXPECT_TRUE(relative->source.starts_with('/') && relative->source.ends_with("/x"));
}

TEST(Volume, Refusals) {
  EXPECT_THAT(message(parse_volume("")), HasSubstr("empty volume spec"));
  EXPECT_THAT(message(parse_volume("/a:/b:ro:rw")), HasSubstr("too many colons"));
  EXPECT_THAT(message(parse_volume("/a::ro")), HasSubstr("empty section"));
  EXPECT_THAT(message(parse_volume("/a:/b:rx")), HasSubstr("invalid mode: rx"));
  EXPECT_THAT(message(parse_volume("/a:/")), HasSubstr("can't be '/'"));
  EXPECT_THAT(message(parse_volume("/a:b")), HasSubstr("absolute"));
  EXPECT_THAT(message(parse_volume("name")), HasSubstr("absolute"));
  EXPECT_THAT(message(parse_volume("a:/b")), HasSubstr("no name for a volume"));
  EXPECT_THAT(message(parse_volume("sub/folder:/b")), HasSubstr("give its absolute path"));
  EXPECT_THAT(message(parse_volume("~/x:/b")), HasSubstr("expanded by a shell"));
  EXPECT_THAT(message(parse_volume("/a:/b:nocopy")), HasSubstr("nocopy is for named volumes"));
  EXPECT_THAT(message(parse_volume("vol:/b:rshared")), HasSubstr("propagation"));
}

TEST(Mount, Grammar) {
  auto bind = parse_mount("type=bind,source=/srv,target=/data,readonly,bind-propagation=rshared");
  ASSERT_TRUE(bind.ok()) << message(bind);
  EXPECT_TRUE(bind->read_only && bind->recursive_read_only);
  EXPECT_FALSE(bind->create_source);
  EXPECT_EQ(bind->propagation, "rshared");
  auto writable = parse_mount("type=bind,src=/srv,dst=/data,ro=1,bind-recursive=writable");
  ASSERT_TRUE(writable.ok());
  EXPECT_FALSE(writable->recursive_read_only);
  auto flat = parse_mount("type=bind,src=/srv,dst=/data,bind-recursive=disabled,bind-create-src");
  ASSERT_TRUE(flat.ok());
  EXPECT_TRUE(flat->non_recursive && flat->create_source);
  auto volume =
      parse_mount("src=data,target=/data,volume-label=a=b,volume-opt=type=nfs,volume-opt=o=addr=1,volume-nocopy");
  ASSERT_TRUE(volume.ok()) << message(volume);
  EXPECT_EQ(volume->type, MountRequest::Type::kVolume);
  EXPECT_EQ(volume->volume_options.at("o"), "addr=1");
  EXPECT_EQ(volume->volume_labels.at("a"), "b");
  auto tmpfs = parse_mount("type=tmpfs,target=/tmp,tmpfs-size=64m,tmpfs-mode=1770");
  ASSERT_TRUE(tmpfs.ok());
  EXPECT_EQ(tmpfs->tmpfs_mode, 01770U);
  auto quoted = parse_mount("type=volume,\"source=da.ta\",target=/x,\"volume-opt=o=a,b\"");
  ASSERT_TRUE(quoted.ok()) << message(quoted);
  EXPECT_EQ(quoted->volume_options.at("o"), "a,b");
}

TEST(Mount, Refusals) {
  EXPECT_THAT(message(parse_mount("")), HasSubstr("value is empty"));
  EXPECT_THAT(message(parse_mount("type=bind,target=/x")), HasSubstr("source is required"));
  EXPECT_THAT(message(parse_mount("type=bind,source=/x")), HasSubstr("target is required"));
  EXPECT_THAT(message(parse_mount("type=npipe,target=/x")), HasSubstr("mount type npipe unknown"));
  EXPECT_THAT(message(parse_mount("type=image,target=/x")), HasSubstr("not in this version"));
  EXPECT_THAT(message(parse_mount("type=tmpfs,target=/x,source=/y")), HasSubstr("no source"));
  EXPECT_THAT(message(parse_mount("type=tmpfs,target=/x,bind-propagation=shared")), HasSubstr("type bind only"));
  EXPECT_THAT(message(parse_mount("type=bind,source=/x,target=/y,tmpfs-size=1")), HasSubstr("type tmpfs only"));
  EXPECT_THAT(message(parse_mount("type=bind, source=/x")), HasSubstr("should not have whitespace"));
  EXPECT_THAT(message(parse_mount("target=/x,foo=bar")), HasSubstr("unknown option 'foo'"));
  EXPECT_THAT(message(parse_mount("target=/x,source")), HasSubstr("must be a key=value pair"));
  EXPECT_THAT(message(parse_mount("target=/x,readonly=maybe")), HasSubstr("true or false"));
  EXPECT_THAT(message(parse_mount("target=")), HasSubstr("value is empty"));
  EXPECT_THAT(message(parse_mount("type=bind,source=rel,target=/x")), HasSubstr("absolute path"));
  EXPECT_THAT(message(parse_mount("type=bind,source=/x,target=/y,bind-nonrecursive=true")), HasSubstr("deprecated"));
  EXPECT_THAT(message(parse_mount("type=tmpfs,target=/x,tmpfs-mode=9")), HasSubstr("tmpfs-mode"));
  EXPECT_THAT(message(parse_mount("type=bind,source=/x,target=/y,bind-recursive=readonly")), HasSubstr("requires"));
}

TEST(Csv, Rfc4180) {
  EXPECT_THAT(parse_csv("a,b,,c").value_or({}), ElementsAre("a", "b", "", "c"));
  EXPECT_THAT(parse_csv("\"a,b\",\"say \"\"hi\"\"\"").value_or({}), ElementsAre("a,b", "say \"hi\""));
  EXPECT_THAT(message(parse_csv("\"open")), HasSubstr("not closed"));
  EXPECT_THAT(message(parse_csv("\"a\"b")), HasSubstr("after a closing quote"));
  EXPECT_THAT(message(parse_csv("a\"b")), HasSubstr("quote inside"));
}

TEST(Ulimit, Grammar) {
  EXPECT_EQ(parse_ulimit("nofile=1024").value_or({}).hard, 1024);
  EXPECT_EQ(parse_ulimit("core=0:-1").value_or({}).hard, -1);
  EXPECT_EQ(parse_ulimit("nproc=unlimited").value_or({}).soft, -1);
  EXPECT_THAT(message(parse_ulimit("nofile=5:4")), HasSubstr("5 > 4"));
  EXPECT_THAT(message(parse_ulimit("nofile=-1:4")), HasSubstr("unlimited > 4"));
  EXPECT_THAT(message(parse_ulimit("files=4")), HasSubstr("invalid ulimit type"));
  EXPECT_THAT(message(parse_ulimit("nofile")), HasSubstr("NAME=SOFT"));
  EXPECT_THAT(message(parse_ulimit("nofile=1:2:3")), HasSubstr("too many"));
  EXPECT_THAT(message(parse_ulimit("nofile=x")), HasSubstr("invalid ulimit value"));
}

TEST(Device, Grammar) {
  EXPECT_THAT(message(parse_device("dev/null")), HasSubstr("absolute path"));
  EXPECT_THAT(message(parse_device("/dev/a:/dev/b:rwx")), HasSubstr("r, w and m"));
  EXPECT_THAT(message(parse_device("/dev/a:/b:r:w")), HasSubstr("too many colons"));
  EXPECT_THAT(message(parse_device("vendor.com/gpu=all")), HasSubstr("CDI"));
  EXPECT_THAT(message(parse_device("/dev/a:rr")), HasSubstr("must be absolute"));
  EXPECT_TRUE(check_device_cgroup_rule("a *:* rwm").ok());
  EXPECT_TRUE(check_device_cgroup_rule("b 8:0 r").ok());
  EXPECT_FALSE(check_device_cgroup_rule("c 1:3").ok());
  EXPECT_FALSE(check_device_cgroup_rule("x 1:3 r").ok());
  EXPECT_FALSE(check_device_cgroup_rule("c 1:-3 r").ok());
}

TEST(Rates, Grammar) {
  EXPECT_EQ(parse_device_rate("/dev/sda:1m", true).value_or({}).rate, 1U << 20);
  EXPECT_EQ(parse_device_rate("/dev/sda:100", false).value_or({}).rate, 100U);
  EXPECT_FALSE(parse_device_rate("/dev/sda:1m", false).ok());
  EXPECT_FALSE(parse_device_rate("sda:1", true).ok());
  EXPECT_FALSE(parse_device_rate("/dev/sda", true).ok());
  EXPECT_EQ(parse_device_weight("/dev/sda:100").value_or({}).rate, 100U);
  EXPECT_FALSE(parse_device_weight("/dev/sda:5").ok());
}

TEST(Cpus, Grammar) {
  EXPECT_EQ(parse_cpus("2").value_or(0), 2'000'000'000);
  EXPECT_EQ(parse_cpus(".5").value_or(0), 500'000'000);
  EXPECT_EQ(parse_cpus("0.000000001").value_or(0), 1);
  EXPECT_FALSE(parse_cpus("").ok());
  EXPECT_FALSE(parse_cpus(".").ok());
  EXPECT_FALSE(parse_cpus("1e3").ok());
  EXPECT_FALSE(parse_cpus("9999999999").ok());
}

TEST(Time, Forms) {
  const auto now = std::chrono::system_clock::now();
  EXPECT_EQ(parse_time("10m", now).value_or(now), now - std::chrono::minutes(10));
  EXPECT_EQ(std::chrono::system_clock::to_time_t(parse_time("2026-11-23T14:00:00Z", now).value_or(now)), 1795442400);
  EXPECT_EQ(std::chrono::system_clock::to_time_t(parse_time("1795442400", now).value_or(now)), 1795442400);
  EXPECT_TRUE(parse_time("1795442400.5", now).ok());
  EXPECT_TRUE(parse_time("2026-11-23", now).ok());
  EXPECT_THAT(message(parse_time("yesterday", now)), HasSubstr("expected"));
  EXPECT_FALSE(parse_time("", now).ok());
  // Years that nanoseconds since 1970 can't tell.
  EXPECT_FALSE(parse_time("1-1-5", now).ok());
  EXPECT_FALSE(parse_time("9999-01-01", now).ok());
  EXPECT_FALSE(parse_time("-2562047h", now).ok());
  EXPECT_FALSE(parse_time("8999999999", now).ok());
}

TEST(DetachKeys, Grammar) {
  EXPECT_EQ(parse_detach_keys("ctrl-p,ctrl-q").value_or(""), "\x10\x11");
  EXPECT_EQ(parse_detach_keys("a,ctrl-@,ctrl-[").value_or(""), std::string("a\0\x1b", 3));
  EXPECT_EQ(parse_detach_keys("").value_or("x"), "");
  EXPECT_FALSE(parse_detach_keys("ctrl-P").ok());
  EXPECT_FALSE(parse_detach_keys("esc").ok());
}

TEST(DetachKeys, Filter) {
  DetachFilter filter("\x10\x11");
  std::string out;
  EXPECT_FALSE(filter.feed("ls\x10", out));
  EXPECT_EQ(out, "ls");
  EXPECT_FALSE(filter.feed("x", out));
  EXPECT_EQ(out, "ls\x10x");
  EXPECT_FALSE(filter.feed("\x10\x10", out));
  EXPECT_TRUE(filter.feed("\x11", out));
  EXPECT_EQ(out, "ls\x10x\x10");

  DetachFilter doubled("aab");
  out.clear();
  EXPECT_TRUE(doubled.feed("aaab", out));
  EXPECT_EQ(out, "a");

  DetachFilter none("");
  out.clear();
  EXPECT_FALSE(none.feed("\x10\x11", out));
  EXPECT_EQ(out, "\x10\x11");
}

}  // namespace
}  // namespace hull::cli
